"""Disturb runs for some minutes, and write what came of it into the documentation.

``python -m tests.torture --minutes 30`` goes on where it stopped: every incident is a line of
``--results``. ``--worlds`` compares what 1, 2 and 3 processes choose.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from alseg.methods import METHODS
from tests.torture import tables
from tests.torture.incidents import KINDS, Bench, Outcome, mount
from tests.torture.worlds import compare_worlds

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def main() -> int:
    arguments = _arguments()
    if not arguments.table_only:
        _in_own_mounts()
    results = Path(arguments.results)
    if arguments.worlds:
        import_everything()
        found = compare_worlds(_folder(), arguments.methods, results.with_suffix(".worlds.jsonl"))
        if not arguments.no_page:
            tables.write_worlds(PAGE, found)
        print(tables.of_worlds(found))
        return 0 if all(set(row.verdicts.values()) == {"equal"} for row in found) else 1
    if not arguments.table_only:
        pairs = incidents(arguments.methods, arguments.kinds, arguments.laps)
        torture(results, arguments.seed, arguments.minutes, pairs)
    rows = [row for row in read(results) if row["seed"] == arguments.seed]
    print(tables.of_incidents(rows))
    if not arguments.no_page:
        tables.write_incidents(PAGE, rows, arguments.seed)
    return 0 if all(row["verdict"] == "equal" for row in rows) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="when to stop")
    parser.add_argument("--laps", type=int, help="incidents of a kind per method, at most")
    parser.add_argument("--seed", type=int, default=0, help="decides every incident")
    parser.add_argument("--methods", nargs="+", default=sorted(METHODS), choices=sorted(METHODS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--results", default="runs/torture.jsonl", help="a line per incident")
    parser.add_argument("--worlds", action="store_true", help="1, 2 and 3 processes, instead")
    parser.add_argument("--table-only", action="store_true", help="of the results there are")
    parser.add_argument("--no-page", action="store_true", help="leave the documentation alone")
    return parser.parse_args()


def torture(
    results: Path, seed: int, minutes: float, pairs: Iterable[tuple[int, str, str]]
) -> None:
    """Disturb runs until the time is over; incidents that are in the results are left out."""
    folder = _folder()
    disk, elsewhere = folder / "disk", folder / "elsewhere"
    has_mounts = mount(disk, "160m") and mount(elsewhere, "16m")
    if not has_mounts:
        print("No file systems can be mounted here: full disks are left out; try unshare -Urm.")
        elsewhere = Path(tempfile.mkdtemp(dir="/dev/shm"))
        pairs = (pair for pair in pairs if pair[2] != "full")
    runs = folder / "runs"
    runs.mkdir()
    bench = Bench(runs, disk if has_mounts else None, elsewhere)
    import_everything()
    until = time.monotonic() + 60 * minutes
    done = {(r["seed"], r["method"], r["kind"], r["number"]) for r in read(results)}
    results.parent.mkdir(parents=True, exist_ok=True)
    print(f"seed {seed}, {len(done)} incidents done before, results in {results}", flush=True)
    try:
        for number, method, kind in pairs:
            if time.monotonic() > until:
                break
            if (seed, method, kind, number) in done:
                continue
            outcome = happen(bench, method, kind, seed, number)
            row = {"seed": seed, "method": method, "kind": kind, "number": number}
            with results.open("a") as file:
                file.write(json.dumps(row | asdict(outcome)) + "\n")
            print(
                f"{number} {method}: {KINDS[kind]}, {outcome.what}: {outcome.verdict}", flush=True
            )
    finally:
        if not has_mounts:
            shutil.rmtree(elsewhere, ignore_errors=True)
        shutil.rmtree(runs, ignore_errors=True)


def incidents(
    methods: Sequence[str], kinds: Sequence[str], laps: int | None = None
) -> Iterator[tuple[int, str, str]]:
    """Number, method and kind, so that all pairs have their turn; laps None = without end."""
    for number in count() if laps is None else range(laps):
        for method in methods:
            for kind in kinds:
                yield number, method, kind


def happen(bench: Bench, method: str, kind: str, seed: int, number: int) -> Outcome:
    """One incident, a function of its arguments but for the speed of the machine."""
    rng = random.Random(f"{seed} {method} {kind} {number}")
    if kind != "full":
        return getattr(bench, kind)(method, rng)
    # every write in turn, in an order that is spread over the run from the first lap on
    turn = list(range(1, bench.whole(method).writes + 1))
    random.Random(f"{seed} {method}").shuffle(turn)
    return bench.full(method, rng, turn[number % len(turn)])


def read(results: Path) -> list[dict[str, Any]]:
    """The incidents so far; a line that a kill cut off is none."""
    rows = []
    for line in results.read_text().splitlines() if results.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"alseg-torture-{zlib.crc32(os.getcwd().encode()):08x}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _in_own_mounts() -> None:
    """Start again with one thread, where file systems can be mounted and vanish with the process.

    A process that has computed with several threads cannot be forked.
    """
    if "ALSEG_TORTURE" in os.environ:
        return
    os.environ |= {"ALSEG_TORTURE": "1", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
    flags = ["--mount"] if os.getuid() == 0 else ["--user", "--map-root-user", "--mount"]
    able = shutil.which("unshare") and not os.system(f"unshare {' '.join(flags)} true 2>/dev/null")
    words = ["unshare", *flags] if able else []
    words += [sys.executable, "-m", "tests.torture", *sys.argv[1:]]
    os.execvp(words[0], words)


def import_everything() -> None:
    """What the runs import, so that a fork has it."""
    import albumentations  # noqa: F401
    import cv2  # noqa: F401
    import faiss  # noqa: F401
    import segmentation_models_pytorch  # noqa: F401
    import skimage.segmentation  # noqa: F401

    import alseg.active.driver
    import alseg.data.datamodule
    import alseg.report.observer  # noqa: F401


if __name__ == "__main__":
    sys.exit(main())
