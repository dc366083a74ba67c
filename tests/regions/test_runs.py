import numpy as np
import pytest

from alseg.regions.base import runs_of, sizes_of
from alseg.regions.merged import MergedMaps
from alseg.regions.runs import Runs
from tests.toys import BlockMaps


def random_map(seed, shape, top):
    rng = np.random.default_rng(seed)
    small = rng.integers(-1, top, shape).astype(np.int32)
    return np.repeat(small, rng.integers(1, 5, shape[1]), axis=1)


@pytest.mark.parametrize(("shape", "top"), [((7, 9), 5), ((1, 1), 1), ((300, 40), 70_000)])
def test_runs_are_the_map(shape, top):
    regions = random_map(0, shape, top)
    runs = Runs.of(regions)
    assert runs.dense().dtype == np.int32
    assert np.array_equal(runs.dense(), regions)
    assert (np.diff(runs.ids) != 0).all()
    counted = np.bincount(regions[regions >= 0], minlength=top)
    assert np.array_equal(runs.sizes(top), counted)
    assert runs.sizes(top).dtype == np.int64


def test_long_runs_keep_their_length():
    regions = np.zeros((300, 300), dtype=np.int32)
    runs = Runs.of(regions)
    assert runs.lengths.tolist() == [90_000]
    assert runs.sizes(2).tolist() == [90_000, 0]


def test_maps_without_runs_and_merged_maps_have_them_too():
    base = BlockMaps([(32, 48)] * 2)
    roots = [np.arange(24) // 3 * 3, np.zeros(24, dtype=np.int64)]
    for maps in (base, MergedMaps(base, "merged", roots)):
        for image in range(2):
            assert np.array_equal(runs_of(maps, image).dense(), maps[image])
            counted = np.bincount(maps[image].ravel(), minlength=24)
            assert np.array_equal(sizes_of(maps, image), counted)
