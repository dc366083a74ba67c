"""The worked example of `alseg/data/README.md` is a plugin that works."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alseg.data
from alseg.cli.compose import options
from alseg.core.errors import UserError
from alseg.data import DATASETS

README = Path(alseg.data.__file__).with_name("README.md")


@pytest.fixture
def fields(tmp_path, monkeypatch):
    code = re.search(r"```python\n# fields\.py\n(.*?)```", README.read_text(), re.S).group(1)
    (tmp_path / "fields.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(DATASETS, "_entries", dict(DATASETS._entries))
    rng = np.random.default_rng(0)
    for number in range(5):
        image = rng.integers(0, 255, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / f"f{number}.jpg")
        np.save(tmp_path / f"f{number}_crop.npy", np.full((8, 12), number % 3))
    yield tmp_path
    sys.modules.pop("fields", None)


def test_the_example_is_a_data_set(fields):
    words = ("plugins=fields", "data=fields", f"data.root={fields}", "data.held_out=1")
    splits = options(*words).components["data"].splits()
    assert list(splits.train.names) == ["f0", "f1", "f2", "f3"]
    assert list(splits.val.names) == ["f4"]
    assert splits.train.size(0) == (8, 12)
    assert (splits.val.truth(0) == 1).all()
    np.save(fields / "f2_crop.npy", np.full((8, 12), 3))
    with pytest.raises(UserError, match="the mask of f2 holds the id 3"):
        options(*words).components["data"].splits()
