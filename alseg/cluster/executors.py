"""Where the jobs of a sweep run: on this machine, or in the queue of SLURM. submitit does both."""

import itertools
import logging
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from alseg.cluster.jobs import Job, World, keywords
from alseg.cluster.records import RECORDS, Record, read_record, span, write_record
from alseg.core.errors import UserError
from alseg.core.processes import usable_cores

log = logging.getLogger(__name__)

#: Minutes of a job without a limit of its own: a month.
_UNLIMITED = 60 * 24 * 30
#: Seconds a job has between the signal and the end of its time: a batch, and a checkpoint.
_NOTICE = 120
#: How often a job that ran out of time is put back into the queue.
_REQUEUES = 1_000


def check_submitit() -> None:
    """Raise `UserError` where submitit is not installed."""
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise UserError(
            "sweeps are executed by submitit, which is not installed; give pip install "
            "'alseg[cluster]'."
        ) from error


@dataclass(frozen=True)
class Local:
    """This machine: so many runs at a time.

    Attributes:
        jobs: Runs at a time.
        gpus: GPUs that are dealt out, an equal part to each run; None leaves the choice to the run.
        minutes: After so long a run is stopped and put at the head of the queue; None = never.
    """

    jobs: int = 1
    gpus: tuple[int, ...] | None = None
    minutes: float | None = None

    def run(self, jobs: Sequence[Job], folder: Path, tell: Callable[[str], None]) -> None:
        """Do the runs and wait for them; runs that are at work already are waited for as well.

        Args:
            jobs: The runs; they are begun in this order.
            folder: Of the sweep.
            tell: Is told when a run begins and ends.
        """
        import submitit

        executor = submitit.LocalExecutor(folder=_logs(folder), max_num_timeout=_REQUEUES)
        slots = [self._slot(index) for index in range(self.jobs)]
        queue = [job for job in jobs if read_record(job.root).state != "running"]
        strangers = [job for job in jobs if job not in queue]
        free, at_work = list(range(len(slots))), dict[int, tuple[Job, Any]]()
        try:
            while queue or at_work or strangers:
                while queue and free and len(at_work) + len(strangers) < len(slots):
                    slot, job = free.pop(0), queue.pop(0)
                    visible = slots[slot][: job.world.tasks]
                    executor.update_parameters(
                        timeout_min=self.minutes or _UNLIMITED,
                        signal_delay_s=_notice(self.minutes),
                        stderr_to_stdout=True,
                        tasks_per_node=job.world.tasks,
                        gpus_per_node=len(visible),
                        visible_gpus=visible,
                    )
                    write_record(job.root, Record("running", began=time.time()))
                    at_work[slot] = job, executor.submit(self._settled(job))
                    tell(f"{job.title}: begun")
                for slot, (job, handle) in list(at_work.items()):
                    if handle.done():
                        del at_work[slot]
                        free.append(slot)
                        tell(f"{job.title}: {_outcome(job, str(handle.paths.stdout))}")
                for job in list(strangers):
                    if read_record(job.root).state != "running":
                        strangers.remove(job)
                        tell(f"{job.title}: {_outcome(job, '')}")
                time.sleep(0.2)
        except BaseException:
            for _, handle in at_work.values():
                handle.cancel()
            raise

    def _slot(self, index: int) -> tuple[int, ...]:
        """GPUs of a slot."""
        if self.gpus is None:
            return ()
        each = len(self.gpus) // self.jobs
        return self.gpus[index * each : (index + 1) * each]

    def _settled(self, job: Job) -> Job:
        """The job with what this machine's runs share dealt out."""
        environment = dict(job.environment)
        if self.gpus is None:  # submitit hides all GPUs unless it deals them out
            environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES")
        if self.jobs > 1 and "OMP_NUM_THREADS" not in os.environ:
            environment["OMP_NUM_THREADS"] = str(max(1, usable_cores() // self.jobs))
        return replace(job, environment=environment)


@dataclass(frozen=True)
class Slurm:
    """The queue of SLURM: one array of jobs per number of processes.

    Attributes:
        jobs: Runs at a time; None = as many as SLURM lets.
        minutes: Time limit of a job, after which it is put back into the queue and goes on.
        extra: Further options of ``sbatch`` by their long names, such as ``{"partition": "gpu"}``.
    """

    jobs: int | None = None
    minutes: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)

    def submit(self, jobs: Sequence[Job], folder: Path) -> list[str]:
        """Put the runs into the queue, and return at once.

        Returns:
            Numbers of the jobs, in the order of the runs. Runs that are in the queue or at work
            keep theirs.

        Raises:
            UserError: If SLURM is not here, or refuses the jobs.
        """
        import submitit

        there = in_queue()
        records = {job.root: read_record(job.root) for job in jobs}
        numbers = {
            root: record.job
            for root, record in records.items()
            if record.state == "running" or record.job in there
        }
        executor = submitit.SlurmExecutor(folder=_logs(folder), max_num_timeout=_REQUEUES)
        left = [job for job in jobs if job.root not in numbers]
        ordered = sorted(left, key=lambda job: _key(job.world))
        for _, group in itertools.groupby(ordered, key=lambda job: _key(job.world)):
            alike = list(group)
            executor.update_parameters(
                job_name="alseg",
                time=round(self.minutes or 60),
                signal_delay_s=_notice(self.minutes or 60),
                stderr_to_stdout=True,
                array_parallelism=self.jobs or len(alike),
                additional_parameters={"requeue": True} | dict(self.extra),
                **{
                    "ntasks_per_node" if name == "tasks_per_node" else name: value
                    for name, value in keywords(alike[0].world).items()
                    if name != "gpus_per_node" or value
                },
            )
            try:
                with executor.batch():
                    handles = [executor.submit(job) for job in alike]
            except Exception as error:  # submitit's own errors and those of subprocess
                reason = " ".join(str(error).split())
                raise UserError(f"SLURM refused the jobs: {reason}") from error
            for job, handle in zip(alike, handles, strict=True):
                numbers[job.root] = handle.job_id
                write_record(job.root, Record("queued", job=handle.job_id))
        return [numbers[job.root] for job in jobs]


def in_queue() -> set[str]:
    """Numbers of this user's jobs that SLURM has not ended, such as ``12_3``.

    Raises:
        UserError: If SLURM is not here, or does not answer.
    """
    words = ["squeue", "--noheader", "--array", "--me", "--format=%i"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    except FileNotFoundError as error:
        raise UserError(
            "squeue was not found, so that this is no machine of a SLURM cluster; log in to one, "
            "or give --on local."
        ) from error
    except subprocess.SubprocessError as error:
        reason = " ".join(str(getattr(error, "stderr", None) or error).split())
        raise UserError(f"SLURM does not answer ({reason}); try again later.") from error
    return set(said.stdout.split())


def _logs(folder: Path) -> Path:
    """Where submitit keeps its files, and what the jobs print."""
    return folder / RECORDS / "jobs"


def _notice(minutes: float | None) -> int:
    """Seconds between the signal and the end of a job."""
    return _NOTICE if minutes is None else max(1, min(_NOTICE, round(minutes * 60 / 4)))


def _key(world: World) -> tuple[int, int, bool, int]:
    return world.nodes, world.tasks, world.gpus, world.cpus


def _outcome(job: Job, printed: str) -> str:
    """A sentence about a run whose job has ended; a job that said nothing has failed."""
    record = read_record(job.root)
    if record.state in ("running", "lost", "queued"):
        hint = f"; see {printed}" if printed else ""
        sentence = f"its process ended without a word (killed, or out of memory?){hint}"
        record = replace(record, state="failed", sentence=sentence, ended=time.time())
        write_record(job.root, record)
    took = ""
    if record.began is not None and record.ended is not None:
        took = f" after {span(record.ended - record.began)}"
    why = f": {record.sentence}" if record.sentence else ""
    return f"{record.state}{took}{why}"
