import numpy as np
import pytest

from alseg.acquisition.selection import order, spend, top

RULES = ["exceed", "reach", "within"]


def table(n, levels, seed=0, dtype=np.float32):
    """Distinct units with scores on few levels, so that ties are everywhere."""
    rng = np.random.default_rng(seed)
    where = rng.permutation(n)
    score = rng.integers(0, levels, n).astype(dtype) / levels
    return score, where // 7, where % 7


def slow_order(score, image, unit, ties):
    sign = 1 if ties == "first" else -1
    rows = zip(score.tolist(), image.tolist(), unit.tolist(), strict=True)
    keys = [(-s, sign * i, sign * u) for s, i, u in rows]
    return sorted(range(len(keys)), key=keys.__getitem__)


@pytest.mark.parametrize("ties", ["first", "last"])
@pytest.mark.parametrize("levels", [1, 3, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_order_equals_sorted_tuples(levels, ties, dtype):
    columns = table(200, levels, dtype=dtype)
    assert order(*columns, ties).tolist() == slow_order(*columns, ties)


@pytest.mark.parametrize("ties", ["first", "last"])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_top_is_the_head_of_order_at_every_cut(levels, ties):
    columns = table(60, levels)
    whole = order(*columns, ties)
    for n in range(63):
        assert top(*columns, n, ties).tolist() == whole[:n].tolist()


def test_top_with_equal_rows_signed_zeros_and_infinities():
    score = np.array([0.0, -0.0, np.inf, -np.inf, 0.0, 0.0, np.inf])
    image = np.array([1, 0, 2, 2, 1, 1, 2])
    unit = np.array([5, 5, 0, 0, 5, 4, 0])
    whole = order(score, image, unit)
    assert whole.tolist() == [2, 6, 1, 5, 0, 4, 3]
    for n in range(9):
        assert top(score, image, unit, n).tolist() == whole[:n].tolist()


@pytest.mark.parametrize("ties", ["first", "last"])
def test_choice_does_not_depend_on_the_sequence_of_the_rows(ties):
    columns = np.stack(table(300, 4, dtype=np.float64))
    shuffled = columns[:, np.random.default_rng(1).permutation(300)]
    picks = [
        c[:, top(c[0], c[1].astype(int), c[2].astype(int), 41, ties)] for c in (columns, shuffled)
    ]
    assert np.array_equal(*picks)


def test_unsigned_ids_do_not_wrap():
    score = np.zeros(3, np.float32)
    unit = np.array([0, 2, 1], np.uint16)
    assert order(score, np.zeros(3, np.uint16), unit, "last").tolist() == [1, 2, 0]
    assert top(score, np.zeros(3, np.uint16), unit, 2, "last").tolist() == [1, 2]


@pytest.mark.parametrize("choose", [order, lambda *columns: top(*columns, 1)])
def test_bad_tables(choose):
    ids = np.arange(3)
    with pytest.raises(ValueError, match="2 of 3 scores are NaN"):
        choose(np.array([np.nan, 1, np.nan]), ids, ids)
    with pytest.raises(ValueError, match="2 scores, 3 images and 3 units"):
        choose(np.zeros(2), ids, ids)
    with pytest.raises(ValueError, match="floating point, not int64"):
        choose(ids, ids, ids)


def test_bad_arguments():
    ids = np.arange(2)
    with pytest.raises(ValueError, match="cannot take -1 rows"):
        top(np.zeros(2), ids, ids, -1)
    with pytest.raises(ValueError, match="unknown ties 'lst'; did you mean 'last'"):
        order(np.zeros(2), ids, ids, "lst")


def slow_spend(costs, budget, rule):
    """Walk down the rows as the rules are worded."""
    total = bought = 0
    for cost in costs:
        if (rule == "reach" and total >= budget) or (rule == "exceed" and total > budget):
            break
        if rule == "within" and total + cost > budget:
            break
        total += cost
        bought += 1
    return bought


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float64])
def test_spend_equals_walking(rule, dtype):
    rng = np.random.default_rng(2)
    for _ in range(30):
        costs = rng.integers(0, 4, 12).astype(dtype)  # with free rows
        for budget in range(26):
            assert spend(costs, budget, rule) == slow_spend(costs.tolist(), budget, rule)


def test_spend_by_hand():
    costs = np.array([2, 3, 0, 1, 4])
    assert [spend(costs, 5, rule) for rule in RULES] == [4, 2, 3]
    assert [spend(costs, 99, rule) for rule in RULES] == [5, 5, 5]
    assert [spend(costs, 0, rule) for rule in RULES] == [1, 0, 0]
    assert [spend(costs[:0], 5, rule) for rule in RULES] == [0, 0, 0]


def test_spend_does_not_overflow_narrow_prices():
    assert spend(np.full(300, 200, np.uint8), 59_999, "within") == 299


def test_spend_refuses_nonsense():
    with pytest.raises(ValueError, match="prices must be >= 0"):
        spend(np.array([1, -1]), 3, "reach")
    with pytest.raises(ValueError, match="prices must be >= 0"):
        spend(np.array([1, np.nan]), 3, "reach")
    with pytest.raises(ValueError, match="did you mean 'reach'"):
        spend(np.array([1]), 3, "reached")
