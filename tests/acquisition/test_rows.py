import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from alseg.acquisition import badge as badge_module
from alseg.acquisition import clustering
from alseg.acquisition.badge import Gradients, badge
from alseg.acquisition.clustering import k_center
from alseg.acquisition.rows import Rows, row_blocks


@pytest.mark.parametrize("rows", [None, np.arange(9), np.array([7, 2, 5]), np.array([], int)])
def test_rows_are_those_of_the_array(rows):
    vectors = np.random.default_rng(0).normal(size=(9, 4))
    wanted = vectors if rows is None else vectors[rows]
    got = Rows(vectors, rows)
    assert (len(got), got.shape) == (len(wanted), wanted.shape)
    assert np.array_equal(got[:], wanted)
    assert np.array_equal(got[1:3], wanted[1:3])
    some = np.arange(len(wanted))[::-1]
    assert np.array_equal(got[some], wanted[some])
    assert np.array_equal(Rows(got, some, np.negative)[:], -wanted[some])


def test_what_fits_is_held_and_what_does_not_is_read_again():
    vectors = np.eye(4)
    held, read = (Rows(vectors, np.array([2, 1]), np.negative, held=size) for size in (64, 63))
    vectors[:] = 7
    assert np.array_equal(held[:], -np.eye(4)[[2, 1]])
    assert np.array_equal(read[:], np.full((2, 4), -7))


def test_all_rows_in_order_are_not_copied():
    vectors = np.eye(5)
    assert np.shares_memory(Rows(vectors, np.arange(5))[1:4], vectors)


@pytest.mark.parametrize("numbers", [1, 7, 1000])
def test_blocks_cover_all_rows_once(numbers):
    vectors = np.arange(33.0).reshape(11, 3)
    parts = [vectors[block] for block in row_blocks(vectors, numbers)]
    assert np.array_equal(np.concatenate(parts), vectors)
    assert all(part.size <= max(3, numbers) for part in parts)
    assert not list(row_blocks(np.zeros((0, 3)), numbers))


@pytest.fixture
def on_disk(tmp_path):
    """Features and errors of units, and which of them are open."""
    rng = np.random.default_rng(0)
    n = 20_000
    features = rng.normal(size=(n, 128)).astype(np.float32)
    error = rng.normal(size=(n, 5)).astype(np.float32)
    np.save(tmp_path / "features.npy", features)
    np.save(tmp_path / "error.npy", error)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("features", "error")]
    return features, error, *mapped, np.flatnonzero(rng.random(n) < 0.9)


def traced(way):
    """What a way returns, and the most memory it held, in bytes."""
    import faiss  # noqa: F401  # or its import would be counted

    tracemalloc.start()
    result = way()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, most


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_cover_of_what_lies_on_the_disk(on_disk, metric, monkeypatch):
    monkeypatch.setattr(clustering, "_SEARCHED", 1024)
    features, _, mapped, _, rows = on_disk
    known = np.setdiff1d(np.arange(len(features)), rows)[:40]
    found, most = traced(
        lambda: k_center(Rows(mapped, rows), 30, rows, features[known], metric, progress=False)
    )
    monkeypatch.setattr(clustering, "_SEARCHED", 1 << 20)
    wanted = k_center(features[rows], 30, rows, features[known], metric, progress=False)
    assert np.array_equal(found, wanted)
    assert most < features.nbytes / 2


def test_gradients_that_lie_on_the_disk(on_disk, monkeypatch):
    monkeypatch.setattr(badge_module, "_BLOCK", 2**13)
    features, error, mapped, mapped_error, rows = on_disk
    uniforms = np.random.default_rng(1).random(30)
    given = Gradients(Rows(mapped_error, rows, np.float64), Rows(mapped, rows, np.float64))
    found, most = traced(lambda: badge(given, rows, uniforms, progress=False))
    monkeypatch.setattr(badge_module, "_BLOCK", 1 << 30)
    doubled = Gradients(error[rows].astype(float), features[rows].astype(float))
    assert np.array_equal(found, badge(doubled, rows, uniforms, progress=False))
    assert most < features.nbytes / 2


def test_searches_take_every_row_once_and_none_is_short():
    step = clustering._SEARCHED
    for n in (0, 1, 5, step, step + 3, 2 * step + step // 2, 2 * step + step // 2 + 1):
        parts = list(clustering._searches(n))
        assert parts[0].start == 0
        assert sum(part.stop - part.start for part in parts) == n
        assert all(a.stop == b.start for a, b in pairwise(parts))
        assert len(parts) == 1 or parts[-1].stop - parts[-1].start >= step // 2
