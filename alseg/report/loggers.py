"""Where numbers go besides the run folder."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.core.errors import UserError
from alseg.core.registry import Registry

if TYPE_CHECKING:  # lightning takes seconds to import
    from lightning.pytorch.loggers import Logger

#: Loggers by name: frozen dataclasses of their options, with the methods of `Csv`. They change no
#: number, so that a run can go on with another one.
LOGGERS = Registry(
    "logger",
    {"csv": "alseg.report.loggers:Csv", "wandb": "alseg.report.loggers:Wandb"},
    identity=False,
)
#: Longest name of a project that Weights & Biases takes, and what it may not hold.
_MOST, _REFUSED = 128, "/\\#?%:"


@dataclass(frozen=True)
class Csv:
    """CSV files in the run folder, which are always written, and nothing else."""

    def check(self) -> None:
        """Raise `UserError` before any work if nothing can be logged."""

    def build(self, root: Path, options: dict[str, Any]) -> "list[Logger]":
        """No logger more."""
        return []

    def close(self) -> None:
        """Nothing to close."""


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases, besides the CSV files.

    Attributes:
        project: Project the run belongs to.
        name: Name of the run; null = that of the run folder.
        offline: Write to the run folder only; ``wandb sync`` sends it later.
    """

    project: str = "alseg"
    name: str | None = None
    offline: bool = False

    def check(self) -> None:
        """Raise `UserError` for a name of a project that is refused, or without a key."""
        found = sorted({character for character in _REFUSED if character in self.project})
        if found or not 0 < len(self.project) <= _MOST:
            raise UserError(
                f"logger.project is {self.project!r}, which Weights & Biases refuses; give 1 to "
                f"{_MOST} characters without any of {' '.join(_REFUSED)}"
            )
        away = ("offline", "dryrun", "disabled")
        if self.offline or os.environ.get("WANDB_MODE", "").lower() in away:
            return
        import wandb

        try:
            known = wandb.login()
        except (wandb.errors.Error, ValueError) as error:
            reason = " ".join(str(error).split())
            raise self._without_key(reason) from error
        if not known:
            raise self._without_key("nobody is logged in")

    def _without_key(self, reason: str) -> UserError:
        return UserError(
            f"logger=wandb needs a key of Weights & Biases ({reason}); set WANDB_API_KEY, or run "
            f"`wandb login` once, or give logger.offline=true."
        )

    def build(self, root: Path, options: dict[str, Any]) -> "list[Logger]":
        """One logger for all fits of the run; the same command goes on in the same run."""
        import hashlib

        from lightning.pytorch.loggers import WandbLogger

        root.mkdir(parents=True, exist_ok=True)
        identifier = hashlib.blake2b(str(root.resolve()).encode(), digest_size=6).hexdigest()
        return [
            WandbLogger(
                name=self.name or root.name,
                project=self.project,
                id=identifier,
                resume="allow",
                save_dir=root,
                offline=self.offline,
                config=options,
            )
        ]

    def close(self) -> None:
        """End the run, so that the next one of this process is another."""
        import wandb

        wandb.finish()
