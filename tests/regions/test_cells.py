import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.regions.cells import block_labels, grid_labels, grid_of, shrink_image
from alseg.regions.superpixels import PublishedSeeds, Seeds


def test_answers_and_blocks_undo_each_other():
    labels = np.random.default_rng(0).integers(0, 9, (3, 4)).astype(np.uint8)
    assert np.array_equal(grid_labels(block_labels(labels, 4), 4), labels)
    full = np.arange(4 * 8).reshape(4, 8)
    assert grid_labels(full, 4).tolist() == [[0, 4]]
    assert grid_labels(full[None], 4).tolist() == [[[0, 4]]]


def test_image_on_the_grid():
    image = np.full((40, 80, 3), 7, dtype=np.uint8)
    small = shrink_image(image, (10, 20))
    assert small.shape == (10, 20, 3)
    assert (small == 7).all()


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 97), (61, 90)])
def test_superpixels_of_the_shrunken_image_follow_its_cells(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    regions = PublishedSeeds(region_size=64, shrink=2)(image, "")
    assert regions.shape == (height, width)
    size = grid_of(height, width, 2)
    assert np.array_equal(
        grid_labels(regions, 2), PublishedSeeds(region_size=64)(shrink_image(image, size), "")
    )
    assert np.array_equal(block_labels(grid_labels(regions, 2), 2)[:height, :width], regions)


def test_shrinking_is_part_of_the_name_of_the_maps():
    assert Seeds().parameters() == Seeds(shrink=1).parameters() != Seeds(shrink=4).parameters()
    with pytest.raises(UserError, match=r"regions\.shrink"):
        Seeds(shrink=0)
