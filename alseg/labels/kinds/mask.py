"""The label of every pixel of a region or an image."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID, ImageSet
from alseg.labels.kinds.base import Annotator, Column, Kind, Units, Written


class Mask(Kind):
    """A dense mask of a unit: the labels of its pixels in raster order."""

    name: ClassVar[str] = "mask"
    column: ClassVar[Column] = "masks"
    #: Cityscapes: 1.5 h an image of 1024x2048 (Cordts et al., CVPR 2016), 5 095 159 clicks for its
    #: 2975 training images (Cai et al., CVPR 2021).
    prices: ClassVar[dict[str, float]] = {
        "clicks_per_pixel": 8.167e-4,
        "seconds_per_pixel": 2.575e-3,
    }
    takes_unsure: ClassVar[bool] = False  # such pixels are void in the mask
    asks: ClassVar[str] = "Paint every pixel of the {unit}."
    question: ClassVar[str] = (
        "the path of a label image (PNG or TIFF, of the size of the image or of its file; "
        "only the {unit} is read), relative to this folder"
    )
    example: ClassVar[str] = "masks/0.png"

    def of_truth(
        self, units: Units, images: ImageSet, num_classes: int, how: Annotator
    ) -> list[NDArray[np.uint8]]:
        """The labels of each unit's pixels."""
        truth = images.truth(units.image)
        if units.runs is None:
            return [truth.ravel()[unit : unit + 1] for unit in units.unit.tolist()]
        flat = truth.ravel()
        return [flat[where] for where in pixels_of(units)]

    def stored(
        self, rows: Sequence[Any] | NDArray[Any], num_classes: int
    ) -> tuple[NDArray[np.uint8], ...]:
        """A byte for each pixel."""
        return tuple(rows)

    def check(
        self,
        column: Sequence[NDArray[np.uint8]],
        num_classes: int,
        pixels: NDArray[np.int64],
    ) -> None:
        """As many labels as the unit has pixels."""
        lengths = np.array([mask.size for mask in column], dtype=np.int64)
        if not np.array_equal(lengths, pixels):
            raise ValueError("a mask does not have the size of its unit")

    def written(self, answer: Written, num_names: int) -> NDArray[np.uint8]:
        """The labels in the file an answer names."""
        return answer.mask()

    def void(self, num_names: int) -> NDArray[np.uint8]:
        """None: how many pixels are void depends on the unit."""
        raise TypeError("a mask of void has the size of its unit")

    def members(self, column: object, num_classes: int) -> NDArray[np.bool_]:
        """None: classes may be in some pixels of a unit only."""
        raise ValueError("mask answers have no class set per unit")

    def labels(self, column: object, num_classes: int) -> NDArray[np.uint8]:
        """None: a mask is no single label."""
        raise TypeError("a mask has no single label")

    def paint(
        self,
        target: NDArray[np.uint8],
        units: Units,
        column: list[NDArray[np.uint8]],
        num_classes: int,
    ) -> None:
        """Paint the known pixels of each mask."""
        flat = target.reshape(-1)
        places = units.unit[:, None] if units.runs is None else pixels_of(units)
        for where, mask in zip(places, column, strict=True):
            known = mask != VOID
            flat[where[known]] = mask[known]


def pixels_of(units: Units) -> list[NDArray[np.int64]]:
    """Positions ``y * W + x`` of the pixels of each region, in raster order.

    One sort of the runs of the map serves any number of regions.
    """
    assert units.runs is not None
    ids, lengths = units.runs.ids, units.runs.lengths.astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    wanted = np.zeros(units.num_regions + 1, dtype=bool)
    wanted[units.unit] = True
    runs = np.flatnonzero(wanted[ids])  # id -1 (no region) reads wanted[-1], which is False
    runs = runs[np.argsort(ids[runs], kind="stable")]
    ids, lengths = ids[runs], lengths[runs]
    behind = np.cumsum(lengths)
    places = np.arange(lengths.sum()) + np.repeat(starts[runs] - (behind - lengths), lengths)
    first, last = (np.searchsorted(ids, units.unit, side) for side in ("left", "right"))
    ends = np.concatenate([[0], behind])
    return [places[ends[a] : ends[b]] for a, b in zip(first, last, strict=True)]
