"""Every kind of answer against hand values; a kind of one's own; files of release 0.1."""

from typing import get_args

import numpy as np
import pytest

from alseg.core.images import VOID
from alseg.labels.budget import PRICES
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.base import Annotator, Units
from alseg.labels.kinds.mask import pixels_of
from alseg.labels.tables import AnswerKind

REGIONS = np.array([[0, 0, 2], [0, 3, 2], [-1, 3, 3]], dtype=np.int32)
TRUTH = np.array([[1, 1, 255], [0, 1, 255], [0, 0, 1]], dtype=np.uint8)
PLAIN = Annotator(trim=0, vote_void=True)


class Images:
    scenes = ("field", "town")

    def truth(self, image):
        return TRUTH

    def scene(self, image):
        return image


def read(name, units):
    return KINDS[name].of_truth(units, Images(), 2, PLAIN)


REGION_UNITS = Units(1, np.array([3, 0, 2]), REGIONS, 4)
PIXEL_UNITS = Units(1, np.array([2, 3]), None, 0)


def test_names_columns_and_prices():
    assert set(KINDS) == set(get_args(AnswerKind)) == set(PRICES)
    assert all(kind.name == name for name, kind in KINDS.items())
    columns = {name: kind.column for name, kind in KINDS.items()}
    assert columns == {
        "class": "label", "dominant": "label", "scene": "label", "class_set": "sets",
        "mask": "masks",
    }  # fmt: skip
    assert PRICES["scene"] == {"clicks_per_unit": 1.0, "seconds_per_unit": 20.0}


@pytest.mark.parametrize("name", ["class", "dominant"])
def test_one_label(name):
    assert list(read(name, REGION_UNITS)) == [1, 1, VOID]
    assert list(read(name, PIXEL_UNITS)) == [VOID, 0]


def test_sets():
    sets = read("class_set", REGION_UNITS).astype(int).tolist()
    assert sets == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert read("class_set", PIXEL_UNITS).astype(int).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_masks_and_scenes():
    assert [m.tolist() for m in read("mask", REGION_UNITS)] == [[1, 0, 1], [1, 1, 0], [255, 255]]
    assert [m.tolist() for m in read("mask", PIXEL_UNITS)] == [[255], [0]]
    assert list(read("scene", REGION_UNITS)) == [1, 1, 1]
    assert KINDS["scene"].names(Images()) == ("field", "town")


@pytest.mark.parametrize("count", [1, 40])
def test_pixels_of_regions_against_a_loop(count):
    rng = np.random.default_rng(0)
    regions = rng.integers(-1, 50, (30, 40)).astype(np.int32)
    unit = rng.permutation(50)[:count]
    found = pixels_of(Units(0, unit, regions, 50))
    for one, places in zip(unit, found, strict=True):
        assert np.array_equal(places, np.flatnonzero(regions.ravel() == one))


@pytest.mark.parametrize(
    ("name", "column", "painted"),
    [
        ("dominant", np.array([0, VOID, 1], np.uint8), [[7, 7, 1], [7, 0, 1], [7, 0, 0]]),
        ("class_set", np.array([0b10000000, 0b11000000, 0b01100000], np.uint8)[:, None],
         [[7, 7, 7], [7, 0, 7], [7, 0, 0]]),
        ("mask", [np.array([0, 255, 1]), np.array([1, 1, 1]), np.array([0, 0])],
         [[1, 1, 0], [1, 0, 0], [7, 7, 1]]),
        ("scene", np.array([1, 1, 1], np.uint8), [[7] * 3] * 3),
    ],
)  # fmt: skip
def test_painting(name, column, painted):
    target = np.full((3, 3), 7, dtype=np.uint8)
    KINDS[name].paint(target, REGION_UNITS, column, 2)
    assert target.tolist() == painted


def test_painting_pixels():
    target = np.full((3, 3), 7, dtype=np.uint8)
    KINDS["class"].paint(target, PIXEL_UNITS, np.array([1, VOID], np.uint8), 2)
    KINDS["mask"].paint(target, Units(0, np.array([8]), None, 0), [np.array([0])], 2)
    assert target.ravel().tolist() == [7, 7, 1, 7, 7, 7, 7, 7, 0]
