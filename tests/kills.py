"""A process that dies at a chosen call, without a process: for the tests of resuming."""

from typing import Any

import pytest


class Killed(BaseException):
    """Not an Exception: nothing may catch it and go on."""


def at_call(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    """Kill at the n-th call of a function, before it does anything."""
    original, count = getattr(owner, name), 0

    def cut(*args: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == number:
            raise Killed
        return original(*args, **options)

    patch.setattr(owner, name, cut)
