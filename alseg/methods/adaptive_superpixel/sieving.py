"""Leave out the pixels of an asked region that the model does not think are of the answered class.

Section numbers are those of adaptive superpixels (arXiv 2303.16817) as its reference has them: the
threshold is the knee of the region's own confidences in ascending order, region by region, and
sieved pixels are ignored, not relabelled. All answers are sieved anew every round.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.regions.geometry import RegionPixels


def answer_confidence(
    probabilities: Tensor,
    regions: tuple[int, int],
    pixels: RegionPixels,
    answers: NDArray[np.integer[Any]],
) -> Tensor:
    """Probability of the answered class at every pixel of the asked regions (F13).

    Args:
        probabilities: Class probabilities of the image, (C, h, w), on any device, which is not
            waited for; pixel ``y`` of the region map reads row ``floor(y * h / H)``, columns
            likewise.
        regions: Height and width of the region map, (H, W).
        pixels: Pixels of the K asked regions, see `alseg.regions.geometry.pixels_in`.
        answers: Their classes, none of them VOID, (K,).

    Returns:
        (n,), float32, in the order of ``pixels.order``, where the probabilities are.
    """
    _, height, width = probabilities.shape
    y, x = np.divmod(pixels.order, regions[1])
    cell = (y * height // regions[0]) * width + x * width // regions[1]
    label = np.repeat(np.asarray(answers, dtype=np.int64), np.diff(pixels.offsets))
    places = torch.from_numpy(label * (height * width) + cell)
    index = places.to(probabilities.device, non_blocking=True)
    return probabilities.reshape(-1)[index].float()


def sieve(
    confidence: NDArray[np.floating],
    offsets: NDArray[np.integer],
    min_pixels: int,
    steps: int = 20,
) -> NDArray[np.bool_]:
    """Which pixels of the asked regions are kept (F13).

    Args:
        confidence: `answer_confidence`, region by region, (n,).
        offsets: Where each region starts, (K + 1,).
        min_pixels: Smaller regions keep all pixels. The reference: 512, twice the size of its base
            superpixels, that is those that were merged.
        steps: About how many points of the sorted confidences the knee is looked for among, >= 1.

    Returns:
        (n,).
    """
    kept = np.ones(len(confidence), dtype=bool)
    for start, end in pairwise(offsets.tolist()):
        if end - start >= max(min_pixels, 1):
            inside = confidence[start:end]
            kept[start:end] = inside >= threshold(inside, steps)
    return kept


def threshold(confidence: NDArray[np.floating], steps: int = 20) -> float:
    """Confidence at the knee of a region's `confidence_curve`; the smallest where there is none.

    Args:
        confidence: Of the region's pixels, in any order, (n,), n >= 1.
        steps: See `confidence_curve`.

    >>> round(threshold(np.append(np.linspace(0, 0.8, 20), np.linspace(0.81, 1, 80))), 2)
    0.81
    """
    curve = confidence_curve(confidence, steps)
    return float(curve[knee(curve)])


def confidence_curve(confidence: NDArray[np.floating], steps: int = 20) -> NDArray[np.floating]:
    """Every so many-th confidence in ascending order.

    Args:
        confidence: (n,).
        steps: The distance between two points is ``max(1, n // steps)`` pixels, so that there are
            `steps` points or a few more.

    Returns:
        Ascending, type of `confidence`.

    >>> confidence_curve(np.arange(45)[::-1], steps=20).tolist()[:4]
    [0, 2, 4, 6]
    """
    return np.sort(confidence)[:: max(1, len(confidence) // steps)]


def knee(curve: NDArray[np.floating]) -> int:
    """Where an ascending curve stops rising steeply: Kneedle (Satopää et al., 2011).

    With sensitivity 1, offline, for concave ascending curves. This is what the package ``kneed``
    did until release 0.8.5; later releases wait for another maximum after every minimum and find
    other knees.

    Args:
        curve: (m,), ascending, m >= 1.

    Returns:
        Index into the curve; 0 if it is constant or has no knee.

    >>> knee(np.array([0.0, 0.6, 0.9, 0.95, 1.0])), knee(np.array([0.0, 0.1, 0.3, 1.0]))
    (2, 0)
    """
    y = np.asarray(curve, dtype=np.float64)
    last = len(y) - 1
    if y[last] == y[0]:
        return 0
    gain = (y - y[0]) / (y[last] - y[0]) - np.arange(len(y)) / last  # above the straight line
    before, after = np.r_[gain[0], gain[:-1]], np.r_[gain[1:], gain[last]]
    highs = (gain >= before) & (gain >= after)
    lows = (gain <= before) & (gain <= after)
    drop, found = -np.inf, 0
    for i in range(last):
        if highs[i]:
            drop, found = gain[i] - 1 / last, i
        if lows[i]:
            drop = 0.0
        if gain[i + 1] < drop:
            return found
    return 0
