import numpy as np
from PIL import Image

from alseg.data.labelmaps import read_label_map, read_origin, write_label_map

COLORS = np.array([[250, 10, 20], [30, 240, 40], [50, 60, 230]], dtype=np.uint8)


def test_a_label_map_holds_ids_and_shows_colours(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (7, 9)).astype(np.uint8)
    path = tmp_path / "a" / "x.png"
    write_label_map(path, labels, COLORS, "made by a test")
    assert np.array_equal(read_label_map(path), labels)
    with Image.open(path) as image:
        assert image.mode == "P"
        assert path.read_bytes()[24] == 8  # bit depth: as other tools expect ids
        assert np.array_equal(np.array(image.convert("RGB")), COLORS[labels])
    assert read_origin(path) == "made by a test"


def test_other_files_have_no_origin(tmp_path):
    Image.new("P", (4, 4)).save(tmp_path / "plain.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert read_origin(tmp_path / "plain.png") is None
    assert read_origin(tmp_path / "broken.png") is None
