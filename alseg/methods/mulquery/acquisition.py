"""Which regions to ask about: PixBal and its rivals BvSB and ClassBal.

Equation and section numbers are those of mulquery (arXiv 2309.09319). One pass of the network
over the pool leaves a small table behind, one row per (region, predicted class) that occurs; every
score of every region follows from it, for any class weights.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.balance import class_balanced, class_shares
from alseg.acquisition.fused import Grid, grid_sums
from alseg.acquisition.region_table import (
    RegionSummary,
    RegionTable,
    region_rows,
    rows_of_sums,
    summarize,
)
from alseg.acquisition.scores import best_two

#: Added to the ratio of probabilities (A3).
EPS = 1e-8


class RegionScores(NamedTuple):
    """One row per region of a `RegionTable`, in its order; higher is asked first."""

    image: NDArray[np.integer]  #: Image index, (m,).
    unit: NDArray[np.integer]  #: Region id inside the image, (m,).
    score: NDArray[np.float32]  #: (m,).


def pixel_uncertainty(cosines: Tensor, *, tau: float) -> tuple[Tensor, Tensor]:
    """Second best probability over the best (A3), and the predicted class.

    Args:
        cosines: ``s``, (B, C, H, W).
        tau: Temperature.

    Returns:
        ``u`` in (0, 1], (B, H, W), float32, and class ids, (B, H, W), uint8.
    """
    found = best_two(cosines, temperature=tau)
    return found.bvsb + EPS, found.top1


def region_table(
    cosines: Tensor, regions: Tensor, *, tau: float, num_regions: int | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Reduce a batch to the rows of a `RegionTable`, on the device it is on.

    Args:
        cosines: ``s``, (B, C, H, W).
        regions: Region id of each pixel, (B, H, W), integer; pixels of no region, -1, get no row.
        tau: Temperature.
        num_regions: Most regions of an image, see `alseg.acquisition.region_table.region_rows`.

    Returns:
        The columns of a `RegionTable` with ``image`` = position in the batch, and the mean
        softmax of each image over all its pixels, (B, C), float32.
    """
    found = best_two(cosines, temperature=tau, mean=True)
    table = region_rows(found.bvsb + EPS, found.top1, regions, cosines.shape[1], num_regions)
    return table, found.mean


def region_table_of_grid(
    cosines: Grid, regions: Tensor, *, tau: float, num_regions: int | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """`region_table` without cosines at the size of the images: one kernel where a GPU has it.

    ``u`` is added up as the sum of the ratios plus as many `EPS` as there are pixels.

    Args:
        cosines: ``s`` on the network's own grid.
        regions: See `region_table`.
        tau: Likewise.
        num_regions: Likewise.

    Returns:
        Likewise.
    """
    highest = num_regions or max(1, int(regions.max()) + 1)
    found = grid_sums(cosines, "bvsb", regions, highest, tau, by_class=True, mean=True)
    sums = found.sums + EPS * found.pixels
    return rows_of_sums(sums, found.pixels), found.mean


def class_prior(image_means: NDArray[np.floating], batch_size: int) -> NDArray[np.float64]:
    """How common each class is in the predictions (A1).

    Args:
        image_means: Mean softmax of each pool image over all its pixels, (N, C), pool order.
        batch_size: The mean is taken over batches of consecutive images, in which a short last
            batch weighs as much as a full one; 1 weighs all images alike.

    Returns:
        (C,), sums to 1.

    >>> class_prior(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), batch_size=2).tolist()
    [0.5, 0.5]
    """
    starts = np.arange(0, len(image_means), batch_size)
    sums = np.add.reduceat(image_means.astype(np.float64), starts, axis=0)
    sizes = np.diff(starts, append=len(image_means))
    return (sums / sizes[:, None]).mean(axis=0)


def class_weights(prior: NDArray[np.floating], nu: float) -> NDArray[np.float64]:
    """Weight of the pixels predicted as each class (A2).

    Args:
        prior: `class_prior`, (C,).
        nu: How strongly common classes are held back; 0 makes all weights 1.

    Returns:
        ``(nu * prior + 1) ** -2``, (C,), in (0, 1].

    >>> class_weights(np.array([0.5, 0.0]), nu=2.0).tolist()
    [0.25, 1.0]
    """
    return (nu * np.asarray(prior, dtype=np.float64) + 1) ** -2


def pixbal_scores(
    table: RegionTable, weights: NDArray[np.floating], undefined: int | None
) -> RegionScores:
    """Mean of uncertainty times class weight over each region (A4, A5).

    Args:
        table: Uncertainty of the pool.
        weights: `class_weights`, (C,).
        undefined: Class that is not worth asking about: regions in which it is predicted more
            often than any other class score 0. None for no such class.

    Returns:
        Scores in [0, 1]; 0 for absent regions.
    """
    regions = summarize(table, weights)
    return _scores(regions, _ban(regions.uncertainty, regions.label, undefined))


def bvsb_scores(table: RegionTable, undefined: int | None) -> RegionScores:
    """Mean best-versus-second-best ratio of each region, scaled over the pool (section 5.2).

    Args:
        table: Uncertainty of the pool.
        undefined: As in `pixbal_scores`.

    Returns:
        Scores in [0, 1]; below 0 for absent regions.
    """
    regions = summarize(table)
    return _scores(regions, _ban(_scaled(regions.uncertainty), regions.label, undefined))


def class_balanced_scores(
    table: RegionTable, num_classes: int, undefined: int | None
) -> tuple[RegionScores, NDArray[np.float64]]:
    """`bvsb_scores` times ``exp(-q)``, q the share of regions with that dominant class (5.2).

    After Cai et al., CVPR 2021. Absent regions, if the table lists any, count as the first class.

    Args:
        table: Uncertainty of the pool.
        num_classes: C.
        undefined: As in `pixbal_scores`.

    Returns:
        Scores in [0, 1], and q of every class, (C,), sums to 1.
    """
    regions = summarize(table)
    shares = class_shares(regions.label, num_classes)
    score = _ban(_scaled(regions.uncertainty), regions.label, undefined)
    return _scores(regions, class_balanced(score, regions.label, shares)), shares


def _scaled(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lowest score of an occurring region to 0, then highest to 1."""
    if not score.any():
        return score
    score = score - score[score != 0].min()
    highest = score.max()
    return score / highest if highest > 0 else score


def _ban(
    score: NDArray[np.float64], dominant: NDArray[np.integer], undefined: int | None
) -> NDArray[np.float64]:
    return score if undefined is None else np.where(dominant == undefined, 0.0, score)


def _scores(regions: RegionSummary, score: NDArray[np.float64]) -> RegionScores:
    return RegionScores(regions.image, regions.unit, score.astype(np.float32))
