"""Which regions to ask about: PixBal and its rivals BvSB and ClassBal.

Equation and section numbers are those of mulquery (arXiv 2309.09319). One pass of the network
over the pool leaves a small table behind, one row per (region, predicted class) that occurs; every
score of every region follows from it, for any class weights.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.scores import pixel_scores
from alseg.acquisition.statistics import sparse_class_sums

#: Added to the ratio of probabilities (A3).
EPS = 1e-8


class RegionTable(NamedTuple):
    """Uncertainty of the pool: rows sorted by (image, unit, label), each triple at most once.

    A region is absent from its image if its only row has 0 pixels (see `with_absent_regions`).
    """

    image: NDArray[np.integer]  #: Image index, (n,).
    unit: NDArray[np.integer]  #: Region id inside the image, (n,).
    label: NDArray[np.integer]  #: Predicted class, (n,).
    uncertainty: NDArray[np.floating]  #: Sum of u (A3) over the pixels predicted so, (n,).
    pixels: NDArray[np.integer]  #: Their number, (n,).


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
    scores = pixel_scores(cosines, temperature=tau)
    return scores.bvsb + EPS, scores.top1


def region_table(
    cosines: Tensor, regions: Tensor, *, tau: float
) -> tuple[dict[str, Tensor], Tensor]:
    """Reduce a batch to the rows of a `RegionTable`, on the device it is on.

    Args:
        cosines: ``s``, (B, C, H, W).
        regions: Region id of each pixel, (B, H, W), integer; pixels of no region, -1, get no row.
        tau: Temperature.

    Returns:
        The columns of a `RegionTable` with ``image`` = position in the batch, and the mean
        softmax of each image over all its pixels, (B, C), float32.
    """
    uncertainty, label = pixel_uncertainty(cosines, tau=tau)
    stride = max(int(regions.max()) + 1, 1)
    first = torch.arange(len(regions), device=regions.device)[:, None, None] * stride
    group, predicted, total, pixels = sparse_class_sums(
        uncertainty, label, torch.where(regions < 0, -1, first + regions), cosines.shape[1]
    )
    table = {
        "image": group // stride,
        "unit": group % stride,
        "label": predicted,
        "uncertainty": total,
        "pixels": pixels,
    }
    probabilities: Tensor = (cosines.float() / tau).softmax(dim=1)
    return table, probabilities.mean(dim=(2, 3))


def with_absent_regions(
    table: RegionTable, images: NDArray[np.integer], num_regions: int
) -> RegionTable:
    """Add a row of 0 pixels for every id of some images that has no pixel.

    The reference works on dense (images, ids) tables, in which such ids take part: they score 0,
    and inflate the first class's share in `class_balanced_scores`. Add them to reproduce it.

    Args:
        table: Regions that occur.
        images: Image indices the ids are added to, (N,).
        num_regions: Ids are ``0..num_regions - 1``.

    Returns:
        The larger table.
    """
    stride = max(num_regions, int(table.unit.max(initial=-1)) + 1)
    known = table.image.astype(np.int64) * stride + table.unit
    every = np.unique(images).astype(np.int64)[:, None] * stride + np.arange(num_regions)
    image, unit = np.divmod(np.setdiff1d(every, known), stride)
    zero = np.zeros(len(image), dtype=np.int64)
    absent = RegionTable(image, unit, zero, zero.astype(np.float64), zero)
    longer = [np.concatenate(columns) for columns in zip(table, absent, strict=True)]
    order = np.lexsort((longer[1], longer[0]))  # stable: rows of a region stay in order
    return RegionTable(*(column[order] for column in longer))


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
    starts = _starts(table)
    score = _means(table, np.asarray(weights)[table.label] * table.uncertainty, starts)
    return _scores(table, starts, _ban(score, _dominant(table, starts), undefined))


def bvsb_scores(table: RegionTable, undefined: int | None) -> RegionScores:
    """Mean best-versus-second-best ratio of each region, scaled over the pool (section 5.2).

    Args:
        table: Uncertainty of the pool.
        undefined: As in `pixbal_scores`.

    Returns:
        Scores in [0, 1]; below 0 for absent regions.
    """
    starts = _starts(table)
    score = _scaled(_means(table, table.uncertainty, starts))
    return _scores(table, starts, _ban(score, _dominant(table, starts), undefined))


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
    starts = _starts(table)
    dominant = _dominant(table, starts)
    share = np.bincount(dominant, minlength=num_classes) / max(len(starts), 1)
    score = _ban(_scaled(_means(table, table.uncertainty, starts)), dominant, undefined)
    return _scores(table, starts, score * np.exp(-share)[dominant]), share


def _starts(table: RegionTable) -> NDArray[np.int64]:
    """First row of each region."""
    new = np.ones(len(table.image), dtype=bool)
    new[1:] = (np.diff(table.image) != 0) | (np.diff(table.unit) != 0)
    return np.flatnonzero(new)


def _means(
    table: RegionTable, sums: NDArray[np.floating], starts: NDArray[np.int64]
) -> NDArray[np.float64]:
    pixels = np.add.reduceat(table.pixels, starts, dtype=np.int64)
    return np.add.reduceat(sums, starts, dtype=np.float64) / np.maximum(pixels, 1)


def _dominant(table: RegionTable, starts: NDArray[np.int64]) -> NDArray[np.integer]:
    """Most frequent predicted class of each region; ties go to the lowest."""
    region = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(table.pixels)))
    largest = np.maximum.reduceat(table.pixels, starts)
    ties = np.flatnonzero(table.pixels == largest[region])
    first = np.diff(region[ties], prepend=-1) != 0
    return table.label[ties[first]]


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


def _scores(
    table: RegionTable, starts: NDArray[np.int64], score: NDArray[np.float64]
) -> RegionScores:
    return RegionScores(table.image[starts], table.unit[starts], score.astype(np.float32))


def region_pixels(table: RegionTable) -> NDArray[np.int64]:
    """Pixels of each region of a table, (m,), int64, in its order."""
    return np.add.reduceat(table.pixels, _starts(table), dtype=np.int64)
