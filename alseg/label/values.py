"""What a page may send, value by value; everything else is refused."""

from collections.abc import Collection
from typing import Any

from alseg.core.images import VOID
from alseg.label.board import OPEN, rolled, unroll


class Refused(Exception):
    """A request that cannot be carried out; the sentence is shown on the page.

    Attributes:
        status: HTTP status.
    """

    def __init__(self, text: str, status: int = 409) -> None:
        super().__init__(text)
        self.status = status


def class_or_void(value: Any, num_classes: int) -> int | None:
    """The id of a class, None for void.

    Raises:
        Refused: If it is neither.
    """
    if value is None or is_id(value, num_classes):
        found: int | None = value
        return found
    raise Refused("value must be the id of a class, or null for void.", 422)


def class_set(value: Any, num_classes: int) -> list[int]:
    """Ids of classes, ascending, each once; `num_classes` itself stands for void.

    Raises:
        Refused: If it is no list of them, or empty.

    >>> class_set([3, 0, 3], num_classes=3)
    [0, 3]
    """
    if isinstance(value, list) and value and all(is_id(v, num_classes + 1) for v in value):
        return sorted(set(value))
    raise Refused("value must be a list of ids of classes, not empty.", 422)


def mask(value: Any, num_classes: int, pixels: Collection[int]) -> list[int]:
    """Labels of all pixels of a unit as runs (label, length, label, length, ...), the fewest.

    Args:
        value: The same, runs of equal labels may follow each other.
        num_classes: Labels are ids of so many classes, or `VOID`.
        pixels: Numbers of pixels of the units it is meant for, which have to be the same.

    Raises:
        Refused: If it does not cover the units.

    >>> mask([1, 2, 1, 3, 0, 1], 2, [6])
    [1, 5, 0, 1]
    """
    sound = isinstance(value, list) and len(value) % 2 == 0
    sound = sound and all(type(v) is int and v >= 0 for v in value)
    if sound and {sum(value[1::2])} == set(pixels) and _are_labels(value[::2], num_classes):
        return rolled(unroll(value))
    raise Refused("value must be runs of labels that cover the unit.", 422)


def paint(value: Any, num_classes: int, pixels: int) -> list[Any]:
    """Strokes over a unit: pairs of a label, or `OPEN`, and runs (start, length, ...).

    Raises:
        Refused: If it is something else, or leaves the unit's pixels.
    """
    if not isinstance(value, list):
        raise Refused("paint must be pairs of a label and runs.", 422)
    for part in value:
        sound = isinstance(part, list) and len(part) == 2 and isinstance(part[1], list)
        if not sound or not (part[0] == OPEN or _are_labels(part[:1], num_classes)):
            raise Refused("paint must be pairs of a label and runs.", 422)
        runs = part[1]
        if len(runs) % 2 or not all(is_id(run, pixels + 1) for run in runs):
            raise Refused("runs must lie in the unit.", 422)
    return value


def _are_labels(values: list[Any], num_classes: int) -> bool:
    return all(is_id(v, num_classes) or v == VOID for v in values)


def is_id(value: Any, n: int) -> bool:
    """Whether a value is a whole number from 0 to below n; True and False are none."""
    return type(value) is int and 0 <= value < n


def number(value: Any, most: float) -> float:
    """A number from 0 to `most`, such as of seconds.

    Raises:
        Refused: If it is none.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most:
        return float(value)
    raise Refused("seconds and clicks must be numbers of at least 0.", 422)
