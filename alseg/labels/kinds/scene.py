"""The class of a whole image."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID, ImageSet
from alseg.labels.kinds.base import Annotator, LabelKind, Units


class Scene(LabelKind):
    """The scene an image shows, an id of a table of its own; it says nothing of the pixels."""

    name: ClassVar[str] = "scene"
    #: A second for each of VOC's classes, Bearman et al., ECCV 2016.
    prices: ClassVar[dict[str, float]] = {"clicks_per_unit": 1.0, "seconds_per_unit": 20.0}
    covers_pixels: ClassVar[bool] = False
    asks: ClassVar[str] = "Which scene does the {unit} show?"
    question: ClassVar[str] = "the scene that the {unit} shows"

    def names(self, images: ImageSet) -> Sequence[str]:
        """The scenes."""
        return images.scenes

    def of_truth(
        self, units: Units, images: ImageSet, num_classes: int, how: Annotator
    ) -> NDArray[np.uint8]:
        """The scene of the image."""
        return np.full(len(units.unit), images.scene(units.image), dtype=np.uint8)

    def labels(self, column: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
        """Nothing: no pixel is known by it."""
        return np.full(len(column), VOID, dtype=np.uint8)
