"""Errors of the system as sentences."""

import errno
import os
import signal

import pytest
import torch

from alseg.cli.faults import in_worker, sentence_of
from alseg.cli.peers import Peers
from alseg.core.errors import UserError
from alseg.data import workers

WORKER = "Caught {0} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/a"), "runs/a: no space left"),
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n 4096"),
        (OSError(errno.ENOLCK, "No locks available", "a"), "the file system has no locks"),
        (MemoryError(), "not enough memory; free some memory"),
        (RuntimeError("CUDA out of memory. Tried"), "the device has not enough memory"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."),
            "the shared memory (/dev/shm) is full",
        ),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "a loader process died"),
        (RuntimeError("can't start new thread"), "too many processes"),
    ],
)
def test_faults_get_a_sentence_with_the_mend(error, sentence):
    told = sentence_of(error)
    assert sentence in told
    assert told.endswith("then give the same command again.")


def test_what_the_system_is_not_at_fault_for_gets_none():
    assert sentence_of(ValueError("shapes differ")) is None
    assert sentence_of(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert sentence_of(OSError(errno.EPIPE, "Broken pipe")) is None


def test_the_cause_of_an_error_counts():
    error = RuntimeError("worker exited")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device", "b")
    assert sentence_of(error).startswith("b: no space left on device")


def test_an_error_in_a_loader_process_is_told_without_its_traceback():
    said = WORKER.format("UserError") + "  File x\nalseg.core.errors.UserError: a.png has gone.\n"
    assert in_worker(UserError(said)) == "a.png has gone."


def test_loader_processes_are_refused_where_their_batches_have_no_room(monkeypatch, tmp_path):
    monkeypatch.setattr(workers, "SHARED", tmp_path)
    free = type("Usage", (), {"free": 64 * 1024})
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: free)
    workers.require_shared_memory(0, 1 << 30)
    workers.require_shared_memory(2, 12 * 1024)  # 5 batches
    with pytest.raises(UserError, match=r"takes 0\.07 MiB and has 0\.06 MiB free"):
        workers.require_shared_memory(2, 14 * 1024)


class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(1)


def test_a_killed_loader_process_gets_a_sentence():
    loader = torch.utils.data.DataLoader(
        Items(), num_workers=1, worker_init_fn=workers.fail_aloud, batch_size=1
    )
    with pytest.raises(RuntimeError) as caught:
        list(loader)
    assert sentence_of(caught.value) is not None


class TestPeers:
    """Two processes of a job, played by this one."""

    def test_one_process_has_none(self, tmp_path):
        with Peers(tmp_path, 0, 1, "job"):
            assert not list(tmp_path.iterdir())

    def test_a_child_that_was_killed_is_named(self, tmp_path):
        peers = Peers(tmp_path, 0, 2, "job", children=lambda: {1: -9}, end=lambda status: None)
        with peers:
            assert peers.died() == (
                "rank 1 of 2 processes ended early (it was killed by SIGKILL); give the same "
                "command again: it goes on from the last checkpoint."
            )

    def test_what_the_other_one_said_is_told(self, tmp_path):
        first = Peers(tmp_path, 0, 2, "job", end=lambda status: None)
        second = Peers(tmp_path, 1, 2, "job", end=lambda status: None)
        with first:
            with pytest.raises(UserError, match=r"the disk is full"), second:
                raise UserError("the disk is full.")
            assert "rank 1 of 2 processes ended early (the disk is full)" in first.died()

    def test_a_process_that_is_done_is_not_dead(self, tmp_path):
        first = Peers(tmp_path, 0, 2, "job", end=lambda status: None)
        with first:
            with Peers(tmp_path, 1, 2, "job", end=lambda status: None):
                pass
            assert first.died() is None

    def test_processes_of_another_job_do_not_count(self, tmp_path):
        first = Peers(tmp_path, 0, 2, "new", end=lambda status: None)
        with first:
            with pytest.raises(UserError), Peers(tmp_path, 1, 2, "old", end=lambda status: None):
                raise UserError("no")
            assert first.died() is None

    def test_an_error_of_a_collective_is_that_of_the_dead_process(self, tmp_path):
        peers = Peers(tmp_path, 0, 2, "job", children=lambda: {1: -9}, end=lambda status: None)
        with pytest.raises(UserError, match="rank 1 of 2 processes ended early"), peers:
            raise RuntimeError("[gloo] Connection closed by peer")
