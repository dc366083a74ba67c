"""Some of the images of a set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import ClassTable, ImageSet, channels_of, truth_fingerprint


@dataclass(frozen=True)
class SomeImages:
    """Images of a set by their numbers in it; an `ImageSet`.

    Attributes:
        whole: The set.
        indices: The images.
    """

    whole: ImageSet
    indices: tuple[int, ...]

    @property
    def classes(self) -> ClassTable:
        """Those of the set."""
        return self.whole.classes

    @property
    def names(self) -> Sequence[str]:
        """One name per image."""
        return [self.whole.names[index] for index in self.indices]

    @property
    def channels(self) -> int:
        """See `alseg.core.images.channels_of`."""
        return channels_of(self.whole)

    @property
    def has_truth(self) -> bool:
        """Whether the set has."""
        return self.whole.has_truth

    @property
    def scenes(self) -> tuple[str, ...]:
        """Those of the set."""
        return self.whole.scenes

    def __len__(self) -> int:
        return len(self.indices)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width."""
        return self.whole.size(self.indices[index])

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, C), uint8."""
        return self.whole.image(self.indices[index])

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Its ground truth, (H, W), uint8."""
        return self.whole.truth(self.indices[index])

    def scene(self, index: int) -> int:
        """Its scene."""
        return self.whole.scene(self.indices[index])

    def fingerprint(self, index: int) -> str:
        """Digest of its pixels."""
        return self.whole.fingerprint(self.indices[index])

    def truth_fingerprint(self, index: int) -> str:
        """Digest of its ground truth; empty without."""
        return truth_fingerprint(self.whole, self.indices[index])
