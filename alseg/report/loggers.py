"""Where numbers go besides the run folder."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.registry import Registry

if TYPE_CHECKING:  # lightning takes seconds to import
    from lightning.pytorch.loggers import Logger

#: Loggers by name: frozen dataclasses of their options, with the methods of `Csv`. They change no
#: number, so that a run can go on with another one.
LOGGERS = Registry(
    "logger",
    {
        "csv": "alseg.report.loggers:Csv",
        "mlflow": "alseg.report.loggers:MLflow",
        "tensorboard": "alseg.report.loggers:TensorBoard",
        "wandb": "alseg.report.loggers:Wandb",
    },
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


@dataclass(frozen=True)
class TensorBoard:
    """TensorBoard, besides the CSV files.

    Attributes:
        folder: Where its event files go; null = tensorboard in the run folder.
    """

    folder: Path | None = None

    def check(self) -> None:
        """Raise `UserError` if TensorBoard is not installed."""
        if not any(map(find_spec, ("tensorboard", "tensorboardX"))):
            raise UserError(
                "logger=tensorboard needs TensorBoard, which is not installed; give pip install "
                "tensorboard, or logger=csv."
            )

    def build(self, root: Path, options: dict[str, Any]) -> "list[Logger]":
        """One logger for all fits of the run."""
        from lightning.pytorch.loggers import TensorBoardLogger

        folder = self.folder or root / "tensorboard"
        name = "" if self.folder is None else root.name
        logger = TensorBoardLogger(save_dir=folder, name=name, version="")
        logger.log_hyperparams({"options": str(options)})
        return [logger]

    def close(self) -> None:
        """Nothing to close: Lightning flushes after every fit."""


@dataclass(frozen=True)
class MLflow:
    """MLflow, besides the CSV files.

    Attributes:
        uri: Address of the tracking server, or a folder as ``file:FOLDER``; null =
            MLFLOW_TRACKING_URI, else mlruns in the run folder.
        experiment: Experiment the run belongs to.
        name: Name of the run; null = that of the run folder.
    """

    uri: str | None = None
    experiment: str = "alseg"
    name: str | None = None

    def check(self) -> None:
        """Raise `UserError` if MLflow is not installed."""
        if not any(map(find_spec, ("mlflow", "mlflow_skinny"))):
            raise UserError(
                "logger=mlflow needs MLflow, which is not installed; give pip install mlflow, or "
                "logger=csv."
            )

    def build(self, root: Path, options: dict[str, Any]) -> "list[Logger]":
        """One logger for all fits of the run; the same command goes on in the same run."""
        from lightning.pytorch.loggers import MLFlowLogger
        from lightning.pytorch.utilities import rank_zero_only

        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"file:{root / 'mlruns'}"
        record = root / "mlflow_run.txt"
        logger = MLFlowLogger(
            experiment_name=self.experiment,
            run_name=self.name or root.name,
            tracking_uri=uri,
            run_id=record.read_text().strip() if record.exists() else None,
        )
        if not getattr(rank_zero_only, "rank", 0):
            write_atomic(record, f"{logger.run_id}\n")
        return [logger]

    def close(self) -> None:
        """Nothing to close: Lightning ends the run after every fit, and takes it up again."""
