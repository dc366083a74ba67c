import numpy as np
import pytest

from alseg.acquisition.randomized import (
    power_noise,
    spatially_spread,
    stratified_by_class,
)


def pool(images=4, side=10):
    """Unit centres on a lattice in every image."""
    image, y, x = (index.ravel() for index in np.indices((images, side, side)))
    return image, np.stack([y, x], axis=1).astype(np.float64)


def nearest_gaps(image, center):
    """Distance of every unit to the nearest other one of its image."""
    gaps = np.linalg.norm(center[:, None] - center[None], axis=2)
    gaps[image[:, None] != image[None]] = np.inf
    np.fill_diagonal(gaps, np.inf)
    return gaps.min(axis=1)


def slow_spread(image, center, n, rng, taken, candidates):
    """The definition, with a list of the open units."""
    left, near = list(np.flatnonzero(~taken)), list(np.flatnonzero(taken))
    picks = []
    for _ in range(min(n, len(left))):
        places = rng.integers(0, len(left), candidates)
        far = [
            min(
                (
                    float(((center[left[p]] - center[s]) ** 2).sum())
                    for s in near
                    if image[s] == image[left[p]]
                ),
                default=np.inf,
            )
            for p in places
        ]
        place = int(places[int(np.argmax(far))])
        picks.append(int(left[place]))
        near.append(left[place])
        left[place] = left[-1]
        left.pop()
    return picks


@pytest.mark.parametrize("seed", range(3))
def test_spread_against_the_definition(seed):
    image, center = pool(3, 5)
    taken = np.random.default_rng(seed + 10).random(len(image)) < 0.1
    for n in (0, 20, 75):
        picks = spatially_spread(image, center, n, np.random.default_rng(seed), taken, 4)
        expected = slow_spread(image, center, n, np.random.default_rng(seed), taken, 4)
        assert picks.tolist() == expected
    assert sorted(picks) == np.flatnonzero(~taken).tolist(), "every open unit, once"


def test_spread_keeps_a_distance_and_visits_every_image():
    image, center = pool(8, 12)
    plain, spread = [], []
    for seed in range(10):
        for candidates, gaps in ((1, plain), (8, spread)):
            picks = spatially_spread(
                image, center, 80, np.random.default_rng(seed), candidates=candidates
            )
            gaps.append(nearest_gaps(image[picks], center[picks]).mean())
        assert len(np.unique(image[picks[:24]])) == 8
    assert np.mean(spread) > 1.3 * np.mean(plain)


def test_spread_does_not_favour_corners():
    image, center = pool(1, 10)
    first = [spatially_spread(image, center, 3, np.random.default_rng(s))[2] for s in range(400)]
    corners = np.isin(first, [0, 9, 90, 99]).mean()
    assert corners < 0.35, "farthest-point picks would be a corner nearly always"
    assert len(np.unique(first)) > 30


def test_spread_keeps_away_from_what_was_bought():
    image, center = np.zeros(3, np.int64), np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 9.0]])
    taken = np.array([True, False, False])
    picks = [
        spatially_spread(image, center, 1, np.random.default_rng(s), taken, 30)[0] for s in range(5)
    ]
    assert picks == [2] * 5


def test_spread_refuses():
    image, center = pool(1, 2)
    with pytest.raises(ValueError, match="cannot pick"):
        spatially_spread(image, center, -1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="cannot pick"):
        spatially_spread(image, center, 1, np.random.default_rng(0), candidates=0)


@pytest.mark.parametrize("seed", range(4))
def test_every_class_has_its_share(seed):
    rng = np.random.default_rng(seed)
    label = rng.choice(5, 200, p=[0.6, 0.2, 0.15, 0.04, 0.01]) * 7
    order = stratified_by_class(label, rng)
    assert sorted(order) == list(range(200))
    totals = {c: int((label == c).sum()) for c in np.unique(label)}
    for n in range(201):
        counts = {c: int((label[order[:n]] == c).sum()) for c in totals}
        open_classes = [counts[c] for c in totals if counts[c] < totals[c]]
        if open_classes:
            assert max(counts.values()) - min(open_classes) <= 1


def test_strata_are_random():
    label = np.repeat([0, 1], [50, 2])
    heads = np.array([stratified_by_class(label, np.random.default_rng(s))[:2] for s in range(600)])
    assert 0.4 < (label[heads[:, 0]] == 0).mean() < 0.6, "no class always comes first"
    common = heads[label[heads] == 0]
    assert len(np.unique(common)) == 50, "any unit of a class may come first"
    assert stratified_by_class(label[:0], np.random.default_rng(0)).tolist() == []


def test_power_noise_draws_by_the_power_of_the_score():
    score, rng = np.array([1.0, 2.0, 4.0, 0.0]), np.random.default_rng(0)
    for power in (0.0, 1.0, 2.0):
        tops = [int(power_noise(score, power, rng).argmax()) for _ in range(3000)]
        weights = score**power
        expected = weights / weights.sum()
        np.testing.assert_allclose(np.bincount(tops, minlength=4) / 3000, expected, atol=0.035)


def test_power_noise_at_its_ends():
    random = np.random.default_rng(0)
    score = random.random((6, 8)) + 0.01
    strict = power_noise(score, 1e9, random)
    assert np.array_equal(strict.ravel().argsort(), score.ravel().argsort())
    score[0] = 0
    noisy = power_noise(score, 1.0, random)
    assert np.isfinite(noisy).all()
    assert noisy[0].max() < noisy[1:].min()
    assert len(np.unique(noisy[0])) == 8, "zeros are ordered at random"


@pytest.mark.parametrize(
    ("score", "power"), [(-0.1, 1), (np.nan, 1), (np.inf, 1), (1, -1), (1, np.inf)]
)
def test_power_noise_refuses(score, power):
    with pytest.raises(ValueError, match=r"negative or not finite|must be"):
        power_noise(np.array([0.5, score]), power, np.random.default_rng(0))
