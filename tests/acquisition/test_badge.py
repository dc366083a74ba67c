import numpy as np
import pytest
import torch

from alseg.acquisition.badge import (
    Gradients,
    NearestPick,
    badge,
    gradient_distances,
    gradient_norms,
    pooled_gradients,
    prediction_error,
)


def units(n, seed=0, classes=4, d=3):
    random = np.random.default_rng(seed)
    p = torch.from_numpy(random.dirichlet(np.ones(classes), n))
    gradients = Gradients(prediction_error(p).numpy(), random.normal(size=(n, d)))
    return gradients, random.permutation(10 * n)[:n]


def dense(gradients):
    return np.einsum("nc,nd->ncd", *gradients).reshape(len(gradients.error), -1)


def slow_badge(gradients, ids, uniforms):
    """k-means++ on the dense gradients, distance by distance."""
    rows = np.argsort(ids)
    g = dense(gradients)[rows]
    picks = [int(np.argmax((g**2).sum(axis=1)))]
    for u in uniforms[1:]:
        squared = np.array([min(((x - g[p]) ** 2).sum() for p in picks) for x in g])
        squared[picks] = 0
        picks.append(int(np.flatnonzero(np.cumsum(squared / squared.sum()) >= u)[0]))
    return np.asarray(ids)[rows][picks].tolist()


def test_rank_one_distances():
    gradients, _ = units(30)
    g = dense(gradients)
    np.testing.assert_allclose(gradient_norms(gradients), np.linalg.norm(g, axis=1))
    for row in (0, 17):
        expected = np.linalg.norm(g - g[row], axis=1)
        np.testing.assert_allclose(gradient_distances(gradients, row), expected, atol=1e-7)


@pytest.mark.parametrize("seed", range(4))
def test_against_dense_gradients(seed):
    gradients, ids = units(40, seed)
    uniforms = np.random.default_rng(seed).random(15)
    picked = badge(gradients, ids, uniforms, progress=False)
    assert picked.tolist() == slow_badge(gradients, ids, uniforms)


def lengths_apart(n, seed, d=40, signed=False):
    """Gradients as a trained network's: most are short by orders of magnitude."""
    random = np.random.default_rng(seed)
    p = torch.from_numpy(random.dirichlet(np.full(7, 0.1), n))
    features = random.normal(size=(n, d)) - (0 if signed else 0.5)
    if not signed:
        features = np.maximum(features, 0)
    scale = 10.0 ** random.uniform(-30, 3, size=(n, 1))
    scale[:: n // 7] = 0
    return Gradients(prediction_error(p).numpy(), features * scale)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_that_are_left_out_would_not_have_changed_a_bit(dtype, signed, monkeypatch):
    gradients = Gradients(*(part.astype(dtype) for part in lengths_apart(400, 1, signed=signed)))
    read = []
    near = NearestPick._near
    monkeypatch.setattr(
        NearestPick, "_near", lambda self, row: read.append(near(self, row)) or read[-1]
    )
    nearest = NearestPick(gradients)
    whole = NearestPick(gradients)
    monkeypatch.setattr(whole, "_near", lambda row: np.arange(400))
    for row in np.random.default_rng(2).permutation(400)[:120]:
        assert np.array_equal(nearest.add(row), whole.add(row))
    share = np.mean([len(rows) for rows in read]) / 400
    assert 0 < share < 0.6


@pytest.mark.parametrize("scale", [0, 1e-152, 1e-140, 1e140])
def test_very_short_and_very_long_gradients(scale):
    gradients, ids = units(40)
    scaled = Gradients(gradients.error, gradients.features * scale)
    nearest = NearestPick(scaled)
    for row in (3, 17, 20):
        nearest.add(row)
    expected = ((dense(scaled)[:, None] - dense(scaled)[None, [3, 17, 20]]) ** 2).sum(-1).min(1)
    np.testing.assert_allclose(nearest.distance, expected, rtol=1e-6, atol=expected.max() * 1e-12)
    assert len(set(badge(scaled, ids, np.full(40, 0.5), progress=False))) == 40


def test_distances_to_the_nearest_pick():
    gradients, _ = units(60)
    g, nearest = dense(gradients), NearestPick(gradients)
    assert np.isinf(nearest.distance).all()
    picks = [3, 40, 41]
    for row in picks:
        nearest.add(row)
    expected = ((g[:, None] - g[None, picks]) ** 2).sum(-1).min(1)
    np.testing.assert_allclose(nearest.distance, expected, atol=1e-12)
    assert not nearest.distance[picks].any()


def test_sequence_of_the_rows():
    gradients, ids = units(50)
    uniforms = np.random.default_rng(1).random(20)
    shuffle = np.random.default_rng(2).permutation(50)
    moved = Gradients(gradients.error[shuffle], gradients.features[shuffle])
    picked = badge(gradients, ids, uniforms, progress=False)
    assert np.array_equal(picked, badge(moved, ids[shuffle], uniforms, progress=False))


def test_draws_follow_the_squared_distances():
    # In one dimension: picks after the first (at 3) are at distance 1, 2 and 3, so 1 : 4 : 9.
    gradients = Gradients(np.array([[3.0], [2.0], [1.0], [0.0]]), np.ones((4, 1)))
    random = np.random.default_rng(0)
    second = [
        badge(gradients, np.arange(4), random.random(2), progress=False)[1] for _ in range(1500)
    ]
    share = np.bincount(second, minlength=4) / 1500
    np.testing.assert_allclose(share, np.array([0, 1, 4, 9]) / 14, atol=0.04)


def test_a_number_at_a_step_takes_the_unit_that_ends_there():
    # The longest, and four units at distance 1: the cumulative probabilities are quarters.
    gradients = Gradients(np.array([[2.0], [1.0], [1.0], [1.0], [1.0]]), np.ones((5, 1)))
    for number, unit in [(0.0, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.76, 4)]:
        picked = badge(gradients, np.arange(5), np.array([0.5, number]), progress=False)
        assert picked.tolist() == [0, unit]


@pytest.mark.parametrize("number", [0.0, 1.0 - 2**-53])
def test_no_unit_twice(number):
    gradients, ids = units(12)
    twins = Gradients(*(np.concatenate([column, column]) for column in gradients))
    ids = np.concatenate([ids, ids + 1000])
    for dtype in (np.float32, np.float64):
        given = Gradients(*(column.astype(dtype) for column in twins))
        picked = badge(given, ids, np.full(24, number), progress=False)
        assert sorted(picked) == sorted(ids)


def test_nothing_left_to_tell_apart():
    same = Gradients(np.ones((5, 2)), np.ones((5, 3)))
    ids = np.array([9, 3, 7, 1, 5])
    assert badge(same, ids, np.full(5, 0.5), progress=False).tolist() == [1, 3, 5, 7, 9]
    assert badge(same, ids, np.empty(0), progress=False).tolist() == []


def test_share_of_the_longest():
    gradients, ids = units(40)
    longest = ids[np.argsort(-gradient_norms(gradients))]
    uniforms = np.random.default_rng(0).random(8)
    picked = badge(gradients, ids, uniforms, share=0.25, progress=False)
    assert set(picked) <= set(longest[:10])
    picked = badge(gradients, ids, uniforms, share=0.0, progress=False)
    assert set(picked) == set(longest[:8]), "at least as many as are picked"


def test_error_of_a_prediction():
    p = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])
    expected = torch.tensor([[-0.2, 0.5, -0.3], [0.6, -0.4, -0.2]])
    torch.testing.assert_close(prediction_error(p), expected)
    torch.testing.assert_close(prediction_error(p.T, dim=0), expected.T)


def test_pooled_factors():
    generator = torch.Generator().manual_seed(0)
    logits, features = (torch.randn(2, c, 6, 5, generator=generator) for c in (4, 3))
    regions = torch.randint(-1, 5, (2, 6, 5), generator=generator, dtype=torch.int32)
    regions[1] += 6 * (regions[1] >= 0)
    error, mean = pooled_gradients(logits, features, regions, 12)
    per_pixel = prediction_error(logits.softmax(1), 1)
    for region in range(12):
        image, inside = region // 6, regions[region // 6] == region
        if region % 6 == 5:
            assert not inside.any()
            assert not error[region].any()
            assert not mean[region].any()
            continue
        torch.testing.assert_close(error[region], per_pixel[image, :, inside].mean(1))
        torch.testing.assert_close(mean[region], features[image, :, inside].mean(1))
    with pytest.raises(ValueError, match="region ids"):
        pooled_gradients(logits, features, regions, 8)


def test_refusals():
    gradients, ids = units(6)
    with pytest.raises(ValueError, match="cannot pick 7 of 6"):
        badge(gradients, ids, np.zeros(7))
    with pytest.raises(ValueError, match="more than once"):
        badge(gradients, np.zeros(6, dtype=np.int64), np.zeros(2))
    with pytest.raises(ValueError, match="do not match"):
        badge(gradients, ids[:5], np.zeros(2))
    with pytest.raises(ValueError, match="share"):
        badge(gradients, ids, np.zeros(2), share=1.5)
    gradients.features[2, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 6 gradients"):
        badge(gradients, ids, np.zeros(2))
