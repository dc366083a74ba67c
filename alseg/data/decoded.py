"""Decoded images kept on a disk, of which a crop reads only its own rows."""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alseg.core.files import atomic_file

log = logging.getLogger(__name__)

#: Share of the free space that decoded images may take.
_MOST = 0.8


class DecodedImages:
    """A folder of decoded images, one file each, mapped into memory when they are looked at.

    Images are called by their fingerprint: what changes the pixels changes the name. Can be
    pickled; several processes may use a folder at once.

    Args:
        folder: Made where missing. Nothing is ever deleted from it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._full = False

    @classmethod
    def where_there_is_room(
        cls, folder: Path, names: Sequence[str], sizes: Sequence[int]
    ) -> "DecodedImages | None":
        """The folder, and in the log what it takes; None where the disk is short of space.

        Args:
            folder: The folder.
            names: Fingerprints of all images.
            sizes: Bytes of each, decoded.
        """
        decoded = cls(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(folder).free
        except OSError as error:
            log.warning("data.cache=%s cannot be used (%s); images are decoded.", folder, error)
            return None
        needed = sum(
            size for name, size in zip(names, sizes, strict=True) if not decoded.path(name).exists()
        )
        text = "%d images take %.2f GB decoded, %.2f GB of them are not in data.cache=%s yet"
        numbers = (len(names), sum(sizes) / 1e9, needed / 1e9, folder)
        if needed > _MOST * free:
            log.warning(
                f"{text}, where %.2f GB are free: images are decoded each time they are used.",
                *numbers,
                free / 1e9,
            )
            return None
        log.info(f"{text}.", *numbers)
        return decoded

    def path(self, name: str) -> Path:
        """File of an image."""
        return self.folder / name[:2] / f"{name}.npy"

    def get(self, name: str, decode: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """An image, (H, W, C), uint8, not to be written to.

        Args:
            name: Its fingerprint.
            decode: Decodes it; called where it is not in the folder yet.
        """
        path = self.path(name)
        try:
            return _opened(path)
        except (OSError, ValueError, EOFError):  # not there, or damaged
            image = decode()
        if not self._full:
            try:
                with atomic_file(path) as file:
                    np.save(file, image, allow_pickle=False)
            except OSError as error:
                self._full = True
                log.warning("data.cache=%s: %s; images are decoded.", self.folder, error)
        return image


def _opened(path: Path) -> NDArray[np.uint8]:
    image = np.load(path, mmap_mode="r", allow_pickle=False)
    if image.dtype != np.uint8 or image.ndim != 3:
        raise ValueError(f"{path} is no image")
    return image
