"""Images and masks are part of what a run is: a change between two starts is told by name."""

import json
import os

import numpy as np
import pytest

from alseg.active.contents import contents_of
from alseg.active.ledger import Ledger
from alseg.core.errors import UserError
from alseg.core.images import DataSplits
from alseg.data.folder import Folder
from tests.data.make import ids, picture, save
from tests.toys import ToyImages


def write(root, count=4):
    for number in range(count):
        save(root / "images" / f"{number}.png", picture(8, 12, number))
        save(root / "masks" / f"{number}.png", ids(8, 12, number, classes=2))


def contents(root, **options):
    given = {"classes": ["a", "b"], "val": "3*", **options}
    return contents_of(Folder(str(root), **given).splits(progress=False))


@pytest.fixture
def begun(tmp_path):
    """A run folder with answers, and its data."""
    write(tmp_path / "data")
    ledger = Ledger(tmp_path / "run")
    ledger.claim_contents(contents(tmp_path / "data"))
    (ledger.round(0)).mkdir(parents=True)
    (ledger.round(0) / "answers.npz").touch()
    return ledger, tmp_path / "data"


def refused(ledger, found):
    with pytest.raises(UserError) as error:
        ledger.check_contents(found)
    return str(error.value)


def test_the_same_files_pass_wherever_they_are(begun, tmp_path):
    ledger, root = begun
    ledger.claim_contents(contents(root))
    (tmp_path / "moved").symlink_to(root)
    ledger.check_contents(contents(tmp_path / "moved"))


def test_masks_that_change_are_named(begun):
    ledger, root = begun
    for name in "03":
        save(root / "masks" / f"{name}.png", 1 - ids(8, 12, int(name), classes=2))
    told = refused(ledger, contents(root))
    assert "masks of training images: 1 changed (0)" in told
    assert "masks of validation images: 1 changed (3)" in told
    assert "training images: 1 changed (0);" not in told.replace("masks of training", "")


def test_images_that_are_swapped_added_or_gone_are_named(begun):
    ledger, root = begun
    times = (root / "images/0.png").stat()
    (root / "images/0.png").rename(root / "images/x.png")
    (root / "images/1.png").rename(root / "images/0.png")
    (root / "images/x.png").rename(root / "images/1.png")
    for name in "01":  # times of change that a copy has kept
        os.utime(root / f"images/{name}.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "training images: 2 changed (0, 1)." in refused(ledger, contents(root))
    write(root)
    for kind in ("images", "masks"):
        (root / kind / "2.png").rename(root / kind / "9.png")
    told = refused(ledger, contents(root))
    assert "training images: 1 added (9), 1 gone (2); masks of training" in told
    assert "labels_from=" in told


def test_a_folder_without_answers_belongs_to_nobody(begun):
    ledger, root = begun
    (ledger.round(0) / "answers.npz").unlink()
    save(root / "images" / "0.png", picture(8, 12, 7))
    ledger.claim_contents(contents(root))
    stored = json.loads((ledger.root / "images.json").read_text())
    assert stored == contents(root)


def test_a_change_of_one_file_is_one_change_for_all_its_windows(tmp_path):
    write(tmp_path)
    before = contents(tmp_path, window=(4, 4))
    assert list(before["train"]) == ["0", "1", "2"]
    save(tmp_path / "masks" / "1.png", ids(8, 12, 9, classes=2))
    after = contents(tmp_path, window=(4, 4))
    assert [n for n in "012" if before["train_masks"][n] != after["train_masks"][n]] == ["1"]


def test_sets_without_files_are_told_by_their_pixels():
    class Changed(ToyImages):
        def truth(self, index):
            labels = super().truth(index)
            return np.flip(labels) if index == 1 else labels

        def image(self, index):
            return ToyImages.image(ToyImages(3), index)

    val = ToyImages(1, seed=2)
    before, after = (contents_of(DataSplits(s, val)) for s in (ToyImages(3), Changed(3)))
    assert before["train"] == after["train"]
    old, new = before["train_masks"], after["train_masks"]
    assert [name for name in old if old[name] != new[name]] == ["toy_01"]
    bare = contents_of(DataSplits(ToyImages(3, has_truth=False), val))
    assert bare["train_masks"] == {}


def test_images_a_checkpoint_is_chosen_on_are_part_of_a_run():
    val, choice = ToyImages(2, seed=1), ToyImages(2, seed=2)
    before = contents_of(DataSplits(ToyImages(3), val))
    after = contents_of(DataSplits(ToyImages(3), val, choice))
    assert {part: after[part] for part in before} == before
    assert set(after) - set(before) == {"choice", "choice_masks"}
    assert after["choice"] != after["val"]
