"""Loader processes that fail aloud, where they would leave a run waiting for ever."""

import errno
import multiprocessing.queues
import os
import re
import shutil
from pathlib import Path
from typing import Any

from alseg.core.errors import UserError

#: Where Linux keeps the memory that processes share.
SHARED = Path("/dev/shm")
#: Batches that each loader process has ready, and one in use; see ``prefetch_factor`` of torch.
_READY = 2
_MIB = 1 << 20


def fail_aloud(worker: int) -> None:
    """Let a loader process end where it cannot hand over a batch.

    Python writes a traceback and drops the batch, for which the run would wait. A function for
    ``worker_init_fn`` of `torch.utils.data.DataLoader`; the exit status is the error's number, by
    which `alseg.cli.faults` knows what was short.

    Args:
        worker: Number of the process.
    """
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]


def _end(error: BaseException, batch: Any) -> None:
    said = re.search(r"\((\d{1,3})\)$", str(error).strip())  # torch: "... open files (24)"
    number = getattr(error, "errno", None) or (int(said[1]) if said else errno.ENOSPC)
    os._exit(number)


def require_shared_memory(workers: int, batch: int) -> None:
    """Refuse loader processes that the machine has no shared memory for.

    Args:
        workers: Loader processes.
        batch: Bytes of the largest batch, at least.

    Raises:
        UserError: Saying what there is and what is needed.
    """
    if not workers or not SHARED.is_dir():
        return
    needed, free = batch * (workers * _READY + 1), shutil.disk_usage(SHARED).free
    if needed > free:
        raise UserError(
            f"workers={workers} hand over batches of {batch / _MIB:.2f} MiB in {SHARED}, which "
            f"takes {needed / _MIB:.2f} MiB and has {free / _MIB:.2f} MiB free; give the container "
            f"more (docker run --shm-size=1g), or give fewer, down to workers=0."
        )
