"""Which images, in which order: functions of a key, never of what a process drew before."""

from collections.abc import Iterator
from typing import Any

import lightning as L
import numpy as np
from torch.utils.data import Sampler

from alseg.active.seeds import derive


class TrainStream(Sampler[tuple[int, int]]):
    """An endless stream of shuffled passes over n items, cut into epochs of equal length.

    Position p of the stream is item ``permutation(lap)[p % n]`` of lap ``p // n``; batch b takes
    ``batch_size`` positions, each process its own slice of them. The stream depends on the key and
    the epoch alone: a resumed stage continues it exactly, on any number of processes.

    Args:
        n: Number of items.
        batch_size: Items per batch, over all processes; a multiple of their number.
        epoch_steps: Batches per epoch.
        key: Names the stream.
        trainer: Knows the epoch and the process.

    Yields:
        Item number and the seed of its augmentation.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        epoch_steps: int,
        key: tuple[int | str, ...],
        trainer: L.Trainer,
    ) -> None:
        self.n = n
        self.batch_size = batch_size
        self.epoch_steps = epoch_steps
        self.key = key
        self.trainer = trainer

    def __len__(self) -> int:
        return self.epoch_steps * self.batch_size // self.trainer.world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # current_epoch lags by one here when a run is resumed
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        epoch = progress.processed
        return stream(
            self.n,
            self.batch_size,
            range(epoch * self.epoch_steps, (epoch + 1) * self.epoch_steps),
            self.key,
            self.trainer.global_rank,
            self.trainer.world_size,
        )


def stream(
    n: int, batch_size: int, batches: range, key: tuple[int | str, ...], rank: int, world: int
) -> Iterator[tuple[int, int]]:
    """The items one process sees in some batches of a `TrainStream`, each with its seed.

    >>> sorted(item for item, _ in stream(4, 2, range(0, 2), (0,), 0, 1))
    [0, 1, 2, 3]
    """
    lap, order = -1, np.zeros(0, dtype=np.int64)
    own = batch_size // world
    for batch in batches:
        first = batch * batch_size + rank * own
        for position in range(first, first + own):
            if position // n != lap:
                lap = position // n
                order = np.random.default_rng(derive(*key, "order", lap)).permutation(n)
            yield int(order[position % n]), derive(*key, "augment", position)


class PoolShard(Sampler[int]):
    """Each item once, dealt out to the processes.

    A process without an item repeats one, as ``-1 - item``: it may not be idle, and a repeat must
    not be counted.

    Args:
        n: Number of items.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, n: int, rank: int, world: int) -> None:
        self.items = list(range(rank, n, world)) or [-1 - rank % n]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[int]:
        return iter(self.items)
