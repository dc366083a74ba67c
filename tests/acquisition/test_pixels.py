import math

import numpy as np
import pytest
import torch

from alseg.acquisition.pixels import (
    draw_pixels,
    exclude_pixels,
    ranked_pixels,
)


def noise(seed=0, size=(9, 11), excluded=30):
    """Scores with many ties, and pixels that may not be asked."""
    random = np.random.default_rng(seed)
    scores = torch.from_numpy(random.integers(0, 5, size) / 4).float()
    return exclude_pixels(scores, torch.from_numpy(random.permutation(scores.numel())[:excluded]))


def ranking(scores):
    """All pixels that may be asked, by a stable sort."""
    flat = scores.flatten().tolist()
    return [p for p in sorted(range(len(flat)), key=lambda p: (-flat[p], p)) if flat[p] > -math.inf]


def slow_draw(scores, n, share, order, reverse):
    """The rule, pixel by pixel; `order` is the permutation that is drawn."""
    flat, ranked = scores.flatten().tolist(), ranking(scores)
    n, k = min(n, len(ranked)), int(share * len(flat))
    if share == 0:
        return ranked[:n]
    if not reverse:
        candidates = ranked[: max(n, k)]
        return [candidates[place] for place in order[:n]]
    drawn = [p for p in order[:k] if flat[p] > -math.inf]
    drawn += [p for p in order[k:] if flat[p] > -math.inf][: max(0, n - len(drawn))]
    return [p for p in ranked if p in drawn][:n]


@pytest.mark.parametrize("n", [0, 1, 7, 69, 200])
def test_ranking_against_a_stable_sort(n):
    scores = noise()
    assert ranked_pixels(scores, n).tolist()[:69] == ranking(scores)[:n]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("share", [0, 0.01, 0.2, 1.0])
@pytest.mark.parametrize("n", [0, 1, 6, 25, 69, 80])
@pytest.mark.parametrize("seed", range(3))
def test_draw_against_a_loop(seed, n, share, reverse):
    scores = noise(seed)
    left = len(ranking(scores))
    length = scores.numel() if reverse else max(min(n, left), min(int(share * 99), left))
    order = np.random.default_rng(seed).permutation(length)
    found = draw_pixels(scores, n, share, np.random.default_rng(seed), reverse)
    assert found.unit.tolist() == sorted(slow_draw(scores, n, share, order, reverse))
    assert len(found.unit) == min(n, left)
    assert torch.equal(found.score, scores.flatten()[found.unit])
    assert torch.isfinite(found.score).all()
    assert (found.pixels == 1).all()


@pytest.mark.parametrize("reverse", [False, True])
def test_the_older_generator_draws_the_same_kind(reverse):
    scores = noise()
    length = scores.numel() if reverse else int(0.2 * scores.numel())
    # what the reference draws: a choice of that many, without replacement
    order = np.random.RandomState(3).choice(length, length, replace=False)
    found = draw_pixels(scores, 6, 0.2, np.random.RandomState(3), reverse)
    assert found.unit.tolist() == sorted(slow_draw(scores, 6, 0.2, order, reverse))


def test_every_candidate_is_as_likely():
    scores, rng = torch.arange(20.0), np.random.default_rng(0)
    counts = np.zeros(20)
    for _ in range(2000):
        counts[draw_pixels(scores, 3, 0.3, rng).unit.numpy()] += 1
    assert counts[:14].sum() == 0
    assert np.abs(counts[14:] - 1000).max() < 4 * math.sqrt(500)


def test_reversed_draw_is_random_first():
    scores, rng = torch.arange(20.0), np.random.default_rng(0)
    best = [int(draw_pixels(scores, 1, 0.25, rng, reverse=True).unit) for _ in range(2000)]
    # the largest of 5 of 20 is the largest of all in a quarter of the draws
    assert np.mean(np.array(best) == 19) == pytest.approx(0.25, abs=0.04)
    assert min(best) < 12


@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_may_be_asked(reverse):
    scores = torch.full((3, 4), -torch.inf)
    for share in (0, 0.5):
        found = draw_pixels(scores, 2, share, np.random.default_rng(0), reverse)
        assert len(found.unit) == 0


def test_excluding_leaves_the_scores_alone():
    scores = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert exclude_pixels(scores, torch.tensor([1, 2])).tolist() == [
        [1.0, -math.inf],
        [-math.inf, 4.0],
    ]
    assert scores.tolist() == [[1.0, 2.0], [3.0, 4.0]]
