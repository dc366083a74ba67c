import numpy as np
import pytest

from alseg.methods.adaptive_superpixel.merging import js_distance, merge, merge_limited
from alseg.regions.geometry import adjacency
from benchmarks.bench_adaptive_superpixel import direct_contacts, direct_distance, direct_merge


def scene(seed, size=(40, 50), num_regions=60, contrast=0.4):
    """Ragged regions with holes in the ids, and distributions that change from place to place."""
    rng = np.random.default_rng(seed)
    seeds = rng.uniform(0, 1, (num_regions, 2)) * size
    y, x = np.indices(size)
    gap = (y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2
    ids = np.sort(rng.choice(2 * num_regions, num_regions, replace=False))
    regions = ids[gap.argmin(axis=-1)].astype(np.int32)
    corner = rng.normal(0, contrast, (4, 19))  # smooth over the image, so that chains form
    u, v = (np.abs(seeds / size)).T[..., None]
    logits = np.zeros((2 * num_regions, 19))
    logits[ids] = (1 - u) * ((1 - v) * corner[0] + v * corner[1]) + u * (
        (1 - v) * corner[2] + v * corner[3]
    )
    logits[ids] += rng.normal(0, contrast / 5, (num_regions, 19))
    features = np.exp(logits)
    uncertainty = rng.integers(0, 30, 2 * num_regions) / 30  # ties
    return regions, features / features.sum(axis=1, keepdims=True), uncertainty


def as_table(roots, size):
    table = np.arange(size)
    table[list(roots)] = list(roots.values())
    return table


@pytest.mark.parametrize("eps", [0.0, 0.05, 0.1, 0.25, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_against_the_text(seed, eps):
    regions, features, uncertainty = scene(seed)
    size = len(features)
    roots = merge(features, uncertainty, adjacency(regions, size), eps)
    direct = direct_merge(features, uncertainty, direct_contacts(regions), eps)
    assert roots.dtype == np.int64
    assert np.array_equal(roots, as_table(direct, size))
    merged = len(np.unique(regions)) - len(np.unique(roots[regions]))
    assert (merged == 0) if eps == 0 else (merged > 0)


def test_far_members_are_compared_with_the_root_alone():
    p = np.array([[0.5 + 0.08 * i, 0.5 - 0.08 * i] for i in range(4)])
    steps = js_distance(p[:-1], p[1:])
    assert (steps < 0.1).all()
    chain = np.array([[0, 1], [1, 2], [2, 3]])
    assert js_distance(p[0], p[2]) > 0.1
    assert merge(p, np.array([0.9, 0.1, 0.2, 0.3]), chain, 0.1).tolist() == [0, 0, 3, 3]
    # from the middle it reaches both sides
    assert merge(p, np.array([0.1, 0.9, 0.2, 0.3]), chain, 0.1).tolist() == [1, 1, 1, 3]


def test_only_neighbours_merge_and_ties_start_at_the_lower_id():
    p = np.tile([0.3, 0.7], (5, 1))
    assert merge(p, np.ones(5), np.array([[0, 1], [3, 4]]), 0.1).tolist() == [0, 0, 2, 3, 3]
    assert merge(p, np.ones(5), np.zeros((0, 2), np.int64), 0.1).tolist() == [0, 1, 2, 3, 4]


def test_almost_equal_distributions_merge():
    """Where the reference takes the root of a negative number."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(19), 200)
    q = p * (1 + rng.normal(0, 1e-7, p.shape))
    features = np.concatenate([p, q])
    edges = np.stack([np.arange(200), np.arange(200, 400)], axis=1)
    roots = merge(features, np.r_[np.ones(200), np.zeros(200)], edges, 0.01)
    assert roots.tolist() == [*range(200)] * 2
    distances = js_distance(p, p * (1 + rng.normal(0, 1e-12, p.shape)))
    assert (distances >= 0).all(), "no root of a rounding error"
    assert distances.max() < 1e-7


def test_distance():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.full(7, 0.3), (2, 30))
    p[:5, :3] = 0
    expected = [direct_distance(a, b) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(js_distance(3 * p, q), expected, atol=1e-12)
    np.testing.assert_allclose(js_distance(q, p), expected, atol=1e-12)
    np.testing.assert_allclose(js_distance(p, p), 0, atol=1e-7)
    # p = (1, 0), q = (1/2, 1/2): m = (3/4, 1/4)
    by_hand = np.sqrt((np.log(4 / 3) + 0.5 * np.log(2 / 3) + 0.5 * np.log(2)) / 2)
    assert js_distance(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(by_hand)


def slow_limited(features, uncertainty, neighbours, eps, most):
    """Depth first; the limit is looked at after every superpixel that is taken."""
    roots, taken = {}, []
    for root in sorted(neighbours, key=lambda region: (-uncertainty[region], region)):
        if root in roots:
            continue
        roots[root] = root
        taken.append(root)
        if len(taken) >= most:
            return roots
        stack = [root]
        while stack:
            for other in neighbours[stack.pop()]:
                if other in roots or direct_distance(features[root], features[other]) >= eps:
                    continue
                roots[other] = root
                taken.append(other)
                if len(taken) >= most:
                    break
                stack.append(other)
    return roots


@pytest.mark.parametrize("most", [1, 5, 14.7, 33, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_limited_against_the_text(seed, most):
    regions, features, uncertainty = scene(seed)
    size = len(features)
    contacts = adjacency(regions, size, by_contact=True)
    present = np.isin(np.arange(size), regions)
    uncertainty = np.where(present, uncertainty, -1)  # ids without a pixel come last
    roots = merge_limited(features, uncertainty, contacts, 0.15, most)
    direct = slow_limited(features, uncertainty, direct_contacts(regions), 0.15, most)
    assert np.array_equal(roots, as_table(direct, size))
    if most == 1000:
        edges = adjacency(regions, size)
        assert np.array_equal(roots, merge(features, uncertainty, edges, 0.15))
