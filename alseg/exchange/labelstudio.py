"""Label Studio: a list of tasks as JSON, and the labelling interface; https://labelstud.io.

A unit is a brush region (of a pixel: a key point) of a task's prediction, with its row as a number
of the region; its class is a choice of the region, which has the region's id. Scenes are choices of
the task. Dense masks are brush regions of classes, which may not overlap. ``lead_time`` is wall
time, pauses included.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from alseg.core.errors import UserError
from alseg.exchange.coco import suggested_masks
from alseg.exchange.model import QUESTION, Question, Reading, Said, Sheet, Task
from alseg.exchange.runs import Mask, fill, from_thi, thi_runs
from alseg.exchange.sources import Source, get, items
from alseg.labels.kinds.correct import KEEP

name = "labelstudio"
steps = (
    "Start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
    "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT set to this folder, paste interface.xml into the "
    "settings of a project, import tasks.json, answer, and export as JSON."
)
refused: dict[str, str] = {}
predictions = True

_IMAGE, _UNIT, _LABEL, _CLASS, _ROW = "image", "unit", "label", "class", "row"
#: Where Label Studio serves files of its own disk.
_LOCAL = "/data/local-files/?d=images/"
#: More seconds than that nobody spends on a task.
_MOST_SECONDS = 1e7


def write(task: Task) -> Iterator[tuple[str, bytes]]:
    """``tasks.json``, ``interface.xml``, and the pictures."""
    tasks = []
    for number, sheet in enumerate(task.sheets, start=1):
        result = [part for question in sheet.questions for part in _regions(question, sheet, task)]
        shown = {_IMAGE: f"{_LOCAL}{sheet.file}", "picture": sheet.name}
        prediction = {"model_version": "alseg", "score": 1.0, "result": result}
        tasks.append({"id": number, "data": shown, "annotations": [], "predictions": [prediction]})
        yield f"images/{sheet.file}", sheet.picture()
    yield "tasks.json", json.dumps(tasks, ensure_ascii=False).encode()
    yield "interface.xml", _interface(task)


def _interface(task: Task) -> bytes:
    """The labelling interface, to be pasted into the project's settings."""
    view = Element("View")
    SubElement(view, "Header", value=f"Say {task.prompt}")
    SubElement(view, "Image", name=_IMAGE, value=f"${_IMAGE}")
    if task.answer != "scene":
        tag = "KeyPointLabels" if task.answer == "class" else "BrushLabels"
        units = SubElement(view, tag, name=_UNIT, toName=_IMAGE)
        SubElement(units, "Label", value=QUESTION, background="#ffffff")
        SubElement(view, "Number", name=_ROW, toName=_IMAGE, perRegion="true")
    if task.answer == "mask":
        brush = SubElement(view, "BrushLabels", name=_LABEL, toName=_IMAGE)
        colors = [*task.colors.tolist(), [0, 0, 0]]
        for word, (red, green, blue) in zip(task.words, colors, strict=True):
            SubElement(brush, "Label", value=word, background=f"#{red:02x}{green:02x}{blue:02x}")
    else:
        how = "multiple" if task.answer == "class_set" else "single"
        choices = SubElement(view, "Choices", name=_CLASS, toName=_IMAGE, choice=how)
        if task.answer != "scene":
            choices.set("perRegion", "true")
        keep = (KEEP,) if task.answer == "correct" else ()
        for word in (*keep, *task.words):
            SubElement(choices, "Choice", value=word)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="utf-8")


def _regions(question: Question, sheet: Sheet, task: Task) -> Iterator[dict[str, Any]]:
    """A unit, its row, and what is suggested of it."""
    common: dict[str, Any] = {
        "id": f"row{question.row}",
        "to_name": _IMAGE,
        "original_width": sheet.width,
        "original_height": sheet.height,
        "image_rotation": 0,
    }
    if task.answer == "class":
        y, x = question.point
        place = {"x": 100 * x / sheet.width, "y": 100 * y / sheet.height, "width": 0.5}
        labelled = {**place, "keypointlabels": [QUESTION]}
        yield {**common, "from_name": _UNIT, "type": "keypointlabels", "value": labelled}
    elif task.answer != "scene":
        yield {**common, "from_name": _UNIT, **_brush(question, question.mask, QUESTION, sheet)}
    if task.answer != "scene":
        yield {**common, "from_name": _ROW, "type": "number", "value": {"number": question.row}}
    if question.words:
        chosen = {"choices": list(question.words)}
        yield {**common, "from_name": _CLASS, "type": "choices", "value": chosen}
    if question.labels is not None:
        for number, (word, mask) in enumerate(suggested_masks(question, task)):
            own = {**common, "id": f"row{question.row}_{number}", "from_name": _LABEL}
            yield {**own, **_brush(question, mask, word, sheet)}


def _brush(question: Question, mask: Mask, word: str, sheet: Sheet) -> dict[str, Any]:
    box = question.box
    whole = np.zeros((sheet.height, sheet.width), dtype=bool)
    whole[box.top : box.bottom, box.left : box.right] = mask
    value = {"format": "rle", "rle": thi_runs(whole), "brushlabels": [word]}
    return {"type": "brushlabels", "value": value}


def read(source: Source, task: Task) -> Reading:
    """What the tasks of an export say."""
    names = [n for n in source.names(".json")]
    if len(names) != 1:
        raise UserError(f"{source.path} holds {len(names)} JSON files; give the exported one.")
    table = source.json(names[0])
    if not isinstance(table, list) or not all(isinstance(get(t, "data"), dict) for t in table):
        raise UserError(
            f"{source.path} is not a list of tasks; choose JSON (not JSON-MIN) in Label Studio's "
            f"export."
        )
    reading = Reading()
    for labelled in table:
        sheet = reading.sheet(task, get(labelled, "data", "picture"), None)
        for annotation in items(get(labelled, "annotations")) if sheet is not None else ():
            if get(annotation, "was_cancelled") is True or sheet is None:
                continue
            where = f"annotation {get(annotation, 'id')} of {sheet.name}"
            said = _read_annotation(items(get(annotation, "result")), sheet, task, reading, where)
            seconds = get(annotation, "lead_time")
            if isinstance(seconds, int | float) and 0 <= seconds < _MOST_SECONDS:
                reading.seconds[sheet.name] = float(seconds)
                said = [replace(one, seconds=float(seconds) / len(said)) for one in said]
            reading.said += said
    return reading


def _read_annotation(
    result: list[Any], sheet: Sheet, task: Task, reading: Reading, where: str
) -> list[Said]:
    """Answers in words; parts of dense masks go into the reading."""
    said: list[Said] = []
    rows: dict[str, Any] = {}
    chosen: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for part in result:
        key, kind, value = str(get(part, "id")), get(part, "type"), get(part, "value")
        if kind == "number" and get(part, "from_name") == _ROW:
            rows[key] = get(value, "number")
        elif kind == "choices":
            words = tuple(str(word) for word in items(get(value, "choices")))
            chosen["" if task.answer == "scene" else key] += words
        elif task.answer == "mask":
            _read_region(part, sheet, reading, f"region {key} of {where}")
    for key, words in chosen.items():
        if task.answer == "scene":
            said += [Said(question.row, words, where) for question in sheet.questions]
        elif words and task.answer != "mask":
            here = f"region {key} of {where}"
            row = reading.row(rows.get(key, ""), task, here)
            if row is not None:
                said.append(Said(row, words, here))
    return said


def _read_region(part: object, sheet: Sheet, reading: Reading, where: str) -> None:
    """A brush or a polygon of a class."""
    kind, value = str(get(part, "type")), get(part, "value")
    labels = items(get(value, kind))
    if labels == [QUESTION]:
        return
    size = (get(part, "original_height"), get(part, "original_width"))
    try:
        if len(labels) != 1:
            raise ValueError(f"it has {len(labels)} labels; give one")
        if size != (sheet.height, sheet.width):
            raise ValueError(f"its picture is {size[0]} x {size[1]}, not as it was exported")
        if kind == "brushlabels":
            top, left, mask = 0, 0, from_thi(get(value, "rle"), sheet.height, sheet.width)
        elif kind == "polygonlabels":
            points = np.array(get(value, "points"), dtype=np.float64)
            if points.ndim != 2 or points.shape[1] != 2:
                raise ValueError("its points are no pairs of numbers")
            share = points * (sheet.width, sheet.height) / 100
            top, left, mask = fill([share], sheet.height, sheet.width)
        else:
            raise ValueError(f"{kind} cover no pixels that can be told; use the brush")
    except (ValueError, TypeError) as error:
        reading.mistakes.append(f"{where}: {error}")
        return
    reading.paint(sheet, str(labels[0]), top, left, mask, where)


def reserved(task: Task) -> tuple[str, ...]:
    """Words that a class may not be called, because they mean something else in the file."""
    return (QUESTION, *((KEEP,) if task.answer == "correct" else ()))
