"""What came of the incidents, as tables of the documentation."""

import os
import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.torture.incidents import KINDS
from tests.torture.worlds import Compared


def of_incidents(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row per method: how many incidents of each kind hit, and how many came back equal."""
    lines = [
        f"| method | {' | '.join(KINDS.values())} | not equal |",
        f"| --- |{' ---: |' * (len(KINDS) + 1)}",
    ]
    methods = sorted({row["method"] for row in rows})
    for method in [*methods, None]:
        own = [r for r in rows if r["hit"] and method in (None, r["method"])]
        cells = []
        for kind in KINDS:
            verdicts = [row["verdict"] for row in own if row["kind"] == kind]
            cells.append(f"{verdicts.count('equal')} of {len(verdicts)}")
        wrong = sum(row["verdict"] != "equal" for row in own)
        lines.append(f"| {method or '**all**'} | {' | '.join(cells)} | {wrong} |")
    return "\n".join(lines)


def _summary(rows: Sequence[Mapping[str, Any]], seed: int) -> str:
    hit = [row for row in rows if row["hit"]]
    kinds = Counter(row["kind"] for row in hit)
    kills = sum(count for kind, count in kinds.items() if kind != "full")
    equal = sum(row["verdict"] == "equal" for row in hit)
    late = len(rows) - len(hit)
    said = (
        f"`python -m tests.torture --seed {seed}`: {kills} kills and {kinds['full']} full disks "
        f"over {len({row['method'] for row in rows})} methods; {equal} of {len(hit)} came back "
        f"equal. {late} more came after the run had ended and are not counted. {_machine()}"
    )
    wrong = [
        f"- {row['method']}, {KINDS[row['kind']]}, {row['what']}: {row['verdict']}"
        for row in hit
        if row["verdict"] != "equal"
    ]
    return "\n".join([said, *(["", "Not equal:", "", *wrong] if wrong else [])])


def of_worlds(found: Sequence[Compared]) -> str:
    """A row per method: what more processes choose, against one."""
    sizes = sorted({size for row in found for size in row.verdicts})
    lines = [
        f"| method | {' | '.join(f'{size} processes' for size in sizes)} | rows compared |",
        f"| --- |{' --- |' * len(sizes)} ---: |",
    ]
    for row in found:
        cells = " | ".join(row.verdicts.get(size, "-") for size in sizes)
        lines.append(f"| {row.method} | {cells} | {row.rows} |")
    return "\n".join(lines)


def write_incidents(page: Path, rows: Sequence[Mapping[str, Any]], seed: int) -> None:
    """Put the table of incidents into a page."""
    between(page, "incidents", f"{_summary(rows, seed)}\n\n{of_incidents(rows)}")


def write_worlds(page: Path, found: Sequence[Compared]) -> None:
    """Put the table of worlds into a page."""
    said = f"`python -m tests.torture --worlds`. {_machine()}"
    between(page, "worlds", f"{said}\n\n{of_worlds(found)}")


def between(page: Path, name: str, text: str) -> None:
    """Replace what stands between two markers of a page."""
    mark = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end of {name} -->)", re.DOTALL)
    content = page.read_text()
    if not mark.search(content):
        raise ValueError(f"{page} has no marker <!-- {name} -->")
    page.write_text(mark.sub(lambda found: found[1] + text + found[2], content))


def _machine() -> str:
    import torch

    return (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, one thread per process."
    )
