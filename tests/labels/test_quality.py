import numpy as np
import pytest
from torch import from_numpy
from torchmetrics.classification import MulticlassJaccardIndex

from alseg.core.images import VOID
from alseg.labels import quality
from alseg.labels.quality import (
    best_labels,
    boundary_recall,
    class_iou,
    confusion,
    label_quality,
)


def labels(seed, classes=5, size=(3, 11, 13)):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, classes, size).astype(np.uint8)
    values[rng.random(size) < 0.2] = VOID
    return values


@pytest.mark.parametrize("block", [2**22, 50])
def test_iou_is_that_of_torchmetrics(block, monkeypatch):
    monkeypatch.setattr(quality, "_BLOCK", block)
    guess, truth = labels(0, classes=3), labels(1, classes=4)
    guess[guess == VOID] = 2
    found = class_iou(confusion(guess, truth, 5))
    metric = MulticlassJaccardIndex(
        5, average="none", ignore_index=VOID, zero_division=float("nan")
    )
    expected = metric(from_numpy(guess).long(), from_numpy(truth).long())
    assert np.isnan(found[4])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_void_on_either_side_does_not_count():
    guess = np.array([0, VOID, 1, 1], np.uint8)
    truth = np.array([0, 0, VOID, 0], np.uint8)
    assert confusion(guess, truth, 2).tolist() == [[1, 1], [0, 0]]


def test_best_labels():
    regions = np.array([[0, 0, 0, 2, 2, -1]])
    truth = np.array([[1, 1, 0, VOID, VOID, 1]], np.uint8)
    best = best_labels(regions, truth, 2, 4)
    assert best.tolist() == [[1, 1, 1, VOID, VOID, VOID]]
    assert label_quality(best, truth).agreement == pytest.approx(2 / 3)
    mostly_void = np.array([[VOID, VOID, 1]], np.uint8)
    best = best_labels(np.zeros((1, 3), int), mostly_void, 2, 1)
    assert best.tolist() == [[1, 1, 1]], "void does not vote"
    quality = label_quality(best, mostly_void)
    assert quality == (3, 3, 1, 2)
    assert quality.agreement == 1, "labels on void are neither right nor wrong"
    assert quality.noise == 0


@pytest.mark.parametrize("tolerance", [0, 1, 2])
def test_boundary_recall_against_loops(tolerance):
    rng = np.random.default_rng(tolerance)
    regions = np.kron(rng.integers(0, 4, (4, 5)), np.ones((5, 5), int))
    truth = np.kron(rng.integers(0, 3, (5, 4)), np.ones((4, 6), int))[:20, :24]
    regions = regions[:20, :24]

    def borders(values):
        return {
            (y, x)
            for y, x in np.ndindex(*values.shape)
            for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1))
            if 0 <= v < 20 and 0 <= u < 24 and values[v, u] != values[y, x]
        }

    drawn, wanted = borders(regions), borders(truth)
    found = [
        (y, x) for y, x in wanted if any(max(abs(y - v), abs(x - u)) <= tolerance for v, u in drawn)
    ]
    assert boundary_recall(regions, truth, tolerance) == (len(found), len(wanted))
    assert 0 < len(found) < len(wanted) or tolerance == 2


def test_no_label_has_no_quality():
    nothing = label_quality(np.full(3, VOID, np.uint8), np.zeros(3, np.uint8))
    assert np.isnan(nothing.agreement)
    assert np.isnan(nothing.noise)
