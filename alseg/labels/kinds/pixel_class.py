"""The class of a pixel."""

from typing import ClassVar

from alseg.labels.kinds.dominant import Dominant


class PixelClass(Dominant):
    """The class of a pixel; of a region, the class that covers most of it."""

    name: ClassVar[str] = "class"
    #: A point on a pixel, Bearman et al., ECCV 2016.
    prices: ClassVar[dict[str, float]] = {"clicks_per_unit": 1.0, "seconds_per_unit": 2.4}
    asks: ClassVar[str] = "Which class is the {unit}?"
    question: ClassVar[str] = "the class of the {unit}"
