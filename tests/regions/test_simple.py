import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.regions import REGIONS
from alseg.regions.base import map_version
from alseg.regions.simple import Grid, WholeImage
from tests.regions.fakes import FakeImages


def cut(source, height, width):
    regions = source(np.zeros((height, width, 3), np.uint8), "x")
    assert regions.dtype == np.int32
    assert regions.shape == (height, width)
    return regions


def test_the_whole_image_is_one_region():
    assert not cut(WholeImage(), 3, 5).any()
    assert WholeImage.unit == "image"


def test_grid_by_size_leaves_smaller_patches_at_the_end():
    assert cut(Grid(size=(2, 3)), 3, 7).tolist() == [
        [0, 0, 0, 1, 1, 1, 2],
        [0, 0, 0, 1, 1, 1, 2],
        [3, 3, 3, 4, 4, 4, 5],
    ]


def test_grid_by_rows_and_cols():
    assert cut(Grid(rows=2, cols=3), 4, 6).tolist() == [
        [0, 0, 1, 1, 2, 2],
        [0, 0, 1, 1, 2, 2],
        [3, 3, 4, 4, 5, 5],
        [3, 3, 4, 4, 5, 5],
    ]


@pytest.mark.parametrize(("length", "parts"), [(10, 4), (10, 6), (7, 7), (5, 1), (480, 7)])
def test_grid_rows_start_at_the_floor_of_equal_shares(length, parts):
    regions = cut(Grid(rows=parts, cols=1), length, 2)
    starts = [i * length // parts for i in range(parts)]
    expected = [sum(y >= start for start in starts) - 1 for y in range(length)]
    assert regions[:, 0].tolist() == expected
    sizes = np.bincount(regions[:, 0], minlength=parts)
    assert len(sizes) == parts
    assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(cut(Grid(rows=1, cols=parts), 2, length), regions.T)


def test_grid_names_all_images_too_small():
    images = FakeImages([(9, 9), (4, 9), (9, 3)])
    Grid(rows=4, cols=3).check(images)
    with pytest.raises(UserError, match=r"2 of 3 images .*0001.jpg \(4 x 9\); .*0002.jpg"):
        Grid(rows=5, cols=4).check(images)
    Grid(size=(100, 100)).check(images)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rows": 3}, "regions.rows is 3 and regions.cols is None"),
        ({"rows": 0, "cols": 2}, "regions.rows is 0"),
        ({"size": (0, 4)}, r"regions.size is \[0, 4\]"),
        ({"size": [4]}, r"regions.size is \[4\]"),
    ],
)
def test_grid_refuses_options(options, said):
    with pytest.raises(UserError, match=said):
        Grid(**options)


def test_size_does_not_matter_beside_rows_and_cols():
    assert Grid(rows=2, cols=2).parameters() == Grid(size=(9, 9), rows=2, cols=2).parameters()
    assert Grid(size=[2, 3]).parameters() == Grid(size=(2, 3)).parameters()
    assert Grid().parameters() != Grid(size=(2, 3)).parameters()


def test_versions_follow_from_parameters_alone():
    assert map_version(Grid(rows=5, cols=5).parameters()) == "grid-d305d320"
    assert map_version({"b": 1, "name": "x"}) == map_version({"name": "x", "b": 1})
    assert map_version({"name": "x", "b": 2}) != map_version({"name": "x", "b": 1})


def test_every_registered_source_says_what_its_units_are():
    units = {name: REGIONS.resolve(name).unit for name in REGIONS}
    assert units == {
        "image": "image",
        "pixels": "pixel",
        "grid": "patch",
        "slic": "region",
        "slic_opencv": "region",
        "components": "region",
        "seeds": "region",
        "seeds_published": "region",
        "files": "region",
    }
