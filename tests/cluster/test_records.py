"""What has become of the runs of a sweep."""

import os
import time

import pytest

from alseg.cluster.records import (
    Record,
    finished_rounds,
    progress,
    read_record,
    record_path,
    running,
    write_record,
)
from alseg.core.errors import UserError


def close_rounds(root, count):
    root.mkdir(exist_ok=True)
    lines = ["round,miou", *(f"{round},0.5" for round in range(count))]
    (root / "rounds.csv").write_text("\n".join(lines) + "\n")


def test_a_run_without_a_record_is_queued(tmp_path):
    assert read_record(tmp_path / "a") == Record("queued")


def test_a_record_is_read_as_it_was_written(tmp_path):
    record = Record("failed", "no disk", 1.5, 2.5, "host", "12_3", 4)
    write_record(tmp_path / "a", record)
    assert read_record(tmp_path / "a") == record


def test_a_running_job_that_no_longer_touches_its_record_is_lost(tmp_path):
    root = tmp_path / "a"
    with running(root, "7"):
        assert read_record(root).state == "running"
        assert read_record(root).job == "7"
        old = time.time() - 100
        os.utime(record_path(root), (old, old))
        assert read_record(root).state == "lost"


def test_a_running_job_touches_its_record(tmp_path, monkeypatch):
    monkeypatch.setattr("alseg.cluster.records._BEAT", 0.01)
    root = tmp_path / "a"
    with running(root, "7"):
        old = time.time() - 100
        os.utime(record_path(root), (old, old))
        until = time.monotonic() + 5
        while read_record(root).state == "lost" and time.monotonic() < until:
            time.sleep(0.01)
        assert read_record(root).state == "running"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"state": "flying"}', '{"colour": 1}', "9" * 9])
def test_a_damaged_record_gets_a_sentence(tmp_path, text):
    record_path(tmp_path / "a").parent.mkdir()
    record_path(tmp_path / "a").write_text(text)
    with pytest.raises(UserError, match="delete it: the run is then started again"):
        read_record(tmp_path / "a")


def test_time_left_is_that_of_the_rounds_this_job_has_done(tmp_path):
    root = tmp_path / "a"
    close_rounds(root, 3)
    os.utime(root / "rounds.csv", (1060.0, 1060.0))
    # two of three rounds were done by this job, in 60 s: the two that are left take 60 s
    write_record(root, Record("running", began=1000.0, rounds_before=1))
    found = progress(root, 5)
    assert (found.state, found.rounds, found.of, found.left) == ("running", 3, 5, 60.0)
    assert progress(root, None).left is None


def test_rounds_of_a_folder_that_is_not_there(tmp_path):
    assert finished_rounds(tmp_path) == 0
