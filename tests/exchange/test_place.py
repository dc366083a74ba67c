import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alseg.exchange.place import Place

SCALES = st.one_of(st.just(1.0), st.integers(1, 5).map(float), st.floats(1.001, 6))


@given(st.integers(1, 40), SCALES, st.integers(0, 9), st.floats(0, 0.999))
def test_what_is_drawn_on_a_sheet_is_read_back(pixels, scale, offset, part):
    start = offset + (part if scale > 1 else 0.0)
    size = int(np.ceil(start + pixels * scale - 1e-9))
    place = Place((start, start), (scale, scale), (size, size))
    first, last = place.span(0, 0, pixels)
    owner = np.clip(place.loaded(0, first, last), 0, pixels - 1)
    assert np.array_equal(np.unique(owner), np.arange(pixels))  # each has a pixel of the sheet
    assert (np.diff(owner) >= 0).all()
    sampled = place.sampled(0, 0, pixels)
    assert (sampled >= first).all()
    assert (sampled < last).all()
    assert np.array_equal(owner[sampled - first], np.arange(pixels))
