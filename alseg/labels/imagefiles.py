"""One file per pool image, for what a pass over the pool leaves behind."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.files import write_atomic
from alseg.labels.tables import load_arrays


@dataclass(frozen=True)
class ImageFiles:
    """A folder with one file per image, each of which is there whole or not at all.

    A pass that is cut off leaves the files of some images; `missing` names the others.

    Attributes:
        folder: Holds ``<name>.<ending>``.
        names: Names of the files in the order of the images; None = the images' indices.
        ending: ``npz`` for named arrays; files of other kinds are written by `save`.
    """

    folder: Path
    names: Sequence[str] | None = None
    ending: str = "npz"

    def path(self, image: int) -> Path:
        """File of an image."""
        name = image if self.names is None else self.names[image]
        return self.folder / f"{name}.{self.ending}"

    def missing(self, images: Iterable[int]) -> NDArray[np.int64]:
        """Those of some images whose file is not there yet, (n,), int64."""
        return np.array([i for i in images if not self.path(i).exists()], dtype=np.int64)

    def save(self, image: int, content: bytes) -> None:
        """Write the file of an image."""
        write_atomic(self.path(image), content)

    def write(self, image: int, **arrays: NDArray[Any]) -> None:
        """Write the file of an image from named arrays."""
        write_arrays(self.path(image), **arrays)

    def read(self, image: int) -> dict[str, NDArray[Any]]:
        """The named arrays of an image.

        Raises:
            UserError: If the file is damaged.
        """
        return load_arrays(self.path(image))


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write named arrays, without compression; the file is there whole or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue())
