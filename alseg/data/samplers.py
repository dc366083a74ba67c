"""Which images, in which order: functions of a key, never of what a process drew before."""

from collections.abc import Iterator
from typing import Any, Protocol

import lightning as L
import numpy as np
from torch.utils.data import DistributedSampler

from alseg.active.stage import Fit
from alseg.core.seeds import derive


class Place(Protocol):
    """Where a process stands: what a sampler asks of a trainer."""

    @property
    def epoch(self) -> int:
        """Epochs done."""
        ...

    @property
    def rank(self) -> int:
        """Number of this process."""
        ...

    @property
    def world(self) -> int:
        """Number of processes."""
        ...


class TrainerPlace:
    """Where a trainer says that this process stands.

    Args:
        trainer: A trainer that fits.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        self.trainer = trainer

    @property
    def epoch(self) -> int:
        """Epochs done; ``current_epoch`` lags by one here when a run is resumed."""
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return int(progress.processed)

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.trainer.global_rank

    @property
    def world(self) -> int:
        """Number of processes."""
        return self.trainer.world_size


class OnePlace:
    """The one process of a loader without a trainer, which counts its own epochs."""

    rank, world = 0, 1

    def __init__(self) -> None:
        self._begun = -1

    @property
    def epoch(self) -> int:
        """How often it was asked before."""
        self._begun += 1
        return self._begun


class _Own(DistributedSampler[Any]):
    """A sampler that deals out its items itself, which Lightning leaves as it is."""

    def __init__(self) -> None:
        # what a DistributedSampler sets up would only describe another sharding
        self.epoch = 0


class TrainStream(_Own):
    """Batches of a stage, from shuffled passes over n items.

    A stage of whole passes ends each of them with what is left as a smaller batch. Else the batches
    are cut from an endless stream of passes. They depend on the key and the epoch alone: a resumed
    stage continues them exactly, on any number of processes, which share every batch evenly.

    Args:
        n: Number of items.
        fit: Says how many batches of which size.
        key: Names the stream.
        place: Knows the epoch and the process.

    Attributes:
        first_epoch: Where the stream begins when it is iterated over.

    Yields:
        Batches from the first epoch to the end of the fit: item numbers, each with the seed of its
        augmentation. Its length is that of one epoch, see `alseg.data.loaders.FitLoader`.
    """

    def __init__(self, n: int, fit: Fit, key: tuple[int | str, ...], place: Place) -> None:
        super().__init__()
        self.n = n
        self.fit = fit
        self.key = key
        self.place = place
        self.first_epoch = 0

    def __len__(self) -> int:
        return self.fit.epoch_batches

    def __iter__(self) -> Iterator[Any]:
        length, first = self.fit.epoch_batches, self.first_epoch
        behind = max(first + 1, self.fit.epochs)
        return batches(
            self.n,
            self.fit.batch_size,
            range(first * length, behind * length),
            self.key,
            self.place.rank,
            self.place.world,
            self.fit.whole_passes,
        )


def batches(
    n: int,
    batch_size: int,
    numbers: range,
    key: tuple[int | str, ...],
    rank: int = 0,
    world: int = 1,
    whole_passes: bool = False,
) -> Iterator[list[tuple[int, int]]]:
    """Some batches of a `TrainStream` as one process sees them.

    Position p of the stream is item ``permutation(lap)[p % n]`` of lap ``p // n``. Where a batch
    has fewer items than the processes need to share it evenly, they repeat its first ones.

    Args:
        n: Number of items.
        batch_size: Items per batch, over all processes.
        numbers: Which batches.
        key: Names the stream.
        rank: This process.
        world: Number of processes.
        whole_passes: Whether a batch ends where a pass does.

    >>> [len(batch) for batch in batches(5, 2, range(4), (0,), whole_passes=True)]
    [2, 2, 1, 2]
    >>> sorted(item for batch in batches(4, 2, range(2), (0,)) for item, _ in batch)
    [0, 1, 2, 3]
    """
    lap, order = -1, np.zeros(0, dtype=np.int64)
    per_pass = -(-n // batch_size)
    for number in numbers:
        first, count = number * batch_size, batch_size
        if whole_passes:
            begun, within = divmod(number, per_pass)
            first = begun * n + within * batch_size
            count = min(batch_size, n - within * batch_size)
        own = -(-count // world)
        batch = []
        for place in range(rank * own, (rank + 1) * own):
            position = first + place % count
            if position // n != lap:
                lap = position // n
                order = np.random.default_rng(derive(*key, "order", lap)).permutation(n)
            batch.append((int(order[position % n]), derive(*key, "augment", position)))
        yield batch


class PoolShard(_Own):
    """Each item once, dealt out to the processes.

    A process without an item repeats one, as ``-1 - item``: it may not be idle, and a repeat must
    not be counted.

    Args:
        n: Number of items.
        rank: This process.
        world: Number of processes.
    """

    def __init__(self, n: int, rank: int, world: int) -> None:
        super().__init__()
        self.items = list(range(rank, n, world)) or [-1 - rank % n]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)
