"""What a start of the command checks of images, masks and batches before any work."""

import numpy as np
import pytest

from alseg.cli.compose import options
from alseg.cli.run import build
from alseg.core.errors import UserError
from tests.data.make import ids, picture, save

SMALL = [
    "method=random", "regions=grid", "regions.size=[8,8]", "budget.amount=2", "rounds=1",
    "network.architecture=FPN", "network.encoder=resnet18", "network.weights=null",
    "method.steps=2", "method.epoch_steps=2", "method.batch_size=2", "workers=0",
    "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "augment.crop=[64,64]",
]  # fmt: skip


@pytest.fixture
def begin(tmp_path):
    """Start a run on a folder of 4 images, as far as before the first question."""
    for number in range(4):
        save(tmp_path / f"images/{number}.png", picture(24, 32, number))
        save(tmp_path / f"masks/{number}.png", ids(24, 32, number, classes=2))
    words = [
        *SMALL, "data=folder", f"data.root={tmp_path}", "data.classes=[bg,fg]", "data.val=3",
        f"run_dir={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}",
    ]  # fmt: skip
    return lambda *more: build(options(*words, *more))


def test_masks_and_their_table_are_part_of_a_run(begin, tmp_path):
    run = begin()
    run.ledger.round(0).mkdir(parents=True, exist_ok=True)
    (run.ledger.round(0) / "answers.npz").touch()
    begin()
    save(tmp_path / "masks/1.png", 1 - ids(24, 32, 1, classes=2))
    with pytest.raises(UserError, match=r"masks of training images: 1 changed \(1\)\. Restore"):
        begin()
    save(tmp_path / "masks/1.png", ids(24, 32, 1, classes=2))
    begin()
    with pytest.raises(UserError, match=r"masks: '0 bg, 1 fg, 255 void' there, '1 fg, 2 x, 0 void"):
        begin("data.classes=[bg,fg,x]", "data.ignore=[bg]")
    run.ledger.root.joinpath("images.json").unlink()  # as release 0.1 left it
    save(tmp_path / "images/0.png", np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(UserError, match="other training images"):
        begin()


def test_a_folder_of_release_0_1_learns_what_its_masks_are(begin, tmp_path):
    run = begin()
    run.ledger.round(0).mkdir(parents=True, exist_ok=True)
    (run.ledger.round(0) / "answers.npz").touch()
    path = run.ledger.root / "run.json"
    old = run.ledger.read_json(path)
    new = {"masks", "train_masks", "val_masks"}
    run.ledger.write_json(path, {name: value for name, value in old.items() if name not in new})
    run.ledger.root.joinpath("images.json").unlink()
    begin()
    assert run.ledger.read_json(path) == old
    save(tmp_path / "masks/3.png", 1 - ids(24, 32, 3, classes=2))
    with pytest.raises(UserError, match=r"masks of validation images: 1 changed \(3\)"):
        begin()


def test_one_image_per_batch_where_the_network_needs_two(begin):
    begin("method.batch_size=1")  # FPN on crops of 64 x 64 can
    with pytest.raises(UserError, match=r"stage train trains with one .* method\.batch_size=2, or"):
        begin("method.batch_size=1", "network.architecture=DeepLabV3Plus")
    begin("network.architecture=DeepLabV3Plus")
