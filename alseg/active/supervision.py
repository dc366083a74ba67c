"""The supervision most methods share: label maps, painted from the answers or read from files."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.active.method import Target
from alseg.active.pool import LabelPool
from alseg.files import write_atomic


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


@dataclass(frozen=True)
class LabelFiles:
    """Label maps that the preparation of a stage wrote.

    Attributes:
        folder: Holds one ``<image index>.png`` per image, uint8, VOID = no label.
        images: The images, ascending, (n,), int64.
    """

    folder: Path
    images: NDArray[np.int64]

    def path(self, image: int) -> Path:
        """File of an image."""
        return self.folder / f"{image}.png"

    def missing(self) -> NDArray[np.int64]:
        """Images whose file is not there yet."""
        return np.array([i for i in self.images if not self.path(i).exists()], dtype=np.int64)

    def write(self, image: int, labels: NDArray[np.uint8]) -> None:
        """Write the label map of an image, (H, W), uint8: the whole file or none."""
        buffer = io.BytesIO()
        Image.fromarray(labels).save(buffer, "PNG")
        write_atomic(self.path(image), buffer.getvalue())

    def __call__(self, image: int) -> Target:
        """``target`` is the label map, (H, W), uint8."""
        with Image.open(self.path(image)) as file:
            return Target({"target": np.asarray(file)}, {})
