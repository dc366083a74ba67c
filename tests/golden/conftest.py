"""Golden files for the tests of a method: ``test_<method>.py`` reads ``<method>.npz``.

The files lie in ``data`` beside this one, or in the folder that the environment variable
``ALSEG_GOLDEN_DIR`` names: any file with the same names, other seeds and other sizes must pass.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.golden.harness import Golden

DATA = Path(__file__).parent / "data"

_deselected = pytest.StashKey[set[Path]]()


class AssertComplete(Protocol):
    def __call__(
        self, inputs: Iterable[str] = (), not_compared: Mapping[str, str] | None = None
    ) -> None: ...


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Remember the modules of which -k, -m, --last-failed and the like take only a part."""
    for item in items:
        item.config.stash.setdefault(_deselected, set()).add(item.path)


@pytest.fixture(scope="module")
def golden(request: pytest.FixtureRequest) -> Golden:
    method = request.path.stem.removeprefix("test_")
    folder = Path(os.environ.get("ALSEG_GOLDEN_DIR", DATA))
    return Golden(folder / f"{method}.npz")


@pytest.fixture
def assert_complete(request: pytest.FixtureRequest, golden: Golden) -> AssertComplete:
    """`Golden.assert_complete` for the last test of a module; skips where only a part of it runs.

    It judges what the tests before it have used, so it must be the last of its module.
    """
    module = [item for item in request.session.items if item.path == request.path]
    assert module[-1] is request.node, "the completeness test must be the last of its module"
    part = request.path in request.config.stash.get(_deselected, set())
    if part or any("::" in argument for argument in request.config.args):
        pytest.skip("only a part of the module runs, so other arrays are not compared")
    return golden.assert_complete
