import math

import numpy as np
import pytest
import torch

from alseg.core.errors import UserError
from alseg.data.deepglobe import labels_of_colors
from alseg.methods.als4gan.learner import (
    most_uncertain,
    num_random_masks,
    plan_learner,
    selection_list,
    uncertainty,
)
from tests.golden.reference.als4gan import (
    legacy_order,
    released_deepglobe_labels,
    rows_of_names,
)

# The commands of the authors: images, ratio, alpha, beta; masks, first images, images a round,
# rounds, class labels, masks of their random baseline.
COMMANDS = [
    (1679, 0.02, 0.5, 0.9, 34, 17, 16, 3, 65, 33),
    (1679, 0.05, 0.5, 0.9, 84, 42, 38, 3, 156, 83),
    (1679, 0.125, 0.5, 0.9, 210, 105, 95, 3, 390, 209),
    (642, 0.02, 0.1, 0.9, 13, 1, 1, 13, 14, 12),
    (642, 0.05, 0.1, 0.9, 33, 3, 3, 11, 36, 32),
    (642, 0.125, 0.1, 0.9, 81, 8, 8, 11, 96, 80),
]


@pytest.mark.parametrize("row", COMMANDS)
def test_sizes_of_the_authors_commands(row):
    *options, masks, initial, per_round, rounds, class_labels, random = row
    plan = plan_learner(*options, whole_last_round=True)
    assert (plan.masks, plan.initial) == (masks, initial)
    assert plan.round_sizes == (per_round,) * rounds
    assert plan.class_labels == class_labels
    trimmed = plan_learner(*options)
    assert sum(trimmed.round_sizes) == masks
    assert len(trimmed.round_sizes) == rounds
    assert min(trimmed.round_sizes) > 0
    assert num_random_masks(*options[:2], rounded_down=True) == random
    assert num_random_masks(*options[:2]) == masks


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((40, 0.1, 0.2, 0.5), "with 4 masks .* start from no image"),
        ((40, 0.1, 0.5, 0.0), "ask about none"),
        ((40, 0.0, 0.5, 0.5), "ratio is 0.0"),
        ((40, 1.5, 0.5, 0.5), "ratio is 1.5"),
        ((40, math.nan, 0.5, 0.5), "ratio is nan"),
        ((40, 0.5, -0.1, 0.5), "alpha is -0.1"),
        ((40, 0.5, 0.5, 1.1), "beta is 1.1"),
        ((50, 1.0, 0.5, 0.5), "starts from 25 images and then asks about 50 others, .* has 50"),
    ],
)
def test_sizes_that_cannot_work(options, sentence):
    with pytest.raises(UserError, match=sentence):
        plan_learner(*options)


def test_a_last_round_that_the_pool_cannot_fill():
    assert plan_learner(10, 0.6, 0.7, 1.0).round_sizes == (4, 2)
    with pytest.raises(UserError, match="4 images and then asks about 8 others"):
        plan_learner(10, 0.6, 0.7, 1.0, whole_last_round=True)


def test_a_shorter_last_round_gets_the_same_images_masked():
    values = [np.random.default_rng(seed).random(20) for seed in range(2)]
    whole = selection_list([most_uncertain(v, 4) for v in values], 6)
    short = selection_list([most_uncertain(v, n) for v, n in zip(values, (4, 2), strict=True)], 6)
    np.testing.assert_array_equal(whole, short)
    with pytest.raises(ValueError, match="8 images were asked about, 9"):
        selection_list([most_uncertain(v, 4) for v in values], 9)


def test_scores():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05]], dtype=torch.float64))
    entropy = [-sum(p * math.log(p) for p in row) for row in logits.exp().tolist()]
    assert uncertainty(logits, "entropy").tolist() == pytest.approx(entropy)
    assert uncertainty(logits, "margin").tolist() == pytest.approx([0.8, 0.15])
    assert uncertainty(logits, "least_confidence").tolist() == pytest.approx([0.5, 0.1])
    with pytest.raises(UserError, match="did you mean 'margin'"):
        uncertainty(logits, "margins")


def test_choice_among_equals_and_of_more_than_there_are():
    values = np.array([0.5, 0.9, 0.5, 0.1], dtype=np.float32)
    assert most_uncertain(values, 2).tolist() == [1, 0]
    assert most_uncertain(values, 9).tolist() == [1, 0, 2, 3]
    assert most_uncertain(values, 0).tolist() == []
    with pytest.raises(ValueError, match="NaN"):
        most_uncertain(np.array([0.5, np.nan]), 1)


def test_names():
    pool = ["a", "b", "c"]
    with pytest.raises(UserError, match="names 'd', which is not among the 3"):
        rows_of_names(["a", "d"], pool)
    assert rows_of_names(["c", "d", "a"], pool, skip_unknown=True).tolist() == [0, 2]
    assert rows_of_names([], pool).tolist() == []


def test_the_old_generator():
    order = legacy_order(9, 3)
    assert sorted(order) == list(range(9))
    np.random.seed(3)  # noqa: NPY002  # what the reference does
    shuffled = np.arange(9)
    np.random.shuffle(shuffled)  # noqa: NPY002
    np.testing.assert_array_equal(order, shuffled)
    np.random.seed(3)  # noqa: NPY002
    np.testing.assert_array_equal(order[:4], np.random.choice(9, 4, replace=False))  # noqa: NPY002


# Masks


def test_masks_of_deepglobe_keep_their_classes_when_they_shrink():
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[:, 4:] = 255  # unknown beside barren
    small = labels_of_colors(mask, (3, 4))
    assert np.unique(small).tolist() == [5, 255]
    assert small.shape == (3, 4)
    blended = released_deepglobe_labels(mask, (3, 4))
    assert not blended.any()
