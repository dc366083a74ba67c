import pytest

from alseg.core.errors import UserError
from alseg.data.checks import Problems
from alseg.data.find import find_files, find_folder, read_list
from tests.data.make import ids, save


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
