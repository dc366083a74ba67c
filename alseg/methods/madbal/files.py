"""What passes over the pool leave in the run folder: features, losses per class, clusters."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.files import write_atomic
from alseg.labels.tables import load_arrays


@dataclass(frozen=True)
class ImageFiles:
    """One file of named arrays per image.

    Attributes:
        folder: Holds ``<name>.npz``.
        names: Names of the images; None = their indices.
    """

    folder: Path
    names: Sequence[str] | None = None

    def path(self, image: int) -> Path:
        """File of an image."""
        return self.folder / f"{image if self.names is None else self.names[image]}.npz"

    def write(self, image: int, **arrays: NDArray[Any]) -> None:
        """Write the arrays of an image: the whole file or none."""
        write_arrays(self.path(image), **arrays)

    def read(self, image: int) -> dict[str, NDArray[Any]]:
        """The arrays of an image.

        Raises:
            UserError: If the file is damaged.
        """
        return load_arrays(self.path(image))

    def missing(self, images: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of some images whose file is not there yet."""
        return np.array([i for i in images if not self.path(i).exists()], dtype=np.int64)


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write named arrays: the whole file or none."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())
