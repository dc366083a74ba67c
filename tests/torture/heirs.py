"""Heirs that are killed: runs with ``labels_from`` that have to come back bit for bit.

``python -m tests.torture.heirs FOLDER`` kills one at each of `INSTANTS`, and prints what came of
it.
"""

import filecmp
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.torture.runs import difference, start, words_of

#: Files that are not renamed to their names any more, and which of several.
INSTANTS = (
    ("run.json", 1),
    ("pool.json", 1),
    ("owned/owned-000/", 1),
    ("owned/owned-000/", 2),
    ("owned/000.npz", 1),
    ("owned/owned.json", 1),
    ("round_000/answers.npz", 1),
    ("round_000/train/last.ckpt", 1),
    ("round_000/train/last.ckpt", 2),
    ("round_000/metrics.json", 1),
    ("round_001/query.npz", 1),
    ("round_001/answers.npz", 1),
)


def die_at(name: str, number: int) -> None:
    """Have this process killed before the n-th file of a name gets its name."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "os.rename" and name in str(arguments[1]):
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def words(root: Path, *more: str) -> list[str]:
    """Of a run of margin that has a folder of region maps for itself."""
    known = {word.partition("=")[0] for word in more}
    given = [word for word in words_of("margin") if word.partition("=")[0] not in known]
    return [*given, *more, f"run_dir={root}", f"cache={root.parent / 'cache'}"]


def compare(folder: Path, instants: Sequence[tuple[str, int]] = INSTANTS) -> dict[str, str]:
    """Kill an heir at some instants and give the same command again.

    Args:
        folder: Takes the runs.
        instants: See `INSTANTS`.

    Returns:
        ``equal``, or what is wrong, by instant.
    """
    first, whole, root = folder / "first", folder / "whole", folder / "run"
    _done(words(first, "data.train=5", "regions.region_size=400", "rounds=1"), folder)
    _done(words(whole, f"labels_from={first}"), folder)
    found = {}
    for name, number in instants:
        shutil.rmtree(root, ignore_errors=True)
        heir = words(root, f"labels_from={first}")
        status = start(heir, folder / "log", before=lambda n=name, k=number: die_at(n, k)).wait()
        verdict = f"it was not killed but ended with {status}"
        if status == -signal.SIGKILL:
            try:
                _done(heir, folder)
                verdict = _difference(whole, root) or "equal"
            except RuntimeError as error:
                verdict = str(error)
        found[f"{name} {number}"] = verdict
        print(f"{name} {number}: {verdict}", flush=True)
    return found


def _done(given: list[str], folder: Path) -> None:
    if status := start(given, folder / "log").wait():
        raise RuntimeError(f"status {status}: {(folder / 'log').read_text()[-300:]}")


def _difference(one: Path, two: Path) -> str | None:
    """What two heirs differ in, their copies of what they own included."""
    names = [
        {str(p.relative_to(root)) for p in (root / "owned").rglob("*") if p.is_file()}
        for root in (one, two)
    ]
    if names[0] != names[1]:
        return f"{sorted(names[0] ^ names[1])[0]} is in one of them"
    _, differ, _ = filecmp.cmpfiles(one, two, sorted(names[0]), shallow=False)
    if differ:
        return f"{differ[0]} differs"
    left = [path.name for path in two.rglob(".writing-*")]
    return f"left {left[0]} behind" if left else difference(one, two)


def main() -> int:
    """Status 0 if every heir came back equal."""
    from tests.torture.__main__ import import_everything

    import_everything()
    return int(set(compare(Path(sys.argv[1])).values()) != {"equal"})


if __name__ == "__main__":
    sys.exit(main())
