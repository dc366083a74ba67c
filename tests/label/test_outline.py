import numpy as np
import pytest

from alseg.label.outline import outline


def filled(loops, shape):
    """Even-odd fill, pixel middle by pixel middle, by counting crossings to the left."""
    mask = np.zeros(shape, dtype=bool)
    for y in range(shape[0]):
        for x in range(shape[1]):
            crossings = 0
            for loop in loops:
                for (x0, y0), (_, y1) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
                    crossings += (y0 <= y + 0.5) != (y1 <= y + 0.5) and x0 <= x
            mask[y, x] = crossings % 2
    return mask


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_outline_gives_the_mask_back(share):
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = rng.random((7, 9)) < share
        loops = outline(mask)
        assert np.array_equal(filled(loops, mask.shape), mask)
        for loop in loops:  # closed, along the edges, a corner at every point
            steps = np.roll(loop, -1, axis=0) - loop
            assert ((steps == 0).sum(axis=1) == 1).all()
            assert ((steps[:, 0] == 0) != (np.roll(steps, 1, axis=0)[:, 0] == 0)).all()


def test_a_ring_has_two_loops_that_turn_against_each_other():
    mask = np.ones((3, 3), dtype=bool)
    mask[1, 1] = False
    outer, inner = outline(mask)
    assert outer.tolist() == [[0, 0], [3, 0], [3, 3], [0, 3]]
    areas = [
        sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(c, np.roll(c, -1, 0), strict=True)) / 2
        for c in (outer, inner)
    ]
    assert areas == [9, -1]
