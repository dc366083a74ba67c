"""The class that covers most of a region."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import ImageSet
from alseg.labels.kinds.base import Annotator, LabelKind, Units
from alseg.labels.truth import dominant_labels


class Dominant(LabelKind):
    """The most frequent class of a unit; of a pixel, its class."""

    name: ClassVar[str] = "dominant"
    #: Fig. 1 of arXiv 2309.09319.
    prices: ClassVar[dict[str, float]] = {"clicks_per_unit": 1.0, "seconds_per_unit": 12.12}
    asks: ClassVar[str] = "Which class covers most of the {unit}?"
    question: ClassVar[str] = "the class that covers most of the {unit}"

    def of_truth(
        self, units: Units, images: ImageSet, num_classes: int, how: Annotator
    ) -> NDArray[np.uint8]:
        """The most frequent label, or that of the pixel."""
        truth = images.truth(units.image)
        if units.regions is None:
            return np.asarray(truth.ravel()[units.unit])
        found = dominant_labels(units.regions, truth, num_classes, units.num_regions, how.vote_void)
        return found[units.unit]
