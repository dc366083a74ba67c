"""Label images that a person saves as an answer, read as the data set's own masks are."""

import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.data.folder import Folder
from alseg.labels.answer_masks import describe_values, read_answer_mask
from tests.data.make import palette_png, picture, save

#: Ids 1 and 2 are the classes 0 and 1; what is shown is the PASCAL VOC palette from its colour 1.
SHOWN = np.array([[128, 0, 0], [0, 128, 0]], dtype=np.uint8)
PAINT = np.array([[10, 20, 30], [200, 100, 50]], dtype=np.uint8)
LABELS = (np.add.outer(np.arange(8), np.arange(12)) // 5 % 2).astype(np.uint8)


def data(root, **options):
    for number in range(2):
        save(root / "images" / f"{number}.png", picture(8, 12, number))
        mask = LABELS + 1 if "classes" in options else PAINT[LABELS]
        save(root / "masks" / f"{number}.png", mask)
    return Folder(str(root), val="1", **options).splits(progress=False).train


def by_ids(root, **options):
    return data(root, classes=["void", "road", "roof"], ignore=["void"], **options)


def by_colors(root, **options):
    colors = {name: color.tolist() for name, color in zip(("road", "roof"), PAINT, strict=True)}
    return data(root, colors=colors, ignore=["#9b0000"], **options)


@pytest.mark.parametrize("form", ["ids", "colours", "palette", "class ids"])
@pytest.mark.parametrize("make", [by_ids, by_colors])
def test_every_form_that_masks_of_the_data_set_may_have(tmp_path, make, form):
    images = make(tmp_path)
    own, raw = (SHOWN, LABELS + 1) if make is by_ids else (PAINT, LABELS)
    path = tmp_path / "answer.png"
    if form == "ids":
        save(path, raw.astype(np.uint8))
    elif form == "colours":
        save(path, own[LABELS])
    elif form == "palette":
        palette_png(path, raw, [*([(9, 9, 9)] * (make is by_ids)), *own.tolist()])
    elif make is by_ids:  # 0 is void in the masks of this data set, and told to be
        save(path, LABELS)
        expected = np.array([VOID, 0], np.uint8)[LABELS]
        np.testing.assert_array_equal(read_answer_mask(path, images, 0), expected)
        return
    else:
        palette_png(path, LABELS, [(1, 1, 1), (2, 2, 2)])  # colours that say nothing
    np.testing.assert_array_equal(read_answer_mask(path, images, 0), LABELS)


def test_what_the_person_is_told(tmp_path):
    assert describe_values(by_ids(tmp_path / "ids")) == (
        "1 road, 2 roof, 0 void, 255 void; or colours: [128, 0, 0] road, [0, 128, 0] roof"
    )
    assert describe_values(by_colors(tmp_path / "colors")) == (
        "[10, 20, 30] road, [200, 100, 50] roof, [155, 0, 0] void; or ids: 0 road, 1 roof, 255 void"
    )


@pytest.mark.parametrize("options", [{"scale": 0.5}, {"size": (4, 24)}])
def test_masks_of_the_size_of_the_file_or_of_the_loaded_image(tmp_path, options):
    images = by_ids(tmp_path, **options)
    high, wide = images.size(0)
    rows, columns = (
        [int((n + 0.5) * m / size) for n in range(size)] for m, size in ((8, high), (12, wide))
    )
    loaded = LABELS[rows][:, columns]
    for labels in (LABELS, loaded):
        path = save(tmp_path / "answer.png", labels + 1)
        np.testing.assert_array_equal(read_answer_mask(path, images, 0), loaded)
    with pytest.raises(UserError, match=rf"is 3 x 12 .* save it at {high} x {wide}"):
        read_answer_mask(save(tmp_path / "answer.png", LABELS[:3] + 1), images, 0)


def test_masks_of_a_window_or_of_the_file_it_is_cut_from(tmp_path):
    images = by_ids(tmp_path, window=(4, 6))
    assert images.names[3] == "0@y4x6"
    for labels in (LABELS, LABELS[4:, 6:]):
        path = save(tmp_path / "answer.png", labels + 1)
        np.testing.assert_array_equal(read_answer_mask(path, images, 3), LABELS[4:, 6:])


def test_black_and_white_are_colours_where_they_are_those_of_classes(tmp_path):
    for number in range(2):
        save(tmp_path / "images" / f"{number}.png", picture(8, 12, number))
        save(tmp_path / "masks" / f"{number}.png", LABELS * 255)
    colors = {"bg": [0, 0, 0], "object": [255, 255, 255]}
    images = Folder(str(tmp_path), colors=colors, val="1").splits(progress=False).train
    assert describe_values(images) == "[0, 0, 0] bg, [255, 255, 255] object"
    np.testing.assert_array_equal(read_answer_mask(tmp_path / "masks" / "0.png", images, 0), LABELS)
    with pytest.raises(UserError, match=r"holds the colour \[1, 1, 1\]"):
        read_answer_mask(save(tmp_path / "ids.png", LABELS), images, 0)


def test_files_that_say_two_things_are_refused(tmp_path):
    images = by_ids(tmp_path)
    path = palette_png(tmp_path / "a.png", LABELS + 1, [(0, 0, 0), SHOWN[1], SHOWN[0]])
    with pytest.raises(UserError, match="as ids and as colours, which say different classes"):
        read_answer_mask(path, images, 0)
    Image.fromarray(LABELS + 1).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="JPEG"):
        read_answer_mask(tmp_path / "a.jpg", images, 0)


def huge(width, height):
    """A PNG of a few bytes that promises so many pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(("width", "height"), [(2**31 - 1, 2**31 - 1), (44_000, 44_000)])
def test_files_that_promise_too_many_pixels_are_not_decoded(tmp_path, width, height, monkeypatch):
    images = by_ids(tmp_path)
    path = tmp_path / "answer.png"
    path.write_bytes(huge(width, height))
    monkeypatch.setattr("alseg.labels.answer_masks.read_labels", lambda path: pytest.fail("read"))
    with pytest.raises(UserError, match=f"is {height} x {width} .* save it at 8 x 12"):
        read_answer_mask(path, images, 0)


def test_what_is_no_file_is_not_opened(tmp_path):
    images = by_ids(tmp_path)
    os.mkfifo(tmp_path / "answer.png")
    for path in (tmp_path / "answer.png", tmp_path):
        with pytest.raises(UserError, match="is not a file"):
            read_answer_mask(path, images, 0)
