"""A process that dies is named by the others, which do not wait for it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from alseg.cli.peers import PROCESSES, Peers
from alseg.core.errors import PeerDiedError, UserError

#: A process with a place among its peers, which dies in a given way.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from alseg.cli.peers import Peers
with Peers(Path(sys.argv[1]), int(sys.argv[2]), 3, "job"):
    print("here", flush=True)
    sys.stdin.readline()
    exec(sys.argv[3])
"""


@pytest.fixture
def peer(tmp_path):
    started = []

    def start(rank, end):
        words = [sys.executable, "-c", SCRIPT, str(tmp_path), str(rank), end]
        pipe = subprocess.PIPE
        process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        started.append(process)
        assert process.stdout.readline() == "here\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (KILLED, "rank 1 of 3 processes died without a word: it was killed, perhaps for want"),
        ("raise ZeroDivisionError('by zero')", r"ended early \(ZeroDivisionError: by zero\); give"),
        ("raise MemoryError()", r"ended early \(MemoryError: not enough memory; free some memory"),
    ],
)
def test_an_error_that_came_of_another_ones_death_names_it(tmp_path, peer, end, sentence):
    process = peer(1, end)
    with pytest.raises(PeerDiedError, match=sentence), Peers(tmp_path, 0, 3, "job"):  # noqa: PT012
        process.communicate("\n")
        raise RuntimeError("Connection closed by peer")


def test_a_process_that_waits_is_ended(tmp_path, peer, capsys):
    ended = []
    process = peer(2, KILLED)
    with Peers(tmp_path, 0, 3, "job", grace=0.1, end=ended.append):
        process.communicate("\n")
        until = time.monotonic() + 20
        while not ended and time.monotonic() < until:
            time.sleep(0.05)
    assert ended == [2]
    said = capsys.readouterr().err
    assert said.startswith("error: rank 2 of 3 processes died without a word")
    assert said.count("\n") == 1


def test_the_first_cause_is_named_and_not_who_followed_it(tmp_path, peer):
    first, second = peer(1, KILLED), peer(2, "raise RuntimeError('Connection closed by peer')")
    first.communicate("\n")
    _, told = second.communicate("\n")
    assert "PeerDiedError: rank 1 of 3 processes died" in told
    with pytest.raises(PeerDiedError, match="rank 1 of 3"), Peers(tmp_path, 0, 3, "job"):
        raise RuntimeError("Connection closed by peer")


def test_who_is_done_has_not_died_and_errors_of_ones_own_stay(tmp_path, peer):
    process = peer(1, "pass")
    with Peers(tmp_path, 0, 3, "job") as peers:
        assert peers.died() is None
        process.communicate("\n")
        assert peers.died() is None
    with pytest.raises(UserError, match=r"^mine\.$"), Peers(tmp_path, 0, 3, "job"):
        raise UserError("mine.")


def test_another_job_is_no_peer(tmp_path, peer):
    peer(1, KILLED).communicate("\n")
    with Peers(tmp_path, 0, 3, "another") as peers:
        assert peers.died() is None


def test_processes_of_ones_own_are_known_by_their_status(tmp_path):
    with Peers(tmp_path, 0, 2, "job", lambda: {1: -signal.SIGKILL}, grace=60) as peers:
        assert "rank 1 of 2 processes ended early (it was killed by SIGKILL)" in peers.died()
    with Peers(tmp_path, 0, 1, "job"):
        assert os.listdir(tmp_path) == [PROCESSES]
