import numpy as np
import pytest

from alseg.acquisition.balance import class_balanced, class_shares, relative_to_largest


def test_shares_of_regions_and_of_pixels():
    label, pixels = np.array([3, 0, 3, -1]), np.array([10, 5, 25, 0])
    assert class_shares(label, 4) == pytest.approx([1 / 3, 0, 0, 2 / 3])
    assert class_shares(label, 4, pixels) == pytest.approx([5 / 40, 0, 0, 35 / 40])
    assert class_shares(label, 4, pixels, total=160) == pytest.approx([5 / 160, 0, 0, 35 / 160])


def test_nothing_has_no_share():
    assert class_shares(np.array([-1, -1]), 2, np.array([0, 0])).tolist() == [0, 0]
    assert class_shares(np.zeros(0, np.int64), 2).tolist() == [0, 0]


def test_narrow_columns_do_not_overflow():
    label, pixels = np.array([1, 1], np.int8), np.array([30_000, 30_000], np.int16)
    assert class_shares(label, 2, pixels, total=120_000).tolist() == [0, 0.5]


def test_balanced_scores_by_hand():
    shares = np.array([0.0, 1.0])
    score = class_balanced(np.array([0.5, 0.5, 0.9]), np.array([0, 1, -1]), shares)
    assert score == pytest.approx([0.5, 0.5 * 0.36787944, 0.0])


def test_the_largest_is_the_scale_and_the_smallest_is_not_subtracted():
    assert relative_to_largest(np.array([0.2, 0.4])).tolist() == [0.5, 1.0]
    assert relative_to_largest(np.zeros(2)).tolist() == [0, 0]
    assert relative_to_largest(np.zeros(0)).tolist() == []
