"""What 1, 2 and 3 processes choose from the same weights."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from tests.torture.runs import start, words_of, world_of


@dataclass
class Compared:
    """One method.

    Attributes:
        method: Its name.
        verdicts: Number of processes -> ``equal``, or what is not.
        rows: Rows of queries, with their scores, and of kept tables that were compared.
    """

    method: str
    verdicts: dict[int, str] = field(default_factory=dict)
    rows: int = 0


def read(results: Path) -> list[Compared]:
    """The methods compared so far."""
    lines = results.read_text().splitlines() if results.exists() else []
    rows = [json.loads(line) for line in lines]
    return [
        Compared(row["method"], {int(k): v for k, v in row["verdicts"].items()}, row["rows"])
        for row in rows
    ]


def compare_worlds(
    folder: Path, methods: Sequence[str], results: Path, sizes: Sequence[int] = (1, 2, 3)
) -> list[Compared]:
    """Let runs that one process has trained choose again, with more processes.

    Args:
        folder: Takes the runs.
        methods: Those to compare, but for those that are in the results.
        results: Gets a line per method.
        sizes: Numbers of processes.
    """
    results.parent.mkdir(parents=True, exist_ok=True)
    done = {row.method for row in read(results)}
    for method in methods:
        if method in done:
            continue
        whole = folder / f"{method}_whole"
        _run(method, whole, 1)
        chosen = sorted(p for p in whole.glob("round_*/*.npz") if p.name != "answers.npz")
        compared = Compared(method, rows=sum(map(_rows, chosen)))
        for size in sizes:
            # each choice on its own: what follows it is trained in another way by more processes
            verdicts = [_again(method, whole, path.parent, size) for path in chosen
                        if path.name == "query.npz"]  # fmt: skip
            compared.verdicts[size] = next((v for v in verdicts if v != "equal"), "equal")
        print(compared, flush=True)
        with results.open("a") as file:
            file.write(json.dumps(asdict(compared)) + "\n")
        shutil.rmtree(whole)
    return sorted(read(results), key=lambda row: row.method)


def _again(method: str, whole: Path, round: Path, size: int) -> str:
    copy = whole.with_name("copy")
    shutil.copytree(whole, copy)
    try:
        for path in copy.glob("round_*"):
            if path.name >= round.name:
                shutil.rmtree(path)
        try:
            _run(method, copy, size)
        except RuntimeError as error:
            return str(error)
        for name in ("query.npz", "scores.npz"):
            one, two = round / name, copy / round.name / name
            if one.exists() and (verdict := _compare(one, two)) != "equal":
                return f"{round.name}/{name}: {verdict}"
        return "equal"
    finally:
        shutil.rmtree(copy)


def _run(method: str, root: Path, size: int) -> None:
    words = [*words_of(method), f"run_dir={root}", f"cache={root.parent}/cache"]
    logs = [root.parent / f"log_{rank}" for rank in range(size)]
    processes = [start(words, log, v) for log, v in zip(logs, world_of(size), strict=True)]
    statuses = [process.wait() for process in processes]
    if any(statuses):
        raise RuntimeError(f"statuses {statuses}: {logs[0].read_text()[-300:]}")


def _rows(path: Path) -> int:
    with np.load(path) as file:
        return max((len(file[name]) for name in file.files if file[name].ndim), default=0)


def _compare(one: Path, two: Path) -> str:
    with np.load(one) as a, np.load(two) as b:
        if a.files != b.files:
            return "other columns"
        for name in a.files:
            if a[name].tobytes() != b[name].tobytes():
                same = a[name].shape == b[name].shape and a[name].dtype.kind == "f"
                gap = f" by {np.abs(a[name] - b[name]).max():.1e}" if same else ""
                return f"{name} differs{gap}"
    return "equal"
