import pickle

import numpy as np
import pytest

from alseg.regions.merged import MergedMaps, merged_map


class Base:
    version = "base"

    def __init__(self, maps, num_regions):
        self.maps = maps
        self.num_regions = np.array(num_regions)

    def __getitem__(self, index):
        return self.maps[index]


def scene(seed=0, counts=(7, 300, 12)):
    """Maps with pixels in no region and ids that do not occur, and a root for every id."""
    rng = np.random.default_rng(seed)
    maps = [rng.integers(-1, count, (9, 11)).astype(np.int32) for count in counts]
    for regions in maps:
        regions[regions == 4] = -1
    roots = [rng.integers(0, count, count) for count in counts]
    return Base(maps, counts), roots


def test_every_pixel_gets_the_root_of_its_region():
    base, roots = scene()
    merged = MergedMaps(base, "merged", roots)
    assert merged.version == "merged"
    assert merged.num_regions.tolist() == [7, 300, 12]
    for index, regions in enumerate(base.maps):
        found = merged[index]
        assert found.dtype == np.int32
        expected = [[roots[index][r] if r >= 0 else -1 for r in row] for row in regions.tolist()]
        assert found.tolist() == expected
        assert np.array_equal(found, merged_map(regions, roots[index]))
        assert found.max() >= 6
    assert (base[0] == -1).any()


def test_the_largest_id_that_two_bytes_hold():
    """One more than they hold would wrap to 0."""
    for count in (255, 256, 257, 65_535, 65_536, 65_537):
        base = Base([np.arange(-1, count, dtype=np.int32)[None]], [count])
        merged = MergedMaps(base, "same", [np.arange(count)])
        assert np.array_equal(merged[0], base[0])
    assert MergedMaps(Base([], [60_000]), "x", [np.arange(60_000)]).roots[0].nbytes == 120_000


def test_roots_are_copied():
    base, roots = scene()
    merged = MergedMaps(base, "merged", roots)
    before = merged[0].copy()
    roots[0][:] = 0
    assert np.array_equal(merged[0], before)
    regions = base.maps[0].copy()
    merged_map(regions, np.zeros(7, np.int64))
    assert np.array_equal(regions, base.maps[0])


def test_loader_workers_get_them():
    base, roots = scene()
    merged = MergedMaps(base, "merged", roots)
    again = pickle.loads(pickle.dumps(merged))
    assert all(np.array_equal(again[i], merged[i]) for i in range(3))


@pytest.mark.parametrize("change", [lambda r: r[:2], lambda r: [*r, r[0]], lambda r: r[::-1]])
def test_every_region_needs_a_root(change):
    base, roots = scene()
    with pytest.raises(ValueError, match="every region of the base maps needs a root"):
        MergedMaps(base, "merged", change(roots))


def test_without_images_or_regions():
    assert MergedMaps(Base([], []), "none", []).roots == []
    nothing = np.full((2, 2), -1, np.int32)
    merged = MergedMaps(Base([nothing], [0]), "none", [np.zeros(0, np.int64)])
    assert np.array_equal(merged[0], nothing)
