import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.labels.budget import PRICES, Budget, cost_of
from alseg.labels.tables import Answers, pack_sets


def sets(members):
    members = np.asarray(members, dtype=bool)
    n = len(members)
    return Answers(
        0, "region", "class_set", "m", members.shape[1] - 1,
        np.zeros(n, np.int64), np.arange(n), sets=pack_sets(members),
    )  # fmt: skip


def test_a_class_set_costs_a_click_per_class():
    answers = sets([[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]])  # the last column is void
    pixels = np.array([10, 20, 30])
    cost = Budget().cost(answers, pixels)
    assert cost.clicks.tolist() == [2, 2, 1]
    np.testing.assert_allclose(cost.seconds, [11.42, 11.42, 5.71])  # Fig. 1 of the paper
    assert cost.pixels.tolist() == [10, 20, 30]
    assert cost.units.tolist() == [1, 1, 1]
    free = Budget(void_costs=False).cost(answers, pixels)
    assert free.clicks.tolist() == [2, 1, 0]
    assert cost.total().clicks == 5


def test_a_whole_cityscapes_image_costs_an_hour_and_a_half():
    cost = cost_of("mask", np.ones(1, np.int64), np.array([1024 * 2048]), PRICES)
    assert cost.seconds[0] / 3600 == pytest.approx(1.5, rel=1e-3)
    assert cost.clicks[0] == pytest.approx(5_095_159 / 2975, rel=1e-3)


def test_prices_can_be_changed_one_by_one():
    budget = Budget(prices={"dominant": {"seconds_per_unit": 5.0}})
    assert budget.table["dominant"] == {"clicks_per_unit": 1.0, "seconds_per_unit": 5.0}
    assert budget.table["class"] == PRICES["class"]


def test_measured_seconds_replace_the_estimate_where_there_are_any():
    answers = Answers(
        0, "pixel", "class", "pixels", 3, np.zeros(2, np.int64), np.arange(2),
        label=np.array([0, 1], np.uint8), seconds=np.array([9.0, np.nan], np.float32),
    )  # fmt: skip
    assert Budget().cost(answers, np.ones(2, np.int64)).seconds.tolist() == [9.0, 2.4]


def test_whether_the_price_is_known_before_the_answer():
    assert not Budget().is_certain("class_set")
    assert Budget(axis="units").is_certain("class_set")
    assert Budget().is_certain("dominant")
    assert Budget(axis="pixels").is_certain("mask")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"amount": 0}, "budget.amount is 0; a round needs a positive number of clicks"),
        ({"amount": -3}, "budget.amount is -3"),
        ({"amount": float("nan")}, "budget.amount is nan"),
        ({"axis": "click"}, "did you mean 'clicks'"),
        ({"rule": "exceeds"}, "did you mean 'exceed'"),
        ({"prices": {"masks": {}}}, "did you mean 'mask'"),
        ({"prices": {"mask": {"click_per_unit": 1}}}, "did you mean 'clicks_per_unit'"),
        ({"prices": {"mask": {"clicks_per_unit": -1}}}, "prices are >= 0"),
    ],
)
def test_bad_budgets_are_refused_with_a_sentence(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Budget(**options)
