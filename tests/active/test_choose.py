import tracemalloc

import numpy as np
import pytest
import torch

from alseg.active import affordable, choose, shards
from alseg.active.choose import (
    check_budget,
    most_units,
    query_from_scores,
    random_query,
    unit_centers,
)
from alseg.active.context import Asking
from alseg.active.scoring import UnitScorer
from alseg.active.shards import ShardWriter, read_shards
from alseg.core.errors import UserError
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import PIXELS, Answers
from tests.toys import toy_pool


def context(pool, round=0, seed=0, regions="blocks"):
    return Asking(round, seed, pool, regions, "region")


def units(pool):
    image = np.repeat(np.arange(len(pool)), 24)
    return image, np.tile(np.arange(24), len(pool))


def test_the_highest_scores_are_asked_within_the_budget():
    _, pool = toy_pool(amount=5, rule="within")
    image, unit = units(pool)
    score = np.random.default_rng(0).permutation(len(image)).astype(np.float32)
    query = query_from_scores(context(pool), "dominant", image, unit, score)
    best = np.argsort(-score)[:5]
    assert query.image.tolist() == image[best].tolist()
    assert query.unit.tolist() == unit[best].tolist()
    assert query.score.tolist() == score[best].tolist()


def test_bought_units_are_not_asked_again():
    _, pool = toy_pool(amount=5, rule="within")
    image, unit = units(pool)
    score = np.linspace(1, 0, len(image), dtype=np.float32)
    first = query_from_scores(context(pool), "dominant", image, unit, score)
    label = np.zeros(len(first), np.uint8)
    pool.commit(Answers(0, "region", "dominant", "blocks", 3, first.image, first.unit, label=label))
    second = query_from_scores(context(pool, 1), "dominant", image, unit, score)
    assert second.unit.tolist() == [5, 6, 7, 8, 9]


def test_a_query_of_unknown_price_reaches_as_far_as_the_budget_might():
    _, pool = toy_pool(amount=5)
    image, unit = units(pool)
    score = np.zeros(len(image), np.float32)
    query = query_from_scores(context(pool), "class_set", image, unit, score)
    assert len(query) == 6  # six sets of one class exceed five clicks; no set costs less
    assert query.image.tolist() == [0] * 6
    assert query.unit.tolist() == [0, 1, 2, 3, 4, 5]
    last = query_from_scores(context(pool), "class_set", image, unit, score, ties="last")
    assert last.image.tolist() == [3] * 6
    assert last.unit.tolist() == [23, 22, 21, 20, 19, 18]


def test_suggested_labels_stay_with_their_units():
    _, pool = toy_pool(amount=5)
    image, unit = units(pool)
    score = np.random.default_rng(0).permutation(len(image)).astype(np.float32)
    suggested = (7 * image + unit) % 3
    best = np.argsort(-score)
    for round, rows in enumerate([best[:6], best[6:12]]):
        asking = context(pool, round)
        query = query_from_scores(asking, "correct", image, unit, score, suggested=suggested)
        assert query.unit.tolist() == unit[rows].tolist()
        assert query.suggested.tolist() == suggested[rows].tolist()
        assert query.suggested.dtype == np.uint8
        pool.commit(Answers.of_rows(query, 3, query.suggested))
    assert pool.spent().clicks == 0
    with pytest.raises(UserError, match="random questions suggest no label"):
        random_query(context(pool), "correct")


def test_a_budget_in_pixels_counts_the_size_of_units():
    _, pool = toy_pool(amount=200, axis="pixels", rule="within")
    image, unit = units(pool)
    score = np.linspace(1, 0, len(image), dtype=np.float32)
    sizes = np.full(len(image), 64)
    assert len(query_from_scores(context(pool), "mask", image, unit, score, sizes)) == 3
    with pytest.raises(ValueError, match="number per unit is needed"):
        query_from_scores(context(pool), "mask", image, unit, score)


def test_random_queries_follow_from_seed_and_round():
    _, pool = toy_pool(amount=30)
    ask = random_query(context(pool), "class_set")
    again = random_query(context(pool), "class_set")
    assert ask.unit.tolist() == again.unit.tolist()
    assert ask.unit.tolist() != random_query(context(pool, seed=1), "class_set").unit.tolist()
    assert ask.unit.tolist() != random_query(context(pool, round=1), "class_set").unit.tolist()
    assert len(set(zip(ask.image.tolist(), ask.unit.tolist(), strict=True))) == len(ask) == 31
    assert len(set(ask.image.tolist())) == 4


def test_ids_without_a_pixel_are_never_asked():
    _, pool = toy_pool(count=1, amount=1000)

    class Holes:
        version = "holes"
        num_regions = np.array([50])

        def __getitem__(self, index):
            return np.where(np.arange(32 * 48).reshape(32, 48) % 2, 7, 41).astype(np.int32)

    pool.add_maps(Holes())
    assert sorted(random_query(context(pool, regions="holes"), "dominant").unit) == [7, 41]


def test_random_pixels():
    _, pool = toy_pool(amount=9, rule="within")
    query = random_query(context(pool, regions=PIXELS), "class")
    assert query.kind == "pixel"
    assert len(query) == 9
    assert query.unit.max() < 32 * 48


def test_a_budget_that_buys_the_whole_pool_is_refused():
    _, pool = toy_pool(amount=96)
    with pytest.raises(
        UserError, match=r"whole pool \(96 regions of 4 images\) costs as little as 96"
    ):
        check_budget(context(pool), "class_set")
    _, pool = toy_pool(amount=95)
    check_budget(context(pool), "class_set")


def test_random_pixels_are_distinct_and_open_even_when_few_are_left():
    _, pool = toy_pool(count=2, amount=1000, rule="within")
    first = random_query(context(pool, regions=PIXELS), "class")
    assert len(first) == 1000
    label = np.zeros(1000, np.uint8)
    pool.commit(Answers(0, "pixel", "class", PIXELS, 3, first.image, first.unit, label=label))
    for round in (1, 2, 3):
        query = random_query(context(pool, round, regions=PIXELS), "class")
        pool.commit(
            Answers(
                round, "pixel", "class", PIXELS, 3, query.image, query.unit,
                label=np.zeros(len(query), np.uint8),
            )
        )  # fmt: skip
    assert pool.spent().units == 2 * 32 * 48
    assert len(pool.open_images(PIXELS)) == 0


def test_centers_of_regions():
    _, pool = toy_pool(count=2)
    image, unit, pixels, center = unit_centers(pool, "blocks")
    assert len(image) == 48
    row = int(np.flatnonzero((image == 1) & (unit == 9))[0])
    assert center[row].tolist() == [11.5, 27.5]  # block 9 spans rows 8..15, columns 24..31
    assert pixels[row] == 64


class Sized:
    """Maps that say how large their regions are, and nothing else."""

    version = "sized"

    def __init__(self, images, regions):
        self.num_regions = np.full(images, regions)
        self._sizes = np.arange(regions) % 7 + 1

    def region_sizes(self, index):
        return self._sizes


@pytest.mark.parametrize("amount", [30.0, np.inf])
def test_memory_of_a_choice_does_not_grow_with_the_pool(tmp_path, monkeypatch, amount):
    """From the scores on the disk to the query, in blocks of 4096 rows."""
    for module in (choose, affordable):
        monkeypatch.setattr(module, "PART", 4096)
    monkeypatch.setattr(shards, "_BLOCK", 4096)
    found = {}
    for images in (100, 400):
        budget = Budget(amount, axis="clicks", rule="within")
        pool = LabelPool(np.full((images, 2), 64), 3, budget, [Sized(images, 512)])
        asking = Asking(0, 0, pool, "sized", "region")
        shard = ShardWriter(tmp_path / str(images))
        rng = np.random.default_rng(0)
        for index in range(images):
            unit = torch.arange(512, dtype=torch.int32)
            score = torch.from_numpy(rng.random(512, dtype=np.float32))
            table = {"image": torch.full_like(unit, index), "unit": unit, "score": score}
            shard.append({"units": table})
        shard.close()
        tracemalloc.start()
        assert UnitScorer.of(asking).num_regions == 512
        assert most_units(asking, "dominant") == (32 if amount == 30 else 512 * images)
        if amount == 30:
            units = read_shards([tmp_path / str(images)])["units"]
            columns = (units[name] for name in ("image", "unit", "score"))
            assert len(query_from_scores(asking, "dominant", *columns)) == 30
        found[images] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert found[400] < 1.3 * found[100], found
    assert found[400] < 400 * 512 * 4, "a column of the table"
