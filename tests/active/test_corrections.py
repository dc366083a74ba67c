"""Answers that a person corrects after they were taken."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import alseg.active.corrections
from alseg.active.corrections import go_back
from alseg.active.driver import drive
from alseg.cli.compose import options
from alseg.core.errors import UserError
from alseg.labels.human import told_changes
from alseg.labels.oracle import AwaitingAnswersError, HumanOracle
from alseg.labels.owned import OwnedAnswers, asked_nobody
from alseg.labels.tables import Answers, Query
from alseg.methods.baselines.uncertainty import Entropy
from tests.active.test_driver import bought, same_weights
from tests.kills import Killed, at_call
from tests.label.rounds import KINDS, Asked, same
from tests.toys import toy_run

NAMES = ("red", "green", "blue")


def person(root: Path, asked: list, answers=None, wrong=(), rounds=3, later=False):
    """Drive a run to its end and answer whatever it asks; ``wrong`` are rows, of round 0 alone."""
    while True:
        run = toy_run(
            root, rounds=rounds, amount=6.0,
            method=Entropy(steps=4, batch_size=2, epoch_steps=2),
        )  # fmt: skip
        run.oracle, run.changed = HumanOracle(), answers or "tell"
        try:
            return drive(run)
        except AwaitingAnswersError:
            folder = sorted(root.glob("round_*"))[-1]
            write(folder, asked, wrong if later or folder.name == "round_000" else ())


def write(folder: Path, asked: list, wrong=()):
    lines = ["row,answer"]
    with (folder / "questions.csv").open() as file:
        for row, line in enumerate(csv.DictReader(file)):
            unit = int(line["unit"])
            said = (unit + len(line["image"])) % 3
            asked.append((line["image"], unit))
            lines.append(f"{row},{NAMES[(said + 1) % 3 if row in wrong else said]}")
    (folder / "answers.csv").write_text("\n".join(lines) + "\n")


def correct(root: Path, round="round_000"):
    path = root / round / "answers.csv"
    lines = path.read_text().splitlines()
    for row in (1, 2):
        number, name = lines[row + 1].split(",")
        lines[row + 1] = f"{number},{NAMES[(NAMES.index(name) - 1) % 3]}"
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    root = tmp_path_factory.mktemp("right") / "run"
    return root, person(root, [])


@pytest.mark.parametrize("kill", [None, 2, 4, 6, 7])
def test_a_corrected_run_equals_one_that_was_right_from_the_start(
    tmp_path, right, monkeypatch, kill
):
    root, asked = tmp_path / "run", []
    person(root, asked, wrong=(1, 2))
    before = bought(root)
    assert before != bought(right[0])
    correct(root)
    if kill:
        with monkeypatch.context() as patch:
            at_call(patch, alseg.active.corrections.os, "replace", kill)
            with pytest.raises(Killed):
                person(root, asked, "recompute")
    person(root, asked, "recompute")
    assert bought(root) == bought(right[0])
    assert same_weights(root, right[0])
    assert len(asked) == len(set(asked)), "a person was asked twice"
    aside = {p.parent.name for p in root.glob("set_aside/*/round_*/answers.npz")}
    assert aside == {"round_001", "round_002"}
    assert list(root.glob("round_*/owned_rows.json")), "no new round asked for an owned answer"


def test_a_difference_that_was_seen_is_told_once(tmp_path, caplog):
    root, asked = tmp_path / "run", []
    person(root, asked, rounds=1)
    before = bought(root)
    correct(root)
    person(root, asked, rounds=1)
    assert "row 1 was" in caplog.text
    assert "answers=recompute" in caplog.text
    caplog.clear()
    person(root, asked, "keep", rounds=1)
    person(root, asked, rounds=1)
    assert "row 1 was" not in caplog.text
    assert bought(root) == before


def test_answers_of_several_rounds_are_corrected_at_once(tmp_path, right):
    """What later rounds bought is owned as it was corrected."""
    root, asked = tmp_path / "run", []
    person(root, asked, wrong=(1, 2), later=True)
    for name in ("round_000", "round_001", "round_002"):
        correct(root, name)
    person(root, asked, "recompute")
    assert bought(root) == bought(right[0])
    assert same_weights(root, right[0])
    assert len(asked) == len(set(asked)), "a person was asked twice"
    owned = list(root.glob("round_*/owned_rows.json"))
    assert owned, "no new round asked for an owned answer"


def test_a_later_file_that_cannot_be_read_is_told_before_anything_moves(tmp_path):
    root, asked = tmp_path / "run", []
    person(root, asked, rounds=2)
    correct(root)
    (root / "round_001" / "answers.csv").write_text("row,answer\n0,purple\n")
    before = bought(root)
    with pytest.raises(UserError, match=r"round_001.answers\.csv, line 2"):
        person(root, asked, "recompute", rounds=2)
    assert bought(root) == before
    assert not (root / "set_aside").exists()
    assert np.all(Answers.load(root / "round_000" / "answers.npz").label < 3)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"rows": [99]}', '{"rows": ["a"]}'])
def test_damaged_numbers_of_questions_are_told(tmp_path, text):
    query = Query(0, "region", "dominant", "blocks", np.zeros(3, np.int64), np.arange(3),
                  np.zeros(3, np.float32))  # fmt: skip
    (tmp_path / "owned_rows.json").write_text(text)
    with pytest.raises(UserError, match=r"owned_rows\.json .*; restore it from a copy"):
        asked_nobody(tmp_path, query, OwnedAnswers([], ["blocks"]))


def test_what_a_method_keeps_besides_goes_with_the_round_that_made_it(tmp_path):
    for first, stays in ((0, False), (1, True)):
        root = tmp_path / str(first)
        run = toy_run(root, method=Entropy(steps=4, batch_size=2, epoch_steps=2))
        for number in (0, 1):
            folder = root / f"round_{number:03d}"
            folder.mkdir(parents=True)
            (folder / "answers.npz").write_bytes(b"")
            changed = "b" if number == first else "a"
            (folder / "answers_read.csv").write_text("row,answer\n0,a\n")
            (folder / "answers.csv").write_text(f"row,answer\n0,{changed}\n")
        (root / "clusters.npz").write_bytes(b"")
        assert go_back(run.ledger, lambda r: None, {"clusters.npz": 0}) == first
        assert (root / "clusters.npz").exists() == stays
        assert (root / "set_aside" / "000" / "clusters.npz").exists() != stays


def test_answers_that_come_late_are_taken_up(tmp_path, right):
    """A round went on with fewer; all its answers are given after the run has ended."""
    root, asked = tmp_path / "run", []
    run = toy_run(root, amount=6.0, method=Entropy(steps=4, batch_size=2, epoch_steps=2))
    run.oracle = HumanOracle(accept_partial=True)
    with pytest.raises(AwaitingAnswersError):
        drive(run)
    path = root / "round_000" / "answers.csv"
    write(path.parent, asked)
    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[:4]) + "\n")
    assert drive_partly(root, asked)
    assert len(Answers.load(root / "round_000" / "answers.npz")) == 3
    path.write_text(whole)
    person(root, asked, "recompute")
    assert bought(root) == bought(right[0])
    assert same_weights(root, right[0])


def drive_partly(root: Path, asked: list):
    while True:
        run = toy_run(root, amount=6.0, method=Entropy(steps=4, batch_size=2, epoch_steps=2))
        run.oracle = HumanOracle(accept_partial=True)
        try:
            return drive(run)
        except AwaitingAnswersError:
            write(sorted(root.glob("round_*"))[-1], asked)


@pytest.mark.parametrize("name", KINDS)
def test_late_answers_of_every_kind_are_noticed_and_read(tmp_path, name):
    page = Asked(tmp_path, name, rows=6, write=False)
    page.query.save(page.round / "query.npz")
    oracle, asked = HumanOracle(accept_partial=True), (page.query, page.pool, page.images)
    with pytest.raises(AwaitingAnswersError):
        oracle.answer(*asked, page.round)
    lines = ["row,answer", *(f"{row},{said}" for row, said in enumerate(by_hand(page)))]
    path = page.round / "answers.csv"
    path.write_text("\n".join(lines[:3]) + "\n")
    assert same(oracle.answer(*asked, page.round), page.truth().head(2))
    assert told_changes(page.round) is None
    path.write_text("\n".join(lines) + "\n")
    assert "row 2 was left out and is" in told_changes(page.round)
    assert same(oracle.answer(*asked, page.round), page.truth())


def by_hand(page: Asked) -> list[str]:
    """The truth as a person writes it."""
    truth = page.truth()
    if truth.masks is not None:
        for image in set(truth.image.tolist()):
            Image.fromarray(page.images.truth(image)).save(page.round / f"{image}.png")
        return [f"{image}.png" for image in truth.image.tolist()]
    names = [*(page.images.scenes if page.answer == "scene" else NAMES), "void"]
    return [";".join(np.array(names)[row]) for row in truth.members()]


def test_what_answers_says_is_read(tmp_path):
    assert options("answers=recompute").values["answers"] == "recompute"
    with pytest.raises(UserError, match=r"answers is 'again'; write answers=recompute or answers="):
        options("answers=again")
