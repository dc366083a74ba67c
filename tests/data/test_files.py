import pickle

import numpy as np
import pytest
from PIL import Image

import alseg.core.rasters
from alseg.core.errors import UserError
from alseg.core.images import VOID, WithoutTruth
from alseg.data.files import FileImages, ImageFile, Resize, SceneTable, resize_nearest
from alseg.data.masks import class_table, read_masks_by_id
from tests.data.make import ids, picture, save

READER = read_masks_by_id({0: "a", 1: "b", 2: "c"})


def image_set(files, resize=Resize()):  # noqa: B008
    return FileImages(files, class_table(READER), READER, resize)


def one(path, mask=None, **options):
    return image_set([ImageFile("x", path, mask)], **options)


def test_images_and_masks_are_read_exactly(tmp_path):
    files = []
    for i, name in enumerate(["b", "a"]):
        image = save(tmp_path / f"{name}.png", picture(20 + i, 30, i))
        files.append(ImageFile(name, image, save(tmp_path / f"{name}_m.png", ids(20 + i, 30, i))))
    images = image_set(files)
    assert images.names == ("a", "b")
    assert len(images) == 2
    assert images.has_truth
    np.testing.assert_array_equal(images.image(0), picture(21, 30, 1))
    np.testing.assert_array_equal(images.truth(0), ids(21, 30, 1))
    assert [images.size(i) for i in range(2)] == [(21, 30), (20, 30)]
    assert images.truth(0).dtype == np.uint8
    images.image(0)[:] = 0  # what callers get is theirs


def test_tall_images_are_read_in_bands(tmp_path, monkeypatch):
    monkeypatch.setattr(alseg.core.rasters, "BAND", 7 * 30)
    for height in (6, 7, 20):
        path = save(tmp_path / f"{height}.png", picture(height, 30))
        np.testing.assert_array_equal(one(path).image(0), picture(height, 30))


def test_resizing_agrees_with_pillow(tmp_path):
    image, mask = picture(37, 53), ids(37, 53)
    paths = save(tmp_path / "i.png", image), save(tmp_path / "m.png", mask)
    for resize in (Resize((20, 31)), Resize(None, 0.5), Resize(None, 1.7)):
        images = one(*paths, resize=resize)
        height, width = images.size(0)
        assert (height, width) == {0.5: (19, 27), 1.7: (63, 90), 1.0: (20, 31)}[resize.scale]
        small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(images.image(0), np.asarray(small))
        small = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(images.truth(0), np.asarray(small))


def test_nearest_resizing_of_any_type():
    values = np.arange(35).reshape(5, 7) + (1 << 40)
    for shape in ((5, 7), (3, 4), (11, 2), (1, 1), (10, 14)):
        rows = [int((y + 0.5) * 5 / shape[0]) for y in range(shape[0])]
        columns = [int((x + 0.5) * 7 / shape[1]) for x in range(shape[1])]
        np.testing.assert_array_equal(resize_nearest(values, *shape), values[np.ix_(rows, columns)])


def test_all_common_kinds_become_rgb(tmp_path):
    grey = ids(classes=256)
    color = picture()
    cases = {
        "grey.png": (grey, np.dstack([grey] * 3)),
        "alpha.png": (np.dstack([color, grey]), color),
        "grey_alpha.png": (np.dstack([grey, grey]), np.dstack([grey] * 3)),
        "color.bmp": (color, color),
        "color.tif": (color, color),
    }
    for name, (array, expected) in cases.items():
        np.testing.assert_array_equal(one(save(tmp_path / name, array)).image(0), expected)
    few = Image.fromarray(color).quantize(16)
    few.save(tmp_path / "palette.png")
    expected = np.asarray(few.convert("RGB"))
    np.testing.assert_array_equal(one(tmp_path / "palette.png").image(0), expected)


def test_files_without_a_faithful_rgb_are_refused(tmp_path):
    deep = save(tmp_path / "deep.png", ids().astype(np.uint16))
    ink = tmp_path / "ink.jpg"
    Image.fromarray(picture()).convert("CMYK").save(ink)
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(turned, exif=exif)
    many = tmp_path / "many.tif"
    pages = [Image.fromarray(picture(seed=i)) for i in range(2)]
    pages[0].save(many, save_all=True, append_images=pages[1:])
    for path, words in {
        deep: "holds 16-bit values",
        ink: "colours in CMYK",
        turned: "EXIF orientation 6",
        many: "several pictures",
    }.items():
        with pytest.raises(UserError, match=f"{path.name}.*{words}"):
            one(path).image(0)


def test_a_truncated_image_is_an_error_of_its_file(tmp_path):
    path = save(tmp_path / "cut.jpg", picture(200, 200))
    path.write_bytes(path.read_bytes()[:5000])
    images = one(path)
    assert images.size(0) == (200, 200)
    with pytest.raises(UserError, match=r"cut\.jpg cannot be read"):
        images.image(0)


def test_fingerprints_follow_the_pixels(tmp_path):
    path = save(tmp_path / "x.png", picture())
    first = one(path).fingerprint(0)
    copy = save(tmp_path / "copy.png", picture())
    assert one(copy).fingerprint(0) == first
    assert one(path, resize=Resize(None, 0.5)).fingerprint(0) != first
    assert one(path, resize=Resize((24, 32))).fingerprint(0) == first  # the same pixels
    save(path, picture(seed=1))
    assert one(path).fingerprint(0) != first
    assert len(first) == 32


def test_no_mask_no_truth(tmp_path):
    images = one(save(tmp_path / "x.png", picture()))
    assert not images.has_truth
    with pytest.raises(UserError, match="'x' has no mask"):
        images.truth(0)


def test_a_mask_that_changed_after_the_check_is_an_error(tmp_path):
    labels = ids()
    labels[0, 0] = VOID
    mask = save(tmp_path / "m.png", labels)
    images = one(save(tmp_path / "x.png", picture()), mask)
    assert images.truth(0)[0, 0] == VOID
    labels[3, 3] = 77
    save(mask, labels)
    with pytest.raises(UserError, match=r"m\.png holds values outside the class table"):
        images.truth(0)


def test_image_sets_can_be_pickled(tmp_path):
    images = one(save(tmp_path / "x.png", picture()), save(tmp_path / "m.png", ids()))
    again = pickle.loads(pickle.dumps(images))
    np.testing.assert_array_equal(again.truth(0), images.truth(0))
    assert again.fingerprint(0) == images.fingerprint(0)


@pytest.mark.parametrize(
    ("size", "scale", "words"),
    [
        ([480], 1.0, r"size is \[480\]; write height and width"),
        ([0, 10], 1.0, "write height and width"),
        ([10.5, 10], 1.0, "write height and width"),
        ("480x360", 1.0, "write height and width"),
        (256, 1.0, "write height and width"),
        ([10, 10], 0.5, "both given"),
        (None, 0.0, "write a factor"),
        (None, float("nan"), "write a factor"),
        (None, -1, "write a factor"),
        (None, "half", "write a factor"),
    ],
)
def test_nonsense_sizes_are_refused(size, scale, words):
    with pytest.raises(UserError, match=words):
        Resize.from_options(size, scale)


def test_scenes_belong_to_names(tmp_path):
    path = save(tmp_path / "x.png", picture())
    files = [ImageFile(name, path, None) for name in ("b", "a")]
    scenes = SceneTable(("beach", "river"), {"a": 1, "b": 0, "elsewhere": 1})
    images = FileImages(files, class_table(READER), READER, scenes=scenes)
    assert images.scenes == ("beach", "river")
    assert [images.scene(i) for i in range(2)] == [1, 0]
    assert pickle.loads(pickle.dumps(images)).scene(0) == 1
    shown = WithoutTruth(images)
    assert shown.scenes == ("beach", "river")
    with pytest.raises(PermissionError, match="may not see the scene class"):
        shown.scene(0)
    with pytest.raises(KeyError):
        FileImages(files, class_table(READER), READER, scenes=SceneTable(("beach",), {"a": 0}))


def test_without_scenes(tmp_path):
    images = one(save(tmp_path / "x.png", picture()))
    assert images.scenes == ()
    with pytest.raises(UserError, match="no classes of whole images"):
        images.scene(0)
