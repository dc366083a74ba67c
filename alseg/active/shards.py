"""Tables that grow on disk while the pool is scored, so that memory does not grow with the pool."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alseg.active.transfer import on_host

#: Rows that are looked at together.
_BLOCK = 2**20


class NotFiniteError(ValueError):
    """A column holds NaN or infinity.

    Attributes:
        table: Name of the table.
        column: Name of the column.
        images: Images of the rows at fault.
    """

    def __init__(self, table: str, column: str, images: list[int]) -> None:
        self.table, self.column, self.images = table, column, images
        super().__init__(f"column {column!r} of table {table!r} holds non-finite values")


class ShardWriter:
    """Appends rows of several tables, column by column, to plain binary files of one process.

    Args:
        folder: Emptied first: a scoring pass that was cut off is repeated whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._files: dict[tuple[str, str], BinaryIO] = {}
        self._schema: dict[str, dict[str, Any]] = {}

    def append(self, tables: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Append the rows of one batch.

        Args:
            tables: By name, then by column: tensors of equal length, with a column ``image``.

        Raises:
            ValueError: If a table lacks ``image``, columns differ in length, or a type or row shape
                changed.
            NotFiniteError: If a value is not finite.
        """
        for name, table in on_host(tables).items():
            columns = {key: value.numpy() for key, value in table.items()}
            if "image" not in columns or len({len(c) for c in columns.values()}) != 1:
                raise ValueError(f"table {name!r} needs columns of equal length, one named 'image'")
            for key, column in columns.items():
                if np.issubdtype(column.dtype, np.floating) and not np.isfinite(column).all():
                    rows = ~np.isfinite(column).reshape(len(column), -1).all(axis=1)
                    raise NotFiniteError(name, key, np.unique(columns["image"][rows]).tolist())
                kind = {"dtype": column.dtype.str, "shape": list(column.shape[1:])}
                if self._schema.setdefault(name, {}).setdefault(key, kind) != kind:
                    raise ValueError(f"column {key!r} of table {name!r} changed its type or shape")
                if (name, key) not in self._files:
                    self._files[name, key] = (self.folder / f"{name}.{key}.bin").open("wb")
                self._files[name, key].write(np.ascontiguousarray(column).tobytes())

    def close(self) -> None:
        """Finish the files."""
        for file in self._files.values():
            file.close()
        (self.folder / "schema.json").write_text(json.dumps(self._schema))


def read_shards(folders: Sequence[Path]) -> dict[str, dict[str, NDArray[Any]]]:
    """Join the shards of all processes.

    Rows come sorted by image, in the order they were written within one image. An image scored by
    two processes (samplers repeat one so that no process is idle) is taken from the first. The
    result does not depend on how many processes scored.

    Args:
        folders: One per process.

    Returns:
        Tables by name; columns are memory-mapped where one process wrote them in order.
    """
    schemas = [json.loads((folder / "schema.json").read_text()) for folder in folders]
    tables: dict[str, dict[str, NDArray[Any]]] = {}
    for name in sorted({name for schema in schemas for name in schema}):
        parts = [
            {key: _column(folder, name, key, kind) for key, kind in schema[name].items()}
            for folder, schema in zip(folders, schemas, strict=True)
            if name in schema
        ]
        tables[name] = _join(parts)
    return tables


def _column(folder: Path, name: str, key: str, kind: dict[str, Any]) -> NDArray[Any]:
    path, dtype, shape = folder / f"{name}.{key}.bin", np.dtype(kind["dtype"]), kind["shape"]
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros((0, *shape), dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r").reshape(-1, *shape)


def _join(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    if len(parts) == 1 and _is_ascending(parts[0]["image"]):
        return parts[0]
    image = np.concatenate([part["image"] for part in parts])
    shard = np.repeat(np.arange(len(parts)), [len(part["image"]) for part in parts])
    width = int(image.max(initial=0)) + 1
    owner = np.full(width, len(parts))
    np.minimum.at(owner, image, shard)
    order = np.argsort(image, kind="stable")
    order = order[owner[image[order]] == shard[order]]
    return {key: np.concatenate([part[key] for part in parts])[order] for key in parts[0]}


def _is_ascending(column: NDArray[Any]) -> bool:
    """Whether a column never falls, read a block at a time."""
    starts = range(0, len(column), _BLOCK)
    return all((np.diff(column[start : start + _BLOCK + 1]) >= 0).all() for start in starts)
