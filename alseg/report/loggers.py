"""Where numbers go besides the run folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.core.registry import Registry

if TYPE_CHECKING:  # lightning takes seconds to import
    from lightning.pytorch.loggers import Logger

LOGGERS = Registry(
    "logger",
    {"csv": "alseg.report.loggers:Csv", "wandb": "alseg.report.loggers:Wandb"},
)


@dataclass(frozen=True)
class Csv:
    """CSV files in the run folder, which are always written, and nothing else."""

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
        """End the run, so that the next one of a sweep is another."""
        import wandb

        wandb.finish()
