import heapq
import math

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from alseg.acquisition.clustering import kmeans, nearest
from alseg.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from alseg.methods.madbal.budget import (
    available_superpixels,
    best_of_each,
    choose_superpixels,
    cluster_quotas,
    repair_at_random,
    repair_by_room,
)
from alseg.methods.madbal.clusters import (
    balanced_scores,
    cluster_scores,
    cluster_table,
    shares_in_clusters,
)
from alseg.methods.madbal.patches import feature_network, patch_features, superpixel_patches

K, CLASSES, IMAGES = 4, 3, 5


def pool(seed=0, ties=False):
    """Columns of a pool: image, unit, cluster, score, label, pixels. Cluster 2 is empty."""
    random = np.random.default_rng(seed)
    image = np.repeat(np.arange(IMAGES), 12)
    unit = np.concatenate([random.permutation(30)[:12] for _ in range(IMAGES)])
    cluster = random.choice([0, 1, 3], len(image), p=[0.6, 0.3, 0.1])
    score = random.integers(1, 4, len(image)) / 2 if ties else random.random(len(image))
    return {
        "score": score.astype(float),
        "pixels": random.integers(1, 40, len(image)),
        "label": random.integers(0, CLASSES, len(image)),
        "image": image,
        "cluster": cluster,
        "unit": unit,
    }


def test_clusters_against_a_loop():
    rows = pool()
    columns = (rows[name] for name in ("score", "pixels", "label", "cluster"))
    table = cluster_table(*columns, CLASSES, K)
    shares, worth = (
        shares_in_clusters(table.superpixels),
        cluster_scores(table.score_sum, table.pixels),
    )
    for k in range(K):
        own = rows["cluster"] == k
        assert table.score_sum[k] == pytest.approx(rows["score"][own].sum())
        assert table.pixels[k] == rows["pixels"][own].sum()
        if own.any():
            assert worth[k] == pytest.approx(rows["score"][own].sum() / rows["pixels"][own].sum())
        for c in range(CLASSES):
            count = (own & (rows["label"] == c)).sum()
            assert table.superpixels[c, k] == count
            assert shares[c, k] == pytest.approx(count / max(own.sum(), 1))
    assert worth[2] == shares[:, 2].sum() == 0, "empty; the reference: not a number"


def test_frequent_classes_are_worth_less():
    shares = np.array([[1.0, 0.25], [0.0, 0.75]])
    found = balanced_scores(np.array([2.0, 2.0]), np.array([0, 1]), np.array([0, 1]), shares)
    assert found.tolist() == pytest.approx([2 / math.e, 2 * math.exp(-0.75)])


@pytest.mark.parametrize(
    ("worth", "n", "quotas"),
    [
        ([3, 1, 1.5], 10, [5, 3, 2]),  # 5.45, 1.81, 2.72: the rest, 2, to the least
        ([1, 1, 1], 10, [4, 3, 3]),  # the first of the least
        ([1, 0, 0], 7, [7, 0, 0]),
        ([9, 0.1, 0.2], 2, [1, 1, 0]),
        ([0, 0, 0], 5, [5, 0, 0]),
        ([2, 1, 1], 0, [0, 0, 0]),
    ],
)
def test_quotas_by_hand(worth, n, quotas):
    assert cluster_quotas(np.array(worth, dtype=float), n).tolist() == quotas


@pytest.mark.parametrize("worth", [[1.0, np.nan], [1.0, np.inf], [-1.0, 2.0]])
def test_quotas_of_nonsense(worth):
    with pytest.raises(ValueError, match="finite"):
        cluster_quotas(np.array(worth), 4)


@pytest.mark.parametrize("seed", range(40))
def test_repairs_keep_their_promises(seed):
    random = np.random.default_rng(seed)
    quotas, available = random.integers(0, 6, K), random.integers(0, 8, K)
    drawn = []

    def draw(n):
        drawn.append(n)
        return int(random.integers(n))

    by_chance = repair_at_random(quotas, available, draw)
    by_room = repair_by_room(quotas, available[None])[0]
    for found in (by_chance, by_room):
        assert found.sum() == min(quotas.sum(), available.sum())
        assert (found >= 0).all()
        assert (found <= available).all()
    assert (by_room >= np.minimum(quotas, available)).all(), "only what does not fit is moved"
    if (quotas <= available).all():
        assert not drawn
        assert by_chance.tolist() == by_room.tolist() == quotas.tolist()


def test_repair_by_chance_by_hand():
    # excess 5 + 1: two each to the three others, nothing by the draw, which is made all the same
    asked = []
    found = repair_at_random(
        np.array([6, 2, 0, 0, 0]),
        np.array([1, 1, 9, 9, 9]),
        lambda n: asked.append(n) or 0,
    )
    assert found.tolist() == [1, 1, 2, 2, 2]
    assert asked == [3]
    # 3 to two others: one each, and one more to the one drawn; that does not fit, so once more
    asked.clear()
    found = repair_at_random(
        np.array([4, 0, 0]), np.array([1, 9, 1]), lambda n: asked.append(n) or n - 1
    )
    assert found.tolist() == [1, 2, 1]
    assert asked == [2, 2]


def test_repair_that_finds_no_fit_in_time(monkeypatch):
    monkeypatch.setattr("alseg.methods.madbal.budget.PASSES", 1)
    quotas, available = np.array([4, 0, 0]), np.array([1, 9, 1])
    found = repair_at_random(quotas, available, lambda n: n - 1)
    assert found.tolist() == repair_by_room(quotas, available[None])[0].tolist() == [1, 3, 0]


def test_repair_by_room_of_several_images():
    quotas = np.array([5, 1, 1])
    available = np.array([[9, 9, 9], [2, 4, 9], [2, 1, 1], [0, 3, 3]])
    expected = [[5, 1, 1], [2, 1, 4], [2, 1, 1], [0, 3, 3]]
    assert repair_by_room(quotas, available).tolist() == expected
    one_by_one = [repair_by_room(quotas, row[None])[0].tolist() for row in available]
    assert one_by_one == expected


def slow_best(rows, value, quotas):
    """A heap per image and cluster of (value, id), as the reference keeps them."""
    heaps = {}
    for row in range(len(value)):
        heap = heaps.setdefault((rows["image"][row], rows["cluster"][row]), [])
        heapq.heappush(heap, (value[row], rows["unit"][row], row))
        if len(heap) > quotas[rows["image"][row], rows["cluster"][row]]:
            heapq.heappop(heap)
    return sorted(row for heap in heaps.values() for _, _, row in heap)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_choice_against_heaps(seed, ties):
    rows = pool(seed, ties)
    quotas = np.random.default_rng(seed).integers(0, 5, (IMAGES, K))
    names = ("image", "cluster", "unit")
    found = best_of_each(rows["score"], *(rows[name] for name in names), quotas)
    assert sorted(found.tolist()) == slow_best(rows, rows["score"], quotas)
    shuffle = np.random.default_rng(seed).permutation(len(rows["score"]))
    again = best_of_each(rows["score"][shuffle], *(rows[name][shuffle] for name in names), quotas)
    assert shuffle[again].tolist() == found.tolist(), "the sequence of the rows does not matter"


def test_scores_that_are_not_numbers():
    zeros = np.zeros(2, dtype=int)
    with pytest.raises(ValueError, match="1 of 2 scores are NaN"):
        best_of_each(np.array([1.0, np.nan]), zeros, zeros, np.arange(2), np.array([[1]]))


@pytest.mark.parametrize("chance", [False, True])
@pytest.mark.parametrize("n", [3, 8, 12, 20])
def test_every_image_is_asked_about_as_much(n, chance):
    rows = pool()
    rng = np.random.default_rng(0)
    names = ("score", "pixels", "label", "image", "cluster", "unit")
    chosen = choose_superpixels(
        *(rows[name] for name in names),
        n,
        num_images=IMAGES + 1,  # the last has nothing left
        num_classes=CLASSES,
        num_clusters=K,
        draw=(lambda m: int(rng.integers(m))) if chance else None,
    )
    assert len(set(chosen.tolist())) == len(chosen)
    counts = np.bincount(rows["image"][chosen], minlength=IMAGES + 1)
    assert counts.tolist() == [min(n, 12)] * IMAGES + [0]


def test_available():
    found = available_superpixels(np.array([0, 0, 2]), np.array([1, 1, 0]), 3, 2)
    assert found.tolist() == [[0, 2], [0, 0], [1, 0]]


# Patches and clusters


def slow_patches(image, regions, units):
    pixels, patches = (image / 255.0 - IMAGENET_MEAN) / IMAGENET_STD, []
    for unit in units:
        ys, xs = np.nonzero(regions == unit)
        box = slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1)
        own = (regions[box] == unit)[..., None]
        patch = np.where(own, pixels[box], pixels[ys, xs].mean(axis=0))
        patch = cv2.resize(patch, (16, 16), interpolation=cv2.INTER_CUBIC)
        patches.append(patch.transpose(2, 0, 1))
    return np.stack(patches)


@pytest.mark.parametrize("seed", range(3))
def test_patches_against_a_loop(seed):
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (45, 70, 3)).astype(np.uint8)
    coarse = random.integers(-1, 9, (5, 7)).astype(np.uint8).repeat(9, 0).repeat(10, 1)
    regions = np.where(coarse == 255, -1, coarse.astype(np.int64))
    regions[20, 30], regions[44, 69] = 9, 11  # one pixel each; 10 has none
    units = random.permutation(np.unique(regions[regions >= 0]))
    found = superpixel_patches(image, regions, units)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, slow_patches(image, regions, units), atol=1e-5)


def test_a_patch_of_the_right_size_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    regions = np.full((20, 30), -1)
    regions[3:19, 5:21] = 0
    expected = ((image[3:19, 5:21] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)
    found = superpixel_patches(image, regions, np.array([0]))[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("unit", [-1, 1, 7])
def test_no_patch_without_a_pixel(unit):
    regions = np.array([[0, 2]])
    with pytest.raises(ValueError, match=f"superpixel {unit} has no pixel"):
        superpixel_patches(np.zeros((1, 2, 3), np.uint8), regions, np.array([0, unit]))


def test_no_patches_at_all():
    found = superpixel_patches(np.zeros((2, 2, 3), np.uint8), np.full((2, 2), -1), np.zeros(0, int))
    assert found.shape == (0, 3, 16, 16)


@pytest.mark.parametrize("n", [1, 3])
def test_features_of_patches(n):
    network = nn.Sequential(nn.Conv2d(3, 4, 16))
    patches = torch.randn(n, 3, 16, 16)
    found = patch_features(network, patches)
    assert found.shape == (n, 4)
    assert not found.requires_grad
    torch.testing.assert_close(found, network(patches)[:, :, 0, 0])


def test_network_of_the_features():
    with torch.device("meta"):  # shapes alone
        network, patches = feature_network(weights=None), torch.zeros(1, 3, 16, 16)
    assert len(network) == 30
    assert isinstance(network[-1], nn.ReLU)
    assert not network.training
    assert patch_features(network, patches).shape == (1, 512)


def test_superpixels_join_the_nearest_cluster():
    features = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    features[:30] += 9
    centers, assigned = kmeans(features, 2, np.arange(60), seed=0)
    assert len(set(assigned[:30].tolist())) == len(set(assigned[30:].tolist())) == 1
    assert np.array_equal(nearest(features, centers), assigned)
