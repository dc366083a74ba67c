"""Errors of the system and of loader processes, as the commands tell them."""

import errno
import os

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from alseg.cli.command import main
from alseg.cli.faults import sentence_of
from alseg.core.errors import UserError
from alseg.data import workers
from alseg.data.workers import fail_aloud, require_shared_memory


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOLCK, "No locks available", "/x"), "/x: no locks available; the file sy"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "resource temporarily unav"),
        (MemoryError(), "not enough memory; free some memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "not enough"),
        (ImportError("libtorch.so: failed to map segment from shared object"), "not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), "the device has not enough memory"),
        (RuntimeError("unable to open shared memory object: Too many open files (24)"), "too many"),
        (RuntimeError("unable to allocate shared memory(shm) for file"), "the shared memory"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error."), "the shared m"),
        (RuntimeError("can't start new thread"), "too many processes"),
        (RuntimeError("DataLoader worker (pid(s) 3) exited unexpectedly"), "a loader process died"),
    ],
)
def test_what_the_system_lacks_is_a_sentence(capsys, error, sentence):
    def work(words):
        raise error

    assert main(["x"], str, work) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {sentence}")
    assert said.endswith("then give the same command again.\n")
    assert said.count("\n") == 1


def test_a_fault_of_ours_is_not_the_systems():
    assert sentence_of(RuntimeError("shapes differ")) is None
    assert sentence_of(ValueError("out of memory")) is None
    assert sentence_of(KeyError("x")) is None


class Items(Dataset):
    def __init__(self, raises=None):
        self.raises = raises

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if self.raises is not None:
            raise self.raises
        return torch.zeros(4)


@pytest.mark.parametrize(
    ("raises", "sentence"),
    [
        (UserError("/x/y.png cannot be read; restore it."), "/x/y.png cannot be read; restore it."),
        (
            FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/x/y.png"),
            "No such file or directory: '/x/y.png'; it may have been moved while the command was "
            "at work, then give the same command again.",
        ),
    ],
)
def test_what_went_wrong_in_a_loader_process_is_a_sentence(capsys, raises, sentence):
    def work(words):
        list(DataLoader(Items(raises), num_workers=1))

    assert main(["x"], str, work) == 2
    assert capsys.readouterr().err == f"error: {sentence}\n"


@pytest.mark.parametrize(
    ("short", "sentence"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
        (RuntimeError("unable to open ...: Too many open files (24)"), "too many open files"),
        (RuntimeError("unable to allocate shared memory(shm)"), "the shared memory"),
    ],
)
def test_a_batch_that_cannot_be_handed_over_ends_the_wait(capsys, monkeypatch, short, sentence):
    """Without `fail_aloud` the loader waits here for ever."""

    class Unsent:
        def __reduce__(self):
            raise short

    monkeypatch.setattr(Items, "__getitem__", lambda self, index: Unsent())

    def work(words):
        loader = DataLoader(
            Items(), batch_size=None, num_workers=1, worker_init_fn=fail_aloud, timeout=30
        )
        list(loader)

    assert main(["x"], str, work) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {sentence}")


def test_too_little_shared_memory_is_told_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "SHARED", tmp_path)
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda path: _Usage)
    require_shared_memory(0, 1 << 40)
    require_shared_memory(2, 12 << 20)  # five batches
    with pytest.raises(UserError, match=r"takes 65\.00 MiB and has 64\.00 MiB free; give the cont"):
        require_shared_memory(2, 13 << 20)


class _Usage:
    free = 64 << 20


@pytest.mark.slow
def test_a_run_with_too_few_open_files_ends_and_goes_on(tmp_path):
    import subprocess
    import sys

    from tests.torture.runs import difference, words_of

    def run(name, limit="true"):
        folders = [f"run_dir={tmp_path / name}", f"cache={tmp_path / 'cache'}"]
        words = [w for w in words_of("random") if not w.startswith("workers")]
        command = [sys.executable, "-m", "alseg.run", *words, "workers=2", *folders]
        return subprocess.run(
            ["bash", "-c", f'{limit}; exec "$@"', "bash", *command],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    assert run("whole").returncode == 0
    short = run("short", "ulimit -n 20")
    assert short.returncode == 2
    assert "ulimit -n 4096" in short.stderr
    assert run("short").returncode == 0
    assert difference(tmp_path / "whole", tmp_path / "short") is None
