"""Segmentation mask 1.1: pictures of colours, with ``labelmap.txt`` that says what they mean.

Pixels of the background and of the colour of "question" are not answered. A unit whose painted
pixels have one colour is of that class; a pixel is of the class of its own colour.
"""

import io
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.masks import pack_rgb
from alseg.exchange.model import QUESTION, UNSURE, Reading, Said, Sheet, Task
from alseg.exchange.sources import Source
from alseg.labels.answerfile import VOID_WORD

name = "mask"
steps = (
    "Paint the pictures of SegmentationClass/ in the colours of labelmap.txt, or upload this "
    "folder, zipped, to a tool as Segmentation mask 1.1, and export as that."
)
refused = {
    "class_set": "a pixel of a mask has one class, so that a set of classes cannot be painted",
    "scene": "a mask names classes of pixels, not the scene of an image",
}
predictions = False

_BACKGROUND = "background"
_HEAD = "# label:color_rgb:parts:actions"
#: Colours of words that are no classes.
_FIXED = {_BACKGROUND: (0, 0, 0), QUESTION: (255, 255, 255), VOID_WORD: (224, 224, 192)}
_FIXED_UNSURE = (128, 128, 128)

Color = tuple[int, int, int]


def palette(names: Sequence[str], colors: NDArray[np.uint8]) -> dict[str, Color]:
    """A colour for each name, its own unless another has it, and for what is no class."""
    given: dict[str, Color] = {**_FIXED, UNSURE: _FIXED_UNSURE}
    taken = set(given.values())
    spare = (_spread(index) for index in range(1, 1 << 12))
    for word, (red, green, blue) in zip(names, colors.tolist(), strict=True):
        own: Color = (red, green, blue)
        while own in taken:
            own = next(spare)
        given[word] = own
        taken.add(own)
    return given


def _spread(index: int) -> Color:
    """Colour of a number in which neighbours are unlike: three bits at a time from the top."""
    color = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            color[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return color[0], color[1], color[2]


def write(task: Task) -> Iterator[tuple[str, bytes]]:
    """``labelmap.txt``, and per picture the units in the colour of "question"."""
    bad = [word for word in task.names if ":" in word or "\n" in word or word.startswith("#")]
    if bad:
        raise UserError(f"labelmap.txt cannot hold the class names {bad}; use another format.")
    colors = palette(task.names, task.colors)
    lines = [f"{word}:{','.join(map(str, color))}::" for word, color in colors.items()]
    yield "labelmap.txt", "".join(f"{line}\n" for line in [_HEAD, *lines]).encode()
    names = "".join(f"{sheet.name}\n" for sheet in task.sheets)
    yield "ImageSets/Segmentation/default.txt", names.encode()
    for sheet in task.sheets:
        classes = np.zeros((sheet.height, sheet.width, 3), dtype=np.uint8)
        objects = np.zeros_like(classes)
        for number, question in enumerate(sheet.questions, start=1):
            part = np.s_[
                question.box.top : question.box.bottom, question.box.left : question.box.right
            ]
            classes[part][question.mask] = colors[QUESTION]
            objects[part][question.mask] = _spread(number)
        yield f"SegmentationClass/{sheet.file}", _png(classes)
        yield f"SegmentationObject/{sheet.file}", _png(objects)
        yield f"JPEGImages/{sheet.file}", sheet.picture()


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def read(source: Source, task: Task) -> Reading:
    """What the pictures of ``SegmentationClass`` say."""
    names = _labelmap(source)
    files = [n for n in source.names(".png") if "SegmentationClass" in n.split("/")[:-1]]
    if not files:
        raise UserError(
            f"{source.path} holds no folder SegmentationClass; give the folder or the archive that "
            f"holds it beside labelmap.txt."
        )
    reading = Reading()
    for file in files:
        pixels = _decoded(source, file, task, reading)
        if pixels is not None:
            _read_sheet(*pixels, names, task, reading)
    return reading


def _labelmap(source: Source) -> dict[int, str]:
    """Names by packed colours."""
    file = source.one("labelmap.txt")
    names: dict[int, str] = {}
    for number, line in enumerate(source.read(file).decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(":")
        parts = rest.partition(":")[0].split(",")
        if len(parts) != 3 or not all(p.strip().isdecimal() and int(p) < 256 for p in parts):
            raise UserError(
                f"{file} in {source.path}, line {number} has no colour of three numbers up to 255."
            )
        packed = int(pack_rgb(np.array([[int(p) for p in parts]], dtype=np.uint8))[0])
        if names.setdefault(packed, word) != word:
            raise UserError(
                f"{file} in {source.path} gives {names[packed]!r} and {word!r} the same colour."
            )
    return names


def _decoded(
    source: Source, file: str, task: Task, reading: Reading
) -> tuple[Sheet, NDArray[np.uint32]] | None:
    """The sheet of a file and its colours, packed."""
    try:
        with Image.open(io.BytesIO(source.read(file)), formats=["PNG"]) as image:
            sheet = reading.sheet(task, file, (image.height, image.width))
            if sheet is None:
                return None
            return sheet, pack_rgb(np.asarray(image.convert("RGB")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reading.mistakes.append(f"{file} is not a PNG that can be read ({error})")
        return None


def _read_sheet(
    sheet: Sheet, packed: NDArray[np.uint32], names: dict[int, str], task: Task, reading: Reading
) -> None:
    unanswered = {_BACKGROUND, QUESTION}
    for question in sheet.questions:
        box = question.box
        part = packed[box.top : box.bottom, box.left : box.right]
        if task.answer == "class":
            y, x = (int(side) for side in question.point)
            found = {int(packed[min(y, sheet.height - 1), min(x, sheet.width - 1)])}
        else:
            found = set(np.unique(part[question.mask]).tolist())
        where = f"row {question.row} on {sheet.name}"
        unknown = [color for color in sorted(found) if color not in names]
        for color in unknown:
            count = int((part == color).sum())
            reading.mistakes.append(
                f"{where} has {count} pixels of the colour "
                f"[{color >> 16}, {color >> 8 & 255}, {color & 255}], which labelmap.txt does not "
                f"name"
            )
        words = sorted({names[color] for color in found if color in names} - unanswered)
        if unknown or not words:
            continue
        if task.answer != "mask":
            reading.said.append(Said(question.row, tuple(words), where))
            continue
        for word in words:
            own = [color for color, other in names.items() if other == word]
            mask = np.isin(part, own) & question.mask
            reading.paint(sheet, word, box.top, box.left, mask, where)


def reserved(task: Task) -> tuple[str, ...]:
    """Words that a class may not be called, because they mean something else in the file."""
    return (QUESTION, _BACKGROUND)
