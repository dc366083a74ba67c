import errno
import os

import pytest

from alseg.core.files import write_atomic


@pytest.mark.parametrize("name", ["write", "fsync", "replace", "mkstemp"])
def test_a_full_disk_is_told_with_the_file_and_leaves_the_old_one(tmp_path, monkeypatch, name):
    """The system names no file where a write fails, and the temporary one elsewhere."""
    import tempfile

    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full:
        def __init__(self, handle, mode):
            os.close(handle)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        write = full

    owner = {"mkstemp": tempfile}.get(name, os)
    monkeypatch.setattr(*(owner, name, full) if name != "write" else (os, "fdopen", Full))
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"):
        write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]
