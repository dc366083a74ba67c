import pickle
import warnings

import numpy as np
import pytest
import torch

import alseg.core.files
from alseg.core.images import VOID
from alseg.data.transforms import TrainTransform
from alseg.labels.supervision import LabelFiles, LabelMaps
from alseg.labels.tables import Answers
from tests.toys import toy_pool


def labels(seed, size=(6, 9)):
    return np.random.default_rng(seed).choice([0, 1, 200, VOID], size).astype(np.uint8)


def test_label_files_give_back_what_was_written(tmp_path):
    files = LabelFiles(tmp_path / "a" / "labels", np.array([2, 5, 11]))
    assert files.missing().tolist() == [2, 5, 11]
    for number, image in enumerate((5, 2)):
        files.write(image, labels(image))
        assert files.missing().tolist() == [[2, 11], [11]][number]
    assert files.missing().dtype == np.int64
    assert sorted(p.name for p in (tmp_path / "a" / "labels").iterdir()) == ["2.png", "5.png"]
    for image in (2, 5):
        target = files(image)
        assert target.tables == {}
        assert list(target.maps) == ["target"]
        assert target.maps["target"].dtype == np.uint8
        assert np.array_equal(target.maps["target"], labels(image))
    files.write(5, labels(7, (4, 4)))  # anew
    assert np.array_equal(files(5).maps["target"], labels(7, (4, 4)))
    with pytest.raises(FileNotFoundError):
        files(11)
    again = pickle.loads(pickle.dumps(files))  # for loader workers
    assert np.array_equal(again(2).maps["target"], labels(2))


def test_nothing_is_missing_of_no_images(tmp_path):
    missing = LabelFiles(tmp_path, np.zeros(0, np.int64)).missing()
    assert missing.dtype == np.int64
    assert len(missing) == 0


def test_a_file_is_whole_or_absent(tmp_path, monkeypatch):
    files = LabelFiles(tmp_path, np.array([3]))

    def full(*args):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(alseg.core.files.os, "fsync", full)
        with pytest.raises(OSError, match="no space left"):
            files.write(3, labels(3))
    assert list(tmp_path.iterdir()) == []
    assert files.missing().tolist() == [3]


def test_labels_from_files_can_be_trained_on(tmp_path):
    """Arrays of image files cannot be written to, and nothing tries."""
    files = LabelFiles(tmp_path, np.array([0]))
    files.write(0, labels(0))
    transform = TrainTransform(crop=(6, 9), scale=(1.0, 1.0), flip=0.0, pad_maps={"target": VOID})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, maps = transform(np.zeros((6, 9, 3), np.uint8), files(0).maps, seed=0)
    assert torch.equal(maps["target"], torch.from_numpy(labels(0)).long())


def test_label_maps_are_what_the_pool_renders():
    _, pool = toy_pool()
    image, unit = np.array([1, 3]), np.array([0, 5])
    pool.commit(Answers(0, "region", "dominant", "blocks", 3, image, unit, np.array([2, 1], np.uint8)))  # fmt: skip  # noqa: E501
    supervision = LabelMaps(pool)
    assert supervision.images.tolist() == [1, 3]
    target = supervision(3).maps["target"]
    assert np.array_equal(target, pool.render(3))
    assert (target == 1).sum() == 64
