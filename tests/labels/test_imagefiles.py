import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.labels.imagefiles import ImageFiles


def test_files_are_named_by_image_and_missing_until_they_are_written(tmp_path):
    files = ImageFiles(tmp_path / "new" / "folder", names=["a", "b", "c"])
    assert files.missing([0, 2]).tolist() == [0, 2]
    half = np.array([[1.5, 2]], dtype=np.float16)
    files.write(2, half=half, size=np.array([3, 4]))
    assert [path.name for path in files.folder.iterdir()] == ["c.npz"]
    found = files.read(2)
    assert list(found) == ["half", "size"]
    assert found["half"].dtype == np.float16
    assert np.array_equal(found["half"], half)
    missing = files.missing(np.arange(3))
    assert missing.tolist() == [0, 1]
    assert missing.dtype == files.missing([]).dtype == np.int64


def test_files_of_other_kinds_and_damaged_ones(tmp_path):
    files = ImageFiles(tmp_path, ending="txt")
    files.save(7, b"seven")
    assert (tmp_path / "7.txt").read_bytes() == b"seven"
    with pytest.raises(UserError, match=r"7\.txt"):
        files.read(7)
