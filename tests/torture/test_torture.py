"""The short form of ``make torture``, and that its comparison can fail."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.torture.heirs import INSTANTS
from tests.torture.runs import difference
from tests.torture.tables import between, of_incidents

ROOT = Path(__file__).parents[2]


def torture(results, *words):
    """The command, and its incidents."""
    command = [sys.executable, "-m", "tests.torture", "--no-page", "--results", str(results)]
    done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, timeout=900)
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    return done, rows


@pytest.mark.parametrize(
    "kinds", [["kill", "write"], pytest.param(["rank", "full"], marks=pytest.mark.slow)]
)
def test_incidents_of_a_kind(tmp_path, kinds):
    done, rows = torture(
        tmp_path / "r.jsonl", "--laps", "1", "--methods", "random", "--kinds", *kinds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # full disks need a file system of their own, which not every machine allows
    assert {row["kind"] for row in rows} >= set(kinds) - {"full"}
    assert {row["verdict"] for row in rows} == {"equal"}
    assert "| **all** |" in done.stdout


@pytest.mark.slow
def test_the_published_methods_are_killed(tmp_path):
    methods = ["adaptive_superpixel", "als4gan", "equal", "madbal", "mulquery"]
    words = ["--laps", "1", "--kinds", "kill", "write", "--methods", *methods]
    done, rows = torture(tmp_path / "r.jsonl", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows) >= 10


@pytest.mark.slow
def test_heirs_are_killed(tmp_path):
    """In the copying of what they own, in training, and before and after the next query."""
    command = [sys.executable, "-m", "tests.torture.heirs", str(tmp_path)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run(
        command, cwd=ROOT, env=one_thread, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": equal") == len(INSTANTS)


@pytest.fixture
def folders(tmp_path):
    one = tmp_path / "one"
    stage = one / "round_000" / "train"
    stage.mkdir(parents=True)
    np.savez(one / "round_000" / "query.npz", score=np.ones(3, dtype=np.float32))
    (one / "round_000" / "metrics.json").write_text('{"miou": 0.5, "train_s": 1}')
    (one / "rounds.csv").write_text("round,miou,train_s\n0,0.5,1\n")
    torch.save({"state_dict": {"w": torch.ones(2)}}, stage / "last.ckpt")
    shutil.copytree(one, tmp_path / "two")
    return one, tmp_path / "two"


def test_times_are_no_difference(folders):
    one, two = folders
    (two / "round_000" / "metrics.json").write_text('{"miou": 0.5, "train_s": 2}')
    (two / "rounds.csv").write_text("round,miou,train_s\n0,0.5,7\n")
    assert difference(one, two) is None
    assert difference(one / "round_000" / "train", two / "rounds.csv") == "there is nothing"


@pytest.mark.parametrize("name", ["query.npz", "metrics.json", "rounds.csv", "last.ckpt"])
def test_a_last_bit_is_a_difference(folders, name):
    one, two = folders
    (path,) = two.rglob(name)
    if name == "query.npz":
        np.savez(path, score=np.nextafter(np.ones(3, dtype=np.float32), 2))
    elif name == "last.ckpt":
        torch.save({"state_dict": {"w": torch.nextafter(torch.ones(2), torch.zeros(2))}}, path)
    else:
        path.write_text(path.read_text().replace("0.5", "0.5000001"))
    assert difference(one, two) == f"{path.relative_to(two)} differs"
    path.unlink()
    assert difference(one, two) == f"{path.relative_to(two)} is missing"


def test_the_table_counts_what_hit(tmp_path):
    rows = [
        {"method": "a", "kind": "kill", "hit": True, "verdict": "equal"},
        {"method": "a", "kind": "kill", "hit": False, "verdict": "equal"},
        {"method": "b", "kind": "full", "hit": True, "verdict": "query.npz differs"},
    ]
    *_, a, b, every = of_incidents(rows).splitlines()
    assert a == "| a | 1 of 1 | 0 of 0 | 0 of 0 | 0 of 0 | 0 |"
    assert b == "| b | 0 of 0 | 0 of 0 | 0 of 0 | 0 of 1 | 1 |"
    assert every == "| **all** | 1 of 1 | 0 of 0 | 0 of 0 | 0 of 1 | 1 |"
    page = tmp_path / "page.md"
    page.write_text("x\n<!-- incidents -->\n<!-- end of incidents -->\ny\n")
    for text in ("one", "two"):
        between(page, "incidents", text)
    assert page.read_text() == "x\n<!-- incidents -->\ntwo\n<!-- end of incidents -->\ny\n"
