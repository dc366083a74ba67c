"""The command ``python -m alseg.run``, and ``alseg.run("method=mulquery", "rounds=2")`` in Python.

Its work is in `alseg.cli.run`.
"""

import sys
from types import ModuleType
from typing import Any

from alseg.cli.run import main


class _Command(ModuleType):
    """This module, which can be called."""

    def __call__(self, *words: str) -> int:
        """Do a run, or what is left of it.

        Args:
            *words: The words of the command, such as ``"method=mulquery"``.

        Returns:
            The exit status of the command: 0, or 3 where a person has to answer.

        Raises:
            UserError: For input that cannot be used.
        """
        from alseg.cli.compose import options
        from alseg.cli.run import run

        return run(options(*words))

    def __getattr__(self, name: str) -> Any:
        """What stood here in release 0.1, such as ``build``."""
        from alseg.cli import run

        return getattr(run, name)


sys.modules[__name__].__class__ = _Command

if __name__ == "__main__":
    sys.exit(main())
