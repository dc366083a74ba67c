"""Images cut to their centre, as some papers evaluate."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.centre import centre_square
from alseg.core.images import truth_fingerprint
from alseg.data.derived import Derived
from alseg.data.files import resize_nearest


@dataclass(frozen=True)
class CentreCrops(Derived):
    """Another set's images, shorter sides resized to one length, cut to the central square.

    What lies outside is neither seen nor scored (mulquery section 7, arXiv 2309.09319). Pictures
    are resized by Pillow's bilinear filter, labels by nearest neighbours.

    Attributes:
        whole: The other set, of RGB images.
        side: Height and width of the squares in pixels.
    """

    side: int

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def names(self) -> Sequence[str]:
        """See `ImageSet.names`."""
        return self.whole.names

    def size(self, index: int) -> tuple[int, int]:
        """See `ImageSet.size`."""
        return self.side, self.side

    def image(self, index: int) -> NDArray[np.uint8]:
        """See `ImageSet.image`."""
        picture = self.whole.image(index)
        height, width = centre_square(picture.shape[0], picture.shape[1], self.side).size
        resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
        return self._cut(np.asarray(resized), picture.shape[:2])

    def truth(self, index: int) -> NDArray[np.uint8]:
        """See `ImageSet.truth`."""
        labels = self.whole.truth(index)
        height, width = centre_square(labels.shape[0], labels.shape[1], self.side).size
        return self._cut(resize_nearest(labels, height, width), labels.shape)

    def _cut(self, resized: NDArray[np.uint8], size: tuple[int, ...]) -> NDArray[np.uint8]:
        _, top, left = centre_square(size[0], size[1], self.side)
        return resized[top : top + self.side, left : left + self.side]

    def scene(self, index: int) -> int:
        """See `ImageSet.scene`."""
        return self.whole.scene(index)

    def fingerprint(self, index: int) -> str:
        """See `ImageSet.fingerprint`."""
        return f"{self.whole.fingerprint(index)}-centre{self.side}"

    def truth_fingerprint(self, index: int) -> str:
        """See `alseg.core.images.truth_fingerprint`."""
        return f"{truth_fingerprint(self.whole, index)}-centre{self.side}"
