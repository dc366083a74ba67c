import math

import numpy as np
import pytest
import torch

from alseg.acquisition.region_table import RegionTable
from alseg.methods.mulquery.acquisition import (
    bvsb_scores,
    class_balanced_scores,
    class_prior,
    class_weights,
    pixbal_scores,
    pixel_uncertainty,
    region_table,
)
from tests.golden.reference.mulquery import with_absent_regions

TAU = 0.1


def pool(seed=0, images=3, classes=5, regions=7, size=(8, 9)):
    random = np.random.default_rng(seed)
    cosines = torch.from_numpy(random.uniform(-1, 1, (images, classes, *size))).float()
    ids = torch.from_numpy(random.integers(0, regions, (images, *size)))
    ids[ids == 4] = 2  # a hole
    return cosines, ids


def table_of(cosines, regions):
    rows, means = region_table(cosines, regions, tau=TAU)
    return RegionTable(**{name: column.numpy() for name, column in rows.items()}), means.numpy()


def slow_pixels(cosines, regions):
    """Per region: uncertainty and predicted class of its pixels."""
    pixels = {}
    for image, y, x in np.ndindex(regions.shape):
        p = (cosines[image, :, y, x].double() / TAU).softmax(dim=0).tolist()
        best, second = sorted(p, reverse=True)[:2]
        key = image, int(regions[image, y, x])
        pixels.setdefault(key, []).append((second / best + 1e-8, p.index(best)))
    return dict(sorted(pixels.items()))


def most_frequent(labels):
    return min(set(labels), key=lambda label: (-labels.count(label), label))


def test_table_against_loops():
    cosines, regions = pool()
    table, means = table_of(cosines, regions)
    expected = {}
    for (image, unit), pixels in slow_pixels(cosines, regions).items():
        for label in sorted({label for _, label in pixels}):
            values = [value for value, said in pixels if said == label]
            expected[image, unit, label] = sum(values), len(values)
    keys = list(zip(table.image, table.unit, table.label, strict=True))
    assert keys == list(expected)  # the same rows in the same order
    np.testing.assert_allclose(table.uncertainty, [u for u, _ in expected.values()], rtol=1e-4)
    assert table.pixels.tolist() == [n for _, n in expected.values()]
    p = (cosines.double() / TAU).softmax(dim=1)
    np.testing.assert_allclose(means, p.mean(dim=(2, 3)), rtol=1e-4)


def test_pixels_of_no_region_get_no_row_but_count_in_the_mean():
    cosines, regions = pool()
    holes = regions.clone()
    holes[0, :4] = -1
    holes[1] = -1
    table, means = table_of(cosines, holes)
    assert table.pixels.sum() == regions.numel() - 4 * 9 - 8 * 9
    assert set(table.image.tolist()) == {0, 2}
    assert table.unit.min() >= 0
    assert np.array_equal(means, table_of(cosines, regions)[1])
    nothing, _ = table_of(cosines, torch.full_like(regions, -1))
    assert len(nothing.image) == 0


def test_uncertainty_by_hand():
    cosines = torch.tensor([0.0, 2 * TAU, TAU]).view(1, 3, 1, 1)
    uncertainty, label = pixel_uncertainty(cosines, tau=TAU)
    assert float(uncertainty) == pytest.approx(math.exp(-1), rel=1e-6)
    assert int(label) == 1


@pytest.mark.parametrize("undefined", [None, 4])
def test_scores_against_loops(undefined):
    cosines, regions = pool(1)
    regions[0, :2, :3], cosines[0, 4, :2, :3] = 7, 1.0  # a region where class 4 is predicted most
    table, _ = table_of(cosines, regions)
    weights = np.linspace(0.2, 1.0, 5)
    pixels = slow_pixels(cosines, regions)
    dominant = [most_frequent([label for _, label in region]) for region in pixels.values()]
    banned = np.array([label == undefined for label in dominant])
    assert banned.any() == (undefined is not None)

    pixbal = [np.mean([u * weights[label] for u, label in region]) for region in pixels.values()]
    scores = pixbal_scores(table, weights, undefined)
    assert list(zip(scores.image, scores.unit, strict=True)) == list(pixels)
    assert scores.score.dtype == np.float32
    np.testing.assert_allclose(scores.score, np.where(banned, 0, pixbal), rtol=1e-4)

    raw = np.array([np.mean([u for u, _ in region]) for region in pixels.values()])
    scaled = np.where(banned, 0, (raw - raw.min()) / (raw - raw.min()).max())
    np.testing.assert_allclose(bvsb_scores(table, undefined).score, scaled, atol=1e-5)

    share = np.array([dominant.count(c) for c in range(5)]) / len(dominant)
    scores, said = class_balanced_scores(table, 5, undefined)
    np.testing.assert_allclose(said, share)
    np.testing.assert_allclose(scores.score, scaled * np.exp(-share[dominant]), atol=1e-5)


def rows(*triples):
    """A table from (image, unit, label, uncertainty sum, pixels)."""
    return RegionTable(*(np.array(column) for column in zip(*triples, strict=True)))


def test_a_tie_does_not_ban():
    table = rows((0, 0, 1, 1.0, 2), (0, 0, 2, 1.0, 2), (0, 1, 1, 1.0, 1), (0, 1, 2, 1.0, 2))
    assert pixbal_scores(table, np.ones(3), undefined=2).score.tolist() == [0.5, 0.0]


def test_absent_regions():
    table = rows((0, 1, 2, 1.0, 2), (2, 0, 1, 0.5, 2), (2, 0, 2, 0.0, 1))
    full = with_absent_regions(table, np.array([0, 2]), 3)
    assert pixbal_scores(full, np.ones(3), None).score.tolist() == [
        0,
        0.5,
        0,
        pytest.approx(1 / 6),
        0,
        0,
    ]
    # BvSB: (x - 1/6) / (1/2 - 1/6)
    assert bvsb_scores(full, None).score == pytest.approx([-0.5, 1.0, -0.5, 0.0, -0.5, -0.5])
    _, share = class_balanced_scores(full, 3, None)
    assert share == pytest.approx([4 / 6, 1 / 6, 1 / 6])
    _, share = class_balanced_scores(table, 3, None)
    assert share == pytest.approx([0, 0.5, 0.5])


def test_one_region_has_no_scale():
    table = rows((0, 0, 0, 1.0, 2))
    assert bvsb_scores(table, None).score.tolist() == [0]


def test_empty_pool():
    empty = RegionTable(*(column[:0] for column in rows((0, 0, 0, 1.0, 2))))
    assert len(pixbal_scores(empty, np.ones(3), 1).score) == 0
    assert len(bvsb_scores(empty, 1).score) == 0
    scores, share = class_balanced_scores(empty, 3, 1)
    assert len(scores.score) == 0
    assert share.tolist() == [0, 0, 0]


def test_prior_and_weights_by_hand():
    means = np.array([[0.2, 0.8], [0.4, 0.6], [1.0, 0.0]], dtype=np.float32)
    assert class_prior(means, 2) == pytest.approx([(0.3 + 1.0) / 2, (0.7 + 0.0) / 2])
    assert class_prior(means, 1) == pytest.approx(means.mean(axis=0))
    assert class_prior(means, 9) == pytest.approx(means.mean(axis=0))
    assert class_weights(np.array([0.0, 0.5, 1.0]), 6.0) == pytest.approx([1, 1 / 16, 1 / 49])


def test_150_classes():
    cosines, regions = pool(images=1, classes=150, size=(5, 6))
    table, means = table_of(cosines, regions)
    assert means.shape == (1, 150)
    np.testing.assert_allclose(means.sum(axis=1), 1, rtol=1e-5)
    assert table.pixels.sum() == 30
