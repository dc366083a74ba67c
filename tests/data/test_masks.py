import numpy as np
import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.core.masks import UNKNOWN, pack_rgb, parse_color
from alseg.data.masks import (
    class_table,
    default_colors,
    read_masks_by_color,
    read_masks_by_id,
    stored_values,
)
from tests.data.make import TABLE, VOID_COLOR, ids, paint, palette_png, picture, save

COLORS = {**TABLE, "nothing": VOID_COLOR}


def read(reader, path):
    return reader.labels(reader.codes(*stored_values(path, reader)))


def test_ids_are_read_as_they_are(tmp_path):
    labels = ids()
    labels[0, 0], labels[0, 1] = 255, 7
    reader = read_masks_by_id({0: "a", 1: "b", 2: "c"})
    found = read(reader, save(tmp_path / "m.png", labels))
    expected = labels.astype(np.int16)
    expected[0, 1] = UNKNOWN
    np.testing.assert_array_equal(found, expected)


def test_ignored_ids_are_void_and_the_rest_is_numbered_through(tmp_path):
    labels = np.array([[0, 1, 2, 3, 200]], dtype=np.uint8)
    names = {0: "void", 1: "a", 2: "odd", 3: "b"}
    reader = read_masks_by_id(names, ["void", "odd", "200"])
    found = read(reader, save(tmp_path / "m.png", labels))
    assert found.tolist() == [[VOID, 0, VOID, 1, VOID]]
    assert class_table(reader).names == ("a", "b")


def test_palette_files_give_indices_or_colours(tmp_path):
    labels = ids(classes=4)
    path = palette_png(tmp_path / "m.png", labels, [*TABLE.values(), VOID_COLOR])
    by_id = read_masks_by_id(dict(enumerate("abcd")))
    np.testing.assert_array_equal(read(by_id, path), labels)
    by_color = read_masks_by_color(COLORS, ["nothing"])
    np.testing.assert_array_equal(read(by_color, path), np.where(labels == 3, VOID, labels))


@pytest.mark.parametrize("kind", ["png", "bmp", "tif"])
def test_colours_are_looked_up(tmp_path, kind):
    labels = ids(classes=4)
    colors = paint(labels)
    colors[5, 6] = (226, 169, 40)  # off by one
    reader = read_masks_by_color(COLORS, ["nothing"])
    found = read(reader, save(tmp_path / f"m.{kind}", colors))
    expected = np.where(labels == 3, VOID, labels).astype(np.int16)
    expected[5, 6] = UNKNOWN
    np.testing.assert_array_equal(found, expected)


def test_other_colours_can_be_void(tmp_path):
    labels = ids(classes=4)
    colors = paint(labels)
    colors[5, 6] = (226, 169, 40)  # off by one
    expected = labels.copy()
    expected[5, 6] = VOID
    found = read(read_masks_by_color(COLORS, others_void=True), save(tmp_path / "m.png", colors))
    np.testing.assert_array_equal(found, expected)


def test_a_colour_can_be_ignored_by_its_value(tmp_path):
    for ignore in (["nothing"], ["#9b9b9b"]):
        reader = read_masks_by_color(COLORS, ignore)
        assert class_table(reader).names == tuple(TABLE)
    reader = read_masks_by_color(TABLE, ["#9b9b9b"])
    np.testing.assert_array_equal(class_table(reader).colors, [*TABLE.values()])
    found = read(reader, save(tmp_path / "m.png", paint(np.array([[0, 3]]))))
    assert found.tolist() == [[0, VOID]]


def test_grey_alpha_and_bits_as_colours(tmp_path):
    reader = read_masks_by_color({"dark": (0, 0, 0), "light": (255, 255, 255)})
    bits = np.array([[0, 255], [255, 0]], dtype=np.uint8)
    expected = [[0, 1], [1, 0]]
    assert read(reader, save(tmp_path / "l.png", bits)).tolist() == expected
    Image.fromarray(bits).convert("1").save(tmp_path / "1.png")
    assert read(reader, tmp_path / "1.png").tolist() == expected
    alpha = np.dstack([bits] * 3 + [np.full_like(bits, 255)])
    assert read(reader, save(tmp_path / "a.png", alpha)).tolist() == expected
    by_id = read_masks_by_id({0: "no", 1: "yes"})
    assert read(by_id, tmp_path / "1.png").tolist() == expected


def test_packing_agrees_with_arithmetic():
    image = picture()
    red, green, blue = (image[..., i].astype(np.int64) for i in range(3))
    expected = red * 65536 + green * 256 + blue
    np.testing.assert_array_equal(pack_rgb(image), expected)


@pytest.mark.parametrize(
    ("array", "ending", "options", "words"),
    [
        (picture(), "png", {}, "colours \\(RGB\\) where class ids"),
        (ids(), "jpg", {}, "compressed by JPEG"),
        (ids().astype(np.uint16) + 300, "png", {}, "values 300 to 302"),
    ],
)
def test_files_that_cannot_hold_ids_are_refused(tmp_path, array, ending, options, words):
    path = save(tmp_path / f"m.{ending}", array, **options)
    with pytest.raises(UserError, match=words):
        read(read_masks_by_id({0: "a", 1: "b"}), path)


@pytest.mark.parametrize("value", ["#12345", "#xyzxyz", [1, 2], [1, 2, 256], [1, 2, 0.5], 7])
def test_nonsense_colours_are_refused(value):
    with pytest.raises(UserError, match=r"colour of 'road' is .* write three whole numbers"):
        parse_color(value, "road")


def test_tables_that_cannot_work_are_refused():
    with pytest.raises(UserError, match="'a' and 'b' have the same colour"):
        read_masks_by_color({"a": (1, 2, 3), "b": (1, 2, 3)})
    with pytest.raises(UserError, match=r"ignore names 'wate'.* write one of water"):
        read_masks_by_color(TABLE, ["wate"])
    with pytest.raises(UserError, match="ignore names 'x'"):
        read_masks_by_id({0: "a", 1: "b"}, ["x"])
    with pytest.raises(UserError, match="holds the id 300, which is out of range"):
        read_masks_by_id({0: "a", 1: "b"}, ["300"])
    with pytest.raises(UserError, match="leaves 1 classes"):
        read_masks_by_id({0: "a", 1: "b"}, ["a"])


def test_default_colours_are_those_of_voc():
    known = {1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    colors = default_colors(256)
    assert {i: tuple(colors[i].tolist()) for i in known} == known
    assert len(np.unique(colors, axis=0)) == 256
