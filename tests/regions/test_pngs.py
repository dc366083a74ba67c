import numpy as np
import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.regions.files import Files
from alseg.regions.pngs import write_maps
from tests.toys import BlockMaps


class Holed(BlockMaps):
    """With pixels in no region."""

    def __getitem__(self, index):
        regions = super().__getitem__(index)
        regions[0] = -1
        return regions


def test_maps_come_back_by_regions_files(tmp_path):
    maps, names = Holed([(32, 48), (16, 24)]), ["street/a.jpg", "b"]
    write_maps(maps, names, tmp_path, progress=False)
    with Image.open(tmp_path / "street" / "a.png") as file:
        assert file.mode == "I;16"
        assert np.asarray(file)[0, 0] == 65535
    source = Files(str(tmp_path), void=65535)
    for index, name in enumerate(names):
        image = np.zeros((*maps[index].shape, 3), np.uint8)
        assert np.array_equal(source(image, name), maps[index])


def test_more_ids_than_16_bits_hold(tmp_path):
    maps = BlockMaps([(8, 8)])
    maps.num_regions = np.array([65536])
    with pytest.raises(UserError, match="a has region ids up to 65535, and a PNG"):
        write_maps(maps, ["a"], tmp_path, progress=False)
    assert not list(tmp_path.iterdir())
