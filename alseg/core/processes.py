"""Cores that may be used, and processes for pure functions of plain arrays."""

import gc
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import connection, get_all_start_methods, get_context, parent_process
from threading import Thread


def usable_cores() -> int:
    """Cores this process may use: on a cluster those its scheduler lends it, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def forked_pool(workers: int) -> ProcessPoolExecutor | None:
    """Processes forked from this one, which are all there when it returns.

    Forked, since a fresh interpreter would import the user's script anew. What they are given has
    to be pure functions of numbers and NumPy arrays: a forked process may touch neither a device
    its parent uses nor the threads that the parent's torch computes with. Call it from the main
    thread. Other threads may be at work, such as those of a loader: what they hold a lock of, a
    function must not use, and NumPy's memory is not of that kind.

    Args:
        workers: Processes wanted; no more than there are usable cores.

    Returns:
        The pool; None where the system does not fork, or where there is one core. The processes end
        with this one, however that ends.
    """
    cores = usable_cores()
    if cores == 1 or "fork" not in get_all_start_methods():
        return None
    pool = ProcessPoolExecutor(min(workers, cores), get_context("fork"), _begin)
    pool.submit(os.getpid).result()  # the first call forks
    return pool


def _begin() -> None:
    gc.freeze()  # tensors of a device that the parent left here are not freed here
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears of it, and says what to do
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's own answer is none of ours
    for name in ("SIGUSR1", "SIGUSR2"):  # schedulers send them to a whole group
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)  # it was killed: nobody will give us work, or tell us to go
