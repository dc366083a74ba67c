import numpy as np
import pytest

from alseg.core.images import VOID
from alseg.regions.simple import Grid
from tests.golden.reference.adaptive_superpixel import polygon_clicks


def slow_components(box):
    """8-connected pieces of one label."""
    left = set(np.ndindex(*box.shape))
    count = 0
    while left:
        queue = [left.pop()]
        count += 1
        while queue:
            y, x = queue.pop()
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left and box[near] == box[y, x]:
                    left.remove(near)
                    queue.append(near)
    return count


def slow_crossings(box):
    """Changes along the four sides, without those at a corner pixel that comes first."""
    height, width = box.shape
    count = 0
    for x in (0, width - 1):
        count += sum(box[y, x] != box[y + 1, x] for y in range(1, height - 1))
    for y in (0, height - 1):
        count += sum(box[y, x] != box[y, x + 1] for x in range(1, width - 1))
    return count


@pytest.mark.parametrize("seed", [0, 1])
def test_against_loops(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, VOID], (8, 10)).astype(np.uint8)
    truth = np.kron(coarse, np.ones((3, 3), np.uint8))[:23, :29]
    truth[rng.random(truth.shape) < 0.05] = 1
    regions = Grid(size=(8, 10))(np.zeros((*truth.shape, 3), np.uint8), "")
    vertices = rng.uniform(-3, 33, (60, 2))
    found = polygon_clicks(truth, regions, 11, vertices)  # ids 9 and 10 do not occur
    points = np.zeros(11, np.int64)
    for x, y in np.trunc(vertices).astype(int):
        if 0 <= x < 29 and 0 <= y < 23:
            near = [(y, x - 1), (y, x + 1), (y - 1, x), (y + 1, x)]
            near = [regions[v, u] for v, u in near if 0 <= v < 23 and 0 <= u < 29]
            points[regions[y, x]] += all(region == regions[y, x] for region in near)
    boxes = [truth[y : y + 8, x : x + 10] for y in (0, 8, 16) for x in (0, 10, 20)]
    assert found.components.tolist() == [slow_components(box) for box in boxes] + [0, 0]
    assert found.crossings.tolist() == [slow_crossings(box) for box in boxes] + [0, 0]
    assert found.vertices.tolist() == points.tolist()
    assert found.vertices.any()
    assert np.array_equal(found.total, found.components + found.crossings + found.vertices)


def test_no_polygons():
    truth = np.zeros((4, 4), np.uint8)
    regions = np.full((4, 4), -1)
    regions[:2, :2] = 0
    clicks = polygon_clicks(truth, regions, 1, np.zeros((0, 2)))
    assert [part.tolist() for part in clicks] == [[1], [0], [0]]
