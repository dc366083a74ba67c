"""How far a stage or a pass is: a bar where somebody looks on, and lines for ``log.txt``."""

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from alseg.core.progress import INTERVAL, LINES

#: Seconds between two pictures of a bar.
_REDRAW = 0.1


class Bar(TQDMProgressBar):
    """Lightning's bar, named after what it is doing, and drawn a few times a second.

    It shows the loss that a training step returns, for which a GPU is waited for when it is drawn.
    """

    def __init__(self, title: str) -> None:
        super().__init__(refresh_rate=1)
        self.title = title
        self._drawn = 0.0
        self._loss: dict[str, float] = {}
        self._outputs: Any = None

    def _should_update(self, current: int, total: float | None) -> bool:
        now = time.monotonic()
        if current != total and now - self._drawn < _REDRAW:
            return False
        self._drawn = now
        return bool(super()._should_update(current, total))  # type: ignore[arg-type]

    @property
    def train_description(self) -> str:
        """What is trained."""
        return self.title

    @property
    def predict_description(self) -> str:
        """What is gone through."""
        return self.title

    @property
    def test_description(self) -> str:
        """What is measured."""
        return self.title

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """The numbers beside the bar; not which version of a log folder this is."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if isinstance(self._outputs, dict) and isinstance(self._outputs.get("loss"), torch.Tensor):
            self._loss = {"loss": float(self._outputs["loss"])}
        return metrics | self._loss

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Draw the bar, if it is time."""
        self._outputs = outputs
        super().on_train_batch_end(trainer, pl_module, outputs, *args)
        self._outputs = None

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Count epochs from 1."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(
            f"{self.title} {trainer.current_epoch + 1}/{trainer.max_epochs}"
        )


class Lines(L.Callback):
    """A line every `alseg.core.progress.INTERVAL` seconds, and one at the end.

    Args:
        title: What is being done, such as ``round 0 train``.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._began = self._last = time.monotonic()
        self._first = self._told = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start counting, from where a resumed stage stands."""
        self._start(trainer.current_epoch * int(trainer.num_training_batches))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write a line if it is time."""
        if self._is_time():
            batches = int(trainer.num_training_batches)
            done = trainer.current_epoch * batches + batch_idx + 1
            self._line(done, (trainer.max_epochs or 1) * batches, _loss(trainer, outputs))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say how long it took."""
        steps = (trainer.max_epochs or 1) * int(trainer.num_training_batches) - self._first
        self._end(steps, "step", _loss(trainer, None))

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start counting."""
        self._start(0)

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a line if it is time."""
        if self._is_time():
            self._line(batch_idx + 1, int(sum(trainer.num_predict_batches)), "")

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start counting."""
        self._start(0)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write a line if it is time."""
        if self._is_time():
            self._line(batch_idx + 1, int(sum(trainer.num_test_batches)), "")

    def _is_time(self) -> bool:
        return time.monotonic() - self._last >= INTERVAL

    def _start(self, done: int) -> None:
        self._began = self._last = time.monotonic()
        self._first = self._told = done

    def _line(self, done: int, total: int, loss: str) -> None:
        now = time.monotonic()
        rate = (done - self._told) / (now - self._last)
        left = (total - done) / rate if rate else float("inf")
        LINES.info(
            "%s: step %d/%d%s, %.3g steps/s, %.0f s left", self.title, done, total, loss, rate, left
        )
        self._last, self._told = now, done

    def _end(self, count: int, unit: str, loss: str) -> None:
        seconds = time.monotonic() - self._began
        plural = "" if count == 1 else "s"
        LINES.info("%s: %d %s%s in %.0f s%s", self.title, count, unit, plural, seconds, loss)


def _loss(trainer: L.Trainer, outputs: Any) -> str:
    """The loss as a part of a line; empty where it is not known."""
    value = outputs.get("loss") if isinstance(outputs, dict) else outputs
    if not isinstance(value, torch.Tensor):
        losses = [v for name, v in trainer.callback_metrics.items() if "loss" in name]
        value = losses[0] if losses else None
    return "" if value is None else f", loss {float(value):.4g}"
