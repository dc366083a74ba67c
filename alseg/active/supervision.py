"""The supervision most methods share: whatever was answered, painted on the image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alseg.active.method import Target
from alseg.active.pool import LabelPool


@dataclass(frozen=True)
class LabelMaps:
    """Label maps of everything that was answered, see `LabelPool.render`.

    Attributes:
        pool: Labels bought so far.
    """

    pool: LabelPool

    @property
    def images(self) -> NDArray[np.int64]:
        """Images with answers."""
        return self.pool.images()

    def __call__(self, image: int) -> Target:
        """``target`` is the label map, (H, W), uint8, VOID where nothing is known."""
        return Target({"target": self.pool.render(image)}, {})
