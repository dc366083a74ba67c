"""Callbacks of a stage: seeds that follow from the epoch, carried optimisers, a stopwatch."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from alseg.active.checkpoints import check_state, damaged, read_checkpoint
from alseg.active.stopping import Asked, StoppedError
from alseg.core.seeds import derive


class Reseed(L.Callback):
    """Seeds every epoch from its key: a stage resumed at epoch e draws what it would have drawn.

    Args:
        key: Names the stage: run seed, round, stage.
    """

    def __init__(self, key: tuple[int | str, ...]) -> None:
        self.key = key

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Seed the generators of Python, NumPy and torch."""
        seed = derive(*self.key, "epoch", trainer.current_epoch, trainer.global_rank)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - third-party code may draw from the global generator
        torch.manual_seed(seed)


class CarriedOptimizers(L.Callback):
    """Begins a stage with the optimiser state of another, such as Adam's moments.

    The learning rates and all other settings stay those of the new stage.

    Args:
        path: Checkpoint of the other stage.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the state over."""
        states = read_checkpoint(self.path).get("optimizer_states", ())
        try:
            for optimizer, state in zip(trainer.optimizers, states, strict=True):
                groups = optimizer.state_dict()["param_groups"]
                optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
                check_state(optimizer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(self.path, error) from error


class Stopwatch(L.Callback):
    """Seconds a stage has trained, validation left out, over all processes that worked on it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Start the watch, unless it is running."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Add the batch and the time its data took."""
        now = time.perf_counter()
        if self._since is not None:
            self.seconds += now - self._since
        self._since = now

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the watch: what follows is no training."""
        self._since = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the watch."""
        self._since = None

    def state_dict(self) -> dict[str, Any]:
        """Kept in the checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.seconds = float(state_dict["seconds"])


class StopAtBatch(L.Callback):
    """Ends a trainer's work after the batch in which a signal came."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """From here on a batch notices the signal."""
        Asked.trainers += 1

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """From here on a signal acts at once."""
        Asked.trainers = max(0, Asked.trainers - 1)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """The trainer is no longer at work; Lightning may not get to `teardown`."""
        Asked.trainers = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signal back from Lightning."""
        self._take_back()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signal back from Lightning."""
        self._take_back()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take the signal back from Lightning."""
        self._take_back()

    @staticmethod
    def _take_back() -> None:
        # Lightning's handler lets all processes talk to each other while they may be in the middle
        # of a conversation: where the signal came to one of them alone, they wait for ever
        if Asked.handler is not None:
            signal.signal(signal.SIGTERM, Asked.handler)

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop here if a signal came."""
        self._look(trainer)

    def on_predict_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop here if a signal came."""
        self._look(trainer)

    def on_test_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop here if a signal came."""
        self._look(trainer)

    @staticmethod
    def _look(trainer: L.Trainer) -> None:
        if Asked.number is not None:
            raise StoppedError(Asked.number)
