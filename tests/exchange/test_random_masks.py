"""Random label maps and random units through every format, without a round around them."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from alseg.exchange.formats import FORMATS, check_fits
from alseg.exchange.model import Box, Question, Sheet, Task
from alseg.exchange.place import Place
from alseg.exchange.segmentation import _png
from alseg.exchange.sources import Source
from tests.exchange.tools import TOOLS, answer
from tests.exchange.waiting import names_of
from tests.toys import COLORS

NAMES = ("red", "green", "blue")
MAPS = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9).flatmap(
    lambda shape: st.tuples(
        arrays(np.uint8, shape, elements=st.integers(0, 3)),
        arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255])),
    )
)


def sheet_of(ids, files=(0, 0)):
    """A sheet on which every region of a map is asked about."""
    questions = []
    for row, unit in enumerate(np.unique(ids).tolist()):
        ys, xs = np.nonzero(ids == unit)
        box = Box(int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1)
        inside = (ids == unit)[box.top : box.bottom, box.left : box.right]
        questions.append(Question(row, box, inside, (0.5, 0.5)))
    png = _png(np.zeros((*ids.shape, 3), np.uint8))
    place = Place((0.0, 0.0), (1.0, 1.0), ids.shape)
    return Sheet("sheet", 0, place, files, tuple(questions), lambda: png)


def written(form, task, folder):
    for name, content in FORMATS[form].write(task):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read_back(form, sheet, labels, paint, files):
    """The labels that come back from what a tool painted."""
    task = Task("mask", "region", NAMES, COLORS, (sheet,), files)
    with tempfile.TemporaryDirectory() as folder:
        written(form, task, Path(folder))
        file = answer(form, Path(folder), {}, {"sheet": paint})
        reading = FORMATS[form].read(Source(file), task)
    assert reading.mistakes == []
    found = np.full(labels.shape, 77, dtype=np.uint8)
    for part in reading.painted["sheet"]:
        height, width = part.mask.shape
        here = np.s_[part.top : part.top + height, part.left : part.left + width]
        found[here][part.mask] = [*NAMES, "void"].index(part.word)
    return np.where(found == 3, 255, found)


@pytest.mark.parametrize("form", TOOLS)
@settings(max_examples=12)
@given(MAPS)
def test_dense_masks_come_back(form, maps):
    ids, labels = maps
    back = read_back(form, sheet_of(ids), labels, names_of(labels, NAMES), {})
    assert np.array_equal(back, labels)


@settings(max_examples=12)
@given(MAPS)
def test_dense_masks_come_back_from_earth(maps):
    rasterio = pytest.importorskip("rasterio")
    ids, labels = maps
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/earth.tif"
        where = {"crs": "EPSG:3857", "transform": rasterio.Affine(3, 0, 1e6, 0, -2, 6e6)}
        with rasterio.open(path, "w", width=20, height=20, count=1, dtype="uint8", **where) as file:
            file.write(np.zeros((1, 20, 20), np.uint8))
        there = where["transform"] * rasterio.Affine.translation(4, 7)
        paint = [(word, mask, there, "EPSG:3857") for word, mask in names_of(labels, NAMES)]
        back = read_back("geojson", sheet_of(ids, (7, 4)), labels, paint, {0: path})
    assert np.array_equal(back, labels)


@pytest.mark.parametrize("form", [form for form in TOOLS if form != "mask"])
@settings(max_examples=12)
@given(MAPS, st.data())
def test_words_come_back_by_their_rows(form, maps, data):
    sheet = sheet_of(maps[0])
    task = Task("dominant", "region", NAMES, COLORS, (sheet,))
    rows = range(len(sheet.questions))
    said = data.draw(st.dictionaries(st.sampled_from(rows), st.sampled_from(task.words)))
    with tempfile.TemporaryDirectory() as folder:
        written(form, task, Path(folder))
        file = answer(form, Path(folder), {row: [word] for row, word in said.items()}, {})
        reading = FORMATS[form].read(Source(file), task)
    assert reading.mistakes == []
    assert {one.row: one.words for one in reading.said} == {r: (w,) for r, w in said.items()}


@pytest.mark.parametrize(
    ("form", "name"),
    [("cvat", "Unanswered"), ("coco", "question"), ("labelme", "unsure"), ("mask", "background")],
)
def test_classes_called_like_a_word_of_the_format_are_refused(form, name):
    task = Task("dominant", "region", (name, "b", "c"), COLORS, (sheet_of(np.zeros((2, 2))),))
    with pytest.raises(ValueError, match=f"format={form} cannot hold the class names"):
        check_fits(FORMATS[form], task)


def test_colours_of_the_mask_format_are_all_different():
    from alseg.exchange.segmentation import palette

    given_colors = np.array([[0, 0, 0], [255, 255, 255], [9, 9, 9], [9, 9, 9]], np.uint8)
    made = palette(("a", "b", "c", "d"), given_colors)
    assert len(set(made.values())) == len(made) == 8
    assert made["c"] == (9, 9, 9)
    assert made["background"] == (0, 0, 0)
