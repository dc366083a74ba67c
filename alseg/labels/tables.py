"""Queries and answers: tables with one row per unit, never dense (H, W, C) arrays."""

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.files import require_file, write_atomic
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.base import Said
from alseg.labels.kinds.class_set import pack_sets as pack_sets

UnitKind = Literal["pixel", "patch", "region", "image"]
#: Name of a kind of answer, one of `alseg.labels.kinds.KINDS`.
AnswerKind = str

#: Columns of equal length, such as the scores of units; every table has a column ``image``.
Table = Mapping[str, NDArray[Any]]


def plural(kind: str) -> str:
    """Several of a kind of unit.

    >>> plural("patch"), plural("pixel")
    ('patches', 'pixels')
    """
    return kind + ("es" if kind.endswith(("s", "ch")) else "s")


def _units(kind: str, image: NDArray[np.int64]) -> str:
    """Units in words, by the image of each: ``3 patches in 1 image``."""
    count, images = len(image), len(np.unique(image))
    return (
        f"{count} {kind if count == 1 else plural(kind)} in "
        f"{images} {'image' if images == 1 else 'images'}"
    )


#: Name of the map in which every pixel is its own unit (unit id = ``y * W + x``).
PIXELS = "pixels"


@dataclass(frozen=True)
class Query:
    """Units to be asked about, in the order in which they are asked.

    A query may hold more rows than the budget will pay for: where the price of an answer is known
    only afterwards (class sets), the oracle goes down the rows until the budget is spent.

    Attributes:
        round: Round that buys these answers.
        kind: What one unit is. Patches, regions and images are all regions of some map.
        answer: What is asked about each unit.
        regions: Version of the region map the unit ids belong to, or `PIXELS`.
        image: Index of the image in the training set, (n,), int64.
        unit: Unit id inside the image: region id, or ``y * W + x`` for pixels, (n,), int64.
        score: Why it was asked, higher is more urgent, (n,), float32.
        suggested: Label suggested for each unit, class id or VOID, (n,), uint8, for kinds of
            answers that suggest one, such as ``correct``; None for all others.
    """

    round: int
    kind: UnitKind
    answer: AnswerKind
    regions: str
    image: NDArray[np.int64]
    unit: NDArray[np.int64]
    score: NDArray[np.float32]
    suggested: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(UnitKind) or self.answer not in KINDS:
            raise ValueError(f"unknown unit {self.kind!r} or answer {self.answer!r}")
        if not len(self.image) == len(self.unit) == len(self.score):
            raise ValueError("columns of a query must have equal length")
        _check_suggested(self.answer, self.suggested, len(self))

    def __len__(self) -> int:
        return len(self.image)

    def __repr__(self) -> str:
        return f"Query(round {self.round}: {_units(self.kind, self.image)}, answer={self.answer})"

    def head(self, n: int) -> "Query":
        """The first ``n`` rows."""
        return self._cut(slice(n))

    def tail(self, start: int) -> "Query":
        """The rows from ``start`` on."""
        return self._cut(slice(start, None))

    def _cut(self, rows: slice) -> "Query":
        return self.rows(np.arange(len(self))[rows])

    def rows(self, rows: NDArray[np.int64]) -> "Query":
        """Some of the rows, (k,) numbers of rows."""
        suggested = None if self.suggested is None else self.suggested[rows]
        return replace(
            self,
            image=self.image[rows],
            unit=self.unit[rows],
            score=self.score[rows],
            suggested=suggested,
        )

    def save(self, path: Path) -> None:
        """Write the query: the whole file or no file."""
        columns: dict[str, NDArray[Any]] = {
            "image": self.image, "unit": self.unit, "score": self.score
        }  # fmt: skip
        if self.suggested is not None:
            columns["suggested"] = self.suggested
        meta = {"round": self.round, "kind": self.kind, "answer": self.answer}
        write_atomic(path, pack({**meta, "regions": self.regions}, rows=_rows(**columns)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a query written by `save`.

        Raises:
            UserError: If the file is damaged or of another kind.
        """
        meta, arrays = _unpack(path)
        with _reading(path):
            rows = arrays["rows"]
            return cls(
                **meta,
                image=rows["image"].astype(np.int64),
                unit=rows["unit"].astype(np.int64),
                score=rows["score"].astype(np.float32),
                suggested=_column(rows, "suggested"),
            )


@dataclass(frozen=True)
class Answers:
    """What an oracle said about the first rows of a query. One of the three answer columns is set.

    Attributes:
        round: Round the answers were bought in.
        kind: What one unit is.
        answer: What was asked.
        regions: Version of the region map the unit ids belong to, or `PIXELS`.
        num_classes: C; of ``scene`` answers the number of scenes.
        image: Image index, (n,), int64.
        unit: Unit id inside the image, (n,), int64.
        label: For ``class``, ``dominant`` and ``correct``: class id or VOID; for ``scene``: the
            class of a whole image, an id of another table, or VOID; (n,), uint8.
        sets: For ``class_set``: bits of the C classes and, last, void; packed along the second
            axis as `numpy.packbits` does, (n, ceil((C + 1) / 8)), uint8.
        masks: For ``mask``: per unit the labels of its pixels in raster order, uint8 each.
        seconds: Measured time per answer where the oracle measured it, (n,), float32.
        unsure: Units of which the annotator could not tell, (n,), bool; None = of none. They are
            paid, and void in the column of the answer.
        suggested: See `Query`.
    """

    round: int
    kind: UnitKind
    answer: AnswerKind
    regions: str
    num_classes: int
    image: NDArray[np.int64]
    unit: NDArray[np.int64]
    label: NDArray[np.uint8] | None = None
    sets: NDArray[np.uint8] | None = None
    masks: tuple[NDArray[np.uint8], ...] | None = None
    seconds: NDArray[np.float32] | None = None
    unsure: NDArray[np.bool_] | None = None
    suggested: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        said = getattr(self, KINDS[self.answer].column)
        given = [c for c in (self.label, self.sets, self.masks) if c is not None]
        if said is None or len(given) != 1:
            raise ValueError(f"answers of kind {self.answer!r} need exactly their own column")
        if not len(self.image) == len(self.unit) == len(said):
            raise ValueError("columns of answers must have equal length")
        if self.unsure is not None and len(self.unsure) != len(self):
            raise ValueError("columns of answers must have equal length")
        _check_suggested(self.answer, self.suggested, len(self))

    def __len__(self) -> int:
        return len(self.image)

    def __repr__(self) -> str:
        return f"Answers(round {self.round}: {_units(self.kind, self.image)}, answer={self.answer})"

    @classmethod
    def of_rows(
        cls,
        query: Query,
        num_classes: int,
        said: Sequence[Any],
        seconds: NDArray[np.float32] | None = None,
        unsure: NDArray[np.bool_] | None = None,
    ) -> Self:
        """Answers to a whole query.

        Args:
            query: The n questions.
            num_classes: C, or the number of scenes.
            said: n rows in the form of the kind's column: class or scene ids or VOID; class sets,
                (C + 1,) bool, the last one void; or label arrays.
            seconds: Measured times, (n,).
            unsure: Units of which the annotator could not tell, (n,); in `said` they are void.
        """
        kind = KINDS[query.answer]
        return cls(
            round=query.round,
            kind=query.kind,
            answer=query.answer,
            regions=query.regions,
            num_classes=num_classes,
            image=query.image,
            unit=query.unit,
            **{kind.column: kind.stored(said, num_classes)},
            seconds=seconds,
            unsure=None if unsure is None or not unsure.any() else unsure,
            suggested=query.suggested,
        )

    @property
    def said(self) -> Any:
        """What was said: the one column of the kind of answer, n rows."""
        return getattr(self, KINDS[self.answer].column)

    @property
    def content(self) -> Said:
        """What was said, as kinds of answers take it."""
        unsure = np.zeros(len(self), dtype=bool) if self.unsure is None else self.unsure
        return Said(self.said, unsure, self.suggested)

    def said_in(self, rows: NDArray[np.int64]) -> Any:
        """Some rows of what was said."""
        said = self.said
        return [said[row] for row in rows] if isinstance(said, tuple) else said[rows]

    def members(self, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.bool_]:
        """Class sets unpacked, (n, C + 1), bool; the last column is void.

        For answers of one label the set holds the one that was said.

        Args:
            rows: Rows to unpack.

        Raises:
            ValueError: For masks.
        """
        said = self.said
        some = said if isinstance(said, tuple) else said[rows]
        return KINDS[self.answer].members(some, self.num_classes)

    def counts(self) -> NDArray[np.int64]:
        """How often each class was said, void, and that it cannot be told, (C + 2,), int64.

        Raises:
            ValueError: For masks.
        """
        unsure = self.content.unsure
        said = self.members()[~unsure].sum(axis=0, dtype=np.int64)
        return np.append(said, np.count_nonzero(unsure))

    def head(self, n: int) -> "Answers":
        """The first ``n`` rows."""
        cut = {
            name: column[:n]
            for name in (
                *("image", "unit", "label", "sets", "masks", "seconds"),
                *("unsure", "suggested"),
            )
            if (column := getattr(self, name)) is not None
        }
        return replace(self, **cut)

    def save(self, path: Path) -> None:
        """Write the answers: the whole file or no file. 200 class sets take under 2 KB."""
        columns: dict[str, NDArray[Any]] = {"image": self.image, "unit": self.unit}
        extra: dict[str, NDArray[Any]] = {}
        if self.label is not None:
            columns["label"] = self.label
        if self.sets is not None:
            columns["sets"] = self.sets
        if self.seconds is not None:
            columns["seconds"] = self.seconds
        if self.unsure is not None and self.unsure.any():
            columns["unsure"] = self.unsure
        if self.suggested is not None:
            columns["suggested"] = self.suggested
        if self.masks is not None:
            columns["pixels"] = np.array([m.size for m in self.masks], dtype=np.int64)
            extra["masks"] = np.concatenate([np.zeros(0, np.uint8), *self.masks])
        meta: dict[str, Any] = {"round": self.round, "kind": self.kind, "answer": self.answer}
        meta |= {"regions": self.regions, "num_classes": self.num_classes}
        write_atomic(path, pack(meta, rows=_rows(**columns), **extra))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read answers written by `save`.

        Raises:
            UserError: If the file is damaged or of another kind.
        """
        meta, arrays = _unpack(path)
        with _reading(path):
            rows = arrays["rows"]
            names = rows.dtype.names or ()
            masks = None
            if "pixels" in names:
                cuts = np.cumsum(rows["pixels"].astype(np.int64))[:-1]
                masks = tuple(np.split(arrays["masks"], cuts)) if len(rows) else ()
            return cls(
                **meta,
                image=rows["image"].astype(np.int64),
                unit=rows["unit"].astype(np.int64),
                label=_column(rows, "label"),
                sets=_column(rows, "sets"),
                masks=masks,
                seconds=_column(rows, "seconds"),
                unsure=_column(rows, "unsure"),
                suggested=_column(rows, "suggested"),
            )


def _column(rows: NDArray[Any], name: str) -> NDArray[Any] | None:
    """A column of a file, None where it has none of that name."""
    return rows[name].copy() if name in (rows.dtype.names or ()) else None


def _check_suggested(answer: str, suggested: NDArray[np.uint8] | None, n: int) -> None:
    """Suggestions are there for the kinds of answers that need them, and only for those."""
    if KINDS[answer].suggests != (suggested is not None) and n:
        raise ValueError(
            f"questions of kind {answer!r} "
            + ("need suggested labels" if suggested is None else "suggest no label")
        )
    if suggested is not None and len(suggested) != n:
        raise ValueError("columns must have equal length")


def _rows(**columns: NDArray[Any]) -> NDArray[Any]:
    """One structured array with the narrowest integer types: one header instead of one each."""
    fields, narrow = [], {}
    for name, column in columns.items():
        if column.dtype == np.int64:
            if column.size and column.min() < 0:
                raise ValueError(f"negative {name}")
            column = column.astype(np.min_scalar_type(int(column.max(initial=0))))
        narrow[name] = column
        fields.append((name, column.dtype, column.shape[1:]))
    rows = np.zeros(len(next(iter(columns.values()))), dtype=fields)
    for name, column in narrow.items():
        rows[name] = column
    return rows


def pack(meta: dict[str, Any], **arrays: NDArray[Any]) -> bytes:
    """Bytes of an ``.npz`` of arrays, with plain values as JSON in the array ``meta``."""
    text = np.frombuffer(json.dumps(meta, sort_keys=True).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, meta=text, **arrays)
    return buffer.getvalue()


def _unpack(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    arrays = load_arrays(path)
    with _reading(path):
        return json.loads(arrays.pop("meta").tobytes()), arrays


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an ``.npz`` file by their names.

    Raises:
        UserError: If the file is damaged.
    """
    require_file(path)
    with _reading(path), zipfile.ZipFile(path) as archive:
        arrays = {}
        for entry in archive.infolist():
            with archive.open(entry) as member:
                header = _header(member)
            size = int(np.prod(header[0], dtype=object)) * header[2].itemsize
            if min((*header[0], 0)) < 0 or size > entry.file_size:
                raise ValueError(f"{entry.filename} promises {size} bytes and has fewer")
            with archive.open(entry) as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
            arrays[entry.filename.removesuffix(".npy")] = array
        return arrays


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an array, before any of it is read."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    return np.lib.format.read_array_header_2_0(file)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file, and what to do, when what it holds cannot be read."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # every part of a damaged file has errors of its own
        raise UserError(
            f"{path} is not a table written by alseg ({error}); restore it from a copy, or delete "
            f"its round folder and those after it to buy that round again."
        ) from error
