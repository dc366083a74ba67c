import numpy as np
import pytest
import torch

from alseg.acquisition import statistics
from alseg.acquisition.statistics import (
    class_histogram,
    region_counts,
    region_majority,
    region_sums,
    region_vectors,
    side_by_side,
    sparse_class_sums,
)
from alseg.core.images import VOID

R, C = 9, 4
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8]


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    regions = rng.integers(-1, R - 2, (13, 17))  # the last two regions are empty
    labels = rng.integers(0, C + 1, (13, 17)).astype(np.uint8)
    labels[labels == C] = VOID
    labels[regions == 3] = VOID  # a region without labels
    return rng.random((13, 17)).astype(np.float32), labels, regions


def slow_histogram(labels, regions):
    table = np.zeros((R, C), np.int64)
    for region, label in zip(regions.flat, labels.flat, strict=True):
        if region >= 0 and 0 <= label < C:
            table[region, label] += 1
    return table


@pytest.mark.parametrize("dtype", INTEGERS)
def test_counts_sums_means(maps, dtype):
    values, _, regions = maps
    ids = torch.from_numpy(regions).to(dtype)
    counts = [int((regions == r).sum()) for r in range(R)]
    sums = [float(values[regions == r].astype(np.float64).sum()) for r in range(R)]
    means = [s / n if n else 0.0 for s, n in zip(sums, counts, strict=True)]
    assert counts[-1] == 0
    assert region_counts(ids, R).tolist() == counts
    total = region_sums(torch.from_numpy(values), ids, R)
    assert total.dtype == torch.float64
    assert total.tolist() == pytest.approx(sums, rel=1e-13)
    assert (total / region_counts(ids, R).clamp(min=1)).tolist() == pytest.approx(means, rel=1e-13)
    assert torch.equal(ids, torch.from_numpy(regions).to(dtype)), "inputs are left alone"


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("label_dtype", [torch.uint8, torch.int64, torch.int16])
def test_histogram(maps, dtype, label_dtype):
    _, labels, regions = maps
    expected = slow_histogram(labels, regions)
    given = torch.from_numpy(labels).to(label_dtype)
    table = class_histogram(given, torch.from_numpy(regions).to(dtype), R, C)
    assert table.dtype == torch.int64
    assert table.tolist() == expected.tolist()
    assert torch.equal(given, torch.from_numpy(labels).to(label_dtype)), "inputs are left alone"


def test_negative_labels_are_no_class(maps):
    _, labels, regions = maps
    signed = torch.from_numpy(labels.astype(np.int64))
    signed[signed == VOID] = -1
    table = class_histogram(signed, torch.from_numpy(regions), R, C)
    assert table.tolist() == slow_histogram(labels, regions).tolist()


def test_ids_beyond_32_bits_are_refused_not_wrapped():
    with pytest.raises(ValueError, match=r"-1\.\.4, found 4294967296\.\.4294967296"):
        region_counts(torch.tensor([2**32]), 5)


def test_table_beyond_32_bits_of_bins_keeps_its_place(monkeypatch):
    bins = []

    def record(pairs, minlength):  # the table itself would not fit the memory
        bins.append((pairs, minlength))
        raise StopIteration

    monkeypatch.setattr(torch, "bincount", record)
    with pytest.raises(StopIteration):
        class_histogram(torch.tensor([3]), torch.tensor([2**24 - 1]), 2**24, 254)
    assert bins[0][0].tolist() == [2**24 * 255 + 3]


def test_majority():
    table = torch.tensor([[1, 2, 2], [0, 0, 0], [0, 0, 1], [4, 4, 4]])
    assert region_majority(table).tolist() == [1, -1, 2, 0]


def test_majority_breaks_ties_low_for_many_classes():
    table = torch.ones(40, 200, dtype=torch.int64)
    table[:, 0] = 0
    assert (region_majority(table) == 1).all()


def test_sparse_sums_are_the_dense_table_without_its_zeros(maps):
    values, labels, regions = maps
    rows = sparse_class_sums(
        torch.from_numpy(values), torch.from_numpy(labels), torch.from_numpy(regions), C
    )
    table = slow_histogram(labels, regions)
    region, label = np.nonzero(table)
    assert 0 < len(region) < R * C
    assert rows.region.tolist() == region.tolist()
    assert rows.label.tolist() == label.tolist()
    assert rows.pixels.tolist() == table[region, label].tolist()
    sums = [
        values[(regions == r) & (labels == c)].astype(np.float64).sum()
        for r, c in zip(region, label, strict=True)
    ]
    assert rows.value_sum.tolist() == pytest.approx(sums, rel=1e-13)


def test_sparse_sums_give_weighted_means(maps):
    values, labels, regions = maps
    labels = np.minimum(labels, C - 1)  # predictions: no void
    weights = np.array([0.5, 2.0, 1.0, 0.1])
    rows = sparse_class_sums(*map(torch.from_numpy, (values, labels, regions)), C)
    top = np.bincount(rows.region, weights[rows.label] * rows.value_sum.numpy(), minlength=R)
    mean = top / np.maximum(np.bincount(rows.region, rows.pixels, minlength=R), 1)
    weighted = torch.from_numpy(values * weights[labels])
    ids = torch.from_numpy(regions)
    expected = region_sums(weighted, ids, R) / region_counts(ids, R).clamp(min=1)
    assert mean.tolist() == pytest.approx(expected.tolist(), rel=1e-12)


def test_no_region_at_all():
    nothing = torch.full((2, 3), -1)
    zeros = torch.zeros(2, 3)
    assert region_counts(nothing, 2).tolist() == [0, 0]
    assert region_sums(zeros, nothing, 2).tolist() == [0, 0]
    assert class_histogram(zeros.long(), nothing, 2, 2).tolist() == [[0, 0], [0, 0]]
    assert [len(column) for column in sparse_class_sums(zeros, zeros.long(), nothing, 2)] == [0] * 4
    assert region_counts(torch.zeros(0, dtype=torch.int64), 2).tolist() == [0, 0]


def test_equal_bits_whatever_the_threads():
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(200_000, generator=generator)
    regions = torch.randint(-1, 50, (200_000,), generator=generator)
    labels = torch.randint(0, 3, (200_000,), generator=generator)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            sums = sparse_class_sums(values, labels, regions, 3).value_sum
            results.append((region_sums(values, regions, 50), sums))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_errors_name_the_numbers():
    regions = torch.tensor([0, 5, -1])
    with pytest.raises(ValueError, match=r"-1\.\.4, found -1\.\.5"):
        region_counts(regions, 5)
    with pytest.raises(ValueError, match=r"-1\.\.4, found -2\.\.0"):
        region_sums(torch.zeros(2), torch.tensor([0, -2]), 5)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\) do not match"):
        region_sums(torch.zeros(2), regions, 6)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\) do not match"):
        class_histogram(torch.zeros(2, dtype=torch.uint8), regions, 6, 3)


@pytest.mark.parametrize("size", [(13, 17), (26, 34), (7, 9), (1, 1)])
def test_vectors_of_maps_on_other_grids(maps, size):
    _, _, regions = maps
    values = np.random.default_rng(1).random((3, *size)).astype(np.float32)
    height, width = regions.shape
    expected, counts = np.zeros((R, 3)), np.zeros(R)
    for y, x in np.ndindex(height, width):
        if regions[y, x] >= 0:
            expected[regions[y, x]] += values[:, y * size[0] // height, x * size[1] // width]
            counts[regions[y, x]] += 1
    expected /= np.maximum(counts, 1)[:, None]
    found = region_vectors(torch.from_numpy(values), torch.from_numpy(regions), R)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("together", [1, 2**22])
def test_vectors_of_maps_add_pixel_by_pixel_in_raster_order(maps, monkeypatch, together):
    _, _, regions = maps
    monkeypatch.setattr(statistics, "_TOGETHER", together)
    values = (10 ** np.random.default_rng(2).uniform(-6, 6, (5, 7, 17))).astype(np.float32)
    found = region_vectors(torch.from_numpy(values), torch.from_numpy(regions), R)
    rows = np.arange(13) * 7 // 13
    for k, one in enumerate(values):
        sums = np.bincount(regions.flatten() + 1, one[rows].flatten(), R + 1)[1:]
        counts = np.bincount(regions.flatten() + 1, minlength=R + 1)[1:]
        np.testing.assert_array_equal(found[:, k], sums / np.maximum(counts, 1))


@pytest.mark.parametrize("stray", [-2, 3])
def test_an_id_of_one_image_is_never_taken_for_one_of_the_next(stray):
    regions = torch.tensor([[[0, stray]], [[0, 2]]])
    with pytest.raises(ValueError, match=r"ids must lie in -1..2, found"):
        side_by_side(regions, 3)
