"""Maps of some images that are kept in a folder, wherever they came from."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.regions.maps import unpack_runs, write_runs
from alseg.regions.runs import Runs


class KeptMaps:
    """Maps of some images, one file each; all other images have no region.

    Args:
        folder: Holds ``<image index>.npz``.
        version: Name of these maps.
        counts: Region ids per image that has a map.
        sizes: Height and width of all images, (N, 2).
    """

    def __init__(
        self, folder: Path, version: str, counts: Mapping[int, int], sizes: NDArray[np.int64]
    ) -> None:
        self.folder = folder
        self.version = version
        self.num_regions = np.zeros(len(sizes), dtype=np.int64)
        self.num_regions[list(counts)] = list(counts.values())
        self._sizes = sizes

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Region ids of an image, (H, W), int32, -1 = in no region."""
        return self.runs(index).dense()

    def runs(self, index: int) -> Runs:
        """The map of an image as runs of equal ids.

        Raises:
            UserError: If its file is gone or damaged.
        """
        height, width = (int(side) for side in self._sizes[index])
        if not self.num_regions[index]:
            return Runs.of(np.full((height, width), -1, dtype=np.int32))
        path = kept_path(self.folder, index)
        try:
            with np.load(path, allow_pickle=False) as file:
                runs = unpack_runs(file)
            if runs.shape != (height, width):
                raise ValueError(f"it is of {runs.shape} pixels, not {(height, width)}")
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise UserError(
                f"{path}, a map of regions that answers are about, cannot be read ({error}); "
                f"restore it from a copy."
            ) from error
        return runs


def kept_path(folder: Path, index: int) -> Path:
    """File of the map of an image."""
    return folder / f"{index}.npz"


def keep_map(folder: Path, index: int, runs: Runs, num_regions: int) -> None:
    """Write the map of an image for `KeptMaps`."""
    write_runs(kept_path(folder, index), runs, num_regions)
