import unicodedata

import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.data.checks import Problems
from alseg.data.loose import find_images


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a/x.jpg", "a/y.v2.png", "c/d/x.bmp", "c/notes.md", ".hidden/z.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(path) if path.suffix != ".md" else path.write_text("")
    return tmp_path / "photos"


def found(given):
    problems = Problems("here")
    result = find_images(given, problems)
    problems.raise_any()
    return result


def test_a_folder_is_searched_to_the_bottom(folder):
    assert list(found(folder)) == ["a/x", "a/y.v2", "b", "c/d/x"]
    assert found(folder)["c/d/x"] == folder / "c/d/x.bmp"


def test_one_image(folder):
    assert found(folder / "a/y.v2.png") == {"y.v2": folder / "a/y.v2.png"}


def test_a_list_names_images_below_the_folder_they_share(folder, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"photos/c/d/x.bmp\n\n{folder / 'a/x.jpg'}\n")
    assert found(listed) == {"a/x": folder / "a/x.jpg", "c/d/x": folder / "c/d/x.bmp"}
    listed.write_text("photos/a/x.jpg\nphotos/a/y.v2.png\n")
    assert list(found(listed)) == ["x", "y.v2"]


def test_a_list_as_other_machines_write_it(folder, tmp_path):
    apart = folder / unicodedata.normalize("NFD", "ü.png")
    Image.new("RGB", (3, 2)).save(apart)
    listed = tmp_path / "list.txt"
    listed.write_bytes("\ufeffphotos/ü.png\r\nphotos\\a\\x.jpg\r\n".encode())
    assert found(listed) == {"a/x": folder / "a/x.jpg", "ü": apart}
    assert list(found(apart)) == ["ü"]
    listed.write_bytes("photos/ü.png".encode("utf-16"))
    with pytest.raises(UserError, match=r"list\.txt cannot be read .*save it as UTF-8 text"):
        found(listed)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("photos/a/x.jpg\nphotos/none.jpg", r"photos/none\.jpg: .*list\.txt, line 2"),
        ("photos/b.png\nphotos/a/../b.png", r"b\.png: .*list\.txt, lines 1, 2"),
        ("\n", r"list\.txt lists none"),
    ],
)
def test_bad_lists_are_told(folder, tmp_path, lines, sentence):
    (tmp_path / "list.txt").write_text(lines)
    with pytest.raises(UserError, match=sentence):
        found(tmp_path / "list.txt")


def test_names_that_collide_are_refused(folder, tmp_path):
    Image.new("RGB", (3, 2)).save(folder / "b.jpg")
    with pytest.raises(UserError, match=r"b: .*b\.jpg and .*b\.png"):
        found(folder)
    (tmp_path / "list.txt").write_text("photos/b.jpg\nphotos/b.png")
    with pytest.raises(UserError, match=r"b: .*b\.jpg and .*b\.png"):
        found(tmp_path / "list.txt")


@pytest.mark.parametrize("given", ["nowhere", "nowhere.txt", "nowhere.png", "photos/c/notes.md"])
def test_what_is_no_image_is_refused(folder, tmp_path, given):
    with pytest.raises(UserError, match="is no folder, no image"):
        found(tmp_path / given)


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(UserError, match="no images"):
        found(tmp_path)
