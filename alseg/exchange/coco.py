"""COCO 1.0: one JSON file; https://cocodataset.org/#format-data describes it.

A unit is an annotation of the category "question" with ``attributes.row``; who answers changes the
category to that of the class. Several annotations of a row make a set of classes. Dense masks are
annotations of classes, which may not overlap. Suggestions are a file of results.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.exchange.model import QUESTION, Question, Reading, Said, Sheet, Task
from alseg.exchange.runs import Mask, coco_counts, fill, from_coco
from alseg.exchange.sources import Source, get
from alseg.labels.answerfile import VOID_WORD
from alseg.labels.kinds.correct import KEEP

name = "coco"
steps = (
    "Load images/ and annotations.json, change the category of each question to its class, "
    "and save as COCO 1.0."
)
refused: dict[str, str] = {}
predictions = True


def _categories(task: Task) -> dict[str, int]:
    """Ids by names, from 1 on as COCO's own."""
    keep = (KEEP,) if task.answer == "correct" else ()
    return {word: number for number, word in enumerate((*task.words, QUESTION, *keep), start=1)}


def write(task: Task) -> Iterator[tuple[str, bytes]]:
    """``annotations.json``, ``predictions.json`` if something is suggested, and the pictures."""
    ids = _categories(task)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, sheet in enumerate(task.sheets, start=1):
        images.append(
            {"id": number, "file_name": sheet.file, "height": sheet.height, "width": sheet.width}
        )
        for question in sheet.questions:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ids[QUESTION],
                    "attributes": {"row": question.row},
                    "iscrowd": 1,
                    **_region(question, question.mask, sheet),
                }
            )
            for word, mask in suggested_masks(question, task):
                region = _region(question, mask, sheet)
                results.append(
                    {"image_id": number, "category_id": ids[word], "score": 1.0, **region}
                )
        yield f"images/{sheet.file}", sheet.picture()
    categories = [{"id": number, "name": word, "supercategory": ""} for word, number in ids.items()]
    table = {
        "info": {"description": task.prompt, "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    yield "annotations.json", json.dumps(table, ensure_ascii=False).encode()
    if results:
        yield "predictions.json", json.dumps(results, ensure_ascii=False).encode()


def suggested_masks(question: Question, task: Task) -> Iterator[tuple[str, Mask]]:
    """What is suggested of a question: words, each with pixels of its box."""
    for word in question.words:
        yield word, question.mask
    if question.labels is not None:
        for label in np.unique(question.labels[question.mask]).tolist():
            word = VOID_WORD if label == VOID else task.names[label]
            yield word, question.mask & (question.labels == label)


def _region(question: Question, mask: Mask, sheet: Sheet) -> dict[str, Any]:
    """A mask of a question's box as COCO keeps it: runs down the columns of the picture."""
    box = question.box
    whole = np.zeros((sheet.height, sheet.width), dtype=bool)
    whole[box.top : box.bottom, box.left : box.right] = mask
    return {
        "segmentation": {"counts": coco_counts(whole), "size": [sheet.height, sheet.width]},
        "area": int(mask.sum()),
        "bbox": [box.left, box.top, box.width, box.height],
    }


def read(source: Source, task: Task) -> Reading:
    """What a file of annotations says."""
    names = [n for n in source.names(".json") if not n.endswith("predictions.json")]
    if len(names) != 1:
        raise UserError(
            f"{source.path} holds {len(names)} files of annotations; give one JSON file."
        )
    table = source.json(names[0])
    if not all(
        isinstance(get(table, key), list) for key in ("images", "annotations", "categories")
    ):
        raise UserError(
            f"{source.path} is not COCO 1.0: it lacks images, annotations or categories."
        )
    reading = Reading()
    words = {_key(get(c, "id")): str(get(c, "name")) for c in table["categories"]}
    sheets = {}
    for image in table["images"]:
        size = (get(image, "height"), get(image, "width"))
        sheets[_key(get(image, "id"))] = reading.sheet(task, get(image, "file_name"), size)
    sets: dict[int, list[str]] = defaultdict(list)
    for number, annotation in enumerate(table["annotations"], start=1):
        where = f"annotation {get(annotation, 'id') or number}"
        word = words.get(_key(get(annotation, "category_id")))
        sheet = sheets.get(_key(get(annotation, "image_id")))
        if word == QUESTION or (sheet is None and _key(get(annotation, "image_id")) in sheets):
            continue
        if word is None or sheet is None:
            reading.mistakes.append(f"{where} has a category or an image that is not listed")
        elif task.answer == "mask":
            try:
                top, left, mask = _mask(get(annotation, "segmentation"), sheet)
            except ValueError as error:
                reading.mistakes.append(f"{where}: {error}")
                continue
            reading.paint(sheet, word, top, left, mask, where)
        else:
            row = reading.row(get(annotation, "attributes", "row"), task, where)
            if row is None:
                continue
            if task.answer == "class_set":
                sets[row].append(word)
            else:
                reading.said.append(Said(row, (word,), where))
    reading.said += [Said(row, tuple(said), f"row {row}") for row, said in sets.items()]
    return reading


def _key(value: object) -> str:
    """An id that may be used as one, whatever it is."""
    return repr(value)


def _mask(segmentation: object, sheet: Sheet) -> tuple[int, int, Mask]:
    """Top, left and pixels of a segmentation: polygons, or runs as a list or as text."""
    if isinstance(segmentation, list):
        parts = []
        for flat in segmentation:
            if not isinstance(flat, list) or not all(_is_number(v) for v in flat):
                raise ValueError("its polygons are not lists of numbers")
            if len(flat) % 2:
                raise ValueError("a polygon lacks a coordinate")
            parts.append(
                fill([np.array(flat, dtype=float).reshape(-1, 2)], sheet.height, sheet.width)
            )
        whole = np.zeros((sheet.height, sheet.width), dtype=bool)
        for top, left, mask in parts:  # parts of one object are united
            whole[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
        return 0, 0, whole
    if get(segmentation, "size") != [sheet.height, sheet.width]:
        raise ValueError("its size is not that of the picture")
    return 0, 0, from_coco(get(segmentation, "counts"), sheet.height, sheet.width)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def reserved(task: Task) -> tuple[str, ...]:
    """Words that a class may not be called, because they mean something else in the file."""
    return (QUESTION, *((KEEP,) if task.answer == "correct" else ()))
