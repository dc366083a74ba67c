import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alseg.core.images import VOID
from alseg.methods.mulquery.groups import first_argmax
from alseg.methods.mulquery.pseudo_labels import (
    FeatureMap,
    Prototypes,
    Similarities,
    WithinLabels,
    asked_pixels,
    naive_labels,
    neighbours,
    prototypes,
    thresholds,
    within_region_labels,
)
from tests.methods.mulquery.one_image import pseudo_label_map

REFERENCE = {"proto_temperature": 1.0, "expand": True, "threshold": "median", "strict": False}


def scene(seed=0, size=(14, 17), classes=5, dim=6, asked=5):
    """Smooth features, cosines, blocky regions, asked ids out of order, sets of 0 to 3 classes."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.random((1, dim, 5, 6)))
    features = F.interpolate(coarse, size=size, mode="bilinear")[0]
    features += torch.from_numpy(random.normal(0, 0.02, features.shape))
    cosines = torch.from_numpy(random.uniform(-1, 1, (classes, *size)))
    blocks = np.arange(-(-size[0] // 4) * -(-size[1] // 4)).reshape(-(-size[0] // 4), -1)
    regions = np.kron(blocks, np.ones((4, 4), dtype=np.int64))[: size[0], : size[1]]
    regions = np.where(random.random(size) < 0.1, np.roll(regions, 1, axis=1), regions)
    ids = random.permutation(blocks.size)[:asked]
    members = np.zeros((asked, classes), dtype=bool)
    for row in range(asked):
        members[row, random.permutation(classes)[: (2, 3, 1, 0, 2)[row % 5]]] = True
    return (
        features,
        cosines,
        torch.from_numpy(regions),
        torch.from_numpy(ids),
        torch.from_numpy(members),
    )


def slow_map(
    features, cosines, regions, ids, members, *, proto_temperature, expand, threshold, strict
):
    """Section 6 region by region, as it is written, on whole-image masks."""
    features, cosines, regions = features.numpy(), cosines.numpy(), regions.numpy()
    powers = np.exp(cosines / proto_temperature)
    q = powers / powers.sum(axis=0)
    sets = {int(i): np.flatnonzero(m) for i, m in zip(ids, members.numpy(), strict=True) if m.any()}
    within, labels = {}, np.full(regions.shape, VOID, dtype=np.uint8)
    best = np.full(regions.shape, -np.inf)
    for region in sorted(sets):
        mask = regions == region
        z = []
        for c in sets[region]:
            y, x = np.unravel_index(np.where(mask, q[c], -1).argmax(), mask.shape)
            z.append(features[:, y, x])
        v = np.einsum("cd,dhw->chw", np.array(z), features)
        winner, m = v.argmax(axis=0), v.max(axis=0)
        within[region] = mask, sets[region][winner]
        if not expand:
            continue
        limits = np.ones(len(z))
        for c in range(len(z)):
            won = np.sort(m[mask & (winner == c)])
            if won.size:
                limits[c] = won[(won.size - 1) // 2] if threshold == "median" else won[0]
        padded = np.pad(mask, 1)
        height, width = mask.shape
        dilated = np.any(
            [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=0
        )
        around = np.isin(regions, regions[dilated])
        passes = v > limits[:, None, None]
        if strict:
            rivals = np.where(passes, v, -np.inf)
            won = around & (rivals.max(axis=0) > best)
            best[won] = rivals.max(axis=0)[won]
            labels[won] = sets[region][rivals.argmax(axis=0)][won]
        else:
            won = around & passes.any(axis=0)
            labels[won] = sets[region][winner][won]
    for mask, label in within.values():
        labels[mask] = label[mask]
    return labels


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"proto_temperature": 0.1},
        {"threshold": "min"},
        {"strict": True},
        {"strict": True, "threshold": "min"},
        {"expand": False},
    ],
    ids=str,
)
def test_against_whole_image_masks(seed, options):
    inputs = scene(seed)
    expected = slow_map(*inputs, **REFERENCE | options)
    labels = pseudo_label_map(*inputs, **REFERENCE | options)
    assert labels.dtype == torch.uint8
    assert np.array_equal(labels.numpy(), expected)


def test_the_options_are_told_apart():
    maps = [
        pseudo_label_map(*scene(), **REFERENCE | options)
        for options in (
            {},
            {"proto_temperature": 0.1},
            {"threshold": "min"},
            {"strict": True},
            {"expand": False},
        )
    ]
    assert len({labels.numpy().tobytes() for labels in maps}) == len(maps)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_coarse_features_give_the_labels_of_upsampled_ones(stride, dtype):
    size, canvas = (22, 27), (24, 32)
    _, cosines, regions, ids, members = scene(1, size)
    random = np.random.default_rng(2)
    grid = torch.from_numpy(random.random((6, canvas[0] // stride, canvas[1] // stride))).to(dtype)
    full = F.interpolate(grid[None], size=canvas, mode="bilinear", align_corners=False)[0]
    inputs = cosines, regions, ids, members
    coarse = pseudo_label_map(grid, *inputs, canvas=canvas, **REFERENCE)
    fine = pseudo_label_map(full[:, : size[0], : size[1]], *inputs, **REFERENCE)
    assert torch.equal(coarse, fine)
    assert len(fine.unique()) > 3


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("grid", [(6, 7), (24, 28), (1, 1), (5, 28)])
def test_sampling_equals_interpolation(grid, aligned):
    canvas, size = (24, 28), (21, 25)
    features = torch.rand(3, *grid, dtype=torch.float64)
    full = F.interpolate(features[None], size=canvas, mode="bilinear", align_corners=aligned)[0]
    field = FeatureMap(features, size, canvas, aligned)
    pixels = torch.arange(size[0] * size[1])
    expected = full[:, : size[0], : size[1]].flatten(1)
    assert torch.allclose(field.sample(features.flatten(1), pixels), expected, atol=1e-12)
    similar = Similarities(field, pixels[::40])
    rows = np.array([2, 0, 5])
    assert torch.allclose(
        similar.at(rows, pixels), expected[:, pixels[::40][rows]].T @ expected, atol=1e-12
    )


def test_prototype_by_hand():
    """Softmax at temperature 1: the largest cosine is not always the largest probability."""
    cosines = torch.tensor([[[0.9, 0.8, 0.1]], [[0.9, 0.0, 0.5]]])
    asked = asked_pixels(np.array([[3, 3, 3]]), np.array([3]), np.array([[True, True]]))
    found = prototypes(cosines, asked, 1.0)
    assert found.label.tolist() == [0, 1]
    assert found.pixel.tolist() == [1, 2]


def test_thresholds_by_hand():
    within = WithinLabels(
        torch.tensor([0, 0, 2, 0, 0]), torch.tensor([0.4, 0.1, 0.7, 0.3, 0.2], dtype=torch.float64)
    )
    assert thresholds(within, 4, "median").tolist() == [0.2, 1.0, 0.7, 1.0]
    assert thresholds(within, 4, "min").tolist() == [0.1, 1.0, 0.7, 1.0]
    with pytest.raises(ValueError, match="'mean'; known: median, min"):
        thresholds(within, 4, "mean")


def test_neighbours_by_hand():
    regions = np.array([[0, 0, 1], [0, 2, 1], [3, 2, 4]])
    near = neighbours(regions, np.array([0, 4]), 6)
    assert near[0].tolist() == [True, True, True, True, False, False]
    assert near[1].tolist() == [False, True, True, False, True, False]
    line = neighbours(np.array([[5, 0, 1]]), np.array([5]), 6)
    assert np.flatnonzero(line[0]).tolist() == [0, 5]


def test_classes_that_share_a_pixel_tie_and_the_lowest_wins():
    """The class without a pixel of its own gets threshold 1."""
    features = torch.rand(16, 3, 4)
    cosines = torch.zeros(3, 3, 4)
    cosines[1:, 1, 2] = 5.0
    sets = np.array([[False, True, True]])
    asked = asked_pixels(np.zeros((3, 4), dtype=np.int64), np.array([0]), sets)
    found = prototypes(cosines, asked, 1.0)
    assert found.pixel.tolist() == [6, 6]
    similar = Similarities(FeatureMap(features, (3, 4)), found.pixel)
    within = within_region_labels(similar, asked, found)
    assert within.winner.tolist() == [0] * 12
    assert thresholds(within, 2, "median")[1] == 1


def test_a_pixel_that_passes_for_one_class_may_go_to_another():
    """The reference labels it with the most similar class; `strict` with the one that passed."""
    # Region 0 (pixels 0..4) is asked for two classes with prototypes (1, 0) and (0, 1).
    features = torch.tensor([[1.0, 0.0, 0.9, 0.1, 0.0, 0.8], [0.0, 1.0, 0.2, 0.5, 0.6, 0.7]])
    cosines = torch.tensor([[5.0, 0, 0, 0, 0, 0], [0, 5.0, 0, 0, 0, 0]])
    inputs = (
        features.view(2, 1, 6),
        cosines.view(2, 1, 6),
        torch.tensor([[0, 0, 0, 0, 0, 1]]),
        torch.tensor([0]),
        torch.tensor([[True, True]]),
    )
    # Thresholds: class 0 wins {1.0, 0.9} -> 0.9; class 1 wins {1.0, 0.5, 0.6} -> 0.6.
    # The last pixel: 0.8 fails for class 0, 0.7 passes for class 1.
    assert pseudo_label_map(*inputs, **REFERENCE).tolist() == [[0, 1, 0, 1, 1, 0]]
    assert pseudo_label_map(*inputs, **REFERENCE | {"strict": True})[0, 5] == 1


def test_regions_without_a_class_are_neighbours_like_any_other():
    features, cosines, regions, ids, members = scene()
    empty = ~members.any(dim=1)
    assert empty.any()
    labels = pseudo_label_map(features, cosines, regions, ids, members, **REFERENCE)
    rest = pseudo_label_map(features, cosines, regions, ids[~empty], members[~empty], **REFERENCE)
    assert torch.equal(labels, rest)


def test_ids_that_are_not_in_the_map():
    features, cosines, regions, ids, members = scene()
    more = torch.cat([ids, torch.tensor([999])]), torch.cat([members, members[:1]])
    labels = pseudo_label_map(features, cosines, regions, *more, **REFERENCE)
    expected = pseudo_label_map(features, cosines, regions, ids, members, **REFERENCE)
    assert torch.equal(labels, expected)


def test_nothing_asked():
    features, cosines, regions, ids, members = scene()
    for asked, sets in ((ids[:0], members[:0]), (ids, torch.zeros_like(members))):
        labels = pseudo_label_map(features, cosines, regions, asked, sets, **REFERENCE)
        assert (labels == VOID).all()


def test_one_region_of_one_class_of_150():
    cosines, regions = torch.rand(150, 5, 6), torch.zeros(5, 6, dtype=torch.uint8)
    members = torch.arange(150)[None] == 149
    labels = pseudo_label_map(
        torch.rand(4, 5, 6), cosines, regions, torch.tensor([0]), members, **REFERENCE
    )
    assert (labels == 149).all()


def test_half_precision_network():
    """Comparisons run in float32 even where a network runs under autocast."""
    features, cosines, *rest = scene()
    features, cosines = features.bfloat16(), cosines.bfloat16()
    expected = pseudo_label_map(features.float(), cosines.float(), *rest, **REFERENCE)
    with torch.autocast("cpu", torch.bfloat16):
        labels = pseudo_label_map(features, cosines, *rest, **REFERENCE)
    assert torch.equal(labels, expected)


def test_naive_labels():
    cosines = torch.tensor([[[0.1, 0.9]], [[0.5, 0.2]]])
    assert naive_labels(cosines).tolist() == [[1, 0]]
    assert naive_labels(cosines, torch.tensor([[False, True]])).tolist() == [[VOID, 0]]


def test_first_argmax_against_a_loop():
    random = np.random.default_rng(0)
    values = torch.from_numpy(random.integers(0, 4, 200)).double()  # many ties
    groups = torch.from_numpy(random.integers(0, 30, 200))
    expected = [
        min(
            (i for i in range(200) if groups[i] == group),
            key=lambda i: (-values[i], i),
            default=200,
        )
        for group in range(32)
    ]
    assert first_argmax(values, groups, 32).tolist() == expected
    assert expected[-1] == 200


def test_prototypes_come_region_by_region():
    _, cosines, regions, ids, members = scene()
    asked = asked_pixels(regions.numpy(), ids.numpy(), members.numpy())
    found = prototypes(cosines, asked, 1.0)
    assert isinstance(found, Prototypes)
    assert asked.ids.tolist() == sorted(ids[members.any(dim=1)].tolist())
    pairs = list(zip(found.region.tolist(), found.label.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert len(pairs) == members.sum()
    assert np.array_equal(regions.flatten()[found.pixel], asked.ids[found.region])
