import numpy as np
import pytest

from alseg.acquisition import clustering
from alseg.acquisition.clustering import LowerBounds, in_order, k_center, kmeans, nearest


def rows(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)).astype(np.float32), rng.permutation(10 * n)[:n]


def lattice(n, d, seed=0):
    """Small integers: distances are exact and ties are everywhere."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (n, d)).astype(np.float32), rng.permutation(10 * n)[:n]


def slow_k_center(features, n, ids, labelled, metric):
    """The definition, pair by pair, in float64."""

    def distance(a, b):
        if metric == "cosine":
            return 1 - a @ b / np.sqrt((a @ a) * (b @ b))
        return np.sqrt(((a - b) ** 2).sum())

    units = {int(i): z.astype(np.float64) for i, z in zip(ids, features, strict=True)}
    covered = [z.astype(np.float64) for z in labelled]
    picks = []
    for _ in range(n):
        left = sorted(set(units) - set(picks))
        far = [min((distance(units[u], s) for s in covered), default=np.inf) for u in left]
        picks.append(left[int(np.argmax(far))])
        covered.append(units[picks[-1]])
    return picks


@pytest.mark.parametrize("block", [clustering._BLOCK, 35])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("labelled", [0, 4, 30])
def test_k_center_equals_the_definition(metric, labelled, block, monkeypatch):
    monkeypatch.setattr(clustering, "_BLOCK", block)
    features, ids = rows(60, 5)
    start = rows(labelled, 5, seed=1)[0]
    picks = k_center(features, 25, ids, start, metric, progress=False)
    assert picks.tolist() == slow_k_center(features, 25, ids, start, metric)


@pytest.mark.parametrize("labelled", [0, 3])
def test_k_center_breaks_ties_by_the_lowest_id(labelled):
    features, ids = lattice(40, 2)  # 9 distinct vectors: from the tenth on all are covered
    start = lattice(labelled, 2, seed=1)[0]
    picks = k_center(features, 40, ids, start, progress=False)
    assert picks.tolist() == slow_k_center(features, 40, ids, start, "euclidean")
    assert sorted(picks) == sorted(ids), "no unit twice"


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_features_in_order_are_neither_copied_nor_changed(metric):
    features, _ = rows(60, 5)
    before, sequence = features.copy(), np.arange(60)
    assert in_order(features, sequence) is features
    assert np.array_equal(in_order(features, sequence[:9]), features[:9])
    assert np.array_equal(in_order(features, sequence[::-1]), features[::-1])
    k_center(features, 25, sequence, features[:4], metric, progress=False)
    assert np.array_equal(features, before)


def test_k_center_leaves_blocks_alone_until_they_hold_the_highest_bound(monkeypatch):
    """Far groups first, then a stale block whose bound has become wrong, all by the definition."""
    monkeypatch.setattr(clustering, "_BLOCK", 8)  # four rows of two numbers
    plain, taken = clustering._squared_distances, []

    def counted(vectors, points, own=None):
        taken.append(len(vectors))
        return plain(vectors, points, own)

    monkeypatch.setattr(clustering, "_squared_distances", counted)
    near = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    far = ([0, 0], [0, 40], [90, 0], [90, 40], [200, 0])
    beside = ([0, 2], [2, 0], [2, 2], [0, 4], [4, 0], [4, 4], [2, 4], [4, 2])
    features = np.concatenate([near + shift for shift in (*far, *beside)])
    ids = np.arange(len(features))
    start = near[:1]
    picks = k_center(features, 10, ids, start, progress=False)
    assert picks.tolist() == slow_k_center(features, 10, ids, start, "euclidean")
    # the blocks beside are stale from the first pick on and come up once the far ones are covered
    assert (picks >= 4 * len(far)).any()
    updates = taken[1:]  # the first are the distances to what is labelled
    assert max(updates) <= 4
    assert sum(updates) < 0.6 * 10 * len(features), "a pass per pick takes ten times all"


@pytest.mark.parametrize(("shift", "scale"), [(0, 1), (1000, 1), (0, 1e-12), (3e4, 1e4)])
@pytest.mark.parametrize("rank", [3, 40])
def test_bounds_lie_below_the_distances(shift, scale, rank):
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(300, rank)) @ rng.normal(size=(rank, 40))) * scale + shift
    features = features.astype(np.float32)
    features[7] = features[9]
    others = np.array([9, 3, 250])
    bounds = LowerBounds(features, axes=5)(slice(0, 100), others)
    for column, other in enumerate(others):
        found = clustering._squared_distances(features[:100], features[other])
        assert (bounds[:, column] <= found).all()
        if rank <= 5 and not shift:
            np.testing.assert_allclose(bounds[:, column], found, rtol=0.01, atol=found.max() / 1e3)


def test_features_of_few_main_axes_are_hardly_read_again(monkeypatch):
    plain, taken = clustering._squared_distances, []

    def counted(vectors, points, own=None):
        taken.append(len(vectors))
        return plain(vectors, points, own)

    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 4)) @ rng.normal(size=(4, 32))
    features = (features + 0.01 * rng.normal(size=features.shape)).astype(np.float32)
    start, ids = features[:1], np.arange(2000)
    with monkeypatch.context() as patch:
        patch.setattr(clustering, "_squared_distances", counted)
        picks = k_center(features, 100, ids, start, progress=False)
    assert sum(taken[1:]) < 0.05 * 100 * len(features)
    monkeypatch.setattr(
        LowerBounds, "__call__", lambda *given: np.full((2000, len(given[2])), -np.inf)
    )
    assert np.array_equal(k_center(features, 100, ids, start, progress=False), picks)


def test_k_center_without_labels_starts_at_the_lowest_id():
    features, ids = rows(9, 3)
    assert k_center(features, 1, ids, None, progress=False).tolist() == [ids.min()]
    assert k_center(features, 0, ids, None, progress=False).tolist() == []


@pytest.mark.parametrize("make", [rows, lattice])
def test_results_do_not_depend_on_the_sequence_of_the_rows(make):
    features, ids = make(400, 6)
    shuffle = np.random.default_rng(1).permutation(400)
    centers, assignment = kmeans(features, 7, ids, seed=3)
    again, moved = kmeans(features[shuffle], 7, ids[shuffle], seed=3)
    assert centers.tobytes() == again.tobytes()
    assert np.array_equal(assignment[shuffle], moved)
    start = make(50, 6, seed=2)[0]
    chosen = k_center(features, 90, ids, start, progress=False)
    again = k_center(features[shuffle], 90, ids[shuffle], start, progress=False)
    assert np.array_equal(chosen, again)


def test_kmeans_repeats_bit_for_bit_and_follows_its_seed():
    features, ids = rows(500, 8)
    first, second = (kmeans(features, 10, ids, seed=5)[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert not np.array_equal(first, kmeans(features, 10, ids, seed=6)[0])
    kmeans(features, 10, ids, seed=2**63 + 1)  # seeds of any width are taken


def test_kmeans_is_lloyd_at_its_fixed_point():
    rng = np.random.default_rng(0)
    truth = np.array([[0, 0], [10, 0], [0, 10]], np.float32)
    group = rng.integers(0, 3, 300)
    features = truth[group] + rng.normal(size=(300, 2)).astype(np.float32)
    centers, assignment = kmeans(features, 3, np.arange(300), seed=0)
    assert centers.shape == (3, 2)
    assert centers.dtype == np.float32
    assert assignment.dtype == np.int64
    distances = np.linalg.norm(features[:, None] - centers[None], axis=2)
    assert np.array_equal(assignment, distances.argmin(1))
    means = np.stack([features[assignment == c].mean(0) for c in range(3)])
    assert np.allclose(centers, means, atol=1e-4)
    assert len(set(zip(group.tolist(), assignment.tolist(), strict=True))) == 3


def test_kmeans_uses_every_row():
    # By default FAISS trains on 256 rows per cluster; their mean is 0.01 only by accident.
    features = np.zeros((20_000, 1), np.float32)
    features[::100] = 1
    centers, _ = kmeans(features, 1, np.arange(20_000), seed=0)
    assert centers.item() == pytest.approx(0.01, rel=1e-4)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_kmeans_of_constant_features(k):
    centers, assignment = kmeans(np.ones((5, 2), np.float32), k, np.arange(5), seed=0)
    assert np.allclose(centers, 1, atol=5e-3)  # FAISS nudges copies of a centre apart
    assert assignment.shape == (5,)


def test_kmeans_with_a_cluster_per_row():
    features, ids = rows(6, 3)
    centers, assignment = kmeans(features, 6, ids, seed=0)
    assert np.array_equal(centers[assignment], features)


@pytest.mark.parametrize("n", [3, 100])
def test_nearest_equals_the_slow_search(n):
    features, _ = rows(n, 4)
    centers, _ = rows(9, 4, seed=1)
    distances = ((features[:, None].astype(np.float64) - centers[None]) ** 2).sum(2)
    assert nearest(features, centers).tolist() == distances.argmin(1).tolist()


@pytest.mark.parametrize("block", [clustering._BLOCK, 3])
def test_errors_say_what_is_wrong(block, monkeypatch):
    monkeypatch.setattr(clustering, "_BLOCK", block)
    features, ids = rows(4, 2)
    broken = features.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ValueError, match="cannot form 5 clusters of 4 rows"):
        kmeans(features, 5, ids, seed=0)
    with pytest.raises(ValueError, match="cannot form 0 clusters of 4 rows"):
        kmeans(features, 0, ids, seed=0)
    with pytest.raises(ValueError, match="at least 1 iteration, not 0"):
        kmeans(features, 2, ids, seed=0, iterations=0)
    with pytest.raises(ValueError, match="id 7 occurs more than once"):
        kmeans(features, 2, np.array([7, 1, 7, 2]), seed=0)
    with pytest.raises(ValueError, match=r"ids of shape \(3,\) do not fit 4 rows"):
        kmeans(features, 2, ids[:3], seed=0)
    with pytest.raises(ValueError, match=r"1 of 4 feature vectors hold NaN or infinity, .* row 2"):
        kmeans(broken, 2, ids, seed=0)
    with pytest.raises(ValueError, match="row 2"):
        k_center(broken, 2, ids)
    with pytest.raises(ValueError, match=r"centre vectors hold NaN .* row 2"):
        nearest(features, broken)
    with pytest.raises(ValueError, match="do not fit centres"):
        nearest(features, features[:, :1])
    with pytest.raises(ValueError, match=r"must be \(n, d\), not of shape \(2,\)"):
        nearest(features[0], features)
    with pytest.raises(ValueError, match="cannot pick 5 of 4 units"):
        k_center(features, 5, ids)
    with pytest.raises(ValueError, match="1 zero vectors have no direction"):
        k_center(features * [[1], [0], [1], [1]], 2, ids, metric="cosine")
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        k_center(features, 2, ids, metric="cosin")


def test_weights_pull_a_centre():
    """One cluster: its centre is the weighted mean."""
    features = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 8.0]], dtype=np.float32)
    weights = np.array([1.0, 2.0, 1.0], dtype=np.float32)
    centers, _ = clustering.kmeans(features, 1, np.array([2, 0, 1]), 0, weights=weights)
    assert np.allclose(centers, [[2.0, 2.0]])
