"""``labels_from=`` as a user meets it."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from alseg.cli.compose import options
from alseg.cli.labels_from import check_sources, untaken
from alseg.cli.run import main
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.tables import Answers
from tests.cli.test_run import TINY
from tests.torture.runs import words_of

SHORT = [*(w for w in TINY if not w.startswith(("method.", "regions.", "rounds", "data.train"))),
         "pictures=0", "method.steps=1", "method.batch_size=2", "method.epoch_steps=1"]  # fmt: skip
PIXELS = ["method=random", "regions=pixels", *SHORT]


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))


def asked(root: Path) -> list[tuple[int, int]]:
    tables = [Answers.load(path) for path in sorted(root.glob("round_*/answers.npz"))]
    return [pair for table in tables for pair in pairs(table)]


def pairs(table: Answers) -> list[tuple[int, int]]:
    return list(zip(table.image.tolist(), table.unit.tolist(), strict=True))


def test_a_run_goes_on_with_the_answers_of_another(tmp_path, capsys):
    cache = f"cache={tmp_path / 'cache'}"
    first, second = tmp_path / "first", tmp_path / "second"
    assert main([*PIXELS, "data.train=4", "rounds=1", f"run_dir={first}", cache]) == 0
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    more = [*PIXELS, "data.train=5", "rounds=2", "budget.amount=7", f"run_dir={second}", cache]
    assert main([*more, f"labels_from={first}"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    about = json.loads((second / "owned" / "owned.json").read_text())
    images = len({image for image, _ in asked(first)})
    assert about["account"] == [
        f"12 answers about {images} images are owned, from {first}; they cost nothing here",
        f"{first}: of its 4 images 4 are here; 1 images here are new to it",
    ]
    with (second / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["clicks"], row["owned"]) for row in rows] == [("0", "12"), ("7", "12")]
    assert not set(asked(first)) & set(asked(second))
    assert about["account"][0] in (second / "report.html").read_text()
    # the other folder is needed no more, and the folder says whose it is
    shutil.move(first, tmp_path / "moved")
    assert main([*more, f"labels_from={first}"]) == 0
    capsys.readouterr()
    assert main(more) == 2
    assert "labels_from" in capsys.readouterr().err
    shutil.rmtree(second / "owned")
    assert main([*more, f"labels_from={tmp_path / 'moved'}"]) == 2
    shutil.move(tmp_path / "moved", first)
    (second / "round_001" / "metrics.json").unlink()
    assert main([*more, f"labels_from={first}"]) == 2
    assert "and this one goes on with it; restore it" in capsys.readouterr().err


def said_otherwise(root: Path) -> None:
    """Change every answer of a run to the next class."""
    for path in root.glob("round_*/answers.npz"):
        table = Answers.load(path)
        if table.sets is not None:
            table = replace(table, sets=np.packbits(np.roll(table.members(), 1, axis=1), axis=1))
        elif table.masks is None:
            label = np.where(table.label == VOID, VOID, (table.label + 1) % table.num_classes)
            table = replace(table, label=label.astype(np.uint8))
        else:
            masks = [np.where(m == VOID, VOID, (m + 1) % table.num_classes) for m in table.masks]
            table = replace(table, masks=tuple(m.astype(np.uint8) for m in masks))
        table.save(path)


def weights(root: Path, stage: str) -> dict[str, torch.Tensor]:
    return torch.load(root / stage / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "asks", "learn"),
    [
        ("adaptive_superpixel", [0, 12], ["round_000/train", "round_001/train"]),
        ("als4gan", [3, 1, 0, 3], ["round_000/classifier", "round_003/segment"]),
        ("equal", [12, 12], ["round_000/train", "round_001/final"]),
        ("madbal", [0, 9], ["round_000/segment", "round_000/support", "round_001/segment"]),
        ("mulquery", [0, 6], ["round_000/stage_one", "round_001/stage_two"]),
    ],
)
def test_methods_learn_what_they_own_and_ask_nothing_of_it(tmp_path, method, asks, learn):
    given = [word for word in words_of(method) if not word.startswith(("data.train", "rounds"))]
    given += [f"cache={tmp_path / 'cache'}", *([] if method == "als4gan" else ["rounds=2"])]
    first, other = tmp_path / "first", tmp_path / "other"
    assert main([*given, "data.train=6", f"run_dir={first}"]) == 0
    shutil.copytree(first, other)
    said_otherwise(other)
    for source in (first, other):
        heir = tmp_path / f"of_{source.name}"
        assert main([*given, "data.train=9", f"labels_from={source}", f"run_dir={heir}"]) == 0
    heir = tmp_path / "of_first"
    tables = [Answers.load(path) for path in sorted(heir.glob("round_*/answers.npz"))]
    assert list(map(len, tables)) == asks
    owned = [Answers.load(path) for path in sorted(heir.glob("owned/*.npz"))]
    assert sum(map(len, owned)) == len(asked(first))
    told = {(t.answer, *pair) for t in owned for pair in pairs(t)}
    assert not told & {(t.answer, *pair) for t in tables for pair in pairs(t)}
    for stage in learn:
        one, two = weights(heir, stage), weights(tmp_path / "of_other", stage)
        assert any(not torch.equal(one[name], two[name]) for name in one), stage
    # the same command finds nothing left to do
    before = {path: path.stat().st_mtime_ns for path in heir.rglob("*.npz")}
    assert main([*given, "data.train=9", f"labels_from={first}", f"run_dir={heir}"]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in heir.rglob("*.npz")}


def folder(root: Path) -> Path:
    root.mkdir()
    (root / "run.json").write_text("{}")
    return root


def test_folders_that_cannot_be_read_are_refused_at_once(tmp_path):
    from filelock import FileLock

    def check(*names, root=tmp_path / "run"):
        check_sources(options(f"labels_from=[{','.join(map(str, names))}]"), root)

    taken = folder(tmp_path / "taken")
    with pytest.raises(UserError, match="there is no such folder"):
        check(tmp_path / "none")
    with pytest.raises(UserError, match="is the run_dir itself"):
        check(taken, root=taken)
    with (
        FileLock(taken / ".lock"),
        pytest.raises(UserError, match="another process is at work there"),
    ):
        check(taken)
    with pytest.raises(UserError, match=r"pool\.json is missing"):
        check(taken)
    with pytest.raises(UserError, match=r"give\s+one of them"):
        options(f"labels_from={taken}", f"query=replay:{taken}")
    with pytest.raises(UserError, match="labels_as says what classes of labels_from"):
        options("labels_as.van=car")
    with pytest.raises(UserError, match="labels_from is empty"):
        options("labels_from=")


def test_what_classes_are_called_belongs_to_the_run(tmp_path):
    from alseg.active.ledger import Ledger
    from alseg.cli.identity import default_identity, identity

    ledger = Ledger(tmp_path)
    first, then = (options("labels_from=a", *more) for more in (["labels_as.van=car"], []))
    ledger.write_json(tmp_path / "run.json", identity(first))
    (tmp_path / "round_000").mkdir()
    (tmp_path / "round_000" / "answers.npz").write_bytes(b"")
    ledger.check_owner(identity(first), default_identity(first))
    with pytest.raises(UserError, match=r"labels_as\.van: 'car' there, 'absent' now"):
        ledger.check_owner(identity(then), default_identity(then))


def test_answers_that_a_run_has_not_taken_are_read(tmp_path):
    from alseg.labels.tables import Query

    folder = tmp_path / "round_001"
    query = Query(1, "region", "dominant", "blocks", np.array([3, 1]), np.array([5, 6]),
                  np.zeros(2, np.float32))  # fmt: skip
    query.save(folder / "query.npz")
    assert untaken(folder) is None
    (folder / "names.json").write_text('["sky", "road"]')
    (folder / "answers.csv").write_text("row,answer\n0,road\n1,?\n")
    found = untaken(folder)
    assert found.label.tolist() == [1, VOID]
    assert found.content.unsure.tolist() == [False, True]
    assert (found.image.tolist(), found.unit.tolist()) == ([3, 1], [5, 6])
    # after a correction only the questions that nobody had answered are numbered
    (folder / "owned_rows.json").write_text('{"rows": [0]}')
    (folder / "answers.csv").write_text("row,answer\n0,sky\n")
    assert untaken(folder).unit.tolist() == [6]
    (folder / "answers.csv").write_text("row,answer\n0,rood\n")
    with pytest.raises(UserError, match=r"answers\.csv, line 2"):
        untaken(folder)


@pytest.mark.parametrize("name", ["superpixel", "class_set", "patch_mask", "scene"])
def test_answers_of_a_page_that_is_half_done_are_read(tmp_path, name):
    """Also those that stand behind a question that is open."""
    from alseg.label.desk import Desk
    from tests.label.rounds import Asked
    from tests.label.test_desk import say

    page = Asked(tmp_path, name, rows=6)
    desk = Desk(page.read())
    values = page.values()
    for row in (0, 4):
        say(desk, "ann", row, values[row])
    desk.close()
    found, truth = untaken(page.round), page.truth()
    rows = np.array([0, 4])
    assert found.image.tolist() == page.query.image[rows].tolist()
    assert found.unit.tolist() == page.query.unit[rows].tolist()
    for number, row in enumerate(rows):
        assert np.array_equal(found.said[number], truth.said[row])
