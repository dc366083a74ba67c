"""Runs of EquAL against a slow loop, and cut off and continued."""

import csv
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from alseg.active.driver import buy, drive
from alseg.active.ledger import Ledger
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.methods.equal.method import Equal
from alseg.report.observer import Reporter
from tests.active.test_driver import bought
from tests.kills import Killed
from tests.methods.equal.runs import (
    COLS,
    IMAGES,
    LAZY,
    METHOD,
    ROUNDS,
    SIDE,
    SlowLoop,
    adam,
    check_state,
    checkpoint,
    equal_run,
    fresh,
    module,
    nth_batch,
    nth_write,
    query_of,
    slow_choice,
    slow_scores,
)
from tests.toys import ToyImages


def reporter(root, run):
    choices = {"method": "equal", "data": "toys"}
    values = {"method": {}, "data": {}, "pictures": 1, "seed": 0}
    return Reporter(root, run.splits, choices, values, run.oracle)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Seven rounds of one patch; those that reach 2, 4 and 6 patches are milestones."""
    root = tmp_path_factory.mktemp("equal") / "run"
    run = equal_run(root)
    run.observers.append(reporter(root, run))
    return root, drive(run), run


def test_weights_and_moments_go_through_all_rounds(finished):
    """Every round's checkpoint is where an uninterrupted loop is; so are what it would ask."""
    root, _, run = finished
    slow = SlowLoop(root, run)
    learner = module(fresh(run, 0, "train"))
    optimizer = adam(learner)
    transform = run.datamodule.eval_transform
    asked, steps = set(), 0
    for round in range(ROUNDS):
        learner.eval()
        scores = {
            (image, unit): score
            for image in range(IMAGES)
            for unit, score in enumerate(
                slow_scores(
                    learner.network, transform(run.splits.train.image(image), {})[0].numpy()
                )
            )
        }
        best = max((unit for unit in scores if unit not in asked), key=scores.get)
        query = query_of(root, round)
        assert (int(query.image[0]), int(query.unit[0])) == best, f"round {round}"
        assert query.score[0] == pytest.approx(scores[best], rel=1e-5)
        asked.add(best)

        slow.learn(round)
        labelled, images = round + 1, len(slow.images())
        size = 5 if labelled > 5 else 2 if images > 2 else 1
        passes = 2 if labelled in (2, 4, 6) else 1
        key = (run.seed, round, "train")
        slow.train(learner, optimizer, key, passes, size, lambda epoch: METHOD.lr)
        steps += passes * -(-images // size)
        stored = checkpoint(root, round)
        check_state(stored, learner, optimizer)
        (kept,) = stored["optimizer_states"]
        assert {group["lr"] for group in kept["param_groups"]} == {METHOD.lr}
        assert {int(state["step"]) for state in kept["state"].values()} == {steps}
    assert slow.smaller, "the last batch of a pass was smaller than the others"


def test_the_final_training_starts_from_scratch(finished):
    """Its weights are those of a loop that has never seen the rounds; its rate falls (F9)."""
    root, _, run = finished
    slow = SlowLoop(root, run)
    for round in range(ROUNDS):
        slow.learn(round)
    assert len(slow.images()) % METHOD.final_batch_size, "the last batch of a pass is smaller"
    learner = module(fresh(run, ROUNDS - 1, "final"))
    optimizer = adam(learner)
    key = (run.seed, ROUNDS - 1, "final")
    slow.train(learner, optimizer, key, 3, 4, lambda epoch: METHOD.lr * 0.1**epoch)
    check_state(checkpoint(root, ROUNDS - 1, "final"), learner, optimizer)


def test_only_milestones_and_the_end_are_evaluated(finished):
    root, rows, _ = finished
    measured = [row["miou"] is not None for row in rows]
    assert measured == [False, True, False, True, False, True, True]
    with (root / "rounds.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["miou"] != "" for row in written] == measured
    assert [row["iou_red"] != "" for row in written] == measured
    assert [float(row["units"]) for row in written] == list(range(1, ROUNDS + 1))
    page = (root / "report.html").read_text()
    assert "equal on toys" in page
    last = f"{100 * rows[-1]['miou']:.1f}"
    assert last in page
    assert len(list(root.glob("round_*/pictures/index.json"))) == ROUNDS


def test_a_report_before_anything_is_measured(tmp_path):
    run = equal_run(tmp_path, rounds=2, method=replace(METHOD, final_epochs=1))
    run.observers.append(reporter(tmp_path, run))

    class Enough(Exception):
        pass

    class Stop:
        def round_closed(self, round, pool, rows):
            raise Enough

    run.observers.append(Stop())
    with pytest.raises(Enough):
        drive(run)
    assert "not measured yet" in (tmp_path / "report.html").read_text()


# Cut off and continued


#: In the order a run comes to them; round 3 has 2 passes over at least 2 batches.
CUTS = [
    (nth_write, "round_000/first_scoring.json"),
    (nth_write, "round_000/query.npz"),
    (nth_write, "round_000/answers.npz"),
    (nth_batch, "round_000/train", 0),
    (nth_write, "round_000/metrics.json"),
    (nth_write, "round_001/query.npz"),
    (nth_batch, "round_003/train", 1),
    (nth_batch, "round_003/train", 3),
    (nth_write, "round_004/answers.npz"),
    (nth_batch, "round_006/train", 0),
    (nth_batch, "round_006/final", 1),
    (nth_batch, "round_006/final", 4),
    (nth_write, "round_006/metrics.json"),
]


def check_same(one, two, rounds=range(ROUNDS)):
    assert bought(one) == bought(two)
    for round in rounds:
        for stage in ("train", "final") if round == ROUNDS - 1 else ("train",):
            a, b = (checkpoint(root, round, stage) for root in (one, two))
            for name, value in a["state_dict"].items():
                assert torch.equal(value, b["state_dict"][name]), f"{name} of round {round}"
            a, b = (stored["optimizer_states"][0]["state"] for stored in (a, b))
            for index, state in a.items():
                assert all(torch.equal(value, b[index][key]) for key, value in state.items())


def test_a_run_cut_off_again_and_again_goes_on_bit_for_bit(finished, tmp_path):
    root, rows, _ = finished
    for cut, *where in CUTS:
        with pytest.MonkeyPatch.context() as patch:
            cut(patch, *where)
            with pytest.raises(Killed):
                drive(equal_run(tmp_path))
    again = drive(equal_run(tmp_path))
    check_same(root, tmp_path)
    assert [row["miou"] for row in again] == [row["miou"] for row in rows]


def test_a_run_that_keeps_few_checkpoints_is_the_same_run(finished, tmp_path):
    root, rows, _ = finished
    for cut, *where in [(nth_batch, "round_003/train", 3), (nth_write, "round_005/query.npz")]:
        with pytest.MonkeyPatch.context() as patch:
            cut(patch, *where)
            with pytest.raises(Killed):
                drive(equal_run_keeping(tmp_path, 1))
    again = drive(equal_run_keeping(tmp_path, 1))
    assert [row["miou"] for row in again] == [row["miou"] for row in rows]
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("round_*/*/*.ckpt")}
    assert kept == {f"round_006/{stage}/last.ckpt" for stage in ("train", "final")}
    check_same(root, tmp_path, rounds=[ROUNDS - 1])
    assert drive(equal_run_keeping(tmp_path, 1)) == again


def equal_run_keeping(root, rounds):
    run = equal_run(root)
    run.keep_rounds = rounds
    return run


# Void


@dataclass(frozen=True)
class HalfVoid(ToyImages):
    """The left half is void: of three columns of patches the first, and half of the second."""

    def truth(self, index):
        labels = super().truth(index)
        labels[:, :24] = VOID
        return labels


def columns(query):
    return query.image, query.unit


@pytest.mark.parametrize("void_wins", [True, False])
def test_a_run_that_skips_void(tmp_path, void_wins):
    """12 patches may be asked if void wins its ties with a class that fills the other half."""
    images = HalfVoid(IMAGES)
    void = set()
    for image in range(IMAGES):
        truth = images.truth(image)
        for unit in range(6):
            y, x = (unit // COLS) * SIDE, (unit % COLS) * SIDE
            counts = np.bincount(truth[y : y + SIDE, x : x + SIDE].ravel(), minlength=256)
            classes = counts[:3].max()
            if counts[VOID] > classes or (void_wins and counts[VOID] == classes):
                void.add((image, unit))
    method = Equal(
        lr=2e-3, skip_void=True, void_wins=void_wins, final_epochs=0, evaluate_rounds=False
    )
    run = equal_run(tmp_path, rounds=2, amount=6.0, method=method, images=images)
    drive(run)
    asked = {
        (int(image), int(unit))
        for round in range(2)
        for image, unit in zip(*columns(query_of(tmp_path, round)), strict=True)
    }
    assert len(asked) == 12
    assert not asked & void
    more = equal_run(tmp_path / "more", rounds=4, amount=6.0, method=method, images=images)
    left = IMAGES * 6 - len(void)
    with pytest.raises(UserError, match=f"4 rounds of 6 patches are more than the {left} patches"):
        drive(more)
    free = equal_run(tmp_path / "free", rounds=2, amount=6.0, images=images,
                     method=replace(method, skip_void=False))  # fmt: skip
    buy(free, 0)
    first = set(zip(*(c.tolist() for c in columns(query_of(tmp_path / "free", 0))), strict=True))
    assert first & void, "they are among the most uncertain"


# Scoring a part of the pool


@pytest.fixture(scope="module")
def lazy(tmp_path_factory):
    root = tmp_path_factory.mktemp("lazy") / "run"
    drive(equal_run(root, rounds=6, amount=2.0, method=LAZY))
    return root


def test_only_a_part_of_the_pool_is_scored_between_two_whole_passes(lazy):
    ledger, asked = Ledger(lazy), set()
    for round in range(6):
        table = ledger.scores(round)["patches"]
        rows = list(zip(*(table[name].tolist() for name in ("image", "unit")), strict=True))
        scored = {image for image, _ in rows}
        assert len(rows) == len(set(rows)) == 6 * len(scored), "whole images"
        if round % 3 == 0:
            assert scored == set(range(IMAGES))
            whole = dict(zip(rows, table["score"].tolist(), strict=True))
        else:
            still = sorted((unit for unit in whole if unit not in asked), key=whole.get)
            best = {image for image, _ in still[-3:]}
            drawn = scored - best
            assert best <= scored
            assert len(drawn) == (IMAGES - len(best)) // 2
        scores = dict(zip(rows, table["score"].tolist(), strict=True))
        expected = slow_choice(
            {(i, u): scores.get((i, u), -1) for i in range(IMAGES) for u in range(6)}, asked, 2
        )
        query = query_of(lazy, round)
        chosen = list(zip(query.image.tolist(), query.unit.tolist(), strict=True))
        assert chosen == expected
        assert {image for image, _ in chosen} <= scored
        asked |= set(chosen)


def test_such_a_run_goes_on_bit_for_bit(lazy, tmp_path):
    for name in ("round_000/scores.npz", "round_001/query.npz", "round_002/scores.npz"):
        with pytest.MonkeyPatch.context() as patch:
            nth_write(patch, name)
            with pytest.raises(Killed):
                drive(equal_run(tmp_path, rounds=6, amount=2.0, method=LAZY))
    drive(equal_run(tmp_path, rounds=6, amount=2.0, method=LAZY))
    assert bought(tmp_path) == bought(lazy)
    for round in range(6):
        one, two = (Ledger(root).scores(round)["patches"] for root in (lazy, tmp_path))
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[name], two[name]) for name in one)
