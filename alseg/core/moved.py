"""Modules of release 0.1 under their old names, for scripts that import them."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

#: Where modules went that had another name in release 0.1.
MOVED = {
    "alseg.command": "alseg.cli.command",
    "alseg.compose": "alseg.cli.compose",
    "alseg.config": "alseg.cli.options",
    "alseg.errors": "alseg.core.errors",
    "alseg.files": "alseg.core.files",
    "alseg.images": "alseg.core.images",
    "alseg.prediction": "alseg.inference.prediction",
    "alseg.registry": "alseg.core.registry",
    "alseg.trained": "alseg.inference.trained",
    "alseg.nn.inference": "alseg.inference.views",
    "alseg.active.seeds": "alseg.core.seeds",
    "alseg.methods.madbal.files": "alseg.labels.imagefiles",
    "alseg.methods.madbal.labels": "alseg.methods.madbal.cells",
    **{
        f"alseg.active.{name}": f"alseg.labels.{name}"
        for name in (
            *("budget", "human", "oracle", "pool", "quality"),
            *("supervision", "tables", "truth"),
        )
    },
}


class MovedModules(MetaPathFinder, Loader):
    """Finds a module by its old name and gives the one it became, the same object."""

    def __init__(self) -> None:
        self._specs: dict[int, ModuleSpec | None] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for the names in `MOVED`, None for all others."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its new name."""
        warnings.warn(f"{spec.name} is now {MOVED[spec.name]}", DeprecationWarning, stacklevel=2)
        module = import_module(MOVED[spec.name])
        self._specs[id(module)] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It was executed under its new name, which the import machinery has just written over."""
        module.__spec__ = self._specs.pop(id(module))
        module.__loader__ = module.__spec__.loader if module.__spec__ else None


def install() -> None:
    """Make the old names importable, once."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
