"""Small runs of the command in forked processes, and what two run folders differ in."""

import contextlib
import csv
import faulthandler
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alseg.cli.run import main
from alseg.methods import METHODS

#: Two batches instead of a schedule, where a method has such options.
_SHORT: Mapping[str, Any] = {"steps": 4, "batch_size": 6, "epoch_steps": 2, "epochs": 2}
#: What few images, and no network connection, need of a method.
_FITTING: Mapping[str, Sequence[str]] = {
    "als4gan": (
        "method.ratio=0.5",
        "method.alpha=0.7",
        "method.beta=1.0",
        "method.classifier=tu-resnet10t",
        "method.classifier_weights=null",
        "method.classifier_passes=2",
        "method.discriminator_width=4",
    ),
    "equal": (),
    "supervised": ("rounds=1",),
}
_TINY: Sequence[str] = (
    "data.train=7",
    "data.val=2",
    "data.size=[48,64]",
    "network.architecture=FPN",
    "network.encoder=tu-test_resnet",
    "network.options={decoder_pyramid_channels:32,decoder_segmentation_channels:32}",
    "workers=0",
    "pictures=1",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
)
#: Columns and entries that a clock decides.
_TIMES = {"train_s", "score_s", "select_s"}


def words_of(method: str) -> list[str]:
    """The words of a run of a second or two."""
    cls = METHODS.resolve(method)
    known = {field.name for field in fields(cls)}
    given = {
        name: value
        for key, value in _SHORT.items()
        for name in known
        if name == key or (name.endswith(f"_{key}") and name != "epoch_steps")
    }
    if "epoch_steps" in known:
        given["epoch_steps"] = _SHORT["epoch_steps"]
    if "feature_weights" in known:  # else they would be downloaded
        given["features"] = "encoder"
    words = [f"method={method}", *(f"method.{name}={value}" for name, value in given.items())]
    if method != "als4gan":  # which plans rounds and budget itself
        words += ["rounds=2"] if method != "supervised" else []
        words += {"pixelpick": ["budget.amount=20"], "equal": [], "supervised": []}.get(
            method, ["regions.region_size=64", "budget.amount=12"]
        )
    return [*words, *_FITTING.get(method, ()), *_TINY]


@dataclass
class Process:
    """A forked process at work on a command.

    Attributes:
        pid: Of the process, which leads a group of its own.
        log: What it has said.
    """

    pid: int
    log: Path
    status: int | None = None

    def wait(self, limit: float = 60.0) -> int:
        """Its exit status, negative for a signal.

        Raises:
            TimeoutError: If it hangs; it is killed.
        """
        until = time.monotonic() + limit
        while self.poll() is None:
            if time.monotonic() > until:
                os.kill(self.pid, signal.SIGABRT)  # it tells where it is, see `start`
                time.sleep(1.0)
                self.kill()
                told = self.log.read_text(errors="replace")[:1500]
                raise TimeoutError(f"hangs after {limit:g} s: {told}")
            time.sleep(0.005)
        assert self.status is not None
        return self.status

    def poll(self) -> int | None:
        """Its exit status, None while it works."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def kill(self) -> None:
        """Send SIGKILL to it and what it started."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def start(
    words: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Process:
    """Give a command in a process of its own, which has torch already.

    Args:
        words: Of the command.
        log: Takes standard output and error.
        environment: Further variables.
        before: Called in the process before the command.
    """
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return Process(pid, log)
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        faulthandler.enable()
        os.environ.update(environment or {})
        _as_rank(int(os.environ.get("RANK", "0")))
        if before is not None:
            before()
        status = main(list(words))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _as_rank(rank: int) -> None:
    """Lightning reads the rank when it is imported, which was before the fork."""
    from lightning.pytorch.utilities import rank_zero_only

    rank_zero_only.rank = rank  # type: ignore[attr-defined]


def world_of(size: int) -> list[dict[str, str]]:
    """Variables of the processes that torchrun would start."""
    if size == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "TORCHELASTIC_RUN_ID": "torture",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "GROUP_WORLD_SIZE": "1",
        "GROUP_RANK": "0",
    }
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]


def difference(one: Path, two: Path) -> str | None:
    """What two run folders differ in, times apart; None if in nothing."""
    patterns = ("*/*.npz", "*/metrics.json", "*/*/*.ckpt", "rounds.csv", "run.json")
    names = sorted(
        {str(p.relative_to(root)) for root in (one, two) for x in patterns for p in root.glob(x)}
    )
    for name in names:
        a, b = one / name, two / name
        if not (a.exists() and b.exists()):
            return f"{name} is missing"
        if not _READERS[a.suffix](a, b):
            return f"{name} differs"
    return None if names else "there is nothing"


def _same_arrays(one: Path, two: Path) -> bool:
    with np.load(one) as a, np.load(two) as b:
        return a.files == b.files and all(
            a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes()
            for name in a.files
        )


def _same_json(one: Path, two: Path) -> bool:
    a, b = (json.loads(path.read_text()) for path in (one, two))
    return {k: v for k, v in a.items() if k not in _TIMES} == {
        k: v for k, v in b.items() if k not in _TIMES
    }


def _same_rows(one: Path, two: Path) -> bool:
    tables = []
    for path in (one, two):
        with path.open() as file:
            rows = list(csv.DictReader(file))
        tables.append([{k: v for k, v in row.items() if k not in _TIMES} for row in rows])
    return tables[0] == tables[1]


def _same_weights(one: Path, two: Path) -> bool:
    a, b = (torch.load(path, weights_only=True)["state_dict"] for path in (one, two))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


_READERS = {
    ".npz": _same_arrays,
    ".json": _same_json,
    ".csv": _same_rows,
    ".ckpt": _same_weights,
}
