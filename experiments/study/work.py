"""Does the runs of the study, one after another, and goes on where it was stopped."""

import csv
import json
import logging
import resource
import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from alseg.core.files import write_atomic
from experiments.study import results
from experiments.study.plan import ROWS, Job, Setting, words
from experiments.study.questions import asked

log = logging.getLogger(__name__)

#: Seconds of processor time of the starts of a run, beside its rounds.
CLOCK = "cpu_seconds.json"


def work(
    todo: Sequence[Job], setting: Setting, place: Sequence[str], folder: Path, file: Path
) -> int:
    """Do what is not in the file of results yet.

    Args:
        todo: Runs, in their order.
        setting: What they share.
        place: More words of every run: where the data is, and what decides no result.
        folder: Folder of the run folders.
        file: File of the results.

    Returns:
        How many runs were done.
    """
    done = 0
    for number, job in enumerate(todo, start=1):
        finished = results.read(file)
        if job in finished:
            continue
        log.info("run %d of %d: %s, seed %d", number, len(todo), job.row, job.seed)
        root = folder / f"{job.row}_seed{job.seed}"
        first = first_of(job, setting, place, folder)
        rows = one_run([*words(job, setting), *place], root, first, setting.rare)
        results.add(file, job, rows)
        done += 1
        for other in todo[:number]:
            if other.block == job.block:
                _tidy(folder / f"{other.row}_seed{other.seed}", keep=_lends(other, todo, file))
        lender = Job(ROWS[job.row].first or "", job.seed)
        if not _lends(lender, todo, file):
            shutil.rmtree(folder / f"{lender.row}_seed{lender.seed}_round_0", ignore_errors=True)
    return done


def first_of(job: Job, setting: Setting, place: Sequence[str], folder: Path) -> Path | None:
    """Round 0 of the run that this one shares it with, which is done if it is not there.

    Without it a row whose own first query is another one would not be comparable.

    Returns:
        The folder of the round; None for a row that shares no other's.
    """
    row = ROWS[job.row].first
    if row is None:
        return None
    lender = folder / f"{row}_seed{job.seed}"
    alone = lender.with_name(f"{lender.name}_round_0")
    for root in (lender, alone):
        if _learnt(root / "round_000"):
            return root / "round_000"
    log.info("round 0 of %s, seed %d, which %s shares", row, job.seed, job.row)
    one = replace(setting, rounds=1)
    one_run([*words(Job(row, job.seed), one), *place], alone, None, setting.rare)
    return alone / "round_000"


def _learnt(round: Path) -> bool:
    return (round / "metrics.json").is_file() and bool(list(round.glob("*/*.ckpt")))


def one_run(
    given: Sequence[str], root: Path, first: Path | None, rare: Collection[str]
) -> list[dict[str, Any]]:
    """Do a run, or what is left of it.

    Args:
        given: The words of its command, but for the folder.
        root: The run folder.
        first: Round 0 of a run with the same first query, weights and batches, which is taken over;
            None to train it.
        rare: Classes that are rare.

    Returns:
        A line per round for the file of results.
    """
    from alseg.active.driver import drive
    from alseg.active.ledger import Ledger
    from alseg.cli.compose import options
    from alseg.cli.run import build
    from alseg.cli.world import FolderLock

    since = _cpu_seconds()
    with FolderLock(root, is_first=True):
        run = build(options(*given, f"run_dir={root}"))
        if first is not None and not (root / "round_000").exists():
            temporary = root / "borrowed"
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(first, temporary, ignore=shutil.ignore_patterns("scoring*", "pictures"))
            temporary.rename(root / "round_000")
        try:
            drive(run)
        finally:
            spent = _spent(root) + _cpu_seconds() - since
            write_atomic(root / CLOCK, json.dumps(spent))
    ledger, void, lines = Ledger(root, writes=False), 0, []
    with (root / "rounds.csv").open(newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file)):
            answers = ledger.answers(number)
            if answers is None:  # a round is not measured before it is answered
                continue
            if answers.masks is None:
                void += int(answers.counts()[-2])
            images = run.splits.train
            told = asked(answers, len(images), images.classes.names, rare)
            lines.append({**line, "void": void, "cpu_s": round(spent), **told})
    return lines


def _lends(job: Job, todo: Sequence[Job], file: Path) -> bool:
    """Whether another run still wants this one's round 0."""
    finished = results.read(file)
    return any(
        ROWS[other.row].first == job.row and other.seed == job.seed and other not in finished
        for other in todo
    )


def _tidy(root: Path, keep: bool) -> None:
    """Delete the checkpoints of a finished run."""
    for checkpoint in root.glob("round_*/*/*.ckpt"):
        if not (keep and checkpoint.parents[1].name == "round_000"):
            checkpoint.unlink()


def _spent(root: Path) -> float:
    path = root / CLOCK
    return float(json.loads(path.read_text())) if path.is_file() else 0.0


def _cpu_seconds() -> float:
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))
