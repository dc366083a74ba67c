"""What a pool owns before anything is bought."""

import numpy as np
import pytest

from alseg.core.images import VOID
from alseg.labels.tables import PIXELS, Answers, pack_sets
from tests.toys import BlockMaps, toy_pool


def pixels(image, unit, label):
    return Answers(
        0, "pixel", "class", PIXELS, 3, np.array(image), np.array(unit),
        label=np.array(label, np.uint8),
    )  # fmt: skip


def dominant(image, unit, label, regions="blocks", round=0):
    return Answers(
        round, "region", "dominant", regions, 3, np.array(image), np.array(unit),
        label=np.array(label, np.uint8),
    )  # fmt: skip


def test_what_is_owned_is_known_costs_nothing_and_is_not_open():
    _, pool = toy_pool()
    pool.own([dominant([0, 0, 2], [1, 3, 0], [2, VOID, 1])])
    assert pool.spent().clicks == 0
    assert pool.history == []
    assert pool.images().tolist() == [0, 2]
    assert pool.asked("blocks", 0).tolist() == [1, 3]
    unit = np.arange(24)
    assert np.flatnonzero(~pool.is_open("blocks", np.zeros(24, int), unit)).tolist() == [1, 3]
    target = np.full((32, 48), VOID, np.uint8)
    target[:8, 8:16] = 2
    assert np.array_equal(pool.render(0), target)
    with pytest.raises(ValueError, match="asked twice"):
        pool.commit(dominant([0], [3], [1]))
    assert pool.commit(dominant([0], [4], [0])).clicks == 1
    assert pool.round_of("blocks", 0).tolist() == [-1] * 4 + [0] + [-1] * 19
    with pytest.raises(ValueError, match="has none"):
        pool.own([])
    assert [len(table) for table in pool.known] == [3, 1]


def test_later_answers_paint_over_what_is_owned():
    _, pool = toy_pool()
    pool.own([pixels([1], [0], [2])])
    pool.commit(dominant([1], [0], [1]))
    assert (pool.render(1)[:8, :8] == 1).all()


def test_a_region_whose_every_pixel_is_known_is_not_open():
    _, pool = toy_pool()
    coarse = BlockMaps(pool.sizes, 16, "coarse")
    pool.add_maps(coarse)
    mask = Answers(
        0, "patch", "mask", "coarse", 3, np.array([0]), np.array([0]),
        masks=(np.zeros(256, np.uint8),),
    )  # fmt: skip
    sets = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]], dtype=bool)
    said = Answers(
        1, "region", "class_set", "blocks", 3, np.array([0, 0, 0]), np.array([16, 17, 18]),
        sets=pack_sets(sets),
    )  # fmt: skip
    pool.own([mask, said])
    units = np.arange(24)
    closed = np.flatnonzero(~pool.is_open("blocks", np.zeros(24, int), units)).tolist()
    assert closed == [0, 1, 6, 7, 16, 17, 18]
    # of several classes in a set no pixel's class is known
    by_hand = np.isin(pool.maps["blocks"][0], [0, 1, 6, 7, 16, 18])
    assert np.array_equal(pool.covered(0), by_hand)
    assert np.array_equal(np.sort(pool.asked(PIXELS, 0)), np.flatnonzero(by_hand))
    where = np.arange(32 * 48)
    assert np.array_equal(pool.is_open(PIXELS, np.zeros_like(where), where), ~by_hand.ravel())
    assert pool.open_images(PIXELS).tolist() == [0, 1, 2, 3]


def test_images_that_are_owned_whole_have_nothing_open():
    _, pool = toy_pool()
    pool.own([dominant([3] * 24, range(24), [0] * 24)])
    assert pool.open_images("blocks").tolist() == [0, 1, 2]
    # a dominant class says no pixel's class, but no such question is asked again
    assert pool.open_images(PIXELS).tolist() == [0, 1, 2, 3]
    coarse = BlockMaps(pool.sizes, 16, "coarse")
    assert not pool.answered(coarse, 3).any()
    assert pool.answered(coarse, 3, "dominant").all()


def test_pixels_and_regions_of_an_image_are_counted_once():
    _, pool = toy_pool()
    pool.own([pixels([0] * 3, [0, 5, 40], [1, 1, 1])])
    assert pool.asked(PIXELS, 0).tolist() == [0, 5, 40]
    pool.commit(Answers(0, "pixel", "class", PIXELS, 3, np.array([0]), np.array([7]),
                        label=np.array([1], np.uint8)))  # fmt: skip
    assert pool.asked(PIXELS, 0).tolist() == [0, 5, 40, 7]


def test_what_cannot_be_about_the_images_is_refused():
    _, pool = toy_pool()
    with pytest.raises(ValueError, match="a unit is not in"):
        pool.own([dominant([0], [99], [1])])
    assert pool.owned == []
    assert not len(pool.images())
