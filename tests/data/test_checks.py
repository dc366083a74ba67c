import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.data import checks
from alseg.data.checks import LINES, Problems, check_images, pair_files
from alseg.data.files import ImageFile
from alseg.data.masks import read_masks_by_color, read_masks_by_id
from alseg.data.reading.known import KnownFiles
from tests.data.make import TABLE, VOID_COLOR, ids, paint, picture, save

BY_ID = read_masks_by_id({0: "water", 1: "road", 2: "roof"})
BY_COLOR = read_masks_by_color({**TABLE, "nothing": VOID_COLOR}, ["nothing"])


def pair(root, name, image, mask):
    return ImageFile(name, save(root / f"{name}.jpg", image), save(root / f"{name}_mask.png", mask))


def message(files, reader=BY_ID, **options):
    problems = Problems("the test set")
    known = KnownFiles(options.pop("cache", None))
    check_images(files, reader, problems, progress=False, known=known, **options)
    with pytest.raises(UserError) as error:
        problems.raise_any()
    return str(error.value)


def fine(files, reader=BY_ID, **options):
    problems = Problems("the test set")
    known = KnownFiles(options.pop("cache", None))
    check_images(files, reader, problems, progress=False, known=known, **options)
    problems.raise_any()


def test_nothing_is_said_of_a_sound_set(tmp_path):
    labels = ids()
    labels[0, :3] = 255
    fine([pair(tmp_path, "a", picture(), labels), pair(tmp_path, "b", picture(), ids())])
    fine([pair(tmp_path, "a", picture(), paint(ids(classes=4)))], BY_COLOR)
    fine([ImageFile("x", save(tmp_path / "x.png", picture()), None)])


def test_pairs(tmp_path):
    problems = Problems("the test set")
    images = {"a": Path("i/a.jpg"), "b": Path("i/b.jpg")}
    files = pair_files(images, {"b": Path("m/b.png"), "c": Path("m/c.png")}, problems)
    assert files == [ImageFile("b", Path("i/b.jpg"), Path("m/b.png"))]
    with pytest.raises(UserError) as error:
        problems.raise_any()
    assert str(error.value).splitlines() == [
        "the test set has 2 problems; mend what is listed here and start again.",
        "images without a mask (1): add the masks or remove the images",
        "  i/a.jpg",
        "masks without an image (1): add the images or remove the masks",
        "  m/c.png",
    ]


def test_a_mask_of_another_size(tmp_path):
    text = message([pair(tmp_path, "a", picture(24, 32), ids(24, 30))])
    assert "masks of another size than their image (1)" in text
    assert "a_mask.png: image 24 x 32, mask 24 x 30 (height x width)" in text


def test_ids_out_of_range(tmp_path):
    first, second = np.zeros((10, 10), np.uint8), np.zeros((10, 10), np.uint8)
    first[:2], second[0], second[1, :5] = 7, 7, 9
    files = [
        pair(tmp_path, "a", picture(10, 10), first),
        pair(tmp_path, "b", picture(10, 10), second),
    ]
    text = message(files)
    assert "ids outside the class table (2)" in text
    assert "  7  15 % of the pixels in 2 of 2 masks (a, b)" in text
    assert "  9  5 % of the pixels in 1 of 2 masks (b)" in text
    assert "  water  0  class 0\n  road   1  class 1  (in no mask)\n" in text


def test_colours_outside_the_table(tmp_path):
    labels = np.zeros((10, 10), np.uint8)
    colors = paint(labels)
    colors[:3] = (80, 227, 194)
    text = message([pair(tmp_path, "a", picture(10, 10), colors)], BY_COLOR)
    assert "colours outside the class table (1)" in text
    assert (
        "  [80, 227, 194]  30 % of the pixels in 1 of 1 masks (a); "
        "nearest in the table: road [110, 193, 228]"
    ) in text
    assert "  water    [226, 169, 41]  class 0\n" in text
    assert "  roof     [60, 16, 152]  class 2  (in no mask)" in text
    assert "  nothing  [155, 155, 155]  void  (in no mask)" in text


def test_smoothed_colours_are_recognised(tmp_path):
    small = Image.fromarray(paint(ids(8, 8)))
    smooth = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC))
    text = message([pair(tmp_path, "a", picture(64, 64), smooth)], BY_COLOR)
    assert f"... and {checks.COLORS - LINES} more" in text
    assert "foreign colours: it was resized smoothly" in text


def test_truncated_files(tmp_path):
    files = [pair(tmp_path, name, picture(99, 99), ids(99, 99)) for name in "ab"]
    for path in (files[0].image, files[1].mask):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (tmp_path / "c.jpg").write_bytes(b"no image")
    text = message([*files, ImageFile("c", tmp_path / "c.jpg", None)])
    assert "files that cannot be read (3): restore or remove them" in text
    for name in ("a.jpg", "b_mask.png", "c.jpg"):
        assert f"  {tmp_path / name} cannot be read (" in text


def test_files_of_the_wrong_kind(tmp_path):
    deep = save(tmp_path / "deep.png", ids().astype(np.uint16))
    turned = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(ids()).save(turned, exif=exif)
    image = save(tmp_path / "x.png", picture())
    files = [ImageFile("a", deep, None), ImageFile("b", image, turned)]
    files.append(ImageFile("c", image, save(tmp_path / "m.jpg", ids())))
    text = message(files)
    assert "files that cannot be used as they are (3): convert them" in text
    assert "deep.png holds 16-bit values" in text
    assert "turned.png has EXIF orientation 3" in text
    assert "m.jpg is compressed by JPEG" in text


def test_long_lists_are_cut():
    problems = Problems("it")
    for i in range(LINES + 37):
        problems.add("images without a mask", f"image {i}")
    with pytest.raises(UserError) as error:
        problems.raise_any()
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"it has {LINES + 37} problems")
    assert len(lines) == 2 + LINES + 1
    assert lines[-1] == "  ... and 37 more"


def test_sound_files_are_not_decoded_twice(tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    files = [pair(tmp_path, "a", picture(), ids()), pair(tmp_path, "b", picture(), ids() + 5)]
    seen = []
    check = checks._check
    monkeypatch.setattr(checks, "_check", lambda *args: seen.append(args[0].name) or check(*args))
    first = message(files, cache=cache)
    assert sorted(seen) == ["a", "b"]
    seen.clear()
    assert message(files, cache=cache) == first  # the table of present classes is remembered
    assert seen == ["b"]
    save(files[1].mask, ids(seed=4))
    seen.clear()
    fine(files, cache=cache)
    fine(files, cache=cache)
    assert seen == ["b"]
    seen.clear()
    other = read_masks_by_id({0: "water", 1: "road", 2: "roof", 3: "tree"})
    fine(files, other, cache=cache)
    assert sorted(seen) == ["a", "b"]


def test_a_damaged_or_foreign_cache_costs_time_alone(tmp_path):
    files = [pair(tmp_path, "a", picture(), ids())]
    for content in ("{", "[1]", '{"a": 1}', '{"a": {"names": ["x"]}}'):
        (tmp_path / "known_files.json").write_text(content)
        fine(files, cache=tmp_path)
        assert list(json.loads((tmp_path / "known_files.json").read_text())) == [str(tmp_path)]


def test_a_file_that_is_gone(tmp_path):
    text = message([ImageFile("a", tmp_path / "gone.png", None)], cache=tmp_path / "cache")
    assert "gone.png" in text


def test_a_file_rewritten_at_the_same_size_is_checked_again(tmp_path):
    image, mask = tmp_path / "a.bmp", tmp_path / "a_mask.bmp"
    files = [ImageFile("a", save(image, picture()), save(mask, ids()))]
    fine(files, cache=tmp_path)
    size, time = mask.stat().st_size, mask.stat().st_mtime
    save(mask, ids() + 5)
    os.utime(mask, (time + 1, time + 1))
    assert mask.stat().st_size == size
    assert "ids outside the class table (3)" in message(files, cache=tmp_path)


def test_a_mask_may_have_the_size_at_which_it_is_loaded(tmp_path):
    image = save(tmp_path / "i.png", picture(9, 8))
    file = ImageFile("i", image, save(tmp_path / "m.png", ids(8, 8)))
    fine([file], loaded=(8, 8), cache=tmp_path)
    assert "another size than their image (1)" in message([file], cache=tmp_path)  # no longer fine
