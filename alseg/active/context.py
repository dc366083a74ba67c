"""What a choice, and what a method, may know when it is asked something."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from alseg.acquisition.diversity import Diversity
from alseg.active.ledger import Ledger
from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.core.seeds import derive
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import UnitKind
from alseg.nn.network import Network


@dataclass(frozen=True)
class Asking:
    """What a choice has to know: what is open, what it costs, and what is random about it.

    Attributes:
        round: The round the query is for, 0-based.
        seed: Seed of the run.
        pool: Labels bought so far, and their prices.
        regions: Version of the region maps that are asked about, or `PIXELS`.
        kind: What one region of these maps is.
        diversity: How like units are kept apart; None = the highest scores, whatever they show.
    """

    round: int
    seed: int
    pool: LabelPool
    regions: str
    kind: UnitKind
    diversity: Diversity | None = None

    @classmethod
    def of(cls, pool: LabelPool, seed: int = 0) -> "Asking":
        """The next question about a pool that knows its regions (`LabelPool.of`).

        Raises:
            UserError: If it does not.
        """
        if pool.regions is None or pool.kind is None:
            raise UserError(
                "this pool does not say which regions are asked about; make it by "
                "LabelPool.of(images, regions, budget), or give an Asking in its place."
            )
        following = pool.history[-1].round + 1 if pool.history else 0
        return cls(following, seed, pool, pool.regions, pool.kind)

    @property
    def budget(self) -> Budget:
        """Budget of every round."""
        return self.pool.budget

    @property
    def num_regions(self) -> int | None:
        """No image has a region id so high; None where pixels or whole images are asked about."""
        maps = self.pool.maps.get(self.regions)
        return None if maps is None else int(max(maps.num_regions, default=0)) or None

    def rng(self, *key: str) -> np.random.Generator:
        """Generator of its own for every round and purpose."""
        return np.random.default_rng(derive(self.seed, self.round, *key))


@dataclass(frozen=True, kw_only=True)
class RoundContext(Asking):
    """What a method may know when it is asked something.

    Its images have no ground truth, unless the method says that it reads it
    (`Method.reads_truth`).

    Attributes:
        rounds: Rounds of the run.
        images: The pool's images.
        network: Builds the segmentation network.
        ledger: The run folder.
        cache: Where to keep what other runs on the same images can use.
    """

    rounds: int
    images: ImageSet
    network: Network
    ledger: Ledger
    cache: Path

    @property
    def before(self) -> Self:
        """The round before this one: the one that is trained when this one is asked about."""
        return replace(self, round=self.round - 1)

    def stage_folder(self, stage: str) -> Path:
        """Folder of a stage of this round."""
        return self.ledger.stage(self.round, stage)
