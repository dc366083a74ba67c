"""Checkpoints survive whatever happens while they are written, and what happens to them later."""

import errno
import logging
import os
import shutil
import signal

import pytest
import torch

from alseg.active.checkpoints import PARTIAL, KeptCheckpoint, WholeFiles, epochs_done
from alseg.active.driver import drive
from alseg.active.stopping import StoppedError, stoppable
from alseg.core.errors import UserError
from alseg.methods.baselines.random import Random
from tests.active.test_driver import bought, same_weights
from tests.kills import Killed
from tests.toys import TINY, toy_run


def random_run(root, **options):
    short = {"steps": 4, "batch_size": 2, "epoch_steps": 1, "lr": 1e-3}
    return toy_run(root, rounds=2, method=Random(**{**short, **options}), network=TINY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole") / "run"
    drive(random_run(root))
    return root


def test_a_write_that_fails_leaves_the_file_before(tmp_path, monkeypatch):
    path, files = tmp_path / "deep" / "last.ckpt", WholeFiles()
    files.save_checkpoint({"epoch": 1}, path)
    save = torch.save

    def half(content, file):
        save(content, file)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(UserError, match=r"last\.ckpt could not be written \(No space left"):
        files.save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("at", [1, 3, 6])
def test_a_run_killed_inside_a_checkpoint_goes_on(whole, tmp_path, monkeypatch, at):
    """The process dies with half a file written, and cannot tidy up."""
    count = 0

    def die(self, checkpoint, path, storage_options=None):
        nonlocal count
        count += 1
        if count == at:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(os.path.join(os.path.dirname(path), f"{PARTIAL[0]}x{PARTIAL[1]}"), "wb") as f:
                f.write(b"half")
            raise Killed
        save(self, checkpoint, path, storage_options)

    save = WholeFiles.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(WholeFiles, "save_checkpoint", die)
        with pytest.raises(Killed):
            drive(random_run(tmp_path / "run"))
    assert list((tmp_path / "run").rglob(f"{PARTIAL[0]}*"))
    drive(random_run(tmp_path / "run"))
    assert bought(tmp_path / "run") == bought(whole)
    assert same_weights(tmp_path / "run", whole)
    assert not list((tmp_path / "run").rglob(f"{PARTIAL[0]}*"))


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "foreign"])
def test_a_damaged_checkpoint_is_set_aside_and_its_stage_repeated(whole, tmp_path, caplog, damage):
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    path = root / "round_001" / "train" / "last.ckpt"
    content = path.read_bytes()
    if damage == "foreign":
        torch.save({"weights": torch.zeros(2)}, path)
    else:
        path.write_bytes({"cut": content[: len(content) // 2], "text": b"no", "empty": b""}[damage])
    (root / "round_001" / "metrics.json").unlink()
    with caplog.at_level(logging.WARNING):
        drive(random_run(root))
    assert "last.ckpt cannot be read" in caplog.text
    assert "its stage starts again" in caplog.text
    assert path.with_suffix(".ckpt.damaged").exists()
    assert same_weights(root, whole)


def no_moment(state):
    del next(iter(state["optimizer_states"][0]["state"].values()))["exp_avg"]


def other_shape(state):
    one = next(iter(state["optimizer_states"][0]["state"].values()))
    one["exp_avg"] = torch.zeros(3, 5)


def no_optimizer(state):
    state["optimizer_states"] = []


def other_groups(state):
    state["optimizer_states"][0]["param_groups"].pop()


def no_loops(state):
    del state["loops"]


def no_weight(state):
    state["state_dict"].popitem()


@pytest.mark.parametrize(
    "damage", [no_moment, other_shape, no_optimizer, other_groups, no_loops, no_weight]
)
def test_a_checkpoint_from_which_no_fit_goes_on_is_set_aside(half, tmp_path, caplog, damage):
    """It can be read, and what is in it does not belong together."""
    path = tmp_path / "last.ckpt"
    state = torch.load(half / "round_001" / "train" / "last.ckpt", weights_only=True)
    run = random_run(tmp_path)
    (stage,) = run.method.stages(run.context(1))
    torch.save(state, path)
    assert epochs_done(tmp_path, "last", stage.module(), 4) == 2
    assert epochs_done(tmp_path, "last", stage.module(), 2) == 2
    damage(state)
    torch.save(state, path)
    with caplog.at_level(logging.WARNING):
        assert epochs_done(tmp_path, "last", stage.module(), 4) == 0
    assert "last.ckpt cannot be read" in caplog.text
    assert "its stage starts again" in caplog.text
    assert path.with_suffix(".ckpt.damaged").exists()


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A run that was cut off inside its second stage."""
    root, count = tmp_path_factory.mktemp("half") / "run", 0
    save = WholeFiles.save_checkpoint

    def die(self, checkpoint, path, storage_options=None):
        nonlocal count
        count += 1
        if count == 7:
            raise Killed
        save(self, checkpoint, path, storage_options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WholeFiles, "save_checkpoint", die)
        with pytest.raises(Killed):
            drive(random_run(root))
    assert epochs_done(root / "round_001" / "train", "last") == 2
    return root


@pytest.mark.parametrize("damage", [None, other_shape])
def test_a_run_goes_on_from_it_or_from_the_start_of_its_stage(
    whole, half, tmp_path, caplog, damage
):
    root = tmp_path / "run"
    shutil.copytree(half, root)
    path = root / "round_001" / "train" / "last.ckpt"
    if damage is not None:
        state = torch.load(path, weights_only=True)
        damage(state)
        torch.save(state, path)
    with caplog.at_level(logging.WARNING):
        drive(random_run(root))
    assert ("set aside" in caplog.text) == (damage is not None)
    assert same_weights(root, whole)


def test_the_best_checkpoint_stays_the_best_in_a_moved_folder(tmp_path):
    """Lightning would forget the best score with the name of the folder."""
    old = KeptCheckpoint(tmp_path / "old", filename="best", monitor="val/miou", mode="max")
    path = str(tmp_path / "old" / "best.ckpt")
    old.best_model_path = old.kth_best_model_path = path
    old.best_model_score = old.kth_value = torch.tensor(0.7)
    old.best_k_models = {path: torch.tensor(0.7)}
    new = KeptCheckpoint(tmp_path / "new", filename="best", monitor="val/miou", mode="max")
    new.load_state_dict(old.state_dict())
    moved = str(tmp_path / "new" / "best.ckpt")
    assert new.best_model_path == new.kth_best_model_path == moved
    assert new.best_model_score == 0.7
    assert new.best_k_models == {moved: torch.tensor(0.7)}


def test_a_folder_without_a_checkpoint_has_no_epoch(tmp_path):
    assert epochs_done(tmp_path, "best") == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 75)])
def test_a_signal_stops_at_the_next_batch_and_the_run_goes_on(
    whole, tmp_path, monkeypatch, number, status
):
    run = random_run(tmp_path / "run")
    batches = 0

    from alseg.active.module import SegmentationModule

    step = SegmentationModule.training_step

    def signalled(self, batch, batch_idx):
        nonlocal batches
        batches += 1
        if batches == 3:
            os.kill(os.getpid(), number)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch, stoppable():
        patch.setattr(SegmentationModule, "training_step", signalled)
        with pytest.raises(StoppedError) as stopped:
            drive(run)
    assert stopped.value.status == status
    assert batches == 3
    assert "the same command goes on" in str(stopped.value)
    drive(random_run(tmp_path / "run"))
    assert same_weights(tmp_path / "run", whole)


def test_a_signal_between_fits_stops_at_once():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(StoppedError, match="Stopped by SIGTERM"), stoppable():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
