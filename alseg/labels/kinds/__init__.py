"""The kinds of answers by name. A new kind is a file beside these, and a line here."""

from alseg.labels.kinds.base import Kind
from alseg.labels.kinds.class_set import ClassSet
from alseg.labels.kinds.correct import Correct
from alseg.labels.kinds.dominant import Dominant
from alseg.labels.kinds.mask import Mask
from alseg.labels.kinds.pixel_class import PixelClass
from alseg.labels.kinds.scene import Scene

#: Every kind by its name.
KINDS: dict[str, Kind] = {
    "class": PixelClass(),
    "class_set": ClassSet(),
    "dominant": Dominant(),
    "mask": Mask(),
    "scene": Scene(),
    "correct": Correct(),
}
