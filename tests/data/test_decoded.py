import logging
import pickle
import shutil
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from alseg.data import files as files_module
from alseg.data.decoded import DecodedImages
from alseg.data.folder import Folder

SIZE = (30, 40)


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for index in range(4):
        image = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{index}.png")
        mask = (image[..., 0] % 2).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{index}.png")
    return tmp_path


def splits(root, **options):
    data = Folder(str(root), classes=["a", "b"], val="3", **options)
    return data.splits(progress=False)


def refuse(*arguments):
    raise AssertionError("an image was decoded")


@pytest.mark.parametrize("options", [{}, {"scale": 0.5}, {"window": (16, 24)}])
def test_images_are_the_same_and_decoded_once(root, monkeypatch, options):
    plain = splits(root, **options)
    cached = splits(root, cache=str(root / "kept"), **options)
    expected = [plain.train.image(index) for index in range(len(plain.train))]
    first = [cached.train.image(index) for index in range(len(expected))]
    monkeypatch.setattr(files_module, "read_image", refuse)
    again = splits(root, cache=str(root / "kept"), **options)
    again = pickle.loads(pickle.dumps(again))
    for index, image in enumerate(expected):
        assert np.array_equal(first[index], image)
        assert np.array_equal(again.train.image(index), image)
        assert again.train.image(index).flags.writeable
    assert [again.train.fingerprint(i) for i in range(len(expected))] == [
        plain.train.fingerprint(i) for i in range(len(expected))
    ]


def test_another_picture_of_the_same_name_is_another_file(root):
    before = splits(root, cache=str(root / "kept")).train.image(0)
    Image.fromarray(255 - before).save(root / "images" / "0.png")
    after = splits(root, cache=str(root / "kept")).train.image(0)
    assert np.array_equal(after, 255 - before)


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_a_damaged_file_is_written_again(root, content):
    images = splits(root, cache=str(root / "kept")).train
    expected = images.image(1)
    path = images.decoded.path(images.fingerprint(1))
    path.write_bytes(content)
    assert np.array_equal(images.image(1), expected)
    assert np.array_equal(np.load(path), expected)


def test_the_log_says_the_size_and_a_short_disk_keeps_nothing(root, caplog, monkeypatch):
    with caplog.at_level(logging.INFO):
        assert splits(root, cache=str(root / "kept")).train.decoded is not None
    assert f"4 images take 0.00 GB decoded, 0.00 GB of them are not in data.cache={root}" in (
        caplog.text
    )
    usage = namedtuple("usage", "free")(4 * SIZE[0] * SIZE[1] * 3)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    caplog.clear()
    images = splits(root, cache=str(root / "short")).train
    assert "are decoded each time they are used" in caplog.text
    assert images.decoded is None
    assert images.image(0).shape == (*SIZE, 3)


def test_a_disk_that_fills_up_costs_time_alone(tmp_path, monkeypatch, caplog):
    image = np.zeros((2, 3, 3), np.uint8)
    (tmp_path / "ab").write_text("in the way of the folder")
    decoded = DecodedImages(tmp_path)
    for _ in range(2):
        assert decoded.get("abcd", lambda: image) is image
    assert caplog.text.count("images are decoded") == 1
