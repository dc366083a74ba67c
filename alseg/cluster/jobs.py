"""One run as a job of submitit: it says what becomes of it, and is started again after a signal."""

import logging
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.cluster.records import Record, State, read_record, running, write_record
from alseg.core.errors import UserError, first_line

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

log = logging.getLogger(__name__)

#: Exit statuses of a run that are no failure; 75 after a signal of the scheduler.
_STATES: dict[int, State] = {0: "done", 3: "waiting", 75: "queued"}
_STOPPED, _TERMINATED = 75, 143
_AGAIN = "stopped by its scheduler, which starts it again"


class JobFailedError(Exception):
    """A run has failed; its record says why."""


@dataclass(frozen=True)
class World:
    """Processes and devices of a job.

    Attributes:
        nodes: Machines.
        tasks: Processes on each, one device each.
        gpus: Whether the devices are GPUs.
        cpus: Cores for each process.
    """

    nodes: int = 1
    tasks: int = 1
    gpus: bool = False
    cpus: int = 1


@dataclass(frozen=True)
class Job:
    """A run, to be called in a process of its own.

    Attributes:
        root: Its folder.
        words: What `work` is called with.
        title: Printed first.
        work: Does the run and returns its exit status; raises `UserError` for what cannot be used.
            It is pickled by its name.
        world: Processes it wants.
        environment: Variables set in its process; None takes one away.
    """

    root: Path
    words: tuple[str, ...]
    title: str
    work: Callable[[Sequence[str]], int]
    world: World = World()
    environment: Mapping[str, str | None] = field(default_factory=dict)

    def __call__(self) -> int:
        """Do the run, or what is left of it; the exit status.

        Raises:
            JobFailedError: If the run has failed.
        """
        import submitit

        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        here = submitit.JobEnvironment()
        if here.num_tasks > 1 and here.cluster == "local":
            # what torchrun sets; SLURM's variables say the same
            submitit.helpers.TorchDistributedEnvironment().export(overwrite=True)
        first = here.global_rank == 0
        if not first:
            return self._attempt()[1]
        print(self.title, flush=True)
        with running(self.root, here.job_id) as record:
            sentence, status = self._attempt()
        if status == _STOPPED:
            sentence = _AGAIN
        write_record(self.root, _ended(record, status, sentence))
        if status == _STOPPED:
            # submitit's own handler, which is there again, puts the job back into the queue
            os.kill(os.getpid(), signal.Signals[f"SIG{here.USR_SIG}"])
        if status not in _STATES:
            raise JobFailedError(sentence)  # so that the scheduler, too, counts it as failed
        return status

    def checkpoint(self) -> "DelayedSubmission":
        """What submitit starts again: the same run, which goes on from its folder."""
        from submitit.helpers import DelayedSubmission

        record = replace(read_record(self.root), state="queued", sentence=_AGAIN)
        write_record(self.root, record)
        return DelayedSubmission(self)

    def _attempt(self) -> tuple[str, int]:
        """Why it failed, and the exit status."""
        try:
            return "", self.work(self.words)
        except UserError as error:
            print(f"error: {error}", flush=True)
            return str(error), 2
        except Exception as error:
            traceback.print_exc()
            reason = first_line(error)
            return f"{type(error).__name__}: {reason}", 1


def _ended(record: Record, status: int, sentence: str) -> Record:
    state = _STATES.get(status, "failed")
    if state == "failed" and not sentence:
        taken = "cancelled, or its machine was taken away; the same command goes on"
        sentence = taken if status == _TERMINATED else f"it ended with status {status}"
    return replace(record, state=state, sentence=sentence, ended=time.time())


def keywords(world: World) -> dict[str, Any]:
    """What submitit calls the parts of a world."""
    return {
        "nodes": world.nodes,
        "tasks_per_node": world.tasks,
        "gpus_per_node": world.tasks if world.gpus else 0,
        "cpus_per_task": world.cpus,
    }
