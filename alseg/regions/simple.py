"""Cuts that do not look at the image."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.regions.base import Unit, listed, positive


@dataclass(frozen=True)
class Pixels:
    """Every pixel is a unit of its own, with id ``y * W + x``; nothing is extracted or cached."""

    unit: ClassVar[Unit] = "pixel"

    def parameters(self) -> dict[str, Any]:
        """See `RegionSource.parameters`."""
        return {"name": "pixels"}

    def check(self, images: ImageSet) -> None:
        """Any image will do."""

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        """See `RegionSource.__call__`."""
        height, width = image.shape[:2]
        return np.arange(height * width, dtype=np.int32).reshape(height, width)


@dataclass(frozen=True)
class WholeImage:
    """Every image is one region, with id 0."""

    unit: ClassVar[Unit] = "image"

    def parameters(self) -> dict[str, Any]:
        """See `RegionSource.parameters`."""
        return {"name": "image"}

    def check(self, images: ImageSet) -> None:
        """Any image will do."""

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        """See `RegionSource.__call__`."""
        return np.zeros(image.shape[:2], dtype=np.int32)


@dataclass(frozen=True)
class Grid:
    """Rectangles in rows and columns, numbered row by row from the top left corner.

    With `rows` and `cols` every image has exactly that many patches. Row ``i`` starts at pixel
    ``floor(i * H / rows)``, so where the height does not divide, rows differ by one pixel; columns
    likewise. With `size` every patch has that size, except that the last row and column are
    smaller where the image does not divide.

    Attributes:
        size: Height and width of a patch in pixels. Not used with `rows` and `cols`.
        rows: Patches from top to bottom; null = as many as `size` gives.
        cols: Patches from left to right; null = as many as `size` gives.
    """

    unit: ClassVar[Unit] = "patch"

    size: tuple[int, int] = (32, 32)
    rows: int | None = None
    cols: int | None = None

    def __post_init__(self) -> None:
        if (self.rows is None) != (self.cols is None):
            raise UserError(
                f"regions.rows is {self.rows} and regions.cols is {self.cols}; give both, or "
                f"neither to cut by regions.size."
            )
        if len(self.size) != 2 or min(self.size) < 1:
            raise UserError(
                f"regions.size is {list(self.size)}; give [height,width] of a patch in pixels, "
                f"such as [32,32]."
            )
        positive("rows", self.rows)
        positive("cols", self.cols)

    def parameters(self) -> dict[str, Any]:
        """See `RegionSource.parameters`."""
        if self.rows is not None and self.cols is not None:
            return {"name": "grid", "rows": self.rows, "cols": self.cols}
        return {"name": "grid", "size": [int(side) for side in self.size]}

    def check(self, images: ImageSet) -> None:
        """See `RegionSource.check`.

        Raises:
            UserError: If images have fewer pixels than `rows` or `cols` along a side.
        """
        if self.rows is None or self.cols is None:
            return
        sizes = [images.size(index) for index in range(len(images))]
        small = [
            f"{name} ({height} x {width})"
            for name, (height, width) in zip(images.names, sizes, strict=True)
            if height < self.rows or width < self.cols
        ]
        if small:
            raise UserError(
                f"{len(small)} of {len(images)} images have fewer pixels than the grid of "
                f"{self.rows} x {self.cols} has patches; give fewer rows and cols: {listed(small)}."
            )

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        """See `RegionSource.__call__`."""
        height, width = image.shape[:2]
        if self.rows is not None and self.cols is not None:
            row = _shares(height, self.rows)
            col = _shares(width, self.cols)
            cols = self.cols
        else:
            row = np.arange(height) // self.size[0]
            col = np.arange(width) // self.size[1]
            cols = -(-width // self.size[1])
        return (row[:, None] * cols + col).astype(np.int32)


def _shares(length: int, parts: int) -> NDArray[np.int64]:
    """Which of `parts` equal shares each position belongs to, (length,)."""
    starts = np.arange(parts) * length // parts
    return np.asarray(np.searchsorted(starts, np.arange(length), side="right") - 1)
