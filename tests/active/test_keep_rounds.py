"""Old checkpoints are deleted on request, and nothing that is still needed."""

from dataclasses import replace

import pytest

from alseg.active.driver import drive, forget
from alseg.active.ledger import Ledger
from alseg.active.stage import Start
from alseg.core.errors import UserError
from alseg.methods.baselines.random import Random
from alseg.nn.network import Network
from tests.active.test_driver import bought, same_weights, weights
from tests.toys import toy_run

NETWORK = Network(
    "FPN",
    "tu-test_resnet",
    None,
    {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
)


class Warm(Random):
    """Starts every round from the weights and the optimiser of the round before."""

    def stages(self, context):
        (stage,) = super().stages(context)
        return [replace(stage, start=Start("train", previous_round=True, optimizer=True))]


def warm_run(root, rounds, keep=None):
    method = Warm(steps=2, batch_size=2, epoch_steps=1, lr=1e-3, optimizer="adamw")
    run = toy_run(root, rounds=rounds, method=method, network=NETWORK)
    run.keep_rounds = keep
    return run


def files(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("keep", "kept"), [(1, [3]), (2, [2, 3]), (9, [0, 1, 2, 3])])
def test_the_last_rounds_checkpoints_stay(tmp_path, keep, kept):
    run = toy_run(tmp_path, rounds=4)
    run.keep_rounds = keep
    for round in range(4):
        for stage in ("one", "two"):
            folder = tmp_path / f"round_{round:03d}" / stage
            folder.mkdir(parents=True)
            for name in ("last.ckpt", "best.ckpt", "log.csv"):
                (folder / name).touch()
        (tmp_path / f"round_{round:03d}" / "answers.npz").touch()
    before = files(tmp_path)
    forget(run, 3)
    after = files(tmp_path)
    gone = {name for name in before if name.endswith(".ckpt") and int(name[6:9]) not in kept}
    assert before - after == gone
    forget(run, 3)
    assert files(tmp_path) == after


def test_all_checkpoints_stay_by_default_and_on_other_processes(tmp_path):
    run = toy_run(tmp_path, rounds=2)
    checkpoint = tmp_path / "round_000" / "train" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    forget(run, 1)
    assert checkpoint.exists()
    run.keep_rounds, run.ledger = 1, Ledger(tmp_path, writes=False)
    forget(run, 1)
    assert checkpoint.exists()


def test_the_last_round_cannot_be_forgotten(tmp_path):
    run = toy_run(tmp_path)
    with pytest.raises(UserError, match=r"keep_rounds is 0; .* give at least 1, or null"):
        replace(run, keep_rounds=0)


def test_a_run_that_forgets_can_still_be_extended(tmp_path):
    """Weights and optimiser of round 2 come from round 1, which was the last."""
    drive(warm_run(tmp_path / "whole", rounds=3))
    drive(warm_run(tmp_path / "run", rounds=2, keep=1))
    assert {name.split("/")[1] for name in weights(tmp_path / "run")} == {"round_001"}
    drive(warm_run(tmp_path / "run", rounds=3, keep=1))
    assert bought(tmp_path / "run") == bought(tmp_path / "whole")
    for round in (0, 1):
        (tmp_path / "whole" / f"round_00{round}" / "train" / "last.ckpt").unlink()
    assert same_weights(tmp_path / "run", tmp_path / "whole")
