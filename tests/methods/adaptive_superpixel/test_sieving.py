import numpy as np
import pytest
import torch

from alseg.core.images import VOID
from alseg.methods.adaptive_superpixel.labels import paint
from alseg.methods.adaptive_superpixel.sieving import (
    answer_confidence,
    confidence_curve,
    knee,
    sieve,
    threshold,
)
from alseg.regions.geometry import RegionPixels, pixels_in
from benchmarks.bench_adaptive_superpixel import direct_knee, direct_sieve


@pytest.mark.parametrize("shape", ["uniform", "confident", "steps", "bimodal"])
def test_knees_against_the_text(shape):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        size = rng.integers(1, 42)
        values = {
            "uniform": rng.random(size),
            "confident": rng.beta(5, 1, size),
            "steps": rng.integers(0, 4, size) / 3,
            "bimodal": np.where(rng.random(size) < 0.3, rng.beta(2, 9, size), rng.beta(9, 2, size)),
        }[shape]
        curve = np.sort(values)
        found.append(knee(curve))
        assert found[-1] == direct_knee(curve.tolist())
    assert 0 < np.count_nonzero(found) < 300


def test_knees_by_hand():
    # above the line by 0, .35, .4, .2, 0: from the top it falls by more than a step, 1/4, at 0
    assert knee(np.array([0.0, 0.6, 0.9, 0.95, 1.0])) == 2
    # by 0, .25, .05, .15, 0: neither top falls so far before the end
    assert knee(np.array([0.0, 0.5, 0.55, 0.9, 1.0])) == 0
    # by 0, .1, -.1, -.05, 0: after a minimum, below the line is enough
    assert knee(np.array([0.0, 0.35, 0.4, 0.7, 1.0])) == 1
    assert knee(np.array([0.7])) == 0
    assert knee(np.full(9, 0.7)) == 0
    assert knee(np.linspace(0, 1, 20) ** 3) == 0, "convex: everything is kept"


def test_curve():
    values = np.random.default_rng(0).permutation(1000)
    assert confidence_curve(values, 20).tolist() == [*range(0, 1000, 50)]
    assert confidence_curve(values[:19], 20).tolist() == sorted(values[:19].tolist())
    assert len(confidence_curve(values[:39], 20)) == 39
    assert len(confidence_curve(values[:59], 20)) == 30


def test_a_low_tail_is_cut():
    rng = np.random.default_rng(0)
    confidence = np.concatenate([rng.uniform(0, 0.3, 60), rng.uniform(0.9, 1, 540)])
    limit = threshold(confidence)
    assert 0.3 < limit < 0.95
    kept = sieve(np.tile(confidence, 2), np.array([0, 600, 1200]), min_pixels=512)
    assert np.array_equal(kept, np.tile(confidence >= limit, 2))
    assert not kept[:60].any()
    assert sieve(confidence, np.array([0, 600]), min_pixels=601).all()
    assert sieve(confidence, np.array([0, 0, 0, 600]), min_pixels=0).sum() == kept[:600].sum()


def scene(shape=(24, 36), coarse=(12, 18)):
    rng = np.random.default_rng(0)
    regions = np.kron(np.arange(6).reshape(2, 3), np.ones((12, 12), np.int64))[: shape[0]]
    regions[rng.random(regions.shape) < 0.1] = -1
    logits = torch.from_numpy(rng.normal(0, 2, (5, *coarse)).astype(np.float32))
    return logits.softmax(dim=0), regions


@pytest.mark.parametrize("coarse", [(12, 18), (24, 36), (10, 13)])
def test_confidence_is_read_at_the_pixel_above(coarse):
    probabilities, regions = scene(coarse=coarse)
    pixels = pixels_in(regions, np.array([4, 1]))
    found = answer_confidence(probabilities, regions.shape, pixels, np.array([3, 0], np.uint8))
    expected = [
        float(probabilities[answer, y * coarse[0] // 24, x * coarse[1] // 36])
        for region, answer in ((4, 3), (1, 0))
        for y, x in np.argwhere(regions == region)
    ]
    assert found.dtype == torch.float32
    assert found.tolist() == expected


def test_sieved_labels_against_the_text():
    probabilities, regions = scene()
    ids, answers = np.array([4, 1, 5]), np.array([3, 3, 3])
    # sure of class 3 but for a few pixels
    sure = torch.from_numpy(np.random.default_rng(1).random(probabilities.shape[1:]) < 0.8)
    probabilities[3] = torch.where(sure, 0.9 + probabilities[3] / 10, probabilities[3])
    pixels = pixels_in(regions, ids)
    confidence = answer_confidence(probabilities, regions.shape, pixels, answers)
    kept = sieve(confidence, pixels.offsets, min_pixels=100, steps=10)
    labels = paint(np.full(regions.shape, VOID, np.uint8), pixels, answers, kept)
    expected = direct_sieve(probabilities.numpy(), regions, ids, answers, 100, 10)
    assert np.array_equal(labels, expected)
    assert 0 < (labels != VOID).sum() < len(pixels.order), "something is sieved"


def test_later_rounds_paint_over_earlier_ones():
    first = RegionPixels(np.array([0, 1, 4, 2]), np.array([0, 3, 4]))
    second = RegionPixels(np.array([1, 2, 3, 4]), np.array([0, 2, 4]))
    start = np.full((1, 5), VOID, np.uint8)
    labels = paint(start, first, np.array([7, 8], np.uint8))
    assert labels.tolist() == [[7, 7, 8, VOID, 7]]
    assert (start == VOID).all(), "inputs are left alone"
    # pixel 1 is sieved out; the second region is void: both keep what they had
    kept = np.array([False, True, True, True])
    labels = paint(labels, second, np.array([9, VOID]), kept)
    assert labels.tolist() == [[7, 7, 9, VOID, 7]]
    nothing = RegionPixels(np.zeros(0, np.int64), np.zeros(1, np.int64))
    assert np.array_equal(paint(labels, nothing, np.zeros(0, np.uint8)), labels)
