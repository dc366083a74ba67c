"""Keeping like units apart when the most doubtful ones of a pool are chosen.

The n units of highest score are often n views of the same thing. Every way here starts from the
candidates, the units of highest score, a few times as many as wanted, and orders them so that any
head of the order shows different things.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.clustering import k_center, kmeans
from alseg.acquisition.randomized import power_noise, spatially_spread
from alseg.acquisition.selection import order, top

#: Candidates per unit wanted.
CANDIDATES = 10


class Units(NamedTuple):
    """Units to choose among, (n,) rows; the last three only where a way needs them."""

    image: NDArray[np.int64]  #: Image index.
    unit: NDArray[np.int64]  #: Unit id inside the image.
    score: NDArray[np.float64]  #: Higher is more urgent.
    features: NDArray[np.float32] | None = None  #: What the network sees in a unit, (n, d).
    label: NDArray[np.int64] | None = None  #: Predicted class.
    center: NDArray[np.float64] | None = None  #: ``y, x`` in pixels, (n, 2).

    def rows(self, rows: NDArray[np.int64]) -> "Units":
        """Some of the units."""
        return Units(*(None if column is None else column[rows] for column in self))  # type: ignore[arg-type]


def cluster_order(units: Units, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """One unit of each of n clusters of the features: the one of highest score.

    FAISS k-means, in which a unit weighs as much as its score is above the lowest one.

    Args:
        units: At least n, with features.
        n: Units wanted.
        rng: Seeds the clustering.

    Returns:
        Row numbers by descending score, (k,), int64; fewer than n where features coincide.
    """
    assert units.features is not None
    ids = order_by_id(units)
    weight = (units.score - units.score.min()).astype(np.float32) + np.float32(1e-6)
    seed = int(rng.integers(2**30))
    _, cluster = kmeans(units.features, n, ids, seed, weights=weight)
    ranked = order(units.score, units.image, units.unit)
    _, first = np.unique(cluster[ranked], return_index=True)
    return ranked[np.sort(first)]


def cover_order(units: Units, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Greedy k-center on the features (Sener & Savarese, ICLR 2018), from the highest score on.

    Args:
        units: With features.
        n: Units wanted.
        rng: Unused: nothing here is random.

    Returns:
        Row numbers in the order of the picks, (n,), int64.
    """
    assert units.features is not None
    best = order(units.score, units.image, units.unit)[:1]
    if n == 1:
        return best
    others = np.setdiff1d(np.arange(len(units.score)), best)
    picked = k_center(
        units.features[others],
        n - 1,
        order_by_id(units)[others],
        labelled=units.features[best],
        progress=False,
    )
    row_of = np.argsort(order_by_id(units))
    return np.concatenate([best, row_of[picked]])


def noisy_order(units: Units, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The highest scores after power-law noise of exponent 1 (Kirsch et al., arXiv 2106.12059).

    Args:
        units: Of any scores; negative ones are raised by the lowest.
        n: Units wanted.
        rng: Draws the noise.

    Returns:
        Row numbers, (n,), int64.
    """
    ranked = order_by_id(units)
    noise = np.empty(len(ranked))
    by_id = np.argsort(ranked)
    score = units.score - min(0.0, float(units.score.min(initial=0.0)))
    noise[by_id] = power_noise(score[by_id], 1.0, rng)
    return top(noise, units.image, units.unit, n)


def spread_order(units: Units, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Units far from each other in their images, see `spatially_spread`.

    Args:
        units: With centres.
        n: Units wanted.
        rng: Draws the candidates of every pick.

    Returns:
        Row numbers in the order of the picks, (n,), int64.
    """
    assert units.center is not None
    by_id = np.argsort(order_by_id(units))
    picked = spatially_spread(units.image[by_id], units.center[by_id], n, rng)
    return by_id[picked]


def stratified_order(units: Units, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The predicted classes in turn, each with its unit of highest score that is left.

    Args:
        units: With labels.
        n: Units wanted.
        rng: Unused: nothing here is random.

    Returns:
        Row numbers, (n,), int64.

    >>> units = Units(np.zeros(4, int), np.arange(4), np.array([0.9, 0.8, 0.7, 0.1]),
    ...               label=np.array([2, 2, 2, 5]))
    >>> stratified_order(units, 3, np.random.default_rng(0)).tolist()
    [0, 3, 1]
    """
    assert units.label is not None
    ranked = order(units.score, units.image, units.unit)
    label = units.label[ranked]
    by_class = np.argsort(label, kind="stable")
    _, first, count = np.unique(label[by_class], return_index=True, return_counts=True)
    turn = np.empty(len(label), dtype=np.int64)
    turn[by_class] = np.arange(len(label)) - np.repeat(first, count)
    return ranked[np.lexsort([np.arange(len(ranked)), turn])][:n]


class Way(NamedTuple):
    """One way to keep units apart: the columns it needs, and its order of candidates."""

    needs: frozenset[str]
    order: Callable[[Units, int, np.random.Generator], NDArray[np.int64]]
    candidates: int | None = CANDIDATES  #: Per unit wanted; None = all units.


#: The ways by name.
DIVERSITIES: dict[str, Way] = {
    "kmeans": Way(frozenset({"features"}), cluster_order),
    "k_center": Way(frozenset({"features"}), cover_order),
    "power": Way(frozenset(), noisy_order, candidates=None),
    "spread": Way(frozenset({"center"}), spread_order),
    "stratified": Way(frozenset({"label"}), stratified_order, candidates=None),
}


@dataclass
class Diversity:
    """A way to keep units apart, with what was measured of the pool for it.

    Attributes:
        name: One of `DIVERSITIES`.
        table: Columns ``image``, ``unit`` and those the way needs, one row per unit, sorted by
            image; None until the pool is scored, and for ways that need nothing measured.
    """

    name: str
    table: Mapping[str, NDArray[Any]] | None = None

    @property
    def way(self) -> Way:
        """The way."""
        return DIVERSITIES[self.name]

    @property
    def measured(self) -> frozenset[str]:
        """Columns that the scoring pass has to bring."""
        return self.way.needs & {"features", "label"}

    def choose(self, units: Units, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Rows in the order in which they are to be asked.

        Args:
            units: The open units of the pool.
            n: Units wanted.
            rng: Draws what is random.

        Returns:
            Row numbers, at most n of them, (m,), int64: the same units whatever the order of rows.

        Raises:
            ValueError: If a unit was not measured.
        """
        if not n or not len(units.score):
            return np.zeros(0, dtype=np.int64)
        n = min(n, len(units.score))
        few = self.way.candidates
        rows = np.arange(len(units.score))
        if few is not None:
            rows = top(units.score, units.image, units.unit, min(len(rows), few * n))
        chosen = self._measured(units.rows(rows))
        return rows[self.way.order(chosen, n, rng)]

    def _measured(self, units: Units) -> Units:
        """The units with what was measured of them."""
        if not self.measured:
            return units
        if self.table is None:
            raise ValueError(f"diversity {self.name!r} needs {sorted(self.measured)} of every unit")
        width = int(max(self.table["unit"].max(initial=0), units.unit.max(initial=0))) + 1
        known = self.table["image"].astype(np.int64) * width + self.table["unit"]
        sequence = np.argsort(known, kind="stable")
        key = units.image * width + units.unit
        place = np.searchsorted(known, key, sorter=sequence).clip(max=len(known) - 1)
        found = sequence[place]
        if not np.array_equal(known[found], key):
            raise ValueError(f"diversity {self.name!r} was not measured of all units")
        features = self.table["features"][found] if "features" in self.measured else None
        label = self.table["label"][found] if "label" in self.measured else None
        return units._replace(
            features=None if features is None else np.asarray(features, dtype=np.float32),
            label=None if label is None else np.asarray(label, dtype=np.int64),
        )


def order_by_id(units: Units) -> NDArray[np.int64]:
    """Distinct ids of the units, (n,), int64: their ranks by image, then unit id."""
    ranks = np.empty(len(units.image), dtype=np.int64)
    ranks[np.lexsort([units.unit, units.image])] = np.arange(len(ranks))
    return ranks
