"""The loop as a whole, on a network that trains in a second."""

import csv
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import alseg.active.ledger
from alseg.active.checkpoints import epochs_done
from alseg.active.driver import ask, buy, drive
from alseg.active.stage import Fit, Start
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.oracle import AwaitingAnswersError, HumanOracle
from alseg.labels.tables import Answers
from alseg.methods.baselines.random import Random
from alseg.methods.mulquery.method import MulQuery
from alseg.methods.mulquery.module import StageOne, StageTwo
from alseg.methods.supervised.method import Supervised
from tests.kills import Killed, at_call
from tests.toys import toy_run

BOUGHT = ("query.npz", "answers.npz")


def bought(root: Path) -> dict[str, str]:
    """Digests of every query and answer of a run."""
    files = sorted(path for name in BOUGHT for path in root.glob(f"round_*/{name}"))
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }


def weights(root: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(root.glob("round_*/*/last.ckpt")):
        state = torch.load(path, weights_only=True)["state_dict"]
        found |= {f"{path.parent.name}/{path.parents[1].name}/{k}": v for k, v in state.items()}
    return found


def same_weights(a: Path, b: Path) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole") / "run"
    return root, drive(toy_run(root))


def test_a_run_buys_trains_and_asks(finished):
    root, rows = finished
    assert [row["round"] for row in rows] == [0, 1, 2]
    assert len(bought(root)) == 6
    clicks = [row["clicks"] for row in rows]
    # the paper's rule: each round ends with the answer that makes its sum exceed 10
    assert all(10 < new <= 14 for new in np.diff([0, *clicks]))
    with (root / "rounds.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [float(row["clicks"]) for row in written] == clicks
    assert list(written[0])[:7] == [
        "round", "images", "units", "pixels", "clicks", "seconds", "miou",
    ]  # fmt: skip
    assert {"iou_red", "iou_green", "iou_blue", "miou_stage_one"} <= set(written[0])
    assert all(0 <= float(row["miou"]) <= 1 for row in written)
    assert float(written[0]["train_s"]) > 0
    assert float(written[0]["score_s"]) > 0


def test_nothing_is_asked_twice(finished):
    root, _ = finished
    seen = set()
    for path in sorted(root.glob("round_*/answers.npz")):
        answers = Answers.load(path)
        units = set(zip(answers.image.tolist(), answers.unit.tolist(), strict=True))
        assert len(units) == len(answers)
        assert not units & seen
        seen |= units


def test_a_finished_run_started_again_changes_nothing(finished):
    root, rows = finished
    before = {path: path.stat().st_mtime_ns for path in root.glob("round_*/*/last.ckpt")}
    run = toy_run(root)
    assert drive(run) == rows
    assert drive(run) == rows  # as in a notebook
    assert before == {path: path.stat().st_mtime_ns for path in root.glob("round_*/*/last.ckpt")}


def test_equal_seeds_give_equal_runs_and_others_do_not(finished, tmp_path):
    root, _ = finished
    drive(toy_run(tmp_path / "same", rounds=2))
    first = {name: digest for name, digest in bought(root).items() if name < "round_002"}
    assert bought(tmp_path / "same") == first
    drive(toy_run(tmp_path / "other", rounds=1, seed=1))
    assert bought(tmp_path / "other")["round_000/query.npz"] != first["round_000/query.npz"]


def test_more_rounds_can_be_asked_for_later(finished, tmp_path):
    root, _ = finished
    drive(toy_run(tmp_path / "run", rounds=1))
    drive(toy_run(tmp_path / "run", rounds=3))
    assert bought(tmp_path / "run") == bought(root)
    assert same_weights(tmp_path / "run", root)


def test_a_process_that_does_not_write_goes_on_by_what_it_decided(tmp_path):
    """Before processes meet, rank 1 may come to a file before rank 0 has written it."""
    method = Random(steps=2, batch_size=2, epoch_steps=2)
    drive(toy_run(tmp_path / "run", rounds=1, method=method))
    other = toy_run(tmp_path / "run", rounds=2, method=method)
    other.ledger.writes = False
    assert buy(other, 0)
    other.asked = ask(other, other.context(0), {})
    assert not (tmp_path / "run" / "round_001" / "query.npz").exists()
    assert buy(other, 1)
    assert np.array_equal(other.pool.history[1].unit, other.asked.unit)


@pytest.mark.parametrize("at", [1, 2, 3, 5, 6, 8])
def test_a_run_cut_off_at_any_write_goes_on_bit_for_bit(finished, tmp_path, monkeypatch, at):
    """Cut off before the n-th file: query, answers, metrics, (times,) query, rows, answers."""
    root, _ = finished
    write, count = alseg.active.ledger.write_atomic, 0

    def cut(*args):
        nonlocal count
        count += 1
        if count == at:
            raise Killed
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(alseg.active.ledger, "write_atomic", cut)
        patch.setattr("alseg.labels.tables.write_atomic", cut)
        with pytest.raises(Killed):
            drive(toy_run(tmp_path / "run"))
    drive(toy_run(tmp_path / "run"))
    assert bought(tmp_path / "run") == bought(root)
    assert same_weights(tmp_path / "run", root)


@pytest.mark.parametrize(("round", "stage", "epoch"), [(0, "one", 1), (1, "one", 1), (1, "two", 0)])
def test_a_run_cut_off_inside_a_stage_goes_on_bit_for_bit(
    finished, tmp_path, monkeypatch, round, stage, epoch
):
    root, _ = finished
    cls = StageOne if stage == "one" else StageTwo
    per_round = 4 if stage == "one" else 2

    with monkeypatch.context() as patch:
        at_call(patch, cls, "loss", round * per_round + epoch * 2 + 2)
        with pytest.raises(Killed):
            drive(toy_run(tmp_path / "run", rounds=2))
    drive(toy_run(tmp_path / "run"))
    assert bought(tmp_path / "run") == bought(root)
    assert same_weights(tmp_path / "run", root)


@pytest.mark.parametrize("name", ["metrics.json", "scoring.json", "query.npz", "answers.npz"])
def test_a_damaged_file_of_a_round_is_told_and_the_run_goes_on_once_it_is_mended(
    finished, tmp_path, name
):
    """Tables are restored from a copy, measurements made again."""
    root, rows = finished
    shutil.copytree(root, tmp_path / "run")
    path = tmp_path / "run" / "round_001" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{name} .*restore it from a copy, or delete"):
        drive(toy_run(tmp_path / "run"))
    if name.endswith(".json"):
        path.unlink()
    else:
        path.write_bytes(content)
    again = drive(toy_run(tmp_path / "run"))
    for one, other in zip(again, rows, strict=True):
        assert {k: v for k, v in one.items() if k not in ("score_s", "select_s")} == {
            k: v for k, v in other.items() if k not in ("score_s", "select_s")
        }
    assert bought(tmp_path / "run") == bought(root)
    assert same_weights(tmp_path / "run", root)


def test_a_run_waits_for_a_person_and_goes_on(tmp_path, caplog):
    run = toy_run(tmp_path, rounds=1)
    run.oracle = HumanOracle()
    with pytest.raises(AwaitingAnswersError, match="waits for your answers"):
        drive(run)
    questions = (tmp_path / "round_000" / "questions.csv").read_text().splitlines()[1:]
    lines = ["row,answer"] + [f"{row},red;blue" for row in range(6)]
    assert len(questions) > 6
    (tmp_path / "round_000" / "answers.csv").write_text("\n".join(lines))
    run = toy_run(tmp_path, rounds=1)
    run.oracle = HumanOracle()
    rows = drive(run)
    assert rows[0]["clicks"] == 12
    assert rows[0]["units"] == 6
    assert "has changed" not in caplog.text
    (tmp_path / "round_000" / "answers.csv").write_text("\n".join([*lines[:6], "5,green"]))
    assert drive(toy_run(tmp_path, rounds=1)) == rows
    assert "row 5 was 'red;blue' and is 'green'" in caplog.text


def test_the_best_checkpoint_is_kept_on_request(tmp_path):
    method = MulQuery(
        steps=6, batch_size=2, epoch_steps=2, lr=1e-3, stage_two=False, keep="best"
    )  # fmt: skip
    rows = drive(toy_run(tmp_path, rounds=1, method=method))
    with (next(tmp_path.glob("round_000/stage_one/log/*/metrics.csv"))).open() as file:
        seen = [float(row["val/miou"]) for row in csv.DictReader(file) if row["val/miou"]]
    assert len(seen) == 3
    assert rows[0]["miou"] == pytest.approx(max(seen), abs=1e-6)


def test_a_stage_that_keeps_its_best_weights_goes_on_bit_for_bit(tmp_path, monkeypatch):
    options = {"steps": 6, "batch_size": 2, "epoch_steps": 2, "lr": 1e-3, "stage_two": False}
    method = MulQuery(**options, keep="best")
    rows = drive(toy_run(tmp_path / "whole", rounds=2, method=method))
    with monkeypatch.context() as patch:
        at_call(patch, StageOne, "loss", 5)
        with pytest.raises(Killed):
            drive(toy_run(tmp_path / "cut", rounds=2, method=method))
    again = drive(toy_run(tmp_path / "cut", rounds=2, method=method))
    assert bought(tmp_path / "cut") == bought(tmp_path / "whole")
    assert [row["miou"] for row in again] == [row["miou"] for row in rows]
    assert all(0 < row["train_s"] < 60 for row in again)


class EverySecond(MulQuery):
    """Validated after every second epoch."""

    def stages(self, context):
        return [
            replace(stage, fit=replace(stage.fit, validate_every=2))
            for stage in super().stages(context)
        ]


@pytest.mark.parametrize("loss", [7, 8, 9])
def test_validations_may_be_rarer_than_checkpoints(tmp_path, monkeypatch, loss):
    options = {"steps": 5, "batch_size": 2, "epoch_steps": 1, "lr": 1e-3, "stage_two": False}
    method = EverySecond(**options, keep="best")
    rows = drive(toy_run(tmp_path / "whole", rounds=2, method=method))
    with (next(tmp_path.glob("whole/round_000/*/log/*/metrics.csv"))).open() as file:
        seen = [row["epoch"] for row in csv.DictReader(file) if row["val/miou"]]
    assert seen == ["1", "3"]
    stage = tmp_path / "whole" / "round_000" / "stage_one"
    assert epochs_done(stage, "best") == 5, "the last epoch is kept though it is not validated"
    with monkeypatch.context() as patch:  # in the second round, before and after a validation
        at_call(patch, StageOne, "loss", loss)
        with pytest.raises(Killed):
            drive(toy_run(tmp_path / "cut", rounds=2, method=method))
    half = tmp_path / "cut" / "round_001" / "stage_one"
    assert epochs_done(half, "best") == loss - 6
    again = drive(toy_run(tmp_path / "cut", rounds=2, method=method))
    assert bought(tmp_path / "cut") == bought(tmp_path / "whole")
    assert same_weights(tmp_path / "cut", tmp_path / "whole")
    assert [row["miou"] for row in again] == [row["miou"] for row in rows]


def test_more_epochs_between_validations_than_there_are(tmp_path):
    fit = Fit(4, 2, 2, keep="best", validate_every=3)
    with pytest.raises(UserError, match="has 2 epochs and is validated after every 3; give 1 to 2"):
        fit.check("segment")


def test_another_runs_purchases_can_be_repeated(finished, tmp_path):
    """Better selection apart from better training: the same query for another method."""
    root, rows = finished
    method = Random(steps=4, batch_size=2, epoch_steps=2, lr=1e-3, answer="class_set")
    run = toy_run(tmp_path / "run", method=method)
    run.replay = root
    again = drive(run)
    assert bought(tmp_path / "run") == bought(root)
    assert [row["clicks"] for row in again] == [row["clicks"] for row in rows]
    run = toy_run(tmp_path / "more", rounds=4, method=method)
    run.replay = root
    assert len(drive(run)) == 3  # the other run asked no more
    run = toy_run(tmp_path / "other", kind="patch", method=method)
    run.replay, run.pool.maps = root, {"patch": run.pool.maps["patch"]}
    with pytest.raises(UserError, match="the regions 'blocks', which this run does not"):
        drive(run)


def test_a_query_and_answers_that_do_not_belong_together_are_refused(finished, tmp_path):
    root, _ = finished
    shutil.copytree(root / "round_000", tmp_path / "round_000")
    shutil.copy(root / "round_001" / "query.npz", tmp_path / "round_000" / "query.npz")
    with pytest.raises(UserError, match="do not belong together"):
        drive(toy_run(tmp_path))


def test_the_pool_can_run_out(tmp_path):
    run = toy_run(tmp_path, rounds=4, method=MulQuery(
        steps=1, batch_size=2, lr=1e-3, stage_two=False, acquisition="random",
    ))  # fmt: skip
    object.__setattr__(run.pool.budget, "amount", 90.0)
    rows = drive(run)
    assert rows[-1]["units"] == 6 * 24
    assert len(rows) < 4


@pytest.mark.parametrize("acquisition", ["bvsb", "classbal", "random"])
@pytest.mark.parametrize("pseudo_labels", ["within"])
def test_the_other_acquisitions_run(tmp_path, acquisition, pseudo_labels):
    method = MulQuery(
        steps=2, batch_size=2, lr=1e-3, stage_two_steps=2, acquisition=acquisition,
        pseudo_labels=pseudo_labels, pseudo_scales=(1.0, 1.5), pseudo_flip=True,
        undefined_class=False,
    )  # fmt: skip
    assert len(drive(toy_run(tmp_path, rounds=2, method=method))) == 2


def test_full_supervision_is_one_round_of_masks(tmp_path):
    method = Supervised(steps=30, batch_size=2, lr=3e-3, head_factor=1.0)
    rows = drive(toy_run(tmp_path, rounds=1, method=method))
    assert rows[0]["pixels"] == 6 * 32 * 48
    assert rows[0]["miou"] > 0.5  # colour gives the class away
    with pytest.raises(UserError, match="give rounds=1"):
        drive(toy_run(tmp_path / "x", rounds=2, method=method))


SCRIPT = """
import sys
import time
from dataclasses import replace
from pathlib import Path
from alseg.active.driver import drive
from tests.toys import toy_run
drive(toy_run(Path(sys.argv[1]), devices=int(sys.argv[2]), strategy=sys.argv[3]))
"""


def start(root: Path, devices=1, strategy="auto") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(root), str(devices), strategy],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_killed_at_random_points_a_run_goes_on_bit_for_bit(finished, tmp_path):
    """Each time a moment after the process has left something new in the folder."""
    root, _ = finished
    rng, kills, copy = random.Random(0), 0, tmp_path / "run"
    while kills < 5:
        before = set(copy.rglob("*"))
        process = start(copy)
        while process.poll() is None and set(copy.rglob("*")) <= before:
            time.sleep(0.02)
        time.sleep(rng.uniform(0.0, 0.4))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills == 5
    assert start(copy).wait() == 0
    assert bought(copy) == bought(root)
    assert same_weights(copy, root)


class Warm(Random):
    """Starts every round from the weights of the round before."""

    def stages(self, context):
        (stage,) = super().stages(context)
        return [replace(stage, start=Start("train", previous_round=True))]


def test_a_stage_can_start_from_the_round_before(tmp_path):
    """With a rate of next to nothing the weights of round 1 stay those of round 0."""
    options = {"steps": 2, "batch_size": 2, "epoch_steps": 2, "lr": 1e-12, "weight_decay": 0.0}

    def moved(method, root):
        drive(toy_run(root, rounds=2, method=method))
        one, two = (
            torch.load(root / f"round_00{r}/train/last.ckpt", weights_only=True)["state_dict"]
            for r in (0, 1)
        )
        name = "network.encoder.model.conv1.0.weight"
        return float((one[name] - two[name]).abs().max())

    assert moved(Warm(**options), tmp_path / "warm") < 1e-4
    assert moved(Random(**options), tmp_path / "cold") > 1e-2


class Measured(Random):
    """Measures one thing that is not always there, and sees the truth in doing so."""

    def measures(self, context, truth):
        assert not context.images.has_truth
        void = float((truth.truth(0) == VOID).sum())
        return {"void": void, "odd": float("nan") if context.round else 0.5}


def test_measures_of_a_method_are_columns(tmp_path):
    method = Measured(steps=1, batch_size=2, epoch_steps=1, lr=1e-3)
    rows = drive(toy_run(tmp_path, rounds=2, method=method))
    assert [(row["void"], row["odd"]) for row in rows] == [(96.0, 0.5), (96.0, None)]
    with (tmp_path / "rounds.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [(row["void"], row["odd"]) for row in written] == [("96", "0.5"), ("96", "")]
    columns = list(written[0])
    assert columns.index("miou") + 1 == columns.index("void") < columns.index("train_s")
    assert drive(toy_run(tmp_path, rounds=2, method=method)) == rows
