import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.truth import class_sets, dominant_labels


def blocky(random, shape, step, ids):
    """A random map of `step` x `step` blocks."""
    coarse = random.integers(0, ids, (-(-shape[0] // step), -(-shape[1] // step)))
    return np.kron(coarse, np.ones((step, step), dtype=np.int64))[: shape[0], : shape[1]]


def scene(seed):
    random = np.random.default_rng(seed)
    regions = blocky(random, (23, 31), 4, 9).astype(np.int32)
    truth = blocky(random, (23, 31), 3, 5).astype(np.uint8)
    truth[random.random(truth.shape) < 0.1] = 3
    truth[truth == 4] = VOID
    return regions, truth


def slow_sets(regions, truth, num_classes, num_regions, trim):
    """Region by region; a pixel is near a border if one lies within the square around it."""
    height, width = regions.shape
    border = {
        (y, x)
        for y, x in np.ndindex(height, width)
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
        if 0 <= v < height and 0 <= u < width and regions[v, u] != regions[y, x]
    }
    reach = range(-(trim // 2), trim // 2 + 1) if trim else ()
    members, sizes = np.zeros((num_regions, num_classes + 1), dtype=bool), []
    for region in range(num_regions):
        everything = [(int(y), int(x)) for y, x in np.argwhere(regions == region)]
        kept = [
            (y, x)
            for y, x in everything
            if not any((y + dy, x + dx) in border for dy in reach for dx in reach)
        ]
        used = kept or everything
        sizes.append(len(used) if used else -1)
        for y, x in used:
            members[region, min(truth[y, x], num_classes)] = True
    return members, sizes


@pytest.mark.parametrize("trim", [0, 1, 3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_class_sets_against_loops(seed, trim):
    regions, truth = scene(seed)
    expected, expected_sizes = slow_sets(regions, truth, 4, 11, trim)
    members, sizes = class_sets(regions, truth, 4, 11, trim)
    assert members.dtype == bool
    assert np.array_equal(members, expected)
    assert sizes.dtype == np.int64
    assert sizes.tolist() == expected_sizes
    assert expected_sizes[9:] == [-1, -1]  # ids without a pixel


def test_a_region_that_trimming_would_remove_keeps_all_its_pixels():
    regions = np.zeros((9, 9), dtype=np.uint16)
    regions[3:5, 3:5] = 1
    truth = np.full((9, 9), 2, dtype=np.uint8)
    truth[3, 3] = 0
    members, sizes = class_sets(regions, truth, 3, 2, trim=5)
    assert members.tolist() == [[False, False, True, False], [True, False, True, False]]
    assert sizes[1] == 4
    assert 0 < sizes[0] < 77


def test_one_region_and_one_class():
    regions, truth = np.zeros((4, 5), dtype=np.int64), np.zeros((4, 5), dtype=np.uint8)
    members, sizes = class_sets(regions, truth, 1, 1, trim=5)
    assert members.tolist() == [[True, False]]
    assert sizes.tolist() == [20]  # the frame of the image is no border
    assert dominant_labels(regions, truth, 1, 1, vote_void=True).tolist() == [0]


def test_all_void():
    regions, truth = np.zeros((4, 5), dtype=np.int64), np.full((4, 5), VOID, dtype=np.uint8)
    members, _ = class_sets(regions, truth, 3, 1)
    assert members.tolist() == [[False, False, False, True]]
    assert dominant_labels(regions, truth, 3, 1, vote_void=False).tolist() == [VOID]


def test_255_classes():
    regions, truth = np.zeros((1, 3), dtype=np.int64), np.array([[254, 254, 255]], dtype=np.uint8)
    members, _ = class_sets(regions, truth, 255, 1)
    assert np.flatnonzero(members[0]).tolist() == [254, 255]
    assert dominant_labels(regions, truth, 255, 1, vote_void=True).tolist() == [254]


@pytest.mark.parametrize("vote_void", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_dominant_labels_against_loops(seed, vote_void):
    regions, truth = scene(seed)
    expected = []
    for region in range(11):
        votes = truth[regions == region].tolist()
        votes = [v for v in votes if vote_void or v != VOID]
        expected.append(min(set(votes), key=lambda v: (-votes.count(v), v)) if votes else VOID)
    labels = dominant_labels(regions, truth, 4, 11, vote_void)
    assert labels.dtype == np.uint8
    assert labels.tolist() == expected


def test_ties_go_to_the_lowest_id_and_void_is_the_highest():
    regions = np.array([[0, 0, 1, 1]])
    truth = np.array([[2, 1, VOID, 0]], dtype=np.uint8)
    assert dominant_labels(regions, truth, 3, 2, vote_void=True).tolist() == [1, 0]


def test_a_label_that_is_no_class():
    regions, truth = np.zeros((1, 2), dtype=np.int64), np.array([[0, 7]], dtype=np.uint8)
    with pytest.raises(UserError, match="class id 7, but the task has 3 classes"):
        class_sets(regions, truth, 3, 1)
    with pytest.raises(UserError, match="class id 7, but the task has 3 classes"):
        dominant_labels(regions, truth, 3, 1, vote_void=True)


@pytest.mark.parametrize("ids", [[[0, 2]], [[-2, 0]]])
def test_ids_out_of_range(ids):
    with pytest.raises(ValueError, match=r"not in -1\.\.1"):
        class_sets(np.array(ids), np.zeros((1, 2), dtype=np.uint8), 3, 2)


@pytest.mark.parametrize("trim", [0, 3])
def test_pixels_of_no_region_belong_to_none(trim):
    """As if they were a region that is then left out."""
    rng = np.random.default_rng(0)
    regions = np.repeat(np.repeat(rng.integers(0, 6, (5, 6)), 4, axis=0), 4, axis=1)
    truth = rng.integers(0, 3, regions.shape).astype(np.uint8)
    holes = np.where(regions == 5, -1, regions)
    members, sizes = class_sets(holes, truth, 3, 5, trim)
    expected, expected_sizes = class_sets(regions, truth, 3, 6, trim)
    assert np.array_equal(members, expected[:5])
    assert np.array_equal(sizes, expected_sizes[:5])
    labels = dominant_labels(holes, truth, 3, 5, vote_void=True)
    assert np.array_equal(labels, dominant_labels(regions, truth, 3, 6, vote_void=True)[:5])
