"""A waiting round is exported, a script answers as the tool would, and the run reads the truth."""

import numpy as np
import pytest
from PIL import Image

from alseg.core.images import ClassTable
from alseg.data.files import FileImages, ImageFile, Resize
from alseg.data.masks import read_masks_by_id
from alseg.data.windows import WindowImages
from alseg.exchange.formats import FORMATS
from alseg.exchange.sheets import make_task
from alseg.exchange.store import export_round, import_answers
from tests.exchange.tools import TOOLS, answer
from tests.exchange.waiting import KINDS, PAINTED, Waiting, names_of
from tests.label.rounds import same
from tests.toys import COLORS


def exchange(asked, form, crops, labels=None):
    """Export, answer by the truth, import."""
    out = export_round(asked.round.parent, FORMATS[form], crops=crops).folder
    task = make_task(asked.session, range(len(asked.session)), crops)
    labels = asked.labels if labels is None else labels
    paint = {}
    if asked.answer == "mask":
        paint = {sheet.name: names_of(labels(sheet), asked.session.names) for sheet in task.sheets}
    file = answer(form, out, asked.words(), paint)
    return import_answers(asked.round.parent, FORMATS[form], file)


@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", TOOLS)
def test_the_run_reads_what_was_said(form, kind, crops, tmp_path, monkeypatch):
    monkeypatch.setattr("alseg.label.pictures.LEAST_SIDE", 24)
    asked = Waiting(tmp_path, kind)
    if asked.answer in FORMATS[form].refused:
        pytest.skip("the format cannot hold it")
    done = exchange(asked, form, crops or form == "mask" or asked.answer == "scene")
    assert (done.new, done.known, done.missing) == (8, 0, [])
    assert same(asked.read(), asked.truth())


def files_of(folder, size, resize):
    rng = np.random.default_rng(0)
    files = []
    for index in range(2):
        path = folder / f"{index}.png"
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
        files.append(ImageFile(str(index), path, None))
    names = {0: "red", 1: "green", 2: "blue"}
    return FileImages(
        files, ClassTable(tuple(names.values()), COLORS), read_masks_by_id(names), resize
    )


@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("window", [None, (16, 16)])
@pytest.mark.parametrize("size", [(64, 96), (50, 75), (20, 40)])
def test_masks_are_painted_on_the_original_file(size, window, crops, tmp_path, monkeypatch):
    """Loaded pixel i takes the label of the file's pixel at its centre, computed one by one."""
    monkeypatch.setattr("alseg.label.pictures.LEAST_SIDE", 8)
    images = files_of(tmp_path, size, Resize(size=(32, 48)))
    images = WindowImages(images, window) if window else images
    asked = Waiting(tmp_path, "patch_mask", images=images, rows=6)
    rng = np.random.default_rng(1)
    enlarged = size[0] < 32
    drawn = [rng.integers(0, 3, (32, 48) if enlarged else size, dtype=np.uint8) for _ in range(2)]

    def at(image):
        return (image, 0, 0) if window is None else images.windows[image]

    def labels(sheet):
        file, top, left = at(sheet.image)
        if not enlarged:
            top, left = sheet.corner
        return drawn[file][top : top + sheet.height, left : left + sheet.width]

    exchange(asked, "cvat", crops, labels)
    read = asked.read()
    scale = (1, 1) if enlarged else (size[0] / 32, size[1] / 48)
    for row in range(6):
        file, top, left = at(int(asked.query.image[row]))
        y0, x0, y1, x1 = asked.session.boxes[row].tolist()
        expected = [
            drawn[file][int((top + y + 0.5) * scale[0]), int((left + x + 0.5) * scale[1])]
            for y in range(y0, y1)
            for x in range(x0, x1)
        ]
        assert read.masks[row].tolist() == expected


@pytest.mark.parametrize("kind", PAINTED)
def test_masks_are_class_ids_whatever_the_data_set_stores(kind, tmp_path):
    """Ids of the file (7, 8, 9) are not those of the classes."""
    names = {7: "red", 8: "green", 9: "blue"}
    images = files_of(tmp_path, (32, 48), Resize())
    images = FileImages(images.files, images.classes, read_masks_by_id(names), Resize())
    asked = Waiting(tmp_path, kind, images=images, rows=2)
    drawn = np.random.default_rng(2).choice([0, 1, 2, 255], (32, 48)).astype(np.uint8)
    exchange(asked, "labelme", False, lambda sheet: drawn)
    for row, said in enumerate(asked.read().masks):
        top, left, bottom, right = asked.session.boxes[row]
        assert np.array_equal(said, drawn[top:bottom, left:right].ravel())
