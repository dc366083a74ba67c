import numpy as np
import pytest

from alseg.labels.agreement import agreement, cohen_kappa


def test_kappa_of_tables_by_hand():
    # 35 of 50 alike; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    assert cohen_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx((0.7 - 0.5) / 0.5)
    assert cohen_kappa(np.diag([3, 4, 5])) == 1
    assert cohen_kappa(np.array([[25, 25], [25, 25]])) == 0
    assert np.isnan(cohen_kappa(np.zeros((2, 2))))
    assert np.isnan(cohen_kappa(np.array([[9, 0], [0, 0]])))  # both always say the same


@pytest.mark.parametrize(
    ("column", "first", "second", "counts"),
    [
        ("label", [0, 1, 255, 1], [0, 0, 255, 1], [[1, 0, 0], [1, 1, 0], [0, 0, 1]]),
        ("masks", [[0, 1], [1, 1, 255]], [[0, 0], [1, 1, 0]], [[1, 0, 0], [1, 2, 0], [1, 0, 0]]),
        (
            "sets",
            [[1, 1, 0], [0, 1, 0]],
            [[1, 0, 0], [0, 1, 1]],
            [[[1, 0], [0, 1]], [[0, 0], [1, 1]], [[1, 1], [0, 0]]],
        ),
    ],
)
def test_pairs_are_counted_by_how_they_are_given(column, first, second, counts):
    sides = [[np.array(said) for said in side] for side in (first, second)]
    found = agreement(column, *sides, 2)
    assert found.questions == len(first)
    assert found.counts.tolist() == counts
