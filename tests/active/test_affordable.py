import numpy as np
import pytest

from alseg.acquisition.selection import order
from alseg.active import affordable, choose
from alseg.active.choose import query_from_scores, random_query
from alseg.active.context import Asking
from alseg.labels.tables import Answers
from tests.toys import toy_pool


def slow(pool, answer, image, unit, score, pixels, ties):
    """The whole table sorted, and then the budget spent."""
    rows = np.flatnonzero(pool.is_open("blocks", image, unit))
    rows = rows[order(score[rows], image[rows], unit[rows], ties)]
    least = pool.budget.least_cost(answer, pixels[rows])
    return rows[: pool.budget.bought(least)]


@pytest.mark.parametrize("part", [1, 7, 1000])
@pytest.mark.parametrize("rule", ["exceed", "reach", "within"])
@pytest.mark.parametrize(
    ("axis", "answer", "amount"),
    [
        ("clicks", "dominant", 9.0),
        ("pixels", "mask", 500.0),
        ("clicks", "correct", 3.0),
        ("clicks", "class_set", 5000.0),
        ("seconds", "class_set", np.inf),
    ],
)
def test_parts_buy_what_the_whole_table_does(monkeypatch, part, rule, axis, answer, amount):
    monkeypatch.setattr(affordable, "PART", part)
    rng = np.random.default_rng(0)
    _, pool = toy_pool(count=6, amount=amount, axis=axis, rule=rule)
    asked = np.sort(rng.choice(144, 20, replace=False))
    label = np.zeros(20, np.uint8)
    pool.commit(Answers(0, "region", "dominant", "blocks", 3, asked // 24, asked % 24, label=label))
    image, unit = np.divmod(rng.permutation(144), 24)
    score = rng.integers(0, 12, 144).astype(np.float32)  # with ties
    pixels = rng.integers(1, 90, 144)
    suggested = np.zeros(144, np.uint8) if answer == "correct" else None
    for ties in ("first", "last"):
        query = query_from_scores(
            Asking(1, 0, pool, "blocks", "region"),
            *(answer, image, unit, score, pixels),
            ties=ties,
            suggested=suggested,
        )
        rows = slow(pool, answer, image, unit, score, pixels, ties)
        assert query.image.tolist() == image[rows].tolist()
        assert query.unit.tolist() == unit[rows].tolist()
        assert query.score.tolist() == score[rows].tolist()


def test_random_units_do_not_depend_on_the_parts(monkeypatch):
    _, pool = toy_pool(count=6, amount=30)
    asking = Asking(0, 0, pool, "blocks", "region")
    whole = random_query(asking, "dominant")
    monkeypatch.setattr(choose, "PART", 24)
    parts = random_query(asking, "dominant")
    assert parts.unit.tolist() == whole.unit.tolist()
    assert parts.score.tolist() == whole.score.tolist()


def test_scores_that_are_no_number_are_refused_in_every_part(monkeypatch):
    monkeypatch.setattr(affordable, "PART", 10)
    _, pool = toy_pool(amount=2)
    image, unit = np.divmod(np.arange(96), 24)
    score = np.linspace(1, 0, 96, dtype=np.float32)
    score[90] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        query_from_scores(Asking(0, 0, pool, "blocks", "region"), "dominant", image, unit, score)
