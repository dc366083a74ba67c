"""Loaded pixels and pixels of a sheet: which of the ones lie where on the other."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: What rounding may add to a place that is whole.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Place:
    """Where the loaded pixels of an image lie on a sheet.

    Loaded pixel ``i`` covers ``offset + i * scale`` to ``offset + (i + 1) * scale``; the scale is
    at least 1, so that each covers the centre of a pixel of the sheet, and the one at its own
    centre is among those.

    Attributes:
        offset: Of the image's top left, down and across.
        scale: Pixels of the sheet per loaded pixel.
        size: Height and width of the sheet.
    """

    offset: tuple[float, float]
    scale: tuple[float, float]
    size: tuple[int, int]

    def span(self, axis: int, start: int, end: int) -> tuple[int, int]:
        """First and last (exclusive) pixel of the sheet with its centre in loaded pixels."""
        offset, scale = self.offset[axis], self.scale[axis]
        ends = [math.ceil(offset + scale * side - 0.5 - _ROUNDING) for side in (start, end)]
        first, last = (min(max(side, 0), self.size[axis]) for side in ends)
        return first, last

    def loaded(self, axis: int, start: int, end: int) -> NDArray[np.int64]:
        """The loaded pixel that each pixel of a span of the sheet lies in."""
        centres = np.arange(start, end) + 0.5
        return np.floor((centres - self.offset[axis]) / self.scale[axis] + _ROUNDING).astype(
            np.int64
        )

    def sampled(self, axis: int, start: int, end: int) -> NDArray[np.int64]:
        """The pixel of the sheet at the centre of each loaded pixel of a span."""
        centres = self.offset[axis] + (np.arange(start, end) + 0.5) * self.scale[axis]
        return np.clip(np.floor(centres + _ROUNDING).astype(np.int64), 0, self.size[axis] - 1)

    def point(self, y: float, x: float) -> tuple[float, float]:
        """A point of the loaded image on the sheet."""
        return self.offset[0] + y * self.scale[0], self.offset[1] + x * self.scale[1]
