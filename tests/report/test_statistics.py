from itertools import product
from math import atan, nan, pi, sqrt

import numpy as np
import pytest
from scipy import stats

from alseg.core.errors import UserError
from alseg.report.statistics import (
    MOST_PAIRS,
    differing_options,
    first_reached,
    flat_options,
    gain_ahead,
    group_runs,
    holm,
    least_p,
    least_p_words,
    mean_height,
    mean_interval,
    on_grid,
    paired_t,
    penalty,
    percentile_interval,
    ranks,
    ranks_without_each,
    resampled_means,
    shared_grid,
    sign_flip,
)


def options(seed, method="margin", steps=100, run_dir="runs/a"):
    fit = {"steps": steps, "lr": 1e-3}
    return {"seed": seed, "run_dir": run_dir, "method": {"name": method}, "fit": fit}


def test_groups_by_everything_but_the_seed():
    runs = [options(0), options(0, "random"), options(1), options(1, steps=50), options(2)]
    assert group_runs(runs) == [[0, 2, 4], [1], [3]]
    assert group_runs(runs, but=("seed", "fit")) == [[0, 2, 3, 4], [1]]
    assert group_runs(runs, but=("seed", "fit.step")) == [[0, 2, 4], [1], [3]]  # no such option
    assert group_runs([options(0), flat_options(options(1))]) == [[0, 1]]
    assert group_runs([options(0), options(1, run_dir="runs/b")]) == [[0], [1]]
    assert group_runs([]) == []


def test_what_differs():
    other = options(1, "random", steps=50) | {"wandb": True}
    assert differing_options(options(0), other) == {
        "method.name": ("margin", "random"),
        "fit.steps": (100, 50),
        "wandb": (None, True),
    }
    assert differing_options(options(0), options(3)) == {}


def test_the_grid_is_where_all_curves_are():
    assert shared_grid([[10, 20, 40], [15, 30, 50]]).tolist() == [15, 20, 30, 40]
    assert shared_grid([[10, 20]]).tolist() == [10, 20]
    assert shared_grid([[10, 20], [20, 30]]).tolist() == [20]
    with pytest.raises(UserError, match="one begins at 30, another ends at 20"):
        shared_grid([[10, 20], [30, 40]])
    for empty in ([], [[10], []]):
        with pytest.raises(UserError, match="no curve to compare"):
            shared_grid(empty)


def test_between_rounds_and_never_beyond():
    assert on_grid([10, 20, 40], [1, 3, 2], [10, 15, 30, 40]).tolist() == [1, 2, 2.5, 2]
    assert on_grid([10], [1], [10]).tolist() == [1]
    for outside in (9.9, 40.1):
        with pytest.raises(ValueError, match="leaves the curve's costs, 10 to 40"):
            on_grid([10, 20, 40], [1, 3, 2], [20, outside])
    for costs, values in [([10, 10], [1, 2]), ([20, 10], [1, 2]), ([10], [1, 2]), ([], [])]:
        with pytest.raises(ValueError, match="increase strictly"):
            on_grid(costs, values, [10])
        with pytest.raises(ValueError, match="increase strictly"):
            mean_height(costs, values)


def test_area_in_the_unit_of_the_values():
    # 10 wide at 2 on average, 20 wide at 2.5
    assert mean_height([10, 20, 40], [1, 3, 2]) == pytest.approx((10 * 2 + 20 * 2.5) / 30)
    assert mean_height([7, 19], [0.4, 0.4]) == pytest.approx(0.4)
    assert mean_height([7], [0.4]) == 0.4


def test_paired_t_by_hand():
    """With one and two degrees of freedom the distribution has a closed form."""
    t = 2 / (sqrt(2) / sqrt(2))  # mean 2, deviation sqrt 2
    assert paired_t([1, 3]) == pytest.approx(1 - 2 / pi * atan(t))
    t = 2 / (1 / sqrt(3))  # mean 2, deviation 1
    assert paired_t([1, 2, 3]) == pytest.approx(1 - t / sqrt(2 + t * t))
    assert paired_t([-1, 1]) == 1
    for unknown in ([], [0.3], [0.1, 0.1, 0.1], [0, 0], [0.3 - 0.2, 0.2 - 0.1]):
        assert np.isnan(paired_t(unknown))


@pytest.mark.parametrize("count", [2, 5, 9])
def test_both_tests_against_scipys(count):
    rng = np.random.default_rng(count)
    ours, theirs = rng.normal(0.4, 1, count), rng.normal(0, 1, count)
    assert paired_t(ours - theirs) == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    exact = stats.permutation_test(
        (ours - theirs,),
        np.sum,
        permutation_type="samples",
        n_resamples=np.inf,
        vectorized=False,
    )
    assert sign_flip(ours - theirs) == pytest.approx(exact.pvalue)


def test_sign_flips_by_hand():
    assert sign_flip([1, 2, 3]) == 2 / 8  # +++ and ---
    assert sign_flip([1, 2, -3]) == 1  # 0 is no further from 0 than any other sum
    assert sign_flip([-1, 2, 3]) == 4 / 8  # |sum| >= 4: both signs of 1, twice
    assert sign_flip([0, 0, 5]) == 1
    assert sign_flip([0.1, 0.2, 0.3, -0.6]) == 1, "but for rounding the sum is 0"
    assert sign_flip([0, 0]) == sign_flip([4]) == 1
    assert np.isnan(sign_flip([]))
    # ties that rounding must not split: 0.1 + 0.2 and 0.3
    values = [0.1, 0.2, 0.3, 0.3, -0.1]
    whole = [1, 2, 3, 3, -1]
    sums = [abs(sum(s * v for s, v in zip(signs, whole, strict=True)))
            for signs in product((1, -1), repeat=5)]  # fmt: skip
    assert sign_flip(values) == sum(s >= 8 for s in sums) / 32
    with pytest.raises(ValueError, match=f"counted up to {MOST_PAIRS}"):
        sign_flip(np.ones(MOST_PAIRS + 1))
    for test in (sign_flip, paired_t):
        with pytest.raises(ValueError, match="finite"):
            test([1.0, nan])


@pytest.mark.parametrize("pairs", [1, 2, 5, 8])
def test_what_seeds_can_show_at_best(pairs):
    assert sign_flip(np.arange(1, pairs + 1)) == least_p(pairs)
    assert f"p = {2 / 2**pairs:.3g} " in least_p_words(pairs)


def test_holm():
    # sorted 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1: the last is raised to the one before
    adjusted = holm([0.01, 0.04, 0.03, 0.005])
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1, 1]
    with_nan = holm([0.01, nan, 0.04])
    assert with_nan[[0, 2]].tolist() == pytest.approx([0.02, 0.04])
    assert np.isnan(with_nan[1])
    assert holm([0.2]).tolist() == [0.2]
    assert holm([]).shape == (0,)


@pytest.mark.parametrize("count", [2, 5])
def test_intervals_of_means_against_scipys(count):
    values = np.random.default_rng(count).normal(3, 1, count)
    mean, sem = values.mean(), stats.sem(values)
    expected = stats.t.interval(0.95, count - 1, loc=mean, scale=sem)
    assert mean_interval(values) == pytest.approx((mean, *expected))
    assert np.isnan(mean_interval([2.0])[1:]).all()
    assert np.isnan(mean_interval([])).all()


def test_where_a_curve_first_gets_to():
    costs, values = [10, 20, 40], [0.1, 0.3, 0.2]
    assert first_reached(costs, values, 0.2) == pytest.approx(15)
    assert first_reached(costs, values, 0.3) == pytest.approx(20)
    assert first_reached(costs, values, 0.05) == 10
    assert first_reached(costs, values, 0.31) == np.inf


def test_the_bootstrap_against_all_resamples():
    """Of two seeds there are four resamples; the middle 95 % go from one seed's to the other's."""
    values = np.array([[1.0, 10.0], [3.0, 30.0]])
    means = resampled_means(values, 4000, np.random.default_rng(0))
    seen, counts = np.unique(means[:, 0], return_counts=True)
    assert seen.tolist() == [1, 2, 3]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert np.allclose(means[:, 1], 10 * means[:, 0])
    assert percentile_interval(means[:, 0]) == (1, 3)
    assert percentile_interval([1.0] * 50 + [np.inf] * 50) == (1, np.inf)
    assert percentile_interval(np.arange(1000), 0.9) == (49, 949)


def test_penalties_by_hand():
    ours = np.array([[0.50, 0.50, 0.40], [0.53, 0.40, 0.39], [0.55, 0.60, 0.41]])
    theirs = np.array([[0.40, 0.49, 0.50], [0.42, 0.50, 0.50], [0.45, 0.48, 0.50]])
    # first budget surely higher, second not surely, third surely lower
    assert penalty(ours, theirs) == pytest.approx(1 / 3)
    assert penalty(theirs, ours) == pytest.approx(1 / 3)
    assert penalty(ours, theirs, level=1.0) == pytest.approx(2 / 3)
    assert np.isnan(penalty(ours[:1], theirs[:1]))


def test_ranks_without_a_seed():
    values = np.array([[0.5, 0.5, 0.1], [0.4, 0.4, 0.4], [0.3, 0.3, 0.3]])
    assert ranks([0.1, 0.3, 0.2, 0.3]).tolist() == (
        stats.rankdata([-0.1, -0.3, -0.2, -0.3]).tolist()
    )
    # means without each seed: 0.3 of (0.5, 0.1), then the same, then 0.5
    assert ranks_without_each(values).tolist() == [[2.5, 1, 2.5], [2.5, 1, 2.5], [1, 2, 3]]
    with pytest.raises(ValueError, match="at least two"):
        ranks_without_each(values[:, :1])


def test_gain_ahead_is_the_slope_of_scipys_regression():
    rng = np.random.default_rng(0)
    costs = np.array([50.0, 100, 150, 200, 250, 300])
    values = 0.1 + 0.05 * np.log(costs) + rng.normal(0, 0.01, 6)
    fit = stats.linregress(np.log(costs[1:]), values[1:])  # the last five rounds
    reach = np.log(400 / 300)
    half = stats.t.ppf(0.95, 3) * fit.stderr
    expected = reach * np.array([fit.slope, fit.slope - half, fit.slope + half])
    assert gain_ahead(costs, values, 100) == pytest.approx(expected)
    exact = gain_ahead(costs, 0.1 + 0.05 * np.log(costs), 100)
    assert exact == pytest.approx([0.05 * reach] * 3)


@pytest.mark.parametrize(
    ("costs", "ahead"), [([10, 20], 5), ([10, 20, 30, 40], 41), ([0, 20, 30, 40], 5)]
)
def test_gain_ahead_of_too_little(costs, ahead):
    assert gain_ahead(costs, [0.1] * len(costs), ahead) is None


@pytest.mark.parametrize("rounds", [3, 8])
def test_nine_of_ten_intervals_hold_the_gain(rounds):
    """On a curve that flattens, too, which the model does not know."""
    rng = np.random.default_rng(0)
    costs = 500.0 * np.arange(9 - rounds, 9)

    def curve(cost):
        return 0.55 - 0.9 * cost**-0.28

    gain = curve(4500.0) - curve(4000.0)
    found = [
        gain_ahead(costs, curve(costs) + rng.normal(0, 0.008, rounds), 500) for _ in range(1000)
    ]
    assert np.mean([low <= gain <= high for _, low, high in found]) == pytest.approx(0.9, abs=0.03)
