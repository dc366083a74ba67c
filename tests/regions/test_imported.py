import pickle

import numpy as np
import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.regions.files import Files
from alseg.regions.imported import import_maps
from tests.toys import BlockMaps, ToyImages

IMAGES = ToyImages(2)
MAPS = BlockMaps([IMAGES.size(0)] * 2)


def released(index):
    """As the papers' extraction writes them: 16 bits, and -1 for pixels that are labelled."""
    labels = MAPS[index].astype(np.int16)
    labels[0, 0] = -1
    return {"labels": labels, "valid_idxes": np.unique(labels[labels >= 0])}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


def check(folder, name="toy_00"):
    found = Files(str(folder), void=65535)(np.zeros((32, 48, 3), np.uint8), name)
    expected = MAPS[0].copy()
    expected[0, 0] = -1
    np.testing.assert_array_equal(found, expected)


def test_a_folder_of_files_named_after_the_images(tmp_path):
    for index, city in enumerate(("a", "b")):
        write(tmp_path / "in" / city / f"toy_{index:02d}_leftImg8bit.pkl", released(index))
    write(tmp_path / "in" / "toy_77.pkl", released(0))  # of no image of the pool
    assert import_maps(tmp_path / "in", tmp_path / "out", IMAGES, progress=False) == 2
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["toy_00.png", "toy_01.png"]
    check(tmp_path / "out")
    assert Image.open(tmp_path / "out" / "toy_01.png").mode == "I;16"


def test_one_file_of_all_images(tmp_path):
    both = {"toy_00.png": released(0)["labels"], "toy_01.png": released(1)}
    path = write(tmp_path / "all.pkl", both)
    assert import_maps(path, tmp_path / "out", IMAGES, progress=False) == 2
    check(tmp_path / "out")


def test_without_images_names_are_those_of_the_files(tmp_path):
    write(tmp_path / "in" / "street" / "a.pickle", released(0)["labels"])
    assert import_maps(tmp_path / "in", tmp_path / "out", progress=False) == 1
    check(tmp_path / "out", "street/a")


def test_what_does_not_fit_is_told(tmp_path):
    write(tmp_path / "in" / "x" / "toy_00.pkl", np.zeros((3, 4), np.int16))
    write(tmp_path / "in" / "y" / "toy_01.pkl", released(1))
    write(tmp_path / "in" / "z" / "toy_01.pkl", released(1))
    with pytest.raises(UserError) as error:
        import_maps(tmp_path / "in", tmp_path / "out", IMAGES, progress=False)
    said = str(error.value)
    assert said.startswith("1 maps were written to ")
    assert "toy_00 is (32, 48), its map in" in said
    assert "toy_01 has maps in" in said
    assert "toy_00 has no map" in said
    for content, words in (
        ({"toy_00": {"segments": 3}}, "holds no region map for toy_00; a map is integers"),
        (np.zeros((2, 2)), "holds no region map for a;"),
        (np.full((2, 2), 65535), "ids up to 65535 in a, and a PNG of 16 bits"),
    ):
        with pytest.raises(UserError, match=words):
            import_maps(write(tmp_path / "a.pkl", content), tmp_path / "out", progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no file that ends in \.pkl or \.pickle"):
        import_maps(tmp_path / "empty", tmp_path / "out", progress=False)
    with pytest.raises(UserError, match=r"there is no .*none; give a pickle file"):
        import_maps(tmp_path / "none", tmp_path / "out", progress=False)
