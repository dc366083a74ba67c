"""Find everything wrong with a data set before any long work, and say it at once."""

import json
import os
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.files import uncollected
from alseg.core.images import VOID
from alseg.core.masks import (
    UNKNOWN,
    Color,
    MaskTable,
    pack_rgb,
    show_color,
    shown_colors,
    unpack_rgb,
)
from alseg.core.progress import progress_bar
from alseg.core.rasters import Header, UnreadableError
from alseg.data.files import SIZE, ImageFile
from alseg.data.masks import stored_values
from alseg.data.reading.images import AS_RGB, Reading, check_samples
from alseg.data.reading.known import KnownFiles

#: Lines told per kind of problem.
LINES = 20

#: Files of more samples are not decoded several at once: they would take too much memory.
HUGE = 1 << 27
_ONE_AT_A_TIME = threading.Lock()

#: Foreign colours remembered per mask; a mask has more only if it was blurred or compressed.
COLORS = 64

#: Kinds of problems, in the order in which they are told, and how each is mended.
KINDS = {
    "no images": "check the path and the patterns",
    "images in both splits": "take them out of one of the two",
    "images without a mask": "add the masks or remove the images",
    "masks without an image": "add the images or remove the masks",
    "names that occur twice": "keep one of each; file endings do not count",
    "listed names without an image": "mend the list or add the images",
    "folders that cannot be opened": "give yourself the right to read them, or move them away",
    "images found twice through a link": "remove the link, or the folder it leads to",
    "pictures whose ending is not read": "convert them to one that is (.png, .tif, .jpg), move "
    "them away, or let the pattern name the ending it wants (data.images=images/**.png)",
    "files that cannot be read": "restore or remove them",
    "files that cannot be used as they are": "convert them",
    "masks of another size than their image": "export both at the same size",
    "images smaller than a window": "take a smaller data.window, or leave them out",
    "ids outside the class table": "add them to the classes, or to {ignore} if they are void",
    "colours outside the class table": "mend the table, or list them in {ignore} if they are void",
    "palettes that give an id different colours": "the ids mean different things in different "
    "files: let the colours count ({colors}); if the ids are right and the colours are not, save "
    "the masks without a palette",
    "255 read as void where a class is in no mask": "if 255 is void, list it: {ignore}=[255]; "
    "if it stands for a class, let the colours count ({colors})",
    "splits without a labelled pixel": "nothing can be learnt or measured there: see how the masks "
    "were exported",
}


class Problems:
    """Problems of one data set, collected so that one message tells them all.

    Args:
        where: What was checked, e.g. ``"camvid at data/camvid"``.
        ignore: The option that lists what is void, as the user writes it.
        colors: The option by which colours stand for the classes.
    """

    def __init__(
        self,
        where: str,
        ignore: str = "data.ignore",
        colors: str = "data.colors instead of data.classes",
    ) -> None:
        self.where = where
        self._options = {"ignore": ignore, "colors": colors}
        self._lines: dict[str, list[str]] = {}
        self._notes: list[str] = []

    def add(self, kind: str, line: str) -> None:
        """Add a problem of one of `KINDS`."""
        self._lines.setdefault(kind, []).append(line)

    def note(self, lines: Iterable[str]) -> None:
        """Add lines that end the message, such as the class table."""
        self._notes.extend(lines)

    def raise_any(self) -> None:
        """Tell all problems.

        Raises:
            UserError: If there are any: one sentence, then one line per problem.
        """
        if not self._lines:
            return
        count = sum(map(len, self._lines.values()))
        text = [
            f"{self.where} has {count} problem{'s' * (count > 1)}; mend what is listed here and "
            f"start again."
        ]
        for kind, advice in KINDS.items():
            lines = self._lines.get(kind, [])
            if lines:
                text.append(f"{kind} ({len(lines)}): {advice.format(**self._options)}")
                text += [f"  {line}" for line in lines[:LINES]]
                if len(lines) > LINES:
                    text.append(f"  ... and {len(lines) - LINES} more")
        raise UserError("\n".join(text + self._notes))


def pair_files(
    images: Mapping[str, Path], masks: Mapping[str, Path], problems: Problems
) -> list[ImageFile]:
    """Pair images with masks of the same name.

    Args:
        images: Path of each image by name.
        masks: Path of each mask by name.
        problems: Receives what has no partner.

    Returns:
        The pairs, in the order of their names.
    """
    for name in sorted(images.keys() - masks.keys()):
        problems.add("images without a mask", str(images[name]))
    for name in sorted(masks.keys() - images.keys()):
        problems.add("masks without an image", str(masks[name]))
    return [ImageFile(name, images[name], masks[name]) for name in sorted(images & masks.keys())]


@dataclass
class _Verdict:
    """What was found in one image and its mask."""

    problems: list[tuple[str, str]] = field(default_factory=list)
    foreign: dict[int, int] = field(default_factory=dict)
    """Pixels per id or packed colour that the table does not name."""
    foreign_colors: int = 0
    """How many there are; `foreign` holds the first `COLORS`."""
    pixels: int = 0
    size: tuple[int, int] | None = None
    """Height and width of the image."""
    seen: "Seen | None" = None
    """What its mask holds; None without a mask, or with one that cannot be read."""


class Seen(NamedTuple):
    """What a mask holds."""

    present: list[int]
    """Positions in the table of the entries that occur."""
    unlisted: bool
    """Whether id 255 occurs, is void, and no entry lists it."""
    palette: list[list[int]]
    """Ids that occur, each with its colour in the file's palette, packed; empty without one."""


@uncollected()
def check_images(
    files: Sequence[ImageFile],
    masks: MaskTable,
    problems: Problems,
    *,
    loaded: tuple[int, int] | None = None,
    reading: Reading = AS_RGB,
    progress: bool = True,
    known: KnownFiles | None = None,
) -> list[Seen | None]:
    """Decode every image and mask in full and look for what would fail, or mislead, later.

    Args:
        files: Images with or without masks.
        masks: How masks are read.
        problems: Receives what is wrong.
        loaded: Height and width that masks may have besides their images': those at which both are
            loaded.
        reading: How images are read.
        progress: Show a progress bar.
        known: Remembers which files were fine. A file is looked at again when its path, size,
            times of change, or the way it is read differ.

    Returns:
        What the mask of each file holds, see `check_classes`.
    """
    known = KnownFiles() if known is None else known
    how = blake2b(repr((masks, loaded, reading)).encode(), digest_size=6).hexdigest()
    verdicts: dict[int, _Verdict] = {}
    for i, file in enumerate(files):
        fine = known.get(file.image, f"fine {how}")
        if fine is not None:
            key, _, seen = fine.partition(" ")
            if key == _mask_key(file, known):
                verdicts[i] = _Verdict(seen=_seen_of(seen))
    todo = [i for i in range(len(files)) if i not in verdicts]
    if todo:
        # Decoding leaves the interpreter lock; more threads than this only wait for the disk.
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = pool.map(lambda i: _check(files[i], masks, loaded, reading), todo)
            bar = progress_bar(
                found, "checking images", total=len(todo), unit="image", hidden=not progress
            )
            verdicts |= dict(zip(todo, bar, strict=True))
    for i in range(len(files)):
        for kind, line in verdicts[i].problems:
            problems.add(kind, line)
    for i in todo:
        file, verdict = files[i], verdicts[i]
        if not verdict.problems and not verdict.foreign:
            seen = json.dumps(verdict.seen, separators=(",", ":"))
            known.put(file.image, f"fine {how}", f"{_mask_key(file, known)} {seen}")
            assert verdict.size is not None
            known.put(file.image, SIZE, "{} {}".format(*verdict.size))
    known.save()
    foreign = {i: verdict for i, verdict in verdicts.items() if verdict.foreign}
    if foreign:
        _tell_foreign(files, masks, foreign, problems)
        present = {code for v in verdicts.values() if v.seen for code in v.seen.present}
        problems.note(["the class table:"])
        for code, line in enumerate(masks.describe()):
            problems.note([f"  {line}" + "  (in no mask)" * (code not in present)])
    return [verdicts[i].seen for i in range(len(files))]


def check_classes(
    masks: MaskTable, parts: Mapping[str, Sequence[tuple[str, Seen]]], problems: Problems
) -> list[str]:
    """Look for masks that were read without an error and mean something else.

    Args:
        masks: How they were read.
        parts: Name and content of the masks of each split, such as ``training``.
        problems: Receives what is wrong.

    Returns:
        Sentences on classes that occur in no mask, which may be all right.
    """
    every = [mask for part in parts.values() for mask in part]
    shown = {name: _classes_in(masks, part) for name, part in parts.items() if part}
    for name in shown:
        if not shown[name]:
            problems.add(
                "splits without a labelled pixel",
                f"the {len(parts[name])} {name} masks hold nothing but void",
            )
    absent = [n for n in masks.class_names if not any(n in names for names in shown.values())]
    unlisted = [name for name, seen in every if seen.unlisted]
    if unlisted and absent and all(shown.values()):
        some = ", ".join(unlisted[:3]) + ", ..." * (len(unlisted) > 3)
        text = (
            f"255 occurs in {len(unlisted)} of {len(every)} masks ({some}), and no mask shows "
            f"{', '.join(map(repr, absent))}"
        )
        if len(masks.class_names) == 2:
            first, second = masks.class_names
            text += (
                f"; black and white masks have the colours "
                f"{{{first}:[0,0,0],{second}:[255,255,255]}}"
            )
        problems.add("255 read as void where a class is in no mask", text)
    if not masks.by_color:
        _tell_palettes(every, problems)
    notes = []
    if absent and every:
        notes.append(f"No mask shows {_listed(absent)} of {len(masks.class_names)} classes.")
    for name, names in shown.items():
        missing = [n for n in masks.class_names if n not in names and n not in absent]
        if missing and names:
            notes.append(f"No {name} mask shows {_listed(missing)}.")
    return notes


def _listed(names: Sequence[str]) -> str:
    return f"the class{'es' * (len(names) > 1)} {', '.join(names)}"


def _classes_in(masks: MaskTable, part: Sequence[tuple[str, Seen]]) -> set[str]:
    codes = {code for _, seen in part for code in seen.present}
    labels = {masks.entries[code].label for code in codes} - {VOID}
    return {masks.class_names[label] for label in labels}


def _tell_palettes(every: Sequence[tuple[str, Seen]], problems: Problems) -> None:
    """An id that has one colour in this file and another one in that."""
    first: dict[int, tuple[int, str]] = {}
    told: set[int] = set()
    for name, seen in every:
        for key, color in seen.palette:
            known, where = first.setdefault(key, (color, name))
            if known != color and key not in told:
                told.add(key)
                problems.add(
                    "palettes that give an id different colours",
                    f"{key} is {show_color(unpack_rgb(known))} in {where} and "
                    f"{show_color(unpack_rgb(color))} in {name}",
                )


def _check(
    file: ImageFile, masks: MaskTable, loaded: tuple[int, int] | None, reading: Reading
) -> _Verdict:
    with ExitStack() as stack:

        def told(header: Header) -> None:
            if header.height * header.width * (header.bands + header.alpha) > HUGE:
                stack.enter_context(_ONE_AT_A_TIME)

        return _judge(file, masks, loaded, reading, told)


def _judge(
    file: ImageFile,
    masks: MaskTable,
    loaded: tuple[int, int] | None,
    reading: Reading,
    told: Callable[[Header], None],
) -> _Verdict:
    verdict = _Verdict()
    path = file.image
    try:
        header = check_samples(path, reading, told)
        verdict.size = (header.height, header.width)
        if file.mask is None:
            return verdict
        path = file.mask
        values, palette = stored_values(path, masks)
        if values.shape[:2] not in (verdict.size, loaded):
            (h, w), (high, wide) = verdict.size, values.shape[:2]
            text = f"{path}: image {h} x {w}, mask {high} x {wide} (height x width)"
            verdict.problems.append(("masks of another size than their image", text))
        try:
            codes = masks.codes(values, palette)
        except UserError as error:
            raise UserError(f"{path} {error}.") from error
        labels = masks.labels(codes)
        verdict.seen = _seen(masks, codes, palette)
        outside = labels == UNKNOWN
        if outside.any():
            verdict.pixels = codes.size
            found = values[outside]
            if masks.by_color:
                found = pack_rgb(shown_colors(found, palette))
            which, pixels = np.unique(found, return_counts=True)
            verdict.foreign_colors = len(which)
            common = np.argsort(-pixels, kind="stable")[:COLORS]
            verdict.foreign = dict(
                zip(which[common].tolist(), pixels[common].tolist(), strict=True)
            )
    except UnreadableError as error:
        verdict.problems.append(("files that cannot be read", str(error).rstrip(".")))
    except UserError as error:
        verdict.problems.append(("files that cannot be used as they are", str(error).rstrip(".")))
    return verdict


def _mask_key(file: ImageFile, known: KnownFiles) -> str:
    """What a mask must still be for its image to be known as fine."""
    if file.mask is None:
        return "-"
    text = f"{file.mask}\0{known.stamp(file.mask)}"
    return blake2b(text.encode(errors="surrogateescape"), digest_size=8).hexdigest()


@lru_cache(maxsize=1024)
def _seen_of(text: str) -> "Seen | None":
    """What was remembered of a mask; most masks of a data set hold the same classes."""
    seen = json.loads(text)
    return None if seen is None else Seen(*seen)


def _seen(masks: MaskTable, codes: NDArray[np.uint8], palette: NDArray[np.uint8] | None) -> Seen:
    # Pillow counts bytes; numpy would copy them to eight times their size first.
    counts = np.array(Image.fromarray(codes).histogram())
    present, unlisted = masks.present(counts)
    colors: list[list[int]] = []
    if palette is not None and not masks.by_color:
        grey = np.arange(len(palette))[:, None] == palette
        if not grey.all():  # a palette of greys says nothing
            used = np.flatnonzero(counts[: len(palette)])
            colors = [
                [key, color]
                for key, color in zip(used.tolist(), pack_rgb(palette[used]).tolist(), strict=True)
            ]
    return Seen(present, unlisted, colors)


def _tell_foreign(
    files: Sequence[ImageFile], masks: MaskTable, found: Mapping[int, _Verdict], problems: Problems
) -> None:
    """One line per foreign id or colour, the most frequent first."""
    pixels: Counter[int] = Counter()
    where: defaultdict[int, list[int]] = defaultdict(list)
    for i in sorted(found):
        pixels.update(found[i].foreign)
        for value in found[i].foreign:
            where[value].append(i)
    kind = f"{'colours' if masks.by_color else 'ids'} outside the class table"
    for value, count in pixels.most_common():
        share = 100 * count / sum(found[i].pixels for i in where[value])
        some = ", ".join(files[i].name for i in where[value][:3])
        some += ", ..." if len(where[value]) > 3 else ""
        text = f"{share:.3g} % of the pixels in {len(where[value])} of {len(files)} masks ({some})"
        if masks.by_color:
            color = unpack_rgb(value)
            text = f"{show_color(color)}  {text}; nearest in the table: {_nearest(color, masks)}"
        else:
            text = f"{value}  {text}"
        problems.add(kind, text)
    blurred = [i for i, verdict in found.items() if verdict.foreign_colors >= COLORS]
    if blurred:
        worst = max(blurred, key=lambda i: found[i].foreign_colors)
        problems.note(
            [
                f"{files[worst].name} alone has {found[worst].foreign_colors} foreign colours: it "
                f"was resized smoothly, compressed, or is no mask; export masks without smoothing."
            ]
        )


def _nearest(color: Color, masks: MaskTable) -> str:
    def distance(key: int | Color) -> int:
        assert isinstance(key, tuple)
        return sum((a - b) ** 2 for a, b in zip(color, key, strict=True))

    entry = min(masks.entries, key=lambda entry: distance(entry.key))
    return f"{entry.name} {show_color(entry.key)}"  # type: ignore[arg-type]
