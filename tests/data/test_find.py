import os
import unicodedata
from pathlib import Path

import pytest

from alseg.core.errors import UserError
from alseg.data.checks import Problems
from alseg.data.find import find_files, find_folder, fits, read_list
from alseg.data.folder import Folder
from tests.data.make import folder, ids, save


def names(root, pattern):
    problems = Problems("it")
    found = find_files(root, pattern, problems)
    problems.raise_any()
    assert list(found) == sorted(found)
    return {name: str(path.relative_to(root)) for name, path in found.items()}


@pytest.fixture
def tree(tmp_path):
    for path in (
        "images/x.jpg",
        "images/deep/er/y.PNG",
        "images/.z.png",
        "images/.hidden/z.png",
        "images/notes.txt",
        "tile_1/images/x.jpg",
        "tile_2/images/x.tif",
        "tile_2/masks/x.png",
        "7_sat.jpg",
        "7_mask.png",
    ):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    return tmp_path


def test_patterns_name_folders_or_files(tree):
    assert names(tree, "images") == {"x": "images/x.jpg", "deep/er/y": "images/deep/er/y.PNG"}
    assert names(tree, "images/") == names(tree, "images")
    assert names(tree, "*/images") == {
        "tile_1/x": "tile_1/images/x.jpg",
        "tile_2/x": "tile_2/images/x.tif",
    }
    assert names(tree, "tile_*/masks") == {"2/x": "tile_2/masks/x.png"}
    assert names(tree, "*_sat.jpg") == {"7": "7_sat.jpg"}
    assert names(tree, "*_mask.png") == {"7": "7_mask.png"}
    assert names(tree, "images/*") == {"x": "images/x.jpg", "deep/er/y": "images/deep/er/y.PNG"}
    assert names(tree, "**/er") == {"images/deep/y": "images/deep/er/y.PNG"}
    assert len(names(tree, ".")) == 7


def test_dots_in_patterns_are_dots(tree):
    (tree / "7_satxjpg.png").touch()
    assert names(tree, "*_sat.jpg") == {"7": "7_sat.jpg"}


def test_a_name_that_occurs_twice(tmp_path):
    save(tmp_path / "images" / "x.png", ids())
    save(tmp_path / "images" / "x.bmp", ids())
    with pytest.raises(UserError, match=r"names that occur twice \(1\).*\n  x: .*x.bmp and .*x.p"):
        names(tmp_path, "images")


def test_an_empty_folder(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"it has 1 problem; (?s:.*)nothing fits .*images \("):
        names(tmp_path, "images")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"gone is not a folder; set data\.root to the place"):
        find_folder(str(tmp_path / "gone"), "the place")


def test_lists_of_names(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a\n\n b.png \nc.1\n")
    problems = Problems("it")
    assert read_list(path, ["a", "b", "c.1", "d"], problems) == ["a", "b", "c.1"]
    problems.raise_any()
    path.write_text("a\nq\na\n")
    read_list(path, ["a"], problems)
    with pytest.raises(UserError) as error:
        problems.raise_any()
    assert f"  q: {path}, line 2" in str(error.value)
    assert f"  a: {path}, lines 1, 3" in str(error.value)
    with pytest.raises(UserError, match="cannot be read as a list of names"):
        read_list(tmp_path / "gone.txt", [], problems)


def test_names_are_composed_however_the_disk_spells_them(tmp_path):
    name, apart = (unicodedata.normalize(form, "Böden/Café ñ") for form in ("NFC", "NFD"))
    assert name != apart
    save(tmp_path / "images" / f"{name}.png", ids())
    save(tmp_path / "masks" / f"{apart}.png", ids())
    for pattern in ("images", "masks"):
        assert list(names(tmp_path, pattern)) == [name]
    for written in (name, apart, f"{apart}.png", name.replace("/", "\\")):
        (tmp_path / "list.txt").write_text(f"{written}\r\n", encoding="utf-8-sig")
        problems = Problems("it")
        assert read_list(tmp_path / "list.txt", [name], problems) == [name]
        problems.raise_any()
    save(tmp_path / "images" / f"{apart}.png", ids())
    with pytest.raises(UserError, match=r"names that occur twice \(1\)"):
        names(tmp_path, "images")
    deep = unicodedata.normalize("NFD", "Fotos/ü")
    save(tmp_path / deep / "x.png", ids())
    assert list(names(tmp_path, "Fotos/ü")) == ["x"]


def test_links_in_a_circle_are_not_followed(tmp_path):
    for part in "ab":
        save(tmp_path / "set" / "images" / part / "x.png", ids())
    expected = ["a/x", "b/x"]
    images = tmp_path / "set" / "images"
    for link, target in {
        "latest": ".",
        "a/up": "..",
        "a/top": "../../..",  # above the root that is searched
        "b/absolute": str(images),
    }.items():
        (images / link).symlink_to(target, target_is_directory=True)
    assert list(names(tmp_path / "set", "images")) == expected
    assert list(names(tmp_path / "set" / "images", ".")) == expected
    other = tmp_path / "elsewhere"
    save(other / "y.png", ids())
    (images / "c").symlink_to(other, target_is_directory=True)
    (other / "back").symlink_to(images, target_is_directory=True)  # a circle of two links
    assert list(names(tmp_path / "set", "images")) == [*expected, "c/y"]


def test_images_that_two_links_lead_to_are_told_and_masks_may_be_shared(tmp_path):
    root = folder(tmp_path / "set")
    for part in ("images", "masks"):
        (root / part / "more").symlink_to("../../other", target_is_directory=True)
    save(tmp_path / "other" / "z.png", ids())
    (root / "images" / "again").symlink_to("more", target_is_directory=True)
    (root / "masks" / "again").symlink_to("more", target_is_directory=True)
    options = {"classes": ["a", "b", "c"], "val_fraction": 0.25}
    with pytest.raises(UserError, match=r"found twice through a link \(1\).*\n.*again/z\.png and"):
        Folder(str(root), **options).splits(progress=False)
    (root / "images" / "again").unlink()
    save(root / "images" / "again" / "z.png", ids())
    data = Folder(str(root), **options).splits(progress=False)
    assert len(data.train) + len(data.val) == 6


def test_a_folder_that_cannot_be_opened_is_told(tmp_path, monkeypatch):
    for part in "ab":
        save(tmp_path / "images" / part / "x.png", ids())
    scandir = os.scandir

    def forbidden(path):
        if str(path).endswith("images/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(UserError, match=r"cannot be opened \(1\).*\n  .*images/b \(Permission"):
        names(tmp_path, "images")


def test_pictures_whose_ending_is_not_read_are_told(tmp_path):
    for name in ("a.jpg", "b.JFIF", "c.gif", "d.npy", "e.jfif", "notes.txt", "a.jgw", ".x.gif"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / name).touch()
    with pytest.raises(UserError) as error:
        names(tmp_path, "images")
    said = str(error.value)
    assert "pictures whose ending is not read (3): convert them" in said
    for words in (
        "1 of .gif, such as",
        "1 of .npy, such as",
        "2 of .jfif (the same as .jpg: rename), such as",
    ):
        assert words in said
    assert "notes" not in said
    assert list(names(tmp_path, "images/*.jpg")) == ["a"]  # a pattern that says what it wants


def test_stars_alone_have_a_meaning_in_patterns_of_names(tmp_path):
    assert fits("tile [1]/a", "tile [1]/*")
    assert not fits("tile 1/a", "tile [1]/*")
    assert fits("why?", "why?")
    assert not fits("whyx", "why?")
    assert fits("Café", unicodedata.normalize("NFD", "Caf*é"))
    for name in ("a[1]", "a1"):
        save(tmp_path / "images" / f"{name}.png", ids())
        save(tmp_path / "masks" / f"{name}.png", ids())
    data = Folder(str(tmp_path), classes=["a", "b", "c"], val="a[1]").splits(progress=False)
    assert (data.val.names, data.train.names) == (("a[1]",), ("a1",))
    assert names(tmp_path, "images/*[1].png") == {"a": "images/a[1].png"}


def test_a_relative_root(tmp_path, monkeypatch):
    save(tmp_path / "images" / "x.png", ids())
    monkeypatch.chdir(tmp_path)
    assert list(find_files(Path("."), "images", Problems("it"))) == ["x"]
    assert list(find_files(Path("images"), "", Problems("it"))) == ["x"]
    assert list(find_files(Path("."), "", Problems("it"))) == ["images/x"]
