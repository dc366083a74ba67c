import numpy as np
import pytest
from skimage.segmentation import find_boundaries

from alseg.regions.geometry import (
    adjacency,
    boundaries,
    bounding_boxes,
    components,
    interior,
    pixels_in,
    pixels_of,
    region_sizes,
    resample_corners,
    widened,
)

NUM_REGIONS = 9


def random_map(seed: int) -> np.ndarray:
    """Blocky regions with holes in the ids and pixels in no region."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice([-1, 0, 1, 2, 4, 7], size=(5, 6))
    regions = np.repeat(np.repeat(coarse, 4, axis=0), 3, axis=1).astype(np.int32)
    noise = rng.random(regions.shape) < 0.1
    regions[noise] = rng.choice([-1, 0, 5], size=int(noise.sum()))
    return regions


MAPS = [random_map(seed) for seed in range(4)]
EDGE_CASES = {
    "one pixel": np.zeros((1, 1), np.int32),
    "one column": np.array([[0], [2], [2]], np.int32),
    "no region": np.full((3, 4), -1, np.int32),
    "one region": np.zeros((3, 4), np.int32),
}
ALL = pytest.mark.parametrize("regions", [*MAPS, *EDGE_CASES.values()])


def neighbours(shape, y, x, eight=False):
    steps = [(-1, 0), (1, 0), (0, -1), (0, 1)]
    steps += [(-1, -1), (-1, 1), (1, -1), (1, 1)] if eight else []
    for dy, dx in steps:
        if 0 <= y + dy < shape[0] and 0 <= x + dx < shape[1]:
            yield y + dy, x + dx


@ALL
def test_boundaries_have_a_side_neighbour_of_another_id(regions):
    expected = [
        [any(regions[n] != regions[y, x] for n in neighbours(regions.shape, y, x))
         for x in range(regions.shape[1])]
        for y in range(regions.shape[0])
    ]  # fmt: skip
    assert np.array_equal(boundaries(regions), expected)
    assert np.array_equal(
        boundaries(regions), find_boundaries(regions, mode="thick", connectivity=1)
    )


def test_the_edge_of_pixels_in_no_region_is_a_boundary_on_both_sides():
    assert boundaries(np.array([[0, 0, -1, -1]])).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("width", [0, 1, 3, 5, 41])
@ALL
def test_interior_is_as_far_from_boundaries_as_the_square_reaches(regions, width):
    border = boundaries(regions)
    reach = width // 2
    expected = np.ones(regions.shape, bool)
    for y, x in np.ndindex(*regions.shape):
        square = border[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        expected[y, x] = width == 0 or not square.any()
    assert np.array_equal(interior(regions, width), expected)


def test_interior_by_five_drops_three_pixels_on_either_side():
    regions = np.repeat([[0] * 6 + [1] * 6], 3, axis=0)
    assert interior(regions, 5)[1].tolist() == [True] * 3 + [False] * 6 + [True] * 3


@pytest.mark.parametrize("width", [2, 4, -1, -3])
def test_interior_refuses_squares_without_a_centre(width):
    with pytest.raises(ValueError, match=f"width is {width}"):
        interior(MAPS[0], width)


@ALL
def test_region_sizes(regions):
    sizes = region_sizes(regions, NUM_REGIONS)
    assert sizes.tolist() == [int((regions == r).sum()) for r in range(NUM_REGIONS)]
    assert sizes.dtype == np.int64


@pytest.mark.parametrize("num_regions", [None, NUM_REGIONS, 40_000])
@ALL
def test_pixels_of_lists_each_region_in_raster_order(regions, num_regions):
    order, offsets = pixels_of(regions, num_regions)
    count = num_regions or regions.max() + 1
    assert offsets.shape == (count + 1,)
    assert order.dtype == offsets.dtype == np.int64
    for r in range(min(count, NUM_REGIONS)):
        assert order[offsets[r] : offsets[r + 1]].tolist() == np.flatnonzero(regions == r).tolist()
    assert offsets[0] == 0
    assert offsets[-1] == len(order) == (regions >= 0).sum()


def test_pixels_of_many_regions():
    regions = np.arange(40_000, dtype=np.int32).reshape(200, 200)[::-1]
    order, offsets = pixels_of(regions)
    assert np.array_equal(regions.ravel()[order], np.arange(40_000))
    assert np.array_equal(offsets, np.arange(40_001))


@pytest.mark.parametrize("connectivity", [4, 8])
@ALL
def test_adjacency_lists_each_pair_once_in_order(regions, connectivity):
    pairs = set()
    for y, x in np.ndindex(*regions.shape):
        for n in neighbours(regions.shape, y, x, connectivity == 8):
            a, b = sorted([int(regions[y, x]), int(regions[n])])
            if 0 <= a < b:
                pairs.add((a, b))
    found = adjacency(regions, NUM_REGIONS, connectivity)
    assert found.shape == (len(pairs), 2)
    assert found.dtype == np.int64
    assert [tuple(pair) for pair in found.tolist()] == sorted(pairs)


def test_adjacency_knows_corners_apart():
    regions = np.array([[0, -1], [-1, 1]])
    assert adjacency(regions, 2, 4).tolist() == []
    assert adjacency(regions, 2, 8).tolist() == [[0, 1]]
    assert adjacency(regions[::-1], 2, 8).tolist() == [[0, 1]]
    with pytest.raises(ValueError, match="connectivity is 6"):
        adjacency(regions, 2, 6)


@ALL
def test_bounding_boxes(regions):
    boxes = bounding_boxes(regions, NUM_REGIONS)
    assert boxes.dtype == np.int64
    for r in range(NUM_REGIONS):
        y, x = np.nonzero(regions == r)
        expected = [y.min(), x.min(), y.max() + 1, x.max() + 1] if len(y) else [0, 0, 0, 0]
        assert boxes[r].tolist() == expected


@pytest.mark.parametrize("helper", [region_sizes, pixels_of, adjacency, bounding_boxes])
def test_ids_beyond_the_number_of_regions_are_refused(helper):
    with pytest.raises(ValueError, match="holds region 3, but there are 3 regions"):
        helper(np.array([[0, 3]]), 3)


def test_narrow_integers_do_not_overflow():
    regions = np.array([[254, 255]], dtype=np.uint8)
    assert adjacency(regions, 256).tolist() == [[254, 255]]
    assert region_sizes(regions, 256)[254:].tolist() == [1, 1]
    assert boundaries(regions).all()


@ALL
def test_pixels_of_some_regions(regions):
    ids = np.array([7, 0, 30, 4])
    order, offsets = pixels_in(regions, ids)
    for row, region in enumerate(ids):
        pixels = order[offsets[row] : offsets[row + 1]]
        assert pixels.tolist() == np.flatnonzero(regions == region).tolist()
    assert pixels_in(regions, ids[:0]).order.tolist() == []


def test_pixels_of_narrow_maps():
    regions = np.array([[127, -1, 126]], dtype=np.int8)
    assert pixels_in(regions, np.array([126, 127])).order.tolist() == [2, 0]


@pytest.mark.parametrize("ids", [[1, 2, 1], [-1]])
def test_pixels_of_each_region_once(ids):
    with pytest.raises(ValueError, match="each may be there once"):
        pixels_in(np.array([[1, 2]]), np.array(ids))


@ALL
def test_adjacency_by_first_contact(regions):
    pairs = []
    height, width = regions.shape
    for dy, dx in ((0, 1), (1, 0)):
        for y, x in np.ndindex(height - dy, width - dx):
            pair = sorted([int(regions[y, x]), int(regions[y + dy, x + dx])])
            if 0 <= pair[0] < pair[1] and pair not in pairs:
                pairs.append(pair)
    assert adjacency(regions, NUM_REGIONS, by_contact=True).tolist() == pairs


@pytest.mark.parametrize("connectivity", [4, 8])
@ALL
def test_components(regions, connectivity):
    """Grow each component from its first pixel in raster order."""
    expected = np.where(regions < 0, -1, -2)
    count = 0
    for start in np.ndindex(*regions.shape):
        if expected[start] == -2:
            expected[start], queue = count, [start]
            while queue:
                place = queue.pop()
                for near in neighbours(regions.shape, *place, connectivity == 8):
                    if expected[near] == -2 and regions[near] == regions[start]:
                        expected[near] = count
                        queue.append(near)
            count += 1
    found = components(regions, connectivity)
    assert found.dtype == np.int32
    assert np.array_equal(found, expected)


def test_components_of_labels():
    labels = np.array([[255, 0], [0, 255]], dtype=np.uint8)
    assert components(labels).tolist() == [[0, 1], [2, 3]]
    assert components(labels, 8).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(ValueError, match="connectivity is 6"):
        components(labels, 6)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 24])
def test_corners_stay_corners(length):
    values = np.arange(7 * 12).reshape(7, 12)
    found = resample_corners(values, 7, length)
    step = 11 / (length - 1) if length > 1 else 0.0
    columns = [int(i * step + 0.5) for i in range(length)]
    assert np.array_equal(found, values[:, columns])
    assert np.array_equal(resample_corners(values.T, length, 7), values[:, columns].T)
    if length > 1:
        assert found[-1, -1] == values[-1, -1]


@pytest.mark.parametrize("reach", [0, 1, 3, 20])
def test_widened(reach):
    mask = np.random.default_rng(0).random((9, 11)) < 0.03
    expected = [
        [mask[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1].any()
         for x in range(11)]
        for y in range(9)
    ]  # fmt: skip
    before = mask.copy()
    assert np.array_equal(widened(mask, reach), expected)
    assert np.array_equal(mask, before), "inputs are left alone"
