"""Some of the images of a set."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import truth_fingerprint
from alseg.data.derived import Derived


@dataclass(frozen=True)
class SomeImages(Derived):
    """Images of a set by their numbers in it; an `ImageSet`.

    Attributes:
        whole: The set.
        indices: The images.
    """

    indices: tuple[int, ...]

    @property
    def names(self) -> Sequence[str]:
        """One name per image."""
        return [self.whole.names[index] for index in self.indices]

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
