"""The processes a run consists of: who started them, how many there are, whose folder it is."""

import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from alseg.core.errors import UserError
from alseg.core.files import write_atomic

#: Names the job for the processes that Lightning starts, which inherit it.
_JOB = "ALSEG_JOB"


class World(NamedTuple):
    """Processes that a launcher has started.

    Attributes:
        launcher: Names it in messages.
        variable: Environment variable that holds their number.
        size: Their number.
        per_node: Processes on each machine; None = not known.
        nodes: Machines; None = not known.
        mend: How to have another number started.
    """

    launcher: str
    variable: str
    size: int
    per_node: int | None
    nodes: int | None
    mend: str

    def settle(self, devices: int | None, num_nodes: int | None) -> tuple[int, int]:
        """Devices per machine and machines; what is None is as the launcher has it.

        Args:
            devices: ``trainer.devices``.
            num_nodes: ``trainer.num_nodes``.

        Raises:
            UserError: If they ask for another number of processes.
        """
        nodes = num_nodes or self.nodes or 1
        per_node = devices or self.per_node or max(1, self.size // nodes)
        fits = self.per_node in (None, per_node) and self.nodes in (None, nodes)
        if not fits or self.size != per_node * nodes:
            said = [
                f"trainer.{name}={value}"
                for name, value in (("devices", devices), ("num_nodes", num_nodes))
                if value is not None
            ]
            asked = " with ".join(said) if said else f"as many on each of {nodes} machines"
            where = "" if self.per_node is None else f", {self.per_node} on each machine"
            raise UserError(
                f"{self.launcher} started {_processes(self.size)} ({self.variable}={self.size}"
                f"{where}), but {asked} needs {_processes(per_node * nodes)}; leave "
                f"trainer.devices and trainer.num_nodes out, or {self.mend}."
            )
        return per_node, nodes


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"


def launched(environment: Mapping[str, str] | None = None) -> World | None:
    """The processes that torchrun, SLURM or a script started; None without a launcher.

    Args:
        environment: Environment variables; None for those of this process.

    Raises:
        UserError: If a variable that says how many there are is no number, or SLURM was told the
            number in a way that Lightning does not read.
    """
    given = os.environ if environment is None else environment

    def number(*names: str, default: int) -> int:
        for name in names:
            if name in given:
                if not given[name].isdecimal() or int(given[name]) < 1:
                    raise UserError(
                        f"the environment variable {name} is {given[name]!r}, which is no number "
                        f"of processes; unset it, or start the command with torchrun or srun."
                    )
                return int(given[name])
        return default

    if "TORCHELASTIC_RUN_ID" in given:
        size = number("WORLD_SIZE", default=1)
        per_node = number("LOCAL_WORLD_SIZE", default=size)
        nodes = number("GROUP_WORLD_SIZE", default=max(1, size // per_node))
        mend = "give torchrun the same --nproc-per-node and --nnodes"
        return World("torchrun", "WORLD_SIZE", size, per_node, nodes, mend)
    # the names SLURM gives to interactive jobs, in which one starts processes oneself
    if "SLURM_NTASKS" in given and given.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        size = number("SLURM_NTASKS", default=1)
        nodes = number("SLURM_NNODES", "SLURM_JOB_NUM_NODES", default=1)
        per_node = number("SLURM_NTASKS_PER_NODE", default=max(1, size // nodes))
        mend = "submit the job with the same --ntasks-per-node and --nodes"
        if nodes > 1 and size > 1 and "SLURM_NTASKS_PER_NODE" not in given:
            raise UserError(
                f"SLURM started {size} processes (SLURM_NTASKS={size}) on {nodes} machines, but "
                f"does not say how many on each; submit the job with --ntasks-per-node instead of "
                f"--ntasks."
            )
        return World("SLURM", "SLURM_NTASKS", size, per_node, nodes, mend)
    if "LOCAL_RANK" in given and "WORLD_SIZE" in given:
        size = number("WORLD_SIZE", default=1)
        return World("the launcher", "WORLD_SIZE", size, None, None, "start as many")
    return None


class FolderLock:
    """Lets one job at a time work in a run folder, with all of its processes.

    Args:
        root: The folder; it is made.
        is_first: Whether this process is the one that writes. The others wait for it, so that they
            do not work for a job that was refused.
        patience: Seconds they wait.

    Attributes:
        job: The job's name, once it has the folder.
    """

    def __init__(self, root: Path, is_first: bool, patience: float = 120.0) -> None:
        from filelock import FileLock

        self.root = root
        self.is_first = is_first
        self.patience = patience
        self.job = ""
        self._lock = FileLock(root / ".lock")

    def _make(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise UserError(
                f"run_dir={self.root} is, or lies in, a file; give a folder."
            ) from error
        except FileNotFoundError as error:
            raise UserError(
                f"run_dir={self.root} cannot be made; give a folder you may write to."
            ) from error

    def __enter__(self) -> "FolderLock":
        """Take the folder.

        Raises:
            UserError: If another job has it.
        """
        from filelock import Timeout

        self.job = job = job_name()
        if self.is_first:
            self._make()
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise self._taken() from error
            except NotImplementedError as error:
                raise UserError(
                    f"the file system of {self.root} has no locks, which keep two commands from "
                    f"working in one folder; give a run_dir on another one."
                ) from error
            write_atomic(self.root / ".job", job)
            os.environ[_JOB] = job
            return self
        until = time.monotonic() + self.patience
        while self._owner() != job:
            if time.monotonic() > until:
                raise self._taken()
            time.sleep(0.1)
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the folder to others."""
        self._lock.release()
        if self.is_first:
            os.environ.pop(_JOB, None)  # the next run of this process is another job

    def _owner(self) -> str | None:
        path = self.root / ".job"
        return path.read_text() if path.exists() else None

    def _taken(self) -> UserError:
        return UserError(f"another process is at work in {self.root}; wait for it.")


def is_taken(root: Path) -> bool:
    """Whether a job is at work in a run folder, of which nothing is changed."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    if not (root / ".lock").exists():
        return False
    with (root / ".lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:  # a file system without locks
            return False
    return False


def job_name() -> str:
    """A name that all processes of this job, and no others, have."""
    given = os.environ
    if _JOB in given:
        return given[_JOB]
    names: tuple[str, ...]
    if "TORCHELASTIC_RUN_ID" in given:
        names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    elif launched() is not None and "SLURM_JOB_ID" in given and "SLURM_PROCID" in given:
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
    elif "LOCAL_RANK" in given:
        names = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")
    else:
        return uuid.uuid4().hex
    return "/".join(given.get(name, "") for name in names)
