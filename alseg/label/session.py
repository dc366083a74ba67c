"""What the page needs to know of a round, as the run leaves it when it begins to wait."""

import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import ImageSet, attribute_of, origin_of, shown
from alseg.data.reading.images import AS_RGB
from alseg.label.colors import safe_colors
from alseg.labels.budget import Budget
from alseg.labels.human import unit_boxes
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.base import Column, Kind
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.tables import PIXELS, Query, load_arrays

log = logging.getLogger(__name__)

FOLDER = "label"
#: Version of the files; a page of another release refuses them.
VERSION = 1


@dataclass(frozen=True)
class Picture:
    """Where the pixels of an image lie.

    Attributes:
        name: Name of the image.
        size: Height and width at which the run loads it.
        file: Its file; a relative path is one below ``round_NNN/label``.
        file_size: Height and width of the file.
        box: The part of the file it is: top, left, bottom, right in pixels of the file. Whole
            numbers unless the file is cut into windows after it is resized.
        reading: How the file is read, see `alseg.data.reading.images.Reading.describe`.
    """

    name: str
    size: tuple[int, int]
    file: str
    file_size: tuple[int, int]
    box: tuple[float, float, float, float]
    reading: Mapping[str, Any] = field(default_factory=AS_RGB.describe)

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the file per loaded pixel, down and across."""
        top, left, bottom, right = self.box
        return (bottom - top) / self.size[0], (right - left) / self.size[1]


@dataclass(frozen=True)
class Session:
    """A round that waits for answers.

    Attributes:
        folder: ``round_NNN/label``.
        query: What is asked.
        names: What the answers are chosen from: names of the classes, or of the scenes.
        colors: Colour of each in the data set's table, (C, 3), uint8.
        num_classes: C.
        budget: Of the round.
        pictures: The images that are asked about, by index.
        boxes: Bounding box of each unit in loaded pixels, (n, 4): top, left, bottom, right.
        pixels: Pixels of each unit, (n,), int64.
        bits: The pixels of each unit inside its box, packed; empty where units are pixels.
        accept_partial: Whether a round may end with fewer answers than its budget pays for.
    """

    folder: Path
    query: Query
    names: tuple[str, ...]
    colors: NDArray[np.uint8]
    budget: Budget
    pictures: Mapping[int, Picture]
    boxes: NDArray[np.int64]
    pixels: NDArray[np.int64]
    bits: NDArray[np.uint8]
    accept_partial: bool = False

    def __len__(self) -> int:
        return len(self.query)

    @property
    def num_classes(self) -> int:
        """Classes, or scenes, to choose from."""
        return len(self.names)

    @property
    def kind(self) -> Kind:
        """Kind of the answers."""
        return KINDS[self.query.answer]

    @property
    def column(self) -> Column:
        """How a question is answered: by one of the names, by a set of them, or by painting."""
        return self.kind.column

    @property
    def digest(self) -> str:
        """Names the questions: the journal of one query is not taken for that of another."""
        query, text = self.query, hashlib.blake2b(digest_size=16)
        what = (query.round, query.kind, query.answer, query.regions, self.names)
        text.update(repr(what).encode())
        columns = (query.image, query.unit, self.boxes, self.pixels, query.suggested)
        for column in columns:
            if column is not None:
                text.update(np.ascontiguousarray(column).tobytes())
        return text.hexdigest()

    def mask(self, row: int) -> NDArray[np.bool_]:
        """Which pixels of its box belong to a unit, (h, w), bool."""
        top, left, bottom, right = self.boxes[row].tolist()
        shape = (bottom - top, right - left)
        if self.query.regions == PIXELS:
            return np.ones(shape, dtype=bool)
        start = int(self._starts[row])
        count = shape[0] * shape[1]
        packed = self.bits[start : start + (count + 7) // 8]
        return np.unpackbits(packed, count=count).astype(bool).reshape(shape)

    def path(self, image: int) -> Path:
        """File of an image."""
        return self.folder / self.pictures[image].file  # an absolute path stays as it is

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where the bits of each unit start."""
        areas = np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1)
        return np.concatenate([[0], np.cumsum((areas + 7) // 8)])


def write_session(
    query: Query, pool: LabelPool, images: ImageSet, folder: Path, accept_partial: bool = False
) -> Session:
    """Write what the page needs to ask a query; nothing where it was written before.

    Args:
        query: What is asked.
        pool: Knows the region maps and the budget.
        images: The pool's images.
        folder: Folder of the round.
        accept_partial: See `Session`.

    Raises:
        UserError: If the folder holds answers to other questions.
    """
    target = folder / FOLDER
    boxes = unit_boxes(query, pool)
    pixels = pool.unit_pixels(query)
    kind = KINDS[query.answer]
    names = tuple(kind.names(images))
    colors = np.asarray(images.classes.colors, dtype=np.uint8)
    if not kind.covers_pixels:  # scenes have no colours of their own
        colors = safe_colors(len(names))
    pictures: dict[int, Picture] = {}
    bits: list[NDArray[np.uint8]] = [np.zeros(0, np.uint8)] * len(query)
    for image, rows in rows_by_image(query.image):
        pictures[image] = picture_of(images, image, target)
        if query.regions != PIXELS:
            ids = pool.maps[query.regions][image]
            for row in rows.tolist():
                top, left, bottom, right = boxes[row].tolist()
                inside = ids[top:bottom, left:right] == query.unit[row]
                bits[row] = np.packbits(inside.ravel())
    packed = np.concatenate([np.zeros(0, np.uint8), *bits])
    session = Session(
        target, query, names, colors, pool.budget, pictures, boxes, pixels, packed, accept_partial
    )
    if _is_written(session):
        return session
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, boxes=boxes.astype(np.int32), pixels=pixels, bits=packed
    )
    write_atomic(target / "units.npz", buffer.getvalue())
    about = {
        "version": VERSION,
        "digest": session.digest,
        "names": list(names),
        "colors": colors.tolist(),
        "budget": asdict(pool.budget),
        "accept_partial": accept_partial,
        "pictures": {str(image): asdict(picture) for image, picture in pictures.items()},
    }
    query.save(target / "query.npz")
    write_atomic(target / "session.json", json.dumps(about, ensure_ascii=False) + "\n")
    return session


def _is_written(session: Session) -> bool:
    """Whether the folder describes just this session.

    Raises:
        UserError: If it describes another one, and answers to that one were given.
    """
    try:
        there = read_session(session.folder.parent)
    except UserError:
        return False
    if there.digest != session.digest and (session.folder.parent / "answers.jsonl").exists():
        raise UserError(
            f"{session.folder.parent / 'answers.jsonl'} holds answers to other questions than the "
            f"run asks now; give the run's former options, or another run_dir."
        )
    same = (there.digest, there.budget, there.pictures, there.accept_partial) == (
        session.digest, session.budget, session.pictures, session.accept_partial
    )  # fmt: skip
    return same and np.array_equal(there.bits, session.bits)


def read_session(round_folder: Path) -> Session:
    """Read what `write_session` wrote.

    Args:
        round_folder: ``round_NNN``.

    Raises:
        UserError: If it is not there, or damaged, or of another release.
    """
    folder = round_folder / FOLDER
    try:
        about: dict[str, Any] = json.loads((folder / "session.json").read_text("utf-8"))
        if about["version"] != VERSION:
            raise UserError(
                f"{folder} was written by another release of alseg; give the run's command again."
            )
        pictures = {int(image): _picture(p) for image, p in about["pictures"].items()}
        units = load_arrays(folder / "units.npz")
        return Session(
            folder=folder,
            query=Query.load(folder / "query.npz"),
            names=tuple(about["names"]),
            colors=np.array(about["colors"], dtype=np.uint8).reshape(-1, 3),
            budget=Budget(**about["budget"]),
            pictures=pictures,
            boxes=units["boxes"].astype(np.int64),
            pixels=units["pixels"].astype(np.int64),
            bits=units["bits"],
            accept_partial=bool(about["accept_partial"]),
        )
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} does not describe a round that waits for answers ({error}); give the run's "
            f"command again."
        ) from error


def find_waiting(run_dir: Path) -> Path:
    """Folder of the round that waits for answers.

    Raises:
        UserError: If none does, or if an answers file was written for it.
    """
    folder = find_open(run_dir)
    if (folder / "answers.csv").exists():
        raise UserError(
            f"{folder / 'answers.csv'} holds answers already; give the run's command again, or "
            f"move the file away to answer in the browser."
        )
    return folder


def find_open(run_dir: Path) -> Path:
    """Folder of the round whose answers the run has not taken, also if an answers file is there.

    Raises:
        UserError: If there is none.
    """
    rounds = sorted(Path(run_dir).glob("round_*"))
    waiting = [
        folder
        for folder in rounds
        if (folder / FOLDER / "session.json").exists()
        and (folder / "query.npz").exists()  # else the run was started anew, otherwise
        and not (folder / "answers.npz").exists()
    ]
    if not waiting:
        if not Path(run_dir).is_dir():
            raise UserError(f"{run_dir} is not a folder; give the run_dir of a run.")
        raise UserError(
            f"{run_dir} does not wait for answers; start its run with oracle=human or "
            f"oracle=browser, and answer when the run says that it waits."
        )
    return waiting[-1]


def picture_of(images: ImageSet, index: int, folder: Path) -> Picture:
    """Where the pixels of an image lie; those of no file are written as a PNG.

    Args:
        images: The images.
        index: Which one.
        folder: ``round_NNN/label``.
    """
    name, size, origin = images.names[index], images.size(index), origin_of(images, index)
    if origin is not None:
        reading = attribute_of(images, "reading") or AS_RGB
        path = str(origin.path.resolve())
        return Picture(name, size, path, origin.size, origin.box, reading.describe())
    file = f"images/{index:06d}.png"
    if not (folder / file).exists():
        buffer = io.BytesIO()
        pixels = Image.fromarray(shown(images.image(index)))
        pixels.save(buffer, "PNG", compress_level=1)
        write_atomic(folder / file, buffer.getvalue())
    return Picture(name, size, file, size, (0.0, 0.0, float(size[0]), float(size[1])))


def _picture(about: Mapping[str, Any]) -> Picture:
    """A picture out of ``session.json``, where tuples became lists."""
    size, file_size, box = (tuple(about[name]) for name in ("size", "file_size", "box"))
    return Picture(about["name"], size, about["file"], file_size, box, about["reading"])


def say_browser(run_dir: Path) -> None:
    """Say how the questions of a run that waits are answered in a browser."""
    log.info("Or answer in a browser: python -m alseg.label %s", run_dir)


@dataclass(frozen=True)
class SessionWriter:
    """Observer of a run: when it begins to wait, writes what the page needs.

    Attributes:
        images: The pool's images.
        accept_partial: See `Session`.
    """

    images: ImageSet
    accept_partial: bool = False

    def waiting(self, query: Query, pool: LabelPool, folder: Path) -> None:
        """Write the session and say how to answer in a browser."""
        write_session(query, pool, self.images, folder, self.accept_partial)
        say_browser(folder.parent)

    def round_closed(self, round: int, pool: LabelPool, rows: Sequence[Mapping[str, Any]]) -> None:
        """Nothing to do."""
