"""Questions about whole images on one sheet, and shares that were logged in training."""

import csv

import numpy as np
import pytest

from alseg.core.images import VOID
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import Answers
from alseg.report.curves import training_charts
from alseg.report.folder import read_run
from alseg.report.observer import answered_classes, pictures_of
from alseg.report.page import write_report
from alseg.report.pictures import contact_sheet
from tests.report.runs import Page, write_run
from tests.toys import ToyImages, WholeMaps

RED, BLUE = (np.full((30, 60, 3), color, np.uint8) for color in ((255, 0, 0), (0, 0, 255)))


def test_a_sheet_shows_images_in_rows_each_above_its_line():
    tall = np.full((80, 40, 3), (0, 255, 0), np.uint8)
    sheet = contact_sheet([RED, BLUE, tall], ["a", "b", ""], columns=2)
    height, width = 80 + 28, 144 + 8
    assert sheet.shape == (2 * height, 2 * width - 8, 3)
    assert sheet[79, 72].tolist() == [255, 0, 0]
    assert sheet[79, width + 72].tolist() == [0, 0, 255]
    assert sheet[height + 40, 72].tolist() == [0, 255, 0]
    assert (sheet[height:, width:] == 255).all()
    assert (sheet[84:108, :144] < 100).any()
    assert (sheet[height + 84 :, :] == 255).all(), "no words, nothing written"


def test_large_images_shrink_and_long_lines_are_cut():
    large = np.zeros((1000, 500, 3), np.uint8)
    sheet = contact_sheet([large], ["a name that is much longer than the picture is wide"])
    assert sheet.shape == (144 + 28, 144, 3)
    assert (sheet[:144, 40:104] == 0).all()
    assert (sheet[148:, :2] > 200).all()


@pytest.fixture
def pool():
    sizes = np.array([[32, 48]] * 4)
    return LabelPool(sizes, 3, Budget(9.0, "units", "within"), [WholeMaps(sizes)])


def answers(kind, **column):
    rows = np.array([3, 1])
    number = 2 if kind == "scene" else 3
    zeros = np.zeros(2, np.int64)
    return Answers(0, "image", kind, "image", number, rows, zeros, **column)


def test_how_much_was_answered_of_each_class():
    masks = (np.array([0, 0, 2, VOID], np.uint8), np.array([2], np.uint8))
    labels = np.array([2, VOID], np.uint8)
    scenes = answers("scene", label=np.array([1, 1], np.uint8))
    assert answered_classes([answers("mask", masks=masks)], 3) == [2, 0, 2]
    assert answered_classes([answers("class", label=labels)] * 2 + [scenes], 3) == [0, 0, 2]
    assert answered_classes([scenes], 3) == []
    assert answered_classes([answers("class_set", sets=np.zeros((2, 1), np.uint8))], 3) == []


def test_scenes_are_shown_as_a_sheet_alone(pool):
    images = ToyImages(4, scenes=("meadow", "street"))
    said = answers("scene", label=np.array([1, VOID], np.uint8))
    (entry,) = pictures_of(said, pool, images, most=4, score=np.array([0.5, 0.25], np.float32))
    assert (entry.image, list(entry.pictures)) == ("2 images", ["asked"])
    expected = contact_sheet(
        [images.image(3), images.image(1)], ["0.5 · street", "0.25 · void"]
    )  # fmt: skip
    assert np.array_equal(entry.pictures["asked"], expected)
    assert pictures_of(said, pool, images, most=0) == []


def test_masks_of_whole_images_have_a_sheet_before_their_pictures(pool):
    images = ToyImages(4)
    masks = tuple(images.truth(i).ravel() for i in (3, 1))
    entries = pictures_of(answers("mask", masks=masks), pool, images, most=1)
    assert [entry.image for entry in entries] == ["2 images", "toy_01"]
    assert set(entries[1].pictures) == {"asked", "answered", "truth"}
    names = contact_sheet([images.image(3), images.image(1)], ["toy_03", "toy_01"])
    assert np.array_equal(entries[0].pictures["asked"], names)


def write_log(folder, version, rows):
    path = folder / f"round_001/fit/log/version_{version}/metrics.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["epoch", "share/passed", "share/real", "step", "train/loss"])
        writer.writeheader()
        writer.writerows(rows)


def test_logged_shares_are_drawn_whatever_was_cut_off(tmp_path):
    folder = write_run(tmp_path / "run", [0.25, 0.5])
    assert read_run(folder).shares(1) == {}
    assert training_charts(read_run(folder)) == []
    write_log(folder, 0, [
        {"step": 9, "share/passed": 0.5, "share/real": 0.75},
        {"step": 19, "share/passed": 0.9, "share/real": 0.9},
        {"step": 25, "train/loss": 3.0},
    ])  # fmt: skip
    write_log(folder, 1, [{"step": 19, "share/passed": 0.25}])  # went on from a checkpoint
    shares = read_run(folder).shares(1)["fit"]
    np.testing.assert_array_equal(shares["batch"], [9, 19])
    np.testing.assert_array_equal(shares["passed"], [0.5, 0.25])
    np.testing.assert_array_equal(shares["real"], [0.75, 0.9])
    (chart,) = training_charts(read_run(folder))
    assert chart.name == "fit"
    assert [line.name for line in chart.lines] == ["Passed", "Real"]
    titles = [mark.title for mark in chart.lines[0].marks]
    assert titles == ["Passed: 50.0 % at batch 10", "Passed: 25.0 % at batch 20"]
    page = Page(write_report(folder).read_text("utf-8"))
    headings = [element["text"] for element in page.elements if element["tag"] == "h2"]
    assert "During training: fit" in headings


def test_many_batches_are_drawn_as_means(tmp_path):
    folder = write_run(tmp_path / "run", [0.25, 0.5])
    write_log(folder, 0, [{"step": n, "share/passed": n % 2, "share/real": 1} for n in range(400)])
    (chart,) = training_charts(read_run(folder))
    marks = chart.lines[0].marks
    assert len(marks) == 50
    assert {mark.label for mark in marks} == {"50.0"}
