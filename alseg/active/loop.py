"""Callbacks that make a stage repeatable and turn a predict run into a query."""

import random
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only

from alseg.active.method import Table
from alseg.active.shards import ShardWriter, read_shards
from alseg.core.seeds import derive
from alseg.labels.tables import Query

T = TypeVar("T")


def on_rank_zero(decide: Callable[[], T]) -> T:
    """Let rank 0 decide and all ranks obey: its result, or its exception, reaches every rank.

    Before the processes of a distributed run have met, every process decides for itself; what
    is decided then must be a function of the configuration and the run folder alone.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return decide()
    box: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            box = [None, decide()]
        except Exception as error:  # every rank has to hear of it, or the others wait for ever
            box = [error, None]
    dist.broadcast_object_list(box, src=0)
    if box[0] is not None:
        raise box[0]
    return box[1]


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
        states = torch.load(self.path, map_location="cpu", weights_only=True)["optimizer_states"]
        for optimizer, state in zip(trainer.optimizers, states, strict=True):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state["state"], "param_groups": groups})


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


class ActiveLoop(L.Callback):
    """Turns a predict run over the pool into the next query.

    ``predict_step`` returns small tables (by name, then by column, each with a column ``image``).
    They go to disk batch by batch, rank 0 joins them, picks, and writes the query; the choice does
    not depend on the number of processes.

    Args:
        folder: Where the tables grow.
        expected: Images that must have been scored, ascending.
        pick: Chooses from the joined tables; called on rank 0.
        write: Records the query; called on rank 0.
    """

    def __init__(
        self,
        folder: Path,
        expected: np.ndarray[Any, np.dtype[np.int64]],
        pick: Callable[[Mapping[str, Table]], Query],
        write: Callable[[Query, float, float], None],
    ) -> None:
        self.folder = folder
        self.expected = expected
        self.pick = pick
        self.write = write
        self.query: Query | None = None

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open this process's shard."""
        self._since = time.perf_counter()
        self._shard = ShardWriter(self.folder / f"rank_{trainer.global_rank}")

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append the tables of a batch."""
        self._shard.append({**outputs, "scored": {"image": batch["index"]}})

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Join, pick, write; every rank gets the query."""
        self._shard.close()
        trainer.strategy.barrier("shards-on-disk")

        def choose() -> Query:
            tables = read_shards(
                [self.folder / f"rank_{rank}" for rank in range(trainer.world_size)]
            )
            scored = np.unique(tables.pop("scored")["image"])
            if not np.array_equal(scored, self.expected):
                raise RuntimeError(f"scored {len(scored)} of {len(self.expected)} pool images")
            start = time.perf_counter()
            query = self.pick(tables)
            self.write(query, start - self._since, time.perf_counter() - start)
            return query

        self.query = on_rank_zero(choose)
        if trainer.is_global_zero:
            shutil.rmtree(self.folder)  # hundreds of MB on a large pool; the query is what counts


def is_rank_zero() -> bool:
    """Whether this process writes; known from the environment before any process group exists."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0
