"""Class sets of all regions in one table, as mulquery's authors release theirs, and its oracle."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import ImageSet
from alseg.core.pickles import read_pickle
from alseg.labels.kinds.class_set import ClassSet, pack_sets, unpack_sets
from alseg.labels.oracle import affordable
from alseg.labels.pool import LabelPool
from alseg.labels.tables import Answers, Query, load_arrays, pack
from alseg.regions.imported import named_after


@dataclass(frozen=True)
class RegionSets:
    """The class set of every region of every image.

    Attributes:
        names: Of the n images.
        starts: Rows of image i are ``starts[i]`` to ``starts[i + 1]``, (n + 1,), int64.
        sets: Packed sets by region id, see `alseg.labels.tables.Answers.sets`.
        num_classes: C.
    """

    names: tuple[str, ...]
    starts: NDArray[np.int64]
    sets: NDArray[np.uint8]
    num_classes: int

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]], num_classes: int) -> "RegionSets":
        """From multi-hot rows.

        Args:
            arrays: By image, (R, C + 1), the last column void, or (R, C), where a region without a
                class is void; 0 or not.
            num_classes: C.

        Raises:
            UserError: For rows of another length.
        """
        packed = []
        for name, array in arrays.items():
            if array.ndim != 2 or array.shape[1] - num_classes not in (0, 1):
                raise UserError(
                    f"{name} has multi-hot labels of shape {array.shape}; with {num_classes} "
                    f"classes rows have {num_classes} columns, or one more for void."
                )
            members = np.zeros((len(array), num_classes + 1), dtype=bool)
            members[:, : array.shape[1]] = array != 0
            members[:, -1] |= ~members.any(axis=1)
            packed.append(pack_sets(members))
        starts = np.cumsum([0, *map(len, packed)], dtype=np.int64)
        width = -(-(num_classes + 1) // 8)
        sets = np.concatenate([np.zeros((0, width), np.uint8), *packed])
        return cls(tuple(arrays), starts, sets, num_classes)

    def save(self, path: Path) -> None:
        """Write the table: the whole file or no file."""
        about = {"names": list(self.names), "num_classes": self.num_classes}
        write_atomic(path, pack(about, starts=self.starts, sets=self.sets))

    @classmethod
    def load(cls, path: Path) -> "RegionSets":
        """Read a table that `save` wrote.

        Raises:
            UserError: If it is none.
        """
        if not path.is_file():
            raise UserError(
                f"oracle.file={path} is not there; python -m alseg.regions multihot=FILE.pkl "
                f"to=FILE.npz data=… makes it."
            )
        arrays = load_arrays(path)
        try:
            about = json.loads(arrays["meta"].tobytes())
            starts, sets = arrays["starts"].astype(np.int64), arrays["sets"]
            names, count = tuple(map(str, about["names"])), int(about["num_classes"])
            sound = len(starts) == len(names) + 1 and starts[0] == 0 and starts[-1] == len(sets)
            sound = sound and bool((np.diff(starts) >= 0).all()) and sets.dtype == np.uint8
            if not sound or sets.shape[1:] != (-(-(count + 1) // 8),):
                raise ValueError("its parts do not fit together")
        except (KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} is no table of class sets ({error}); make it again from the released file."
            ) from error
        return cls(names, starts, sets, count)

    def of(self, name: str) -> NDArray[np.bool_]:
        """The sets of an image by region id, (R, C + 1), bool; the last column is void."""
        index = self.names.index(name)
        return unpack_sets(self.sets[self.starts[index] : self.starts[index + 1]], self.num_classes)


def import_sets(path: Path, images: ImageSet, order: Sequence[str] | None = None) -> RegionSets:
    """Class sets out of a pickle file.

    Args:
        path: Holds rows (R, C + 1) or (R, C) of each image, see `RegionSets.of_arrays`: a
            dictionary from names of images to such, or one array (N, R, C + 1), alone or in a
            dictionary.
        images: Those the sets are for.
        order: Names of the N images of one array; None = there are as many as images.

    Raises:
        UserError: If the file cannot be read or holds something else, or an image has no sets.
    """
    content = read_pickle(path)
    block = _block(content)
    if block is not None:
        keys = list(images.names if order is None else order)
        if len(keys) != len(block):
            raise UserError(
                f"{path} has sets of {len(block)} images, and {len(keys)} are named; give "
                f"order=FILE.txt with the name of each in a line, in the order of the array."
            )
        content = dict(zip(keys, block, strict=True))
    if not isinstance(content, dict) or not all(
        isinstance(v, np.ndarray) for v in content.values()
    ):
        raise UserError(
            f"{path} holds no multi-hot labels; these are arrays of 0 and 1 by name of the image, "
            f"or one of (images, regions, classes)."
        )
    found: dict[str, NDArray[Any]] = {}
    for key, rows in content.items():
        name = named_after(str(key), images.names)
        if name is not None:
            found[name] = rows
    if missing := [name for name in images.names if name not in found]:
        raise UserError(
            f"{path} has no labels for {len(missing)} of the {len(images)} training images, such "
            f"as {missing[0]}; give the data set, or the list of training images, it is of."
        )
    ordered = {name: found[name] for name in images.names}
    return RegionSets.of_arrays(ordered, len(images.classes))


def _block(content: Any) -> NDArray[Any] | None:
    """The one array (N, R, C) that something is or holds."""
    given = list(content.values()) if isinstance(content, dict) else [content]
    blocks = [one for one in given if isinstance(one, np.ndarray) and one.ndim == 3]
    return blocks[0] if len(blocks) == 1 else None


@lru_cache(1)
def _loaded(path: Path, changed: int) -> RegionSets:
    return RegionSets.load(path)


@dataclass(frozen=True)
class TableOracle:
    """Answers with class sets that somebody published, for region maps of the same source.

    The maps come by ``regions=files``, and ids of regions are those of the table. Masks of the
    training images are not looked at.

    Attributes:
        file: A table that ``python -m alseg.regions multihot=FILE.pkl to=FILE.npz`` wrote.
    """

    file: str

    def _table(self) -> RegionSets:
        path = Path(self.file).expanduser()
        return _loaded(path, path.stat().st_mtime_ns if path.is_file() else 0)

    def check(self, images: ImageSet) -> None:
        """Refuse a table of other classes, or without all of the images."""
        table = self._table()
        if table.num_classes != len(images.classes):
            raise UserError(
                f"{self.file} knows {table.num_classes} classes, the images have "
                f"{len(images.classes)}; give the data set it was made for."
            )
        if missing := sorted(set(images.names) - set(table.names)):
            raise UserError(
                f"{self.file} has no labels for {len(missing)} of the images, such as "
                f"{missing[0]}; make it again for these training images."
            )

    def answer(self, query: Query, pool: LabelPool, images: ImageSet, folder: Path) -> Answers:
        """Look the regions up, see `alseg.labels.oracle.Oracle.answer`."""
        if query.answer != ClassSet.name or query.kind != "region":
            raise UserError(
                f"oracle=table knows the class sets of regions, and the {query.answer} of a "
                f"{query.kind} was asked; use it with method=mulquery and regions=files."
            )
        table = self._table()
        said: list[NDArray[np.bool_]] = []
        sets: dict[int, NDArray[np.bool_]] = {}
        for image, unit in zip(query.image.tolist(), query.unit.tolist(), strict=True):
            if image not in sets:
                sets[image] = table.of(images.names[image])
            rows = sets[image]
            if unit >= len(rows):
                raise UserError(
                    f"{self.file} has {len(rows)} regions for {images.names[image]}, and region "
                    f"{unit} was asked about; give the maps it was made for, regions=files."
                )
            said.append(rows[unit])
        return affordable(Answers.of_rows(query, table.num_classes, said), pool)
