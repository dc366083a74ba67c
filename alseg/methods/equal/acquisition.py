"""Which patches to ask about: the entropy of two views, and what may be asked at all.

Equation numbers are those of EquAL (arXiv 2008.01860) as its reference implementation has them.
Consistency acts on the choice through training only: the score is a sum of two entropies, without
a term for their disagreement.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.scores import pixel_scores
from alseg.acquisition.selection import top
from alseg.acquisition.statistics import class_histogram, region_majority
from alseg.core.images import VOID


def two_view_entropy(plain: Tensor, mirrored: Tensor) -> Tensor:
    """Entropy of the image plus that of its mirror image, per pixel (F10). Without gradient.

    Args:
        plain: ``a = f(x)``, (B, C, H, W), void's channel included. The variant without consistency
            passes this view twice.
        mirrored: ``b = flip(f(flip(x)))``, (B, C, H, W).

    Returns:
        0..2 ln C nats, (B, H, W), float32 (float64 for float64 logits).

    >>> round(float(two_view_entropy(torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1))), 6)
    1.386294
    """
    return pixel_scores(plain).entropy + pixel_scores(mirrored).entropy


def patch_means(values: Tensor, rows: int, cols: int) -> Tensor:
    """Mean of a map over every patch, asked, void or not (F10).

    Patches are ``H // rows`` x ``W // cols`` pixels. Where that leaves a rest, these windows are
    not the rectangles that are labelled, so sides should be divisible.

    Args:
        values: (B, H, W), with H >= rows and W >= cols.
        rows: Patches from top to bottom.
        cols: Patches from left to right.

    Returns:
        (B, rows * cols), in the order of the region ids, row by row.

    >>> patch_means(torch.tensor([[[1.0, 3.0, 4.0, 8.0]]]), rows=1, cols=2).tolist()
    [[2.0, 6.0]]
    """
    size = values.shape[-2] // rows, values.shape[-1] // cols
    means = F.avg_pool2d(values[:, None], size)[:, 0, :rows, :cols]
    return means.flatten(1)


def patch_majority(
    truth: NDArray[np.uint8],
    regions: NDArray[np.integer[Any]],
    num_classes: int,
    num_regions: int,
    void_wins: bool,
) -> NDArray[np.uint8]:
    """The most frequent label of each patch, void included; ties go to the lowest id (F2).

    The reference never asks about patches whose majority is void. To know them it reads the ground
    truth of patches nobody has asked about.

    Args:
        truth: Class ids 0..C-1 or `VOID`, any shape.
        regions: Region id of each pixel, shape of `truth`, -1 = none.
        num_classes: C.
        num_regions: R.
        void_wins: Whether void wins a tie with a class: as where void is the first id (the
            reference's Cityscapes), else it loses (CamVid, void is the last id).

    Returns:
        (R,), uint8, `VOID` where void leads or no pixel is.

    >>> regions = np.array([0, 0, 1, 1])
    >>> truth = np.array([1, 255, 0, 1], dtype=np.uint8)
    >>> patch_majority(truth, regions, 2, 2, void_wins=False).tolist()
    [1, 0]
    >>> patch_majority(truth, regions, 2, 2, void_wins=True).tolist()
    [255, 0]
    """
    void, first = (0, 1) if void_wins else (num_classes, 0)
    column = np.where(truth == VOID, void, truth.astype(np.int64) + first)
    histogram = class_histogram(
        torch.from_numpy(column),
        torch.from_numpy(np.ascontiguousarray(regions)),
        num_regions,
        num_classes + 1,
    )
    winner = region_majority(histogram).numpy()
    return np.where((winner < 0) | (winner == void), VOID, winner - first).astype(np.uint8)


def select_patches(
    score: NDArray[np.floating[Any]],
    image: NDArray[np.integer[Any]],
    patch: NDArray[np.integer[Any]],
    may_ask: NDArray[np.bool_],
    n: int,
) -> NDArray[np.int64]:
    """The patches of highest score in the whole pool; among equals the higher id first (F11).

    No limit per image, no diversity, no class balance. If fewer may be asked, all of them.

    Args:
        score: Mean entropy of each patch, (m,).
        image: Image index, (m,).
        patch: The reference's patch number, see `patch_of_region`, (m,).
        may_ask: Patches that are eligible and not yet labelled, (m,).
        n: Patches wanted; none if 0 or less.

    Returns:
        Row numbers in the order of purchase, (<= n,), int64.

    Raises:
        ValueError: If a score that counts is NaN: the reference's order is then undefined.

    >>> image, patch = np.array([0, 0, 1]), np.array([0, 1, 0])
    >>> may_ask = np.array([True, True, True])
    >>> select_patches(np.array([0.5, 0.5, 0.5]), image, patch, may_ask, 2).tolist()
    [2, 1]
    """
    rows = np.flatnonzero(may_ask)
    return rows[top(score[rows], image[rows], patch[rows], max(n, 0), ties="last")]


def at_most_per_image(image: NDArray[np.integer[Any]], most: int) -> NDArray[np.bool_]:
    """Which of the rows, in order of preference, stay when an image may have so many.

    Args:
        image: Image index of each row, the best row first, (m,).
        most: Rows of one image, >= 1.

    Returns:
        (m,), bool.

    >>> at_most_per_image(np.array([7, 7, 3, 7]), 2).tolist()
    [True, True, True, False]
    """
    order = np.argsort(image, kind="stable")
    first = np.searchsorted(image[order], image[order], side="left")
    rank = np.empty(len(image), dtype=np.int64)
    rank[order] = np.arange(len(image)) - first
    return rank < most
