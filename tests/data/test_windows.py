import pickle

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.core.windows import window_parts, window_starts
from alseg.data import windows
from alseg.data.files import FileImages, ImageFile, Resize
from alseg.data.folder import Folder
from alseg.data.masks import class_table, read_masks_by_id
from alseg.data.windows import WindowImages
from tests.data.make import folder, ids, picture, save

READER = read_masks_by_id({0: "a", 1: "b", 2: "c"})


@pytest.fixture
def files(tmp_path):
    """`b` of 20 x 30 and `a` of 16 x 9 pixels."""
    found = []
    for seed, (name, size) in enumerate({"b": (20, 30), "a": (16, 9)}.items()):
        image = save(tmp_path / f"{name}.png", picture(*size, seed))
        found.append(ImageFile(name, image, save(tmp_path / f"{name}_m.png", ids(*size, seed))))
    return FileImages(found, class_table(READER), READER)


@pytest.mark.parametrize(
    ("length", "window", "starts"),
    [(160, 160, [0]), (161, 160, [0, 1]), (320, 160, [0, 160]), (500, 160, [0, 160, 320, 340])],
)
def test_starts(length, window, starts):
    assert window_starts(length, window) == starts
    own = np.zeros(length, int)
    for (first, behind), start in zip(window_parts(starts, window, length), starts, strict=True):
        assert start <= first < behind <= start + window
        own[first:behind] += 1
    assert (own == 1).all()


def test_windows_are_slices(files):
    images = WindowImages(files, (8, 9))
    assert images.names[:2] == ("a@y0x0", "a@y8x0")
    assert images.names[2:7] == ("b@y0x0", "b@y0x9", "b@y0x18", "b@y0x21", "b@y8x0")
    assert images.names[-1] == "b@y12x21"
    assert len(images) == 2 + 3 * 4
    for index, name in enumerate(images.names):
        stem, _, place = name.partition("@y")
        top, left = map(int, place.split("x"))
        whole = "ab".index(stem)
        here = slice(top, top + 8), slice(left, left + 9)
        np.testing.assert_array_equal(images.image(index), files.image(whole)[here])
        np.testing.assert_array_equal(images.truth(index), files.truth(whole)[here])
        assert images.size(index) == (8, 9)
    assert images.has_truth
    assert images.scenes == ()
    with pytest.raises(IndexError):
        images.size(len(images))


def test_windows_cover_every_pixel(files):
    images = WindowImages(files, (7, 9))
    seen = [np.zeros(files.size(index), int) for index in range(2)]
    for index, top, left in images.windows:
        seen[index][top : top + 7, left : left + 9] += 1
    assert all(count.min() == 1 for count in seen)
    assert (seen[1] == 1).mean() > 0.5  # only the shifted ones overlap


def test_what_callers_get_is_theirs(files):
    images = WindowImages(files, (8, 9))
    before = images.image(0)
    images.image(0)[:] = 0
    images.truth(0)[:] = 0
    np.testing.assert_array_equal(images.image(0), before)
    np.testing.assert_array_equal(images.truth(0), files.truth(0)[:8, :9])


def test_a_file_is_decoded_once_for_its_windows(files, monkeypatch):
    read = []

    def pixels(self, index):
        read.append(index)
        return picture(20, 30)

    monkeypatch.setattr(FileImages, "pixels", pixels)
    images = WindowImages(files, (8, 9))
    order = [*range(len(images)), 0]
    for index in order:
        images.image(index)
    assert read == [0, 1]
    copy = pickle.loads(pickle.dumps(images))
    copy.image(5)
    assert read == [0, 1, 1], "a worker starts with nothing"
    monkeypatch.setattr(windows, "MEMORY", 1)  # room for one alone
    scarce = WindowImages(files, (8, 9))
    for index in order:
        scarce.image(index)
    assert read == [0, 1, 1, 0, 1, 0]


def test_fingerprints_tell_windows_apart(files, tmp_path):
    images, larger = WindowImages(files, (8, 9)), WindowImages(files, (9, 9))
    prints = [images.fingerprint(index) for index in range(len(images))]
    assert len({*prints, larger.fingerprint(0)}) == len(prints) + 1
    assert prints == [WindowImages(files, (8, 9)).fingerprint(i) for i in range(len(images))]
    save(tmp_path / "a.png", picture(16, 9, 7))
    fresh = FileImages(files.files, class_table(READER), READER)
    again = WindowImages(fresh, (8, 9))
    assert [again.fingerprint(i) == prints[i] for i in (0, 1, 2)] == [False, False, True]


def splits(root, **options):
    options = {"classes": ["a", "b", "c"], "val": "a3", **options}
    return Folder(str(root), **options).splits(progress=False)


def test_a_folder_in_windows(tmp_path):
    data = splits(folder(tmp_path), window=[10, 15])  # a0 has 20 x 30 pixels, a3 26 x 33
    assert len(data.train) == 4 + 3 * 3 + 3 * 3
    assert data.val.names[0] == "a3@y0x0"
    assert {name.partition("@")[0] for name in data.train.names} == {"a0", "a1", "a2"}
    assert {name.partition("@")[0] for name in data.val.names} == {"a3"}
    whole = ids(26, 33, 3)
    # The last window shares 4 rows and 12 columns with its neighbours, which have half of them.
    assert (data.val.truth(8)[:2] == 255).all()
    assert (data.val.truth(8)[:, :6] == 255).all()
    np.testing.assert_array_equal(data.val.truth(8)[2:, 6:], whole[18:, 24:])
    counted = np.full_like(whole, 255)
    times = np.zeros(whole.shape, int)
    for index, (_, top, left) in enumerate(data.val.windows):
        truth, here = data.val.truth(index), np.s_[top : top + 10, left : left + 15]
        times[here] += truth != 255
        counted[here] = np.where(truth == 255, counted[here], truth)
    assert (times == 1).all()
    np.testing.assert_array_equal(counted, whole)
    np.testing.assert_array_equal(data.train.truth(3), ids(20, 30, 0)[10:, 15:])  # asked in full


def test_windows_of_resized_images(tmp_path):
    data = splits(folder(tmp_path), window=(5, 8), scale=0.5)
    assert data.val.resize == Resize(None, 0.5)
    assert [name.partition("@")[2] for name in data.val.names[-2:]] == ["y8x8", "y8x9"]
    whole = splits(tmp_path, scale=0.5)
    np.testing.assert_array_equal(data.val.image(8), whole.val.image(0)[8:13, 9:17])


def test_windows_without_masks(tmp_path):
    data = splits(folder(tmp_path), masks=None, val=None, val_fraction=0, window=[10, 15])
    assert not data.train.has_truth
    assert len(data.val) == 0


def test_windows_that_do_not_fit(tmp_path):
    with pytest.raises(UserError, match=r"smaller than a window \(1\)(?s:.*)a0.jpg: 20 x 30"):
        splits(folder(tmp_path), window=[22, 30])
    for bad in ([0, 8], [8], 8, [8.5, 8]):
        with pytest.raises(UserError, match=r"window is .* write height and width"):
            splits(tmp_path, window=bad)
