"""Masks that can be read and mean something else: void for a class, palettes, tables of classes."""

import logging

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.data.folder import Folder
from tests.data.make import ids, palette_png, picture, save

NAMES = ["bg", "object"]


def write(root, masks, palettes=None, names="012"):
    for number, (name, mask) in enumerate(zip(names, masks, strict=False)):
        save(root / "images" / f"{name}.png", picture(*mask.shape, number))
        if palettes is None:
            save(root / "masks" / f"{name}.png", mask)
        else:
            palette_png(root / "masks" / f"{name}.png", mask, palettes[number])


def load(root, **options):
    given = {"classes": NAMES, "val": "0", **options}
    return Folder(str(root), **given).splits(progress=False)


def refused(root, **options):
    with pytest.raises(UserError) as error:
        load(root, **options)
    return str(error.value)


@pytest.mark.parametrize("values", [(0, 255), (1, 255)])
def test_255_beside_a_class_that_is_in_no_mask(tmp_path, values):
    masks = [np.array(values, np.uint8)[ids(seed=seed, classes=2)] for seed in range(3)]
    write(tmp_path, masks)
    absent = NAMES[1 - values[0]]
    told = refused(tmp_path)
    assert f"255 occurs in 3 of 3 masks (1, 2, 0), and no mask shows '{absent}'" in told
    assert "if 255 is void, list it: data.ignore=[255]" in told
    assert "{bg:[0,0,0],object:[255,255,255]}" in told
    data = load(tmp_path, ignore=["255"])
    np.testing.assert_array_equal(data.val.truth(0), masks[0])
    if values == (0, 255):
        colors = {"bg": [0, 0, 0], "object": [255, 255, 255]}
        data = load(tmp_path, classes=[], colors=colors)
        np.testing.assert_array_equal(data.train.truth(1), masks[2] == 255)


def test_255_beside_all_classes_is_void_from_then_on(tmp_path):
    masks = [np.array([0, 1, 255], np.uint8)[ids(seed=seed)] for seed in range(3)]
    write(tmp_path, masks)
    data = load(tmp_path)
    np.testing.assert_array_equal(data.train.truth(0), masks[1])
    assert [entry.key for entry in data.train.masks.entries] == [0, 1, VOID]


def test_splits_without_a_labelled_pixel(tmp_path):
    void, fine = np.full((24, 32), 255, np.uint8), ids(classes=2)
    write(tmp_path, [void, fine, fine], names=["v", "f0", "f1"])
    assert "the 1 validation masks hold nothing but void" in refused(tmp_path, val="v")
    assert "training masks hold" not in refused(tmp_path, val="v")
    assert "the 1 training masks hold nothing but void" in refused(tmp_path, val="f*")


def test_classes_in_no_mask_are_always_told(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    few, all_three = ids(classes=2), ids(classes=3)
    write(tmp_path, [few, all_three, all_three], names=["few", "all0", "all1"])
    load(tmp_path, classes=["a", "b", "c", "d"], val="few")
    assert "No mask shows the class d of 4 classes." in caplog.text
    assert "No validation mask shows the class c." in caplog.text
    caplog.clear()
    load(tmp_path, classes=["a", "b", "c"], val="all*")
    assert "No training mask shows the class c." in caplog.text
    caplog.clear()
    load(tmp_path, classes=["a", "b", "c"], val="all0", train="all1")
    assert not caplog.text


def test_palettes_that_differ(tmp_path):
    """Ids of palette files count by their number, so that the same number must mean the same."""
    black, red, green = (0, 0, 0), (255, 0, 0), (0, 255, 0)
    masks = [ids(seed=seed, classes=2) for seed in range(3)]
    write(tmp_path, masks, [[black, red], [black, red, green], [red, black]])
    told = refused(tmp_path)
    assert "0 is [0, 0, 0] in 1 and [255, 0, 0] in 2" in told
    assert "data.colors instead of data.classes" in told
    data = load(tmp_path, classes=[], colors={"bg": list(black), "object": list(red)})
    np.testing.assert_array_equal(data.train.truth(0), masks[1])
    np.testing.assert_array_equal(data.train.truth(1), 1 - masks[2])
    greys = [(n, n, n) for n in range(256)]
    write(tmp_path, masks, [[black, red], greys, [black, red, green]])
    np.testing.assert_array_equal(load(tmp_path).train.truth(0), masks[1])


def test_an_ignored_id_that_has_a_name(tmp_path):
    """Whoever ignores id 0 and names ids 1 to 3 must not lose the first name."""
    names = ["road", "roof", "tree"]
    with pytest.raises(UserError, match=r"data\.classes=\[void,road,roof,tree\] data\.ignore=\[v"):
        Folder(str(tmp_path), classes=names, ignore=["0"], val_fraction=0)
    with pytest.raises(UserError, match=r"the class 'tree': .* write data\.ignore=\[tree\]\."):
        Folder(str(tmp_path), classes=names, ignore=["2"], val_fraction=0)
    mask = np.array([[0, 1, 2, 3, 200]], np.uint8)
    write(tmp_path, [mask, mask])
    data = load(tmp_path, classes=["void", *names], ignore=["void", "200"])
    assert data.val.truth(0).tolist() == [[VOID, 0, 1, 2, VOID]]


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("c.yaml", "[no, yes, 010]", ("no", "yes", "010")),
        ("c.yaml", "{1: road, 2: 'no'}", ("road", "no")),
        ("c.json", '{"1": "road", "2": "roof"}', ("road", "roof")),
        ("c.yml", "{no: [010, 0, 0], 010: '#ffffff'}", ("no", "010")),
    ],
)
def test_names_of_a_class_file_stay_as_they_are_written(tmp_path, file, text, names):
    (tmp_path / file).write_text(text, "utf-8-sig")
    palette = {1: 0, 2: 1} if "1" in text and "road" in text else {0: 0, 1: 1, 2: 2}
    mask = np.array([[*palette]], np.uint8)
    if "#" in text:
        mask = np.array([[[10, 0, 0], [255, 255, 255]]], np.uint8)
    for number in range(2):
        save(tmp_path / "images" / f"{number}.png", picture(*mask.shape[:2], number))
        save(tmp_path / "masks" / f"{number}.png", mask)
    data = load(tmp_path, classes=[], class_file=str(tmp_path / file))
    assert data.val.classes.names == names
    assert data.val.truth(0).tolist() == [[*range(len(names))]]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("c.yaml", "{road: [1, 2, 3], roof: [4, 5, 6], road: [7, 8, 9]}"),
        ("c.json", '{"road": [1, 2, 3], "roof": [4, 5, 6], "road": [7, 8, 9]}'),
        ("c.yaml", "[road, roof, road]"),
        ("c.yaml", "{1: road, 2: road}"),
    ],
)
def test_keys_and_names_that_occur_twice(tmp_path, file, text):
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError, match=r"road.* twice"):
        Folder(str(tmp_path), class_file=str(tmp_path / file), val_fraction=0)


def test_train_images_without_masks_hear_of_the_option_that_helps(tmp_path):
    fine = ids(classes=2)
    write(tmp_path, [fine, fine])
    save(tmp_path / "images" / "new.png", picture())
    assert "oracle=human data.train_masks=false" in refused(tmp_path)
    assert len(load(tmp_path, train_masks=False).train) == 2
