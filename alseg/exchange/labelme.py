"""labelme: one JSON file per picture; https://github.com/wkentaro/labelme makes it.

A unit is a mask (of a pixel: a point) with the label "question" and the row as ``group_id``; who
answers changes the label to the class. Sets of classes are the flags of a unit, a scene those of
the picture. Dense masks are shapes of classes, later ones on top.
"""

import base64
import binascii
import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from alseg.core.errors import UserError
from alseg.exchange.model import QUESTION, Question, Reading, Said, Sheet, Task
from alseg.exchange.runs import Mask, fill
from alseg.exchange.sources import Source, get, items
from alseg.labels.kinds.correct import KEEP

name = "labelme"
steps = (
    "Open this folder in labelme with --labels labels.txt, and answer; files are changed in place."
)
refused: dict[str, str] = {}
predictions = False


def write(task: Task) -> Iterator[tuple[str, bytes]]:
    """A JSON file beside each picture, ``labels.txt`` and ``flags.txt``."""
    for sheet in task.sheets:
        yield sheet.file, sheet.picture()
        yield f"{sheet.name}.json", json.dumps(_sheet(sheet, task), ensure_ascii=False).encode()
    keep = (KEEP,) if task.answer == "correct" else ()
    yield "labels.txt", "".join(f"{word}\n" for word in (QUESTION, *keep, *task.words)).encode()
    if task.answer in ("scene", "class_set"):
        yield "flags.txt", "".join(f"{word}\n" for word in task.words).encode()


def _sheet(sheet: Sheet, task: Task) -> dict[str, Any]:
    open_flags = dict.fromkeys(task.words, False)
    shapes = []
    for question in sheet.questions:
        if task.answer == "scene":
            continue
        shapes.append(
            {
                "label": QUESTION,
                "group_id": question.row,
                "description": ";".join(question.words),
                "flags": dict(open_flags) if task.answer == "class_set" else {},
                **_shape(question, task),
            }
        )
    return {
        "version": "5.5.0",
        "flags": open_flags if task.answer == "scene" else {},
        "shapes": shapes,
        "imagePath": sheet.file,
        "imageData": None,
        "imageHeight": sheet.height,
        "imageWidth": sheet.width,
    }


def _shape(question: Question, task: Task) -> dict[str, Any]:
    if task.answer == "class":
        y, x = question.point
        return {"shape_type": "point", "points": [[x, y]], "mask": None}
    box, buffer = question.box, io.BytesIO()
    Image.fromarray(question.mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return {
        "shape_type": "mask",
        "points": [[box.left, box.top], [box.right - 1, box.bottom - 1]],  # both inclusive
        "mask": base64.b64encode(buffer.getvalue()).decode(),
    }


def read(source: Source, task: Task) -> Reading:
    """What the JSON files say."""
    reading = Reading(layered=True)
    found = 0
    for file in source.names(".json"):
        table = source.json(file)
        if not isinstance(get(table, "shapes"), list):
            continue
        found += 1
        size = (get(table, "imageHeight"), get(table, "imageWidth"))
        sheet = reading.sheet(task, get(table, "imagePath"), size)
        if sheet is not None:
            _read_sheet(table, sheet, task, reading)
    if not found:
        raise UserError(
            f"{source.path} holds no file of labelme; give the folder of its JSON files."
        )
    return reading


def _read_sheet(table: dict[str, Any], sheet: Sheet, task: Task, reading: Reading) -> None:
    if task.answer == "scene":
        words = _flags(get(table, "flags"))
        for question in sheet.questions if words else ():
            reading.said.append(Said(question.row, words, f"{sheet.name}.json"))
        return
    for number, shape in enumerate(items(get(table, "shapes")), start=1):
        where, word = f"shape {number} of {sheet.name}.json", str(get(shape, "label"))
        if task.answer == "class_set":
            words = _flags(get(shape, "flags"))
        else:
            words = () if word == QUESTION else (word,)
        if not words:
            continue
        if task.answer != "mask":
            row = reading.row(get(shape, "group_id"), task, where)
            if row is not None:
                reading.said.append(Said(row, words, where))
            continue
        try:
            top, left, mask = _pixels(shape, sheet)
        except ValueError as error:
            reading.mistakes.append(f"{where}: {error}")
            continue
        reading.paint(sheet, word, top, left, mask, where)


def _flags(flags: object) -> tuple[str, ...]:
    """The flags that are set."""
    return (
        tuple(flag for flag, on in flags.items() if on is True) if isinstance(flags, dict) else ()
    )


def _pixels(shape: object, sheet: Sheet) -> tuple[int, int, Mask]:
    """Top, left and pixels of a mask, a polygon or a rectangle."""
    kind = get(shape, "shape_type")
    try:
        points = np.array(get(shape, "points"), dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError) as error:
        raise ValueError("its points are no pairs of numbers") from error
    if kind == "polygon":
        return fill([points], sheet.height, sheet.width)
    if kind not in ("rectangle", "mask") or points.shape != (2, 2):
        raise ValueError(
            f"a {kind} covers no pixels that can be told; draw a mask, a polygon or a rectangle"
        )
    if not np.isfinite(points).all() or np.abs(points).max() > 1e9:
        raise ValueError("its points are no place")
    (x0, y0), (x1, y1) = np.sort(points, axis=0)
    if kind == "rectangle":
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return fill([corners], sheet.height, sheet.width)
    mask = _decoded(get(shape, "mask"), sheet)
    left, top = round(x0), round(y0)
    if mask.shape != (round(y1) - top + 1, round(x1) - left + 1):
        raise ValueError("its mask is not of the size of its box")
    if (
        min(top, left) < 0
        or top + mask.shape[0] > sheet.height
        or left + mask.shape[1] > sheet.width
    ):
        raise ValueError("its box leaves the picture")
    return top, left, mask


def _decoded(text: object, sheet: Sheet) -> Mask:
    """A PNG in base64."""
    if not isinstance(text, str):
        raise ValueError("it has no mask")
    try:
        with Image.open(
            io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]
        ) as image:
            if image.height > sheet.height or image.width > sheet.width:
                raise ValueError("its mask is larger than the picture")
            return np.asarray(image.convert("L")) != 0
    except (OSError, SyntaxError, binascii.Error, Image.DecompressionBombError) as error:
        raise ValueError(f"its mask is not a PNG in base64 ({error})") from error


def reserved(task: Task) -> tuple[str, ...]:
    """Words that a class may not be called, because they mean something else in the file."""
    return (QUESTION, *((KEEP,) if task.answer == "correct" else ()))
