"""Run lengths and polygons, against slow definitions and values worked out by hand."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from alseg.exchange.runs import (
    coco_counts,
    fill,
    from_coco,
    from_run_lengths,
    from_thi,
    run_lengths,
    thi_runs,
)
from tests.exchange.tools import brush, runs

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))


@given(MASKS)
def test_masks_come_back_from_every_kind_of_runs(mask):
    flat = mask.ravel()
    assert run_lengths(flat) == runs(flat)
    assert np.array_equal(from_run_lengths(run_lengths(flat), flat.size), flat)
    assert coco_counts(mask) == runs(mask.T.ravel())
    assert np.array_equal(from_coco(coco_counts(mask), *mask.shape), mask)
    assert np.array_equal(from_coco(compressed(coco_counts(mask)), *mask.shape), mask)
    assert np.array_equal(from_thi(thi_runs(mask), *mask.shape), mask)
    assert np.array_equal(from_thi(brush(mask.astype(int)), *mask.shape), mask)


def compressed(counts):
    """Counts as COCO's text: differences, in pieces of five bits."""
    text = ""
    for i, count in enumerate(counts):
        left = count - counts[i - 2] if i > 2 else count
        while True:
            piece, left = left & 31, left >> 5
            more = left != (-1 if piece & 16 else 0)
            text += chr(48 + (piece | (32 if more else 0)))
            if not more:
                break
    return text


def test_values_of_the_formats():
    # bits: 12 values (32), words of 8 (00111), sizes 3 4 8 16 (0010 0011 0111 1111);
    # a run (1) of size 3 (00) of 4 (011) zeros, one of 8 (111) values 255
    bits = f"{12:032b}" + "00111" + "0010001101111111"
    bits += "1" + "00" + "011" + "00000000" + "1" + "00" + "111" + "11111111"
    bits += "0" * (-len(bits) % 8)
    expected = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert thi_runs(np.array([[False, True, True]])) == expected
    assert compressed([0, 5, 40]) == "05X1"
    assert from_coco("05X1", 5, 9)[:, 0].all()
    assert from_coco("05X1", 5, 9).sum() == 5
    assert run_lengths(np.array([True])) == [0, 1]


def test_long_runs_are_cut_where_a_length_has_no_more_bits():
    mask = np.zeros((300, 200), dtype=bool)
    mask[250:] = True
    assert np.array_equal(from_thi(thi_runs(mask), 300, 200), mask)


@pytest.mark.parametrize(
    ("lengths", "clause"),
    [
        ([1, 2], "cover 3 pixels of 4"),
        ([1 << 70], "of 4"),
        ([-1, 5], "whole numbers"),
        ([True, 3], "whole numbers"),
        ([2.0, 2.0], "whole numbers"),
    ],
)
def test_wrong_lengths(lengths, clause):
    with pytest.raises(ValueError, match=clause):
        from_run_lengths(lengths, 4)
    with pytest.raises(ValueError, match=clause):
        from_coco(lengths, 2, 2)


@pytest.mark.parametrize("counts", [None, 5, "\x00", "o", "o" * 50, "é", {"a": 1}])
def test_wrong_counts(counts):
    with pytest.raises(ValueError, match="counts"):
        from_coco(counts, 2, 2)


@given(st.lists(st.integers(0, 255), max_size=40))
def test_bytes_of_chance_are_refused_or_make_a_mask(data):
    with suppress(ValueError):
        assert from_thi(data, 2, 3).shape == (2, 3)


@given(st.text(st.characters(max_codepoint=127), max_size=20))
def test_text_of_chance_is_refused_or_makes_a_mask(text):
    with suppress(ValueError):
        assert from_coco(text, 2, 3).shape == (2, 3)


def test_a_head_that_promises_much_is_refused_before_it_is_believed():
    data = list((0xFFFFFFFF).to_bytes(4, "big")) + [0] * 20
    with pytest.raises(ValueError, match="holds 4294967295 values"):
        from_thi(data, 2, 2)
    with pytest.raises(ValueError, match="cut off"):
        from_thi([0, 0, 0, 16], 2, 2)


CORNERS = st.lists(
    st.tuples(st.floats(-3, 14, width=32), st.floats(-3, 14, width=32)), min_size=3, max_size=8
)


@settings(max_examples=50)
@given(CORNERS)
def test_pixels_of_a_polygon_are_those_with_their_centre_inside(corners):
    """By the crossings of a ray from each centre to the right."""
    height, width = 10, 12
    points = np.array(corners, dtype=np.float64)
    top, left, mask = fill([points], height, width)
    whole = np.zeros((height, width), dtype=bool)
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    for y in range(height):
        for x in range(width):
            inside = False
            for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
                if (y0 <= y + 0.5) != (y1 <= y + 0.5):
                    crossing = x0 + (y + 0.5 - y0) * (x1 - x0) / (y1 - y0)
                    inside ^= crossing > x + 0.5
            assert whole[y, x] == inside


def test_a_hole_stays_open():
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    top, left, mask = fill([square, square / 2 + 1], 6, 6)
    assert (top, left) == (0, 0)
    assert mask.astype(int).tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]


@pytest.mark.parametrize("loop", [[[0, 0], [1, 1]], [[0, 0], [1, 1], [np.nan, 0]], [[1e10, 0]] * 3])
def test_wrong_polygons(loop):
    with pytest.raises(ValueError, match="corners"):
        fill([np.array(loop, dtype=float)], 4, 4)
