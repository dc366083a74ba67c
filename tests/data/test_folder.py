import hashlib
import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.data.folder import Folder
from alseg.data.reading.images import Reading
from tests.data.make import TABLE, VOID_COLOR, folder, ids, paint, picture, save

NAMES = ["water", "road", "roof"]
COLORS = {name: list(color) for name, color in TABLE.items()}


def splits(root, **options):
    if not {"classes", "colors", "class_file"} & options.keys():
        options["classes"] = NAMES
    if not {"val", "val_list", "val_fraction"} & options.keys():
        options["val_fraction"] = 0.25
    return Folder(str(root), **options).splits(progress=False)


def test_ids(tmp_path):
    data = splits(folder(tmp_path), val="a3")
    assert data.train.names == ("a0", "a1", "a2")
    assert data.val.names == ("a3",)
    assert data.train.classes.names == tuple(NAMES)
    assert data.train.classes.colors.shape == (3, 3)
    np.testing.assert_array_equal(data.val.truth(0), ids(26, 33, 3))
    assert data.train.size(1) == data.train.image(1).shape[:2] == (22, 31)


def test_colours_in_nested_folders(tmp_path):
    for tile in (1, 2):
        labels = ids(classes=4, seed=tile)
        save(tmp_path / f"tile_{tile}/images/p.jpg", picture(seed=tile))
        save(tmp_path / f"tile_{tile}/masks/p.png", paint(labels))
    data = splits(
        tmp_path,
        images="*/images",
        masks="*/masks",
        val="tile_2/*",
        colors={**COLORS, "nothing": list(VOID_COLOR)},
        ignore=["nothing"],
    )
    assert data.train.names == ("tile_1/p",)
    assert data.val.names == ("tile_2/p",)
    labels = ids(classes=4, seed=2)
    np.testing.assert_array_equal(data.val.truth(0), np.where(labels == 3, VOID, labels))
    np.testing.assert_array_equal(data.val.classes.colors, [*TABLE.values()])


def test_several_patterns_choose_what_any_of_them_chooses(tmp_path):
    data = splits(folder(tmp_path), train=["a0", "a1", "a2"], val=["a2", "*3"])
    assert data.train.names == ("a0", "a1")
    assert data.val.names == ("a2", "a3")


@pytest.mark.parametrize("ending", ["json", "yaml"])
def test_classes_from_a_file(tmp_path, ending):
    folder(tmp_path / "ids")
    folder(tmp_path / "colors", color=True)
    path = tmp_path / f"classes.{ending}"
    path.write_text(json.dumps(NAMES))
    assert splits(tmp_path / "ids", class_file=str(path)).train.classes.names == tuple(NAMES)
    table = {"water": [226, 169, 41], "road": "#6ec1e4", "roof": [60, 16, 152]}
    path.write_text(json.dumps(table))
    data = splits(tmp_path / "colors", class_file=str(path))
    np.testing.assert_array_equal(data.train.truth(0), splits(tmp_path / "ids").train.truth(0))


@pytest.mark.parametrize(
    "content", ['{"classes": [{"title": "water"}]}', "[1, 2]", "[]", '"water"', "{", "[[1]]"]
)
def test_a_class_file_that_is_none(tmp_path, content):
    path = tmp_path / "classes.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"classes\.json (is not|cannot be read as) a class file"):
        splits(tmp_path, class_file=str(path))


def test_a_file_that_is_not_there_is_said_with_the_folder_it_was_looked_for_in(
    tmp_path, monkeypatch
):
    with pytest.raises(UserError, match=r"data\.class_file=.*gone\.json: no such file; write"):
        splits(tmp_path, class_file=str(tmp_path / "gone.json"))
    root, here = tmp_path / "mine", tmp_path / "here"
    folder(root)
    here.mkdir()
    (root / "classes.json").write_text(json.dumps(NAMES))
    monkeypatch.chdir(here)
    there = f"no such file in {here}, where this command runs; the file is in data.root: write "
    with pytest.raises(UserError, match=re.escape(f"{there}data.class_file={root}/classes.json")):
        splits(root, class_file="classes.json")
    with pytest.raises(
        UserError, match=re.escape(f"data.val_list=val.txt: no such file in {here}")
    ):
        splits(root, val_list="val.txt")
    (here / "classes.json").write_text(json.dumps(NAMES))
    assert splits(root, class_file="classes.json").train.classes.names == tuple(NAMES)


def test_a_random_share_is_stable(tmp_path):
    folder(tmp_path, count=10)
    first = splits(tmp_path, val_fraction=0.3)
    again = splits(tmp_path, val_fraction=0.3)
    assert len(first.val) == 3
    assert first.val.names == again.val.names
    assert sorted({*first.train.names, *first.val.names}) == [f"a{i}" for i in range(10)]
    assert not {*first.train.names} & {*first.val.names}
    others = {splits(tmp_path, val_fraction=0.3, seed=seed).val.names for seed in range(5)}
    assert len(others) > 1


def test_no_validation_must_be_asked_for(tmp_path):
    data = splits(folder(tmp_path), val_fraction=0)
    assert len(data.val) == 0
    assert len(data.train) == 4
    with pytest.raises(UserError, match=r"chosen in exactly one way, not none: data\.val "):
        Folder(str(tmp_path), classes=NAMES)
    with pytest.raises(UserError, match=r"not data\.val and data\.val_fraction"):
        Folder(str(tmp_path), classes=NAMES, val="a*", val_fraction=0.1)


def test_lists(tmp_path):
    folder(tmp_path)
    (tmp_path / "train.txt").write_text("a2\na0.jpg\n")
    (tmp_path / "val.txt").write_text("a1\n")
    lists = {"train_list": str(tmp_path / "train.txt"), "val_list": str(tmp_path / "val.txt")}
    data = splits(tmp_path, **lists)
    assert (data.train.names, data.val.names) == (("a0", "a2"), ("a1",))
    (tmp_path / "val.txt").write_text("a0\na9\n")
    with pytest.raises(UserError) as error:
        splits(tmp_path, **lists)
    assert "listed names without an image (1)" in str(error.value)
    assert "images in both splits (1)" in str(error.value)


def test_without_masks_a_human_answers(tmp_path):
    folder(tmp_path)
    data = splits(tmp_path, masks=None, val_fraction=0)
    assert not data.train.has_truth
    with pytest.raises(UserError, match="masks is null, but 1 validation images need one"):
        splits(tmp_path, masks=None, val="a0")
    for i in range(1, 4):
        (tmp_path / "masks" / f"a{i}.png").unlink()
    data = splits(tmp_path, train_masks=False, val="a0")
    assert not data.train.has_truth
    assert data.val.has_truth
    with pytest.raises(UserError, match=r"images without a mask \(1\)"):
        splits(tmp_path, train_masks=False, val="a1")


def test_everything_wrong_is_said_at_once(tmp_path):
    folder(tmp_path, count=6)
    (tmp_path / "masks" / "a0.png").unlink()
    (tmp_path / "images" / "a1.jpg").unlink()
    save(tmp_path / "masks" / "a2.png", ids(5, 5))
    save(tmp_path / "masks" / "a3.png", ids(26, 33) + 9)
    cut = tmp_path / "images" / "a4.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    save(tmp_path / "images" / "a5.png", picture())
    with pytest.raises(UserError) as error:
        splits(tmp_path, val="a5")
    text = str(error.value)
    assert text.splitlines()[0].endswith(
        "has 8 problems; mend what is listed here and start again."
    )
    for kind in (
        "images without a mask (1)",
        "masks without an image (1)",
        "names that occur twice (1)",
        "files that cannot be read (1)",
        "masks of another size than their image (1)",
        "ids outside the class table (3)",
    ):
        assert kind in text


def test_wrong_patterns_say_what_there_is(tmp_path):
    folder(tmp_path)
    with pytest.raises(UserError, match=r"nothing fits .*pictures"):
        splits(tmp_path, images="pictures")
    with pytest.raises(UserError, match=r"no name fits the choice of validation .* a0, a1, a2"):
        splits(tmp_path, val="tile_6/*")
    with pytest.raises(UserError, match="no name is left for training"):
        splits(tmp_path, val="*")
    with pytest.raises(UserError, match="is not a folder"):
        splits(tmp_path / "gone")


def test_size_and_scale(tmp_path):
    folder(tmp_path)
    data = splits(tmp_path, size=[16, 20], val="a0")
    assert {data.train.image(i).shape for i in range(3)} == {(16, 20, 3)}
    assert data.val.truth(0).shape == data.val.size(0) == (16, 20)
    half = splits(tmp_path, scale=0.5, val="a0")
    assert half.val.image(0).shape == (10, 15, 3)
    small = Image.fromarray(ids(20, 30, 0)).resize((15, 10), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(half.val.truth(0), np.asarray(small))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": []}, "classes must be given in exactly one way"),
        ({"colors": COLORS}, "classes must be given in exactly one way"),
        ({"classes": ["a", "a"]}, "holds 'a' twice"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0; write a share"),
        ({"size": [1]}, "write height and width"),
        ({"train": "a*", "train_list": "x"}, "data.train and data.train_list are both given"),
        ({"ignore": ["sky"]}, "ignore names 'sky'"),
        ({"classes": [], "colors": {"a": [1, 2]}}, "the colour of 'a' is"),
    ],
)
def test_nonsense_options_are_refused_before_any_file_is_read(options, words):
    with pytest.raises(UserError, match=words):
        Folder("nowhere", **{"classes": NAMES, "val_fraction": 0.2, **options})


def test_maps_of_16_bits_and_four_bands(tmp_path, monkeypatch, caplog):
    arrays = {}
    for index in range(4):
        array = np.random.default_rng(index).integers(0, 3000, (20, 24, 4)).astype(np.uint16)
        arrays[f"t{index}"] = array + 1000 * index
        path = tmp_path / "images" / f"t{index}.tif"
        path.parent.mkdir(exist_ok=True)
        options = {"photometric": "minisblack", "planarconfig": "contig"}
        tifffile.imwrite(path, arrays[f"t{index}"], metadata=None, **options)
        save(tmp_path / "masks" / f"t{index}.png", ids(20, 24, index))
    options = {"classes": NAMES, "val": "t3", "bands": [4, 2], "range": ["p5", "p95"]}
    caplog.set_level(logging.INFO, "alseg")
    data, cache = Folder(str(tmp_path), **options), tmp_path / "cache"
    found = data.splits(progress=False, cache=cache)
    pairs = []
    for band in (3, 1):
        pixels = np.concatenate([arrays[f"t{i}"][..., band].ravel() for i in range(3)])
        pairs.append(np.percentile(pixels, [5, 95], method="inverted_cdf").tolist())
    shown = ", ".join(f"[{low:g},{high:g}]" for low, high in pairs)
    assert f"data.range=[p5,p95] of 3 training images is {shown}" in caplog.text
    low, high = pairs[1]
    expected = np.clip((arrays["t3"][..., 1].astype(float) - low) * 255 / (high - low), 0, 255)
    for splits in (found, Folder(str(tmp_path), **options | {"range": pairs}).splits(False)):
        assert splits.val.channels == 2
        np.testing.assert_allclose(splits.val.image(0)[..., 1], expected, atol=0.5001)
        assert splits.val.fingerprint(0) == found.val.fingerprint(0)
    monkeypatch.setattr(Reading, "with_limits_of", None)  # remembered
    assert data.splits(progress=False, cache=cache).val.reading == found.val.reading
    with pytest.raises(UserError, match=r"data\.range gives 3 pairs for 2 bands"):
        Folder(str(tmp_path), **options | {"range": [[0, 1]] * 3})


def test_digests_are_remembered(tmp_path, monkeypatch):
    folder(tmp_path)
    cache, options = tmp_path / "cache", {"classes": NAMES, "val": "a3"}

    def digests(scale=1.0):
        found = Folder(str(tmp_path), scale=scale, **options).splits(False, cache).train
        return [(found.fingerprint(i), found.truth_fingerprint(i)) for i in range(len(found))]

    first = digests()
    content = (tmp_path / "images" / "a1.jpg").read_bytes() + repr((22, 31)).encode()
    assert first[1][0] == hashlib.blake2b(content, digest_size=16).hexdigest()
    read, read_bytes = [], Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or read_bytes(path))
        assert digests() == first
        assert read == ["known_files.json"]
        save(tmp_path / "masks" / "a1.png", ids(22, 31, 7))
        read.clear()
        again = digests()
        assert "a1.png" in read
        assert not {"a0.png", "a0.jpg", "a1.jpg"} & {*read}
    assert [a == b for a, b in zip(again, first, strict=True)] == [True, False, True]
    assert again[1][0] == first[1][0]
    assert not {*digests(0.5)} & {*first}
