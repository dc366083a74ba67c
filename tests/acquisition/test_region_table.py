import numpy as np
import pytest
import torch

from alseg.acquisition.region_table import (
    RegionTable,
    region_rows,
    summarize,
)
from tests.golden.reference.mulquery import with_absent_regions


def rows(*triples):
    """A table from (image, unit, label, uncertainty sum, pixels)."""
    return RegionTable(*(np.array(column) for column in zip(*triples, strict=True)))


def maps(seed=0, images=3, size=(8, 9)):
    rng = np.random.default_rng(seed)
    regions = rng.integers(-1, 6, (images, *size))
    regions[regions == 4] = 2  # a hole
    labels = rng.integers(0, 5, (images, *size))
    return rng.random((images, *size)), labels, regions


def table_of(values, labels, regions):
    columns = region_rows(*(torch.from_numpy(a) for a in (values, labels, regions)), 5)
    return RegionTable(**{name: column.numpy() for name, column in columns.items()})


def test_rows_and_summary_against_loops():
    values, labels, regions = maps()
    table = table_of(values, labels, regions)
    weights = np.linspace(0.2, 1, 5)
    expected, summaries = [], []
    for image in range(len(regions)):
        for unit in range(6):
            inside = regions[image] == unit
            if not inside.any():
                continue
            u, y = values[image][inside], labels[image][inside]
            expected += [(image, unit, c, u[y == c].sum(), (y == c).sum()) for c in np.unique(y)]
            dominant = np.bincount(y).argmax()
            weighted = (u * weights[y]).mean()
            summaries.append((image, unit, dominant, u.mean(), len(u), weighted))
    for column, wanted in zip(table, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(column, wanted, rtol=1e-12)
    *plain, weighted = zip(*summaries, strict=True)
    for column, wanted in zip(summarize(table), plain, strict=True):
        np.testing.assert_allclose(column, wanted, rtol=1e-12)
    np.testing.assert_allclose(summarize(table, weights).uncertainty, weighted, rtol=1e-12)


def test_no_region():
    values, labels, regions = maps()
    table = table_of(values, labels, np.full_like(regions, -1))
    assert [len(column) for column in table] == [0] * 5
    assert [len(column) for column in summarize(table)] == [0] * 5


def test_ties_go_to_the_lowest_class():
    table = rows((0, 0, 1, 1.0, 2), (0, 0, 2, 1.0, 2), (0, 1, 1, 1.0, 1), (0, 1, 2, 1.0, 2))
    assert summarize(table).label.tolist() == [1, 2]


def test_absent_regions():
    table = rows((0, 1, 2, 1.0, 2), (2, 0, 1, 0.5, 2), (2, 0, 2, 0.0, 1))
    full = with_absent_regions(table, np.array([0, 2]), 3)
    assert list(zip(*full, strict=True)) == [
        (0, 0, 0, 0.0, 0),
        (0, 1, 2, 1.0, 2),
        (0, 2, 0, 0.0, 0),
        (2, 0, 1, 0.5, 2),
        (2, 0, 2, 0.0, 1),
        (2, 1, 0, 0.0, 0),
        (2, 2, 0, 0.0, 0),
    ]
    summary = summarize(full)
    assert summary.pixels.tolist() == [0, 2, 0, 3, 0, 0]
    assert summary.uncertainty.tolist() == [0, 0.5, 0, pytest.approx(1 / 6), 0, 0]
    assert summary.label.tolist() == [0, 2, 0, 1, 0, 0]


def test_narrow_integers_do_not_overflow():
    """2975 images of 2048 regions as int16 and float32 columns."""
    narrow = RegionTable(
        np.array([2974], np.int16),
        np.array([2047], np.int16),
        np.array([0], np.int16),
        np.array([1.0], np.float32),
        np.array([1], np.int16),
    )
    full = with_absent_regions(narrow, np.array([2974], np.int16), 2048)
    assert full.unit.tolist() == list(range(2048))
    assert full.pixels[-1] == 1
