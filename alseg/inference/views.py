"""Scores of images of any size: windows, scales and mirror images, averaged.

Everything here takes the network as a function from images (B, 3, H, W) to scores (B, C, H, W) and
averages what it returns. Give it probabilities (`class_probabilities`): they are comparable between
views whatever the scale of the logits, and averaging them over scales and mirror images is the
custom of the field (e.g. DeepLab, arXiv 1606.00915, section 4.3; PSPNet, arXiv 1612.01105). Or
logits (`class_logits`): their mean is the geometric mean of the probabilities, and one view that
excludes a class excludes it from the result.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from alseg.core.windows import window_starts
from alseg.nn.precision import at_least_float32
from alseg.nn.segmenter import upsample

Network = Callable[[Tensor], Tensor]
Size = tuple[int, int]

#: Numbers in one band of `enlarged_bands`.
_BAND = 2**26

#: Numbers of a score map worked on at a time on a CPU: they stay in the cache.
_CACHED = 2**19


class Tile(NamedTuple):
    """Finished scores of a part of an image."""

    top: int
    left: int
    scores: Tensor
    """(B, C, h, w)."""


def class_probabilities(
    scores: Tensor, num_classes: int, temperature: float = 1.0, inplace: bool = False
) -> Tensor:
    """Probabilities of the classes, in at least float32.

    Args:
        scores: Logits or cosines, (B, C', H, W), C' >= C: outputs that are no classes, such as
            one for void, come last and take no part.
        num_classes: C.
        temperature: Divides the scores as it did in training. Cosines lie in [-1, 1]: without it
            every class would have nearly the same probability.
        inplace: The memory of the scores may be used for the probabilities, the same bits.

    Returns:
        (B, C, H, W), summing to 1 over the classes.
    """
    wide = at_least_float32(scores[:, :num_classes])
    if inplace and wide.device.type == "cpu" and wide.is_contiguous():
        # each number is read before it is written: a new tensor of this size costs as much again
        scaled = wide if temperature == 1 else wide.div_(temperature)
        return torch.softmax(scaled, 1, out=scaled)
    return class_logits(scores, num_classes, temperature).softmax(dim=1)


def class_logits(scores: Tensor, num_classes: int, temperature: float = 1.0) -> Tensor:
    """What the softmax of `class_probabilities` is taken of, (B, C, H, W); see there."""
    wide = at_least_float32(scores[:, :num_classes])
    return wide if temperature == 1 else wide / temperature


def row_band(scores: Tensor) -> int:
    """How many rows of a score map (B, C, H, W) to work on at a time: all of them on a GPU.

    >>> row_band(torch.zeros(1, 16, 1024, 1024, device="meta")), row_band(torch.zeros(1, 2, 3, 4))
    (1024, 3)
    """
    if scores.device.type != "cpu":
        return max(1, scores.shape[2])
    numbers = scores.shape[0] * scores.shape[1] * scores.shape[3]
    return min(max(1, scores.shape[2]), max(1, _CACHED // max(1, numbers)))


def view_sizes(
    size: Size, scales: Sequence[float], factor: tuple[float, float] = (1.0, 1.0)
) -> list[Size]:
    """Sizes an image is shown to the network at, at least 1 x 1.

    Args:
        size: Height and width of the image.
        scales: One factor per view.
        factor: Further factors on height and width of all views.

    >>> view_sizes((30, 40), [0.5, 1.0], factor=(2.0, 1.0))
    [(30, 20), (60, 40)]
    """
    height, width = (side * part for side, part in zip(size, factor, strict=True))
    return [(max(1, round(height * s)), max(1, round(width * s))) for s in scales]


def mean_of_views(
    network: Network, images: Tensor, sizes: Sequence[Size], flip: bool = False
) -> Tensor:
    """Scores averaged over resized views and, if asked for, their mirror images.

    Growing is bilinear; shrinking takes a triangle filter as wide as a target pixel, as when a
    data set is loaded at another size. Scores are brought back bilinearly.

    Args:
        network: From images to scores, see above.
        images: (B, 3, H, W).
        sizes: Height and width of each view; the images' own is the images themselves.
        flip: Add the mirror image of each view along its width.

    Returns:
        (B, C, H, W).
    """
    size = (images.shape[-2], images.shape[-1])
    total: Tensor | None = None
    for view_size in sizes:
        view = _resized(images, view_size)
        for mirrored in (False, True)[: 1 + flip]:
            scores = network(view.flip(-1)).flip(-1) if mirrored else network(view)
            scores = upsample(scores, size)
            total = scores if total is None else total + scores
    if total is None:
        raise ValueError("no view: sizes is empty")
    views = len(sizes) * (1 + flip)
    return total if views == 1 else total / views


def score_tiles(
    network: Network,
    crop: Callable[[int, int, int, int], Tensor],
    size: Size,
    window: Size | None = None,
    overlap: float = 0.25,
) -> Iterator[Tile]:
    """Scores of an image window by window, from left to right and from top to bottom.

    Where windows overlap, their scores are averaged. Only what later windows still add to is kept:
    besides a few windows, memory holds C x (rows that two windows share) x W, never C x H x W.

    Args:
        network: From images to scores, see above; what it returns is changed in place.
        crop: Cuts ``(top, left, height, width)`` out of the images: (B, 3, height, width).
        size: H and W of the images.
        window: Height and width of the windows, clipped to the images; None = the whole image.
        overlap: Share of a window that its neighbour covers too, 0 to below 1.

    Yields:
        Tiles that cover every pixel once.
    """
    height, width = size
    tall, wide = (min(pair) for pair in zip(window or size, size, strict=True))
    tops, lefts = window_starts(height, tall, overlap), window_starts(width, wide, overlap)
    if len(tops) == len(lefts) == 1:
        yield Tile(0, 0, network(crop(0, 0, height, width)))
        return
    down, across = _windows_over(tops, tall, height), _windows_over(lefts, wide, width)
    rows = list(zip(tops, [*tops[1:], height], strict=True))
    columns = list(zip(lefts, [*lefts[1:], width], strict=True))
    shared = max(top + tall - bottom for top, bottom in rows)
    above: Tensor | None = None  # sums of the rows that windows above have begun
    begun = 0
    for top, bottom in rows:
        sums: Tensor | None = None
        reached = 0  # columns that windows further left have begun, with all that lies above
        for left, right in columns:
            scores = network(crop(top, left, tall, wide))
            if above is None:
                above = scores.new_empty((*scores.shape[:2], shared, width))
            known, new = reached - left, left + wide
            beside, sums = sums, scores
            if beside is not None:
                sums[..., :known] += beside[..., wide - known :]
            sums[..., :begun, known:] += above[..., :begun, reached:new]
            reached = new
            done, rest = sums[..., : right - left].split([bottom - top, top + tall - bottom], dim=2)
            windows = down[top:bottom, None] * across[left:right]
            yield Tile(top, left, done.div_(windows.to(done)))
            above[..., : rest.shape[2], left:right] = rest
        begun = top + tall - bottom


def enlarged_bands(scores: Tensor, size: Size) -> Iterator[Tensor]:
    """What `alseg.nn.segmenter.upsample` gives, in bands of full width from top to bottom.

    Args:
        scores: (B, C, h, w).
        size: Height H >= h and width W >= w to enlarge to.

    Yields:
        (B, C, rows, W), of a bounded number of rows.
    """
    height, width = size
    last = scores.shape[2] - 1
    rows = max(1, _BAND // (scores.shape[0] * scores.shape[1] * width))
    for top in range(0, height, rows):
        y = torch.arange(top, min(top + rows, height), dtype=torch.float64) + 0.5
        y = (y * scores.shape[2] / height - 0.5).clamp(0, last)
        low = y.long()
        between = (y - low)[:, None].to(scores)
        low = low.to(scores.device)
        part = scores.index_select(2, low)
        part = part.lerp(scores.index_select(2, (low + 1).clamp(max=last)), between)
        yield upsample(part, (len(y), width))


def predict_scores(
    network: Network,
    images: Tensor,
    window: Size | None = None,
    overlap: float = 0.25,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> Tensor:
    """Scores of images, averaged over windows, scales and mirror images, all in memory.

    For images too large for that, see `score_tiles`.

    Args:
        network: From images to scores, see above.
        images: (B, 3, H, W).
        window: Height and width of the windows; None = the whole image.
        overlap: Share of a window that its neighbour covers too, 0 to below 1.
        scales: Factors on the size of what the network is shown.
        flip: Average over mirror images too.

    Returns:
        (B, C, H, W).

    >>> predict_scores(lambda images: images[:, :2], torch.ones(1, 3, 5, 7), window=(2, 3)).unique()
    tensor([1.])
    """

    def views(part: Tensor) -> Tensor:
        sizes = view_sizes((part.shape[-2], part.shape[-1]), scales)
        scores = mean_of_views(network, part, sizes, flip)
        return scores.clone() if window else scores  # a network may return a part of its images

    def crop(top: int, left: int, height: int, width: int) -> Tensor:
        return images[..., top : top + height, left : left + width]

    size = (images.shape[-2], images.shape[-1])
    all_scores: Tensor | None = None
    for top, left, scores in score_tiles(views, crop, size, window, overlap):
        if scores.shape[-2:] == size:
            return scores
        if all_scores is None:
            all_scores = scores.new_empty((*scores.shape[:2], *size))
        height, width = scores.shape[-2:]
        all_scores[..., top : top + height, left : left + width] = scores
    assert all_scores is not None  # there is at least one window
    return all_scores


def _resized(images: Tensor, size: Size) -> Tensor:
    if images.shape[-2:] == size:
        return images
    return torch.nn.functional.interpolate(images, size=size, mode="bilinear", antialias=True)


def _windows_over(starts: Sequence[int], window: int, length: int) -> Tensor:
    """Number of windows that cover each pixel of an axis, (length,), int64."""
    count = torch.zeros(length, dtype=torch.int64)
    for start in starts:
        count[start : start + window] += 1
    return count
