import os
import signal
import subprocess
import sys
import time

import pytest

from alseg.core import processes
from alseg.core.processes import forked_pool, usable_cores


def test_cores_are_those_a_scheduler_lends(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 7}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


def test_one_core_or_no_fork_means_no_other_process(monkeypatch):
    monkeypatch.setattr(processes, "usable_cores", lambda: 1)
    assert forked_pool(2) is None
    monkeypatch.setattr(processes, "usable_cores", lambda: 2)
    monkeypatch.setattr(processes, "get_all_start_methods", lambda: ["spawn"])
    assert forked_pool(2) is None


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and fork")
def test_processes_are_there_at_once_and_answer_signals_in_their_own_way(monkeypatch):
    monkeypatch.setattr(processes, "usable_cores", lambda: 2)
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # as Lightning does
    try:
        with forked_pool(8) as pool:
            assert len(pool._processes) == 2, "no more than cores"
            assert list(pool.map(abs, range(-3, 0))) == [3, 2, 1]
            assert pool.submit(signal.getsignal, signal.SIGTERM).result() == signal.SIG_DFL
            for name in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
                assert pool.submit(signal.getsignal, name).result() == signal.SIG_IGN
            assert pool.submit(os.getpid).result() != os.getpid()
    finally:
        signal.signal(signal.SIGTERM, before)


KILLED = """
import os, signal
from alseg.core import processes
processes.usable_cores = lambda: 2
pool = processes.forked_pool(2)
print(*pool._processes, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and fork")
def test_processes_end_with_a_parent_that_is_killed():
    code = [sys.executable, "-c", KILLED]
    # what they print to stays open as long as one of them lives
    told = subprocess.run(code, stdout=subprocess.PIPE, text=True, timeout=60)
    assert told.returncode == -signal.SIGKILL
    pids = [int(pid) for pid in told.stdout.split()]
    assert len(pids) == 2
    end = time.monotonic() + 10
    while any(map(lives, pids)) and time.monotonic() < end:
        time.sleep(0.01)
    assert not any(map(lives, pids))


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
