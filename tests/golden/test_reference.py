"""Rules of the references that the library does not follow, against slow loops."""

import itertools
import math
import random

import numpy as np
import pytest

from tests.golden.reference.adaptive_superpixel import published_shuffle
from tests.golden.reference.madbal import spatial_coverage


def test_published_shuffle_is_the_standard_library_s():
    rows = list(range(300))
    random.seed(7)
    random.shuffle(rows)
    state = random.getstate()
    assert published_shuffle(300, seed=7).tolist() == rows
    assert random.getstate() == state, "the shared generator is left alone"
    assert published_shuffle(0, seed=7).tolist() == []


def test_coverage_against_all_pairs():
    pixels = np.random.default_rng(0).permutation(120)[:9]
    places = [divmod(int(p), 15) for p in pixels]
    pairs = [math.dist(a, b) for a, b in itertools.combinations(places, 2)]
    assert spatial_coverage(pixels, 15) == pytest.approx(sum(pairs) / len(pairs))
    assert math.isnan(spatial_coverage(pixels[:1], 15))
