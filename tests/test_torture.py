"""The short form of ``make torture``: one kill inside a checkpoint's write, and the table."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture import tables

ROOT = Path(__file__).parents[1]


def row(method, kind, verdict="equal", hit=True):
    return {"seed": 0, "method": method, "kind": kind, "what": "x", "hit": hit, "verdict": verdict}


def test_a_run_killed_while_it_writes_a_checkpoint_comes_back_equal(tmp_path):
    results = tmp_path / "results.jsonl"
    words = ["--minutes", "0.02", "--methods", "random", "--kinds", "write", "--no-page"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", *words, "--results", str(results)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    incidents = [json.loads(line) for line in results.read_text().splitlines()]
    assert len(incidents) == 1
    assert incidents[0]["hit"]
    assert incidents[0]["verdict"] == "equal"


def test_the_table_counts_what_hit_and_tells_what_differed(tmp_path):
    rows = [
        row("random", "kill"),
        row("random", "kill", hit=False),
        row("random", "write", verdict="weights differ"),
        row("madbal", "full"),
    ]
    table = tables.of_incidents(rows).splitlines()
    assert [cell.strip() for cell in table[3].split("|")[1:-1]] == [
        "random", "1 of 1", "0 of 1", "0 of 0", "0 of 0", "1",
    ]  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- incidents -->\nold\n<!-- end of incidents -->\nb\n")
    tables.write_incidents(page, rows, 0)
    text = page.read_text()
    assert "old" not in text
    assert "2 kills and 1 full disks over 2 methods; 2 of 3 came back equal. 1 more came" in text
    assert "weights differ" in text


def test_a_page_without_markers_is_left_alone(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a")
    with pytest.raises(ValueError, match="no marker"):
        tables.write_incidents(page, [], 0)
