"""The command: ``python -m alseg.sweep method=random,margin seed=0,1,2 --on local|slurm``."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.cli import command
from alseg.cli.command import FAILED, WAITING
from alseg.cli.faults import sentence_of
from alseg.cli.folders import separate
from alseg.cli.grid import Cell, cells
from alseg.cli.help import explain
from alseg.core.errors import UserError
from alseg.core.files import write_atomic

if TYPE_CHECKING:
    from alseg.cli.compose import Options
    from alseg.cluster.jobs import Job, World
    from alseg.cluster.records import Progress
    from alseg.core.images import DataSplits


@dataclass(frozen=True)
class SweepOptions:
    """Starts, watches and gathers the runs of a grid.

    Options of alseg.run take several values with commas between them; every combination is a run
    with a folder of its own in out, named by what varies. The same command goes on with what is
    left: runs that are done are not touched, failed ones are tried again. These options are also
    written --NAME VALUE.

    Attributes:
        on: local (this machine, waits for the runs) or slurm (job arrays, returns at once).
        out: Folder of the run folders.
        plan: YAML file with a list of grids, for combinations that are no single grid.
        jobs: Runs at a time; null = 1, or one per GPU given; on slurm as many as it lets.
        gpus: GPUs of this machine that are dealt out, such as 0,1,2; null = the runs choose.
        minutes: Time limit of a job, after which it goes back into the queue and goes on; null =
            none, on slurm 60.
        slurm: Further options of sbatch by their long names, such as slurm.partition=gpu.
        status: Print what has become of the runs in out, and start nothing. Also written --status.
    """

    on: str = "local"
    out: Path = Path("runs/sweep")
    plan: Path | None = None
    jobs: int | None = None
    gpus: str | None = None
    minutes: float | None = None
    slurm: dict[str, str] = field(default_factory=dict)
    status: bool = False

    def __post_init__(self) -> None:
        if self.on not in ("local", "slurm"):
            raise UserError(f"on is {self.on!r}; give local or slurm.")
        if self.jobs is not None and self.jobs < 1:
            raise UserError(f"jobs is {self.jobs}; give at least 1.")
        if self.minutes is not None and self.minutes <= 0:
            raise UserError(f"minutes is {self.minutes:g}; give more than 0.")
        if self.gpus is not None and self.on == "slurm":
            raise UserError("gpus deals out GPUs of this machine; on slurm give trainer.devices.")
        if self.slurm and self.on == "local":
            raise UserError("slurm.… are options of sbatch; give --on slurm with them.")
        cards = self.cards()
        if cards is not None and self.jobs is not None and len(cards) % self.jobs:
            raise UserError(f"{len(cards)} GPUs cannot be dealt out evenly to {self.jobs} jobs.")

    def cards(self) -> tuple[int, ...] | None:
        """Numbers of the GPUs that are dealt out.

        Raises:
            UserError: If they are none.
        """
        if self.gpus is None:
            return None
        parts = [part.strip() for part in self.gpus.split(",")]
        if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
            raise UserError(f"gpus is {self.gpus!r}; give their numbers, such as 0,1,2.")
        return tuple(int(part) for part in parts)


def sweep(words: Sequence[str], options: SweepOptions) -> int:
    """Start the runs of a grid, or say what has become of those of a folder.

    Returns:
        Exit status: 0, `FAILED` if a run failed, else `WAITING` if one waits for answers.

    Raises:
        UserError: For runs that cannot be started, before any is.
    """
    if options.status:
        if words or options.plan:
            raise UserError("--status looks at the runs in out; give no options of runs with it.")
        return tell_status(options.out)
    from alseg.cluster.executors import Local, Slurm, check_submitit

    check_submitit()
    if not words and options.plan is None:
        raise UserError("give the runs: method=random,margin seed=0,1, or plan=FILE.")
    found = cells(words, options.plan)
    jobs = check_all(found, options.out)
    todo = _todo(jobs)
    _remember(options.out, found)
    print(f"{len(found)} runs in {options.out}, {len(found) - len(todo)} of them done.")
    if options.on == "slurm":
        numbers = Slurm(options.jobs, options.minutes, options.slurm).submit(todo, options.out)
        for job, number in zip(todo, numbers, strict=True):
            print(f"{job.title}: job {number}")
        print(f"Watch them: python -m alseg.sweep --status out={shlex.quote(str(options.out))}")
        return 0
    cards = options.cards()
    local = Local(options.jobs or len(cards or "1"), cards, options.minutes)
    local.run(todo, options.out, lambda sentence: print(sentence, flush=True))
    return tell_status(options.out)


def check_all(found: Sequence[Cell], out: Path) -> "list[Job]":
    """The jobs of a grid, each of which was checked as `alseg.run` does before any long work.

    Images are opened once for all runs with the same data.

    Raises:
        UserError: Naming the run that cannot be started.
    """
    from alseg.active.ledger import Ledger
    from alseg.cli.compose import options
    from alseg.cli.identity import default_identity, identity
    from alseg.cli.run import assemble, check, open_images
    from alseg.cluster.jobs import Job

    jobs: list[Job] = []
    opened: dict[str, DataSplits] = {}
    for index, cell in enumerate(found):
        root = (out / cell.name).absolute()
        words = (*cell.words, f"run_dir={root}")
        try:
            composed = options(*words)
            if composed.choices["oracle"] == "browser":
                raise UserError(
                    "oracle=browser wants a person before the page of one run; give oracle=human, "
                    "and answer with python -m alseg.label."
                )
            plan = check(composed)
            data = json.dumps([composed.choices["data"], composed.values["data"]], default=str)
            if data not in opened:
                opened[data] = open_images(composed, plan)
            assemble(composed, plan, opened[data])
            Ledger(root, writes=False).check_owner(identity(composed), default_identity(composed))
        except UserError as error:
            raise UserError(f"{' '.join(cell.varied) or cell.name}: {error}") from error
        title = f"[{index + 1}/{len(found)}] {' '.join(cell.varied or cell.words)}"
        jobs.append(Job(root, words, title, do, _world(composed)))
    return jobs


def do(words: Sequence[str]) -> int:
    """Do one run in the process of a job; the exit status of `alseg.run`.

    Raises:
        UserError: For input, folders or disks that cannot be used.
    """
    from alseg.cli.compose import options
    from alseg.cli.run import run

    sys.argv = ["alseg", *words]
    try:
        return run(options(*words))
    except UserError:
        raise
    except Exception as error:
        told = sentence_of(error)
        if told is None:
            raise
        raise UserError(told) from error


def _world(composed: "Options") -> "World":
    from alseg.cluster.jobs import World

    trainer = composed.components["trainer"]
    cpu = trainer.accelerator == "cpu"
    if trainer.accelerator == "auto":
        import torch

        # a login node seldom has a GPU: where SLURM runs the job, there is one unless cpu is given
        cpu = not torch.cuda.is_available() and trainer.devices is None
    workers = int(composed.values["workers"])
    return World(trainer.num_nodes or 1, trainer.devices or 1, not cpu, workers + 1)


def _todo(jobs: "Sequence[Job]") -> "list[Job]":
    """Jobs that are not done; those in a queue or at work are left to the executors."""
    from alseg.cluster.records import read_record

    return [job for job in jobs if read_record(job.root).state != "done"]


def _remember(out: Path, found: Sequence[Cell]) -> None:
    """Keep what the runs of a folder are; those of earlier sweeps stay."""
    known = _recalled(out) | {cell.name: list(cell.words) for cell in found}
    write_atomic(_index(out), json.dumps(known, indent=1, ensure_ascii=False) + "\n")


def _index(out: Path) -> Path:
    return out / ".sweep" / "runs.json"


def _recalled(out: Path) -> dict[str, list[str]]:
    path = _index(out)
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [str(word) for word in words] for name, words in content.items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); delete it, and give the command of the sweep again."
        ) from error


def tell_status(out: Path) -> int:
    """Print a table of the runs of a folder; the exit status, see `sweep`.

    Raises:
        UserError: If there is no sweep.
    """
    from alseg.cluster.records import progress

    known = _recalled(out)
    if not known:
        raise UserError(f"there is no sweep in out={out}; give the folder of one.")
    found = [progress(out / name, _rounds(words)) for name, words in known.items()]
    print(table(found))
    states = [one.state for one in found]
    if all(state == "done" for state in states) and len(found) > 1:
        folders = " ".join(shlex.quote(str(out / name)) for name in known)
        print(f"Compare them: python -m alseg.compare {folders} out={out / 'comparison'}")
    if "failed" in states or "lost" in states:
        return FAILED
    return WAITING if "waiting" in states else 0


def _rounds(words: Sequence[str]) -> int | None:
    """Rounds a run shall have, if they are said or a default."""
    from alseg.cli.compose import options

    try:
        rounds: int | None = options(*words).values["rounds"]
        return rounds
    except UserError:
        return None


def table(found: "Sequence[Progress]") -> str:
    """The states of runs as columns, and a line that counts them."""
    from alseg.cluster.records import STATES, written

    rows: list[dict[str, Any]] = [written(one) for one in found]
    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in columns}
    lines = ["  ".join(name.ljust(widths[name]) for name in columns).rstrip()]
    lines += ["  ".join(row[name].ljust(widths[name]) for name in columns).rstrip() for row in rows]
    counts = {state: sum(one.state == state for one in found) for state in STATES}
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    return "\n".join(lines)


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        SweepOptions,
        "python -m alseg.sweep option=value,value ... [--on local|slurm] [option=value ...]",
        [
            "python -m alseg.sweep method=random,margin seed=0,1,2 --jobs 2 --out runs/first",
            "python -m alseg.sweep preset=a.yaml,b.yaml seed=0,1 --gpus 0,1 --out runs/second",
            "python -m alseg.sweep --plan plan.yaml --on slurm slurm.partition=gpu minutes=240",
            "python -m alseg.sweep --status --out runs/first",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `sweep` and `alseg.cli.command.main`."""
    return command.main(
        arguments, lambda words: help_text(), lambda words: sweep(*separate(SweepOptions, words))
    )
