"""A region whose suggested label is confirmed or replaced."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID
from alseg.labels.kinds.base import Said, Written
from alseg.labels.kinds.dominant import Dominant

#: What a person writes to keep the suggestion.
KEEP = "yes"


class Correct(Dominant):
    """The class that covers most of a unit, asked with a suggestion that is right or is replaced.

    What is kept is the label that stands in the end. A suggestion that is kept costs no click, so
    that a round in which many are kept may end with a rest of its budget: its query is as long as
    if every suggestion were wrong.
    """

    name: ClassVar[str] = "correct"
    #: A click replaces a label, none keeps it. Seconds split the 12.12 s of a dominant label (Fig.
    #: 1 of arXiv 2309.09319): 5.71 s name a class, as in the sets of the same figure; the rest is
    #: spent on looking at the region, whether or not the suggestion is right.
    prices: ClassVar[dict[str, float]] = {
        "clicks_per_class": 1.0,
        "seconds_per_class": 5.71,
        "seconds_per_unit": 6.41,
    }
    suggests: ClassVar[bool] = True
    asks: ClassVar[str] = "Does the suggested class cover most of the {unit}, or which one does?"
    question: ClassVar[str] = (
        f"{KEEP} where the suggested class covers most of the {{unit}}, else the class that does"
    )
    example: ClassVar[str] = KEEP

    def written(self, answer: Written, num_names: int) -> int:
        """The suggestion, or the one name of an answer."""
        if answer.text.casefold() != KEEP or answer.suggested is None:
            return super().written(answer, num_names)
        return VOID if answer.suggested == num_names else answer.suggested

    def named(self, said: Said, num_classes: int, void_costs: bool) -> NDArray[np.int64]:
        """One class where the suggestion was replaced, or where it could not be told."""
        if said.suggested is None:
            raise ValueError("labels that are corrected need what was suggested")
        return np.asarray((said.column != said.suggested) | said.unsure, dtype=np.int64)
