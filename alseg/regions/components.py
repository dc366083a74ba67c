"""Regions cut by the ground truth: what superpixels would be at best."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.regions.base import Unit
from alseg.regions.geometry import components


@dataclass(frozen=True)
class Components:
    """Connected pieces of one class each, of the ground truth: an upper bound for superpixels.

    Pieces are connected by the sides of their pixels; void is cut into pieces as well. Nobody who
    pays for labels has such regions (section 2.3 of adaptive superpixels, arXiv 2303.16817, has
    them for analysis).

    Attributes:
        reads_truth: Say true, and that the ground truth of the whole pool is read; without it these
            regions are refused. The report of the run says so, too.
    """

    unit: ClassVar[Unit] = "region"

    reads_truth: bool = False

    def parameters(self) -> dict[str, Any]:
        """See `RegionSource.parameters`."""
        return {"name": "components"}

    def check(self, images: ImageSet) -> None:
        """See `RegionSource.check`.

        Raises:
            UserError: Unless `reads_truth` is said, and there is a ground truth.
        """
        if not self.reads_truth:
            raise UserError(
                "regions=components cuts images by their ground truth, which no one could do who "
                "has to pay for labels; give regions.reads_truth=true for an experiment, or "
                "another source, such as regions=seeds."
            )
        if not images.has_truth:
            raise UserError(
                "regions=components cuts images by their ground truth, and these have none; give "
                "another of the regions, such as regions=seeds."
            )

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        """Refuse: a picture has no classes, see `of_truth`."""
        raise UserError(f"regions=components cuts labels, and {name} is a picture without any.")

    def of_truth(self, labels: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Cut an image by its labels.

        Args:
            labels: (H, W), uint8, 255 for void.

        Returns:
            Ids in the order in which the pieces begin, row by row, (H, W), int32.
        """
        return components(labels)
