"""CVAT for images 1.1: one ``annotations.xml``; https://docs.cvat.ai describes it.

A unit is a mask (of a pixel: points; of a scene: a tag) with the label "question" and the attribute
``row``. Its class is a select attribute, a set of classes one checkbox per class. Dense masks are
shapes of the classes' own labels, the higher ``z_order`` on top.
"""

import json
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from alseg.core.errors import UserError
from alseg.exchange.model import QUESTION, UNANSWERED, Question, Reading, Said, Sheet, Task
from alseg.exchange.runs import Mask, fill, from_run_lengths, run_lengths
from alseg.exchange.sources import Source
from alseg.labels.answerfile import VOID_WORD
from alseg.labels.kinds.correct import KEEP

name = "cvat"
steps = (
    "Make a task with the labels of labels.json (Raw) and the pictures of images/, upload "
    "annotations.xml to it as CVAT 1.1, answer, and export as CVAT for images 1.1."
)
refused: dict[str, str] = {}
predictions = False

_SHAPES = ("mask", "polygon", "box", "points", "tag")
_CLASS, _ROW, _SUGGESTED = "class", "row", "suggested"


def write(task: Task) -> Iterator[tuple[str, bytes]]:
    """``annotations.xml``, ``labels.json`` for the task's raw labels, and the pictures."""
    labels = _labels(task)
    yield "labels.json", json.dumps(labels, ensure_ascii=False, indent=1).encode()
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    known = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for label in labels:
        entry = SubElement(known, "label")
        SubElement(entry, "name").text = label["name"]
        SubElement(entry, "color").text = label["color"]
        listed = SubElement(entry, "attributes")
        for attribute in label["attributes"]:
            one = SubElement(listed, "attribute")
            SubElement(one, "name").text = attribute["name"]
            SubElement(one, "mutable").text = "False"
            SubElement(one, "input_type").text = attribute["input_type"]
            SubElement(one, "default_value").text = attribute["default_value"]
            SubElement(one, "values").text = "\n".join(attribute["values"])
    for number, sheet in enumerate(task.sheets):
        image = SubElement(root, "image", id=str(number), name=sheet.file)
        image.set("width", str(sheet.width))
        image.set("height", str(sheet.height))
        for question in sheet.questions:
            _write_question(image, question, task)
        yield f"images/{sheet.file}", sheet.picture()
    ElementTree.indent(root)
    yield "annotations.xml", ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _labels(task: Task) -> list[dict[str, Any]]:
    """Labels and their attributes, as CVAT's constructor of tasks takes them."""

    def attribute(name: str, kind: str, *values: str) -> dict[str, Any]:
        about = {"name": name, "mutable": False, "input_type": kind}
        return {**about, "default_value": values[0], "values": list(values)}

    attributes = [attribute(_ROW, "text", "")]
    if any(question.words for sheet in task.sheets for question in sheet.questions):
        attributes.append(attribute(_SUGGESTED, "text", ""))
    if task.answer == "class_set":
        attributes += [attribute(word, "checkbox", "false") for word in task.words]
    elif task.answer != "mask":
        keep = (KEEP,) if task.answer == "correct" else ()
        attributes.append(attribute(_CLASS, "select", UNANSWERED, *keep, *task.words))
    labels = [{"name": QUESTION, "color": "#ffffff", "attributes": attributes}]
    if task.answer == "mask":
        colors = [*task.colors.tolist(), [0, 0, 0]]
        for word, (red, green, blue) in zip(task.words, colors, strict=True):
            color = f"#{red:02x}{green:02x}{blue:02x}"
            labels.append({"name": word, "color": color, "attributes": []})
    return labels


def _write_question(image: Element, question: Question, task: Task) -> None:
    common = {"label": QUESTION, "source": "manual", "occluded": "0"}
    if task.answer == "scene":
        shape = SubElement(image, "tag", label=QUESTION, source="manual")
    elif task.answer == "class":
        y, x = question.point
        shape = SubElement(image, "points", common, points=f"{x:.2f},{y:.2f}", z_order="0")
    else:
        shape = SubElement(image, "mask", common, **_mask(question))
    said = {_ROW: str(question.row)}
    if question.words:
        said[_SUGGESTED] = ";".join(question.words)
    if task.answer == "class_set":
        said |= dict.fromkeys(task.words, "false")
    elif task.answer != "mask":
        said[_CLASS] = UNANSWERED
    for attribute, text in said.items():
        SubElement(shape, "attribute", name=attribute).text = text


def _mask(question: Question) -> dict[str, str]:
    box = question.box
    return {
        "rle": ", ".join(map(str, run_lengths(question.mask.ravel()))),
        "left": str(box.left),
        "top": str(box.top),
        "width": str(box.width),
        "height": str(box.height),
        "z_order": "0",
    }


def read(source: Source, task: Task) -> Reading:
    """What an ``annotations.xml`` says."""
    file = source.one(".xml")
    root = source.xml(file)
    if root.tag != "annotations":
        raise UserError(
            f"{source.path} is not CVAT for images 1.1; choose that format in CVAT's export."
        )
    reading = Reading(layered=True)
    for image in root.iter("image"):
        size = _size(image)
        sheet = reading.sheet(task, image.get("name", ""), size)
        if sheet is not None:
            _read_image(image, sheet, task, reading)
    return reading


def _size(image: Element) -> tuple[object, object]:
    try:
        return int(image.get("height", "")), int(image.get("width", ""))
    except ValueError:
        return image.get("height"), image.get("width")


def _read_image(image: Element, sheet: Sheet, task: Task, reading: Reading) -> None:
    painted = []
    for number, shape in enumerate(image):
        if shape.tag not in _SHAPES:
            continue
        where = f"{shape.tag} {number + 1} of {sheet.name}"
        if shape.get("label") == QUESTION:
            _read_question(shape, task, reading, where)
        elif task.answer != "mask":
            reading.mistakes.append(
                f"{where} has the label {shape.get('label')!r}, and only questions are answered"
            )
        else:
            painted.append((_order(shape), number, shape, where))
    for _, _, shape, where in sorted(painted, key=lambda one: one[:2]):
        try:
            top, left, mask = _shape(shape, sheet)
        except ValueError as error:
            reading.mistakes.append(f"{where}: {error}")
            continue
        reading.paint(sheet, shape.get("label", ""), top, left, mask, where)


def _order(shape: Element) -> int:
    text = shape.get("z_order", "0")
    return int(text) if text.lstrip("-").isdecimal() and len(text) < 10 else 0


def _read_question(shape: Element, task: Task, reading: Reading, where: str) -> None:
    said = {one.get("name", ""): (one.text or "").strip() for one in shape.findall("attribute")}
    if task.answer == "mask":
        return  # the unit's own outline
    if task.answer == "class_set":
        words = [word for word in task.words if said.get(word, "").lower() == "true"]
    else:
        words = [said[_CLASS]] if said.get(_CLASS, UNANSWERED) not in ("", UNANSWERED) else []
    if not words:
        return
    row = reading.row(said.get(_ROW, ""), task, where)
    if row is not None:
        reading.said.append(Said(row, tuple(words), where))


def _shape(shape: Element, sheet: Sheet) -> tuple[int, int, Mask]:
    """Top, left and pixels of a mask, a polygon or a box."""
    if shape.tag == "mask":
        return _read_mask(shape, sheet)
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
        points = np.array([[float(x), float(y)] for x, y in pairs])
        return fill([points], sheet.height, sheet.width)
    if shape.tag == "box":
        x0, y0, x1, y1 = (float(shape.get(side, "")) for side in ("xtl", "ytl", "xbr", "ybr"))
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        return fill([corners], sheet.height, sheet.width)
    raise ValueError(f"{shape.tag} covers no pixels; draw a mask, a polygon or a rectangle")


def _read_mask(shape: Element, sheet: Sheet) -> tuple[int, int, Mask]:
    top, left, height, width = (
        int(shape.get(side, "")) for side in ("top", "left", "height", "width")
    )
    inside = min(top, left) >= 0 and min(height, width) > 0
    if not inside or top + height > sheet.height or left + width > sheet.width:
        raise ValueError("its box leaves the picture")
    runs = [int(run) for run in shape.get("rle", "").split(",")]
    return top, left, from_run_lengths(runs, height * width).reshape(height, width)


def reserved(task: Task) -> tuple[str, ...]:
    """Words that a class may not be called, because they mean something else in the file."""
    sets = (_ROW, _SUGGESTED) if task.answer == "class_set" else ()
    return (QUESTION, UNANSWERED, VOID_WORD, *sets)
