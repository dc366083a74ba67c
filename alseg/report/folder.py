"""The run folder as the report sees it: what is read from it, and the pictures written into it."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.files import read_json, read_text, write_atomic
from alseg.core.typed import MOST_CHARACTERS, parse_yaml, read_node
from alseg.labels.tables import Answers, plural
from alseg.report.pictures import save_picture

#: Marks the columns of ``rounds.csv`` that hold the IoU of one class.
IOU_PREFIX = "iou_"

#: File of a round: how often its model says what people said.
DISAGREEMENT = "disagreement.json"
_INDEX = "index.json"
_MEND = "restore it, or delete it"
#: Marks what is logged as a share.
_SHARE = "share/"
#: Rounds are numbered below it.
_MOST_ROUNDS = 1_000_000


@dataclass(frozen=True)
class PictureEntry:
    """The pictures of one image in one round.

    Attributes:
        image: Name of the image.
        caption: A sentence about what was asked here; may be empty.
        pictures: What a picture shows (``asked``, ``answered``, ``prediction``, ``truth``, or any
            other word) -> the picture, (H, W, 3), uint8. They are shown in this order.
    """

    image: str
    caption: str
    pictures: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class PictureFiles:
    """A `PictureEntry` on disk: what each picture shows -> its file."""

    image: str
    caption: str
    files: Mapping[str, Path]


@dataclass(frozen=True)
class About:
    """What ``report.json`` adds to the numbers. The loop writes it; every key may be missing.

    Attributes:
        title: Headline of the page; by default the names of the method and of the data set.
        classes: Names of the classes, in the order of their ids.
        colors: Display colour per class, ``[r, g, b]`` each, 0..255.
        notes: Plain sentences a reader of the numbers has to know.
        unit: What one asked unit is, e.g. ``"region"``.
        answer: What was asked about it, e.g. ``"class_set"``.
        pool: Size of the whole pool: ``images``, ``units`` and ``pixels``, each may be missing.
        answered: How much was answered of each class, in the order of their ids: pixels of masks,
            or units with one class; empty if neither was.
    """

    title: str = ""
    classes: Sequence[str] = ()
    colors: Sequence[Sequence[int]] = ()
    notes: Sequence[str] = ()
    unit: str = ""
    answer: str = ""
    pool: Mapping[str, int] = field(default_factory=dict)
    answered: Sequence[int] = ()

    @property
    def units(self) -> str:
        """Plural of the unit."""
        return plural(self.unit or "unit")

    def color_of(self) -> dict[str, str]:
        """CSS colour by class name."""
        pairs = zip(self.classes, self.colors, strict=False)
        return {name: "#{:02x}{:02x}{:02x}".format(*color) for name, color in pairs}


@dataclass(frozen=True)
class Run:
    """A run folder that was read.

    Attributes:
        path: The folder.
        table: Column of ``rounds.csv`` -> its values, (rounds,), float64, NaN where a cell is
            empty; in the order of the columns.
        config: The options of the run, nested; empty without ``config.yaml``.
        config_text: The same as text.
        about: What ``report.json`` says.
    """

    path: Path
    table: Mapping[str, NDArray[np.float64]]
    config: Mapping[str, Any]
    config_text: str
    about: About

    @property
    def rounds(self) -> list[int]:
        """Numbers of the finished rounds."""
        return [int(r) for r in self.table["round"]]

    @property
    def measured(self) -> bool:
        """Whether any round, or any companion of its mIoU, was measured on validation images."""
        return any(np.isfinite(self.table[name]).any() for name in ("miou", *self.companions))

    @property
    def ious(self) -> dict[str, NDArray[np.float64]]:
        """Class name -> IoU by round, (rounds,), 0..1."""
        return {
            column.removeprefix(IOU_PREFIX): values
            for column, values in self.table.items()
            if column.startswith(IOU_PREFIX)
        }

    @property
    def companions(self) -> list[str]:
        """Columns that hold an mIoU of another kind, e.g. ``miou_stage1``."""
        return [column for column in self.table if column.startswith("miou_")]

    def option(self, *keys: str) -> str:
        """An option of the run as text, ``""`` where there is none."""
        value: Any = self.config
        for key in keys:
            value = value.get(key, "") if isinstance(value, Mapping) else ""
        return str(value)

    def pictures(self, number: int) -> list[PictureFiles]:
        """Pictures of a round that are there."""
        folder = self.path / f"round_{number:03d}" / "pictures"
        entries = _read_json(folder / _INDEX, [])
        found = []
        for entry in entries:
            try:
                named = {
                    str(what): folder / Path(name).name for what, name in entry["files"].items()
                }
                about = str(entry["image"]), str(entry.get("caption", ""))
                files = {what: file for what, file in named.items() if file.is_file()}
            except (TypeError, KeyError, AttributeError, ValueError) as error:
                raise UserError(
                    f"{folder / _INDEX} lists no pictures ({error!r}); restore it, or delete it."
                ) from error
            if files:
                found.append(PictureFiles(*about, files))
        return found

    def shares(self, number: int) -> dict[str, dict[str, NDArray[np.float64]]]:
        """What the stages of a round logged as ``share/<name>`` while they trained.

        Returns:
            Stage -> ``batch``, (n,), and each name -> its values, (n,), 0..1, NaN where missing.
        """
        found = {}
        for log in sorted((self.path / f"round_{number:03d}").glob("*/log")):
            rows: dict[int, dict[str, float]] = {}
            for path in sorted(log.glob("version_*/metrics.csv"), key=lambda p: (len(p.name), p)):
                for line, row in enumerate(_csv(path, csv.DictReader), start=2):  # of every start
                    try:
                        rows.setdefault(int(row["step"]), {}).update(_shares(row))
                    except (KeyError, TypeError, ValueError, AttributeError) as error:
                        raise UserError(
                            f"{path}, line {line}: there is no number of a step, or a share is no "
                            f"number ({error}); restore the file, or delete it."
                        ) from error
            names = list(dict.fromkeys(name for row in rows.values() for name in row))
            kept = {step: row for step, row in sorted(rows.items()) if row}
            if names:
                found[log.parent.name] = {"batch": np.array(list(kept), dtype=np.float64)} | {
                    name: np.array([row.get(name, np.nan) for row in kept.values()])
                    for name in names
                }
        return found

    def read(self, number: int, name: str) -> Any:
        """Content of a JSON file of a round, None if it is not there."""
        path = self.path / f"round_{number:03d}" / name
        return read_json(path, object, _MEND) if path.exists() else None

    def seconds(self, number: int) -> NDArray[np.float64]:
        """Measured seconds of each answer of a round, in the order of its query, (n,)."""
        path = self.path / f"round_{number:03d}" / "answers.npz"
        found = Answers.load(path).seconds if path.is_file() else None
        return np.zeros(0) if found is None else found.astype(np.float64)

    def metrics(self, number: int) -> dict[str, float | str]:
        """Single numbers and words of a round's ``metrics.json`` that no column holds."""
        values = _read_json(self.path / f"round_{number:03d}" / "metrics.json", {})
        return {
            key: value
            for key, value in values.items()
            if isinstance(value, float | int | str) and key not in self.table
        }


def read_run(folder: Path) -> Run:
    """Read what a report needs from a run folder.

    Args:
        folder: Folder with at least ``rounds.csv``; ``config.yaml`` and ``report.json`` are
            optional.

    Returns:
        The run.

    Raises:
        UserError: If this is no run folder, no round is finished, or a file cannot be read.
    """
    path = folder / "rounds.csv"
    if not path.is_file():
        raise UserError(
            f"{folder} is no run folder with a finished round: there is no rounds.csv in it; give "
            f"the folder that holds config.yaml and rounds.csv."
        )
    config_path = folder / "config.yaml"
    text = read_text(config_path, MOST_CHARACTERS) if config_path.exists() else ""
    try:
        about = About(**_read_json(folder / "report.json", {}))
    except TypeError as error:
        raise UserError(f"{folder / 'report.json'} has a key that is unknown: {error}.") from error
    return Run(folder, _read_table(path), _parse_config(config_path, text), text, about)


def save_pictures(folder: Path, entries: Sequence[PictureEntry]) -> None:
    """Write the pictures of a round, and then ``index.json``, the list of them.

    Args:
        folder: ``round_NNN/pictures`` of a run folder; made where it is missing.
        entries: What to show, in this order.
    """
    index = []
    for number, entry in enumerate(entries):
        files = {what: f"{number}_{what}.jpg" for what in entry.pictures}
        for what, picture in entry.pictures.items():
            save_picture(folder / files[what], picture)
        index.append({"image": entry.image, "caption": entry.caption, "files": files})
    write_atomic(folder / _INDEX, json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def _csv(path: Path, reader: Callable[[Iterable[str]], Iterable[Any]]) -> list[Any]:
    """The lines of a table."""
    try:
        return list(reader(io.StringIO(read_text(path), newline="")))
    except csv.Error as error:
        raise UserError(f"{path} is no table ({error}); restore it from a copy.") from error


def _read_table(path: Path) -> dict[str, NDArray[np.float64]]:
    rows = _csv(path, csv.reader)
    header = rows[0] if rows else []
    missing = [name for name in ("round", "miou") if name not in header]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r}; it is not a table of a run.")
    if len(rows) == 1:
        raise UserError(f"{path} holds no finished round yet; write the report after the first.")
    table = np.full((len(rows) - 1, len(header)), np.nan)
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {line}: {len(row)} cells under {len(header)} columns; restore the "
                f"line, or delete it and those after it."
            )
        for column, cell in enumerate(row):
            try:
                table[line - 2, column] = float(cell) if cell.strip() else np.nan
            except ValueError:
                raise UserError(
                    f"{path}, line {line}: {cell!r} in column {header[column]!r} is no number; "
                    f"correct the cell or leave it empty."
                ) from None
    found = dict(zip(header, table.T, strict=True))
    rounds = found["round"]
    if not ((rounds >= 0) & (rounds < _MOST_ROUNDS) & (rounds % 1 == 0)).all():
        raise UserError(f"{path} has rounds that are no whole numbers from 0; restore the file.")
    return found


def _shares(row: Mapping[str, str]) -> dict[str, float]:
    """The shares among the cells of a log."""
    return {
        name.removeprefix(_SHARE): float(cell)
        for name, cell in row.items()
        if name.startswith(_SHARE) and cell
    }


def _parse_config(path: Path, text: str) -> dict[str, Any]:
    config: dict[str, Any] = read_node(
        dict[str, Any] | None, parse_yaml(text, str(path)), str(path)
    )
    return config or {}


def _read_json(path: Path, default: Any) -> Any:
    if not path.exists():
        return default
    return read_json(path, type(default), _MEND)
