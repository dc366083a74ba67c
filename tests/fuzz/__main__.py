"""Feeds hostile inputs to every reader: ``python -m tests.fuzz [--inputs N] [--seed S] [--write]``.

Prints a table of what became of them, and every input that was not answered. ``--write`` puts the
table into ``docs/hostile.md``.
"""

import argparse
import logging
import os
import platform
import re
import sys
from pathlib import Path

from tests.fuzz.doors import DOORS
from tests.fuzz.rig import enter, table

PAGE = Path(__file__).parents[2] / "docs" / "hostile.md"
#: The table stands between these in the page.
MARKS = ("<!-- begin: python -m tests.fuzz -->", "<!-- end -->")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help="a part of a name")
    parser.add_argument("--inputs", type=int, default=2000, help="at random, besides the crafted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    chosen = [d for d in DOORS if not given.doors or any(part in d.name for part in given.doors)]
    share = given.inputs / sum(door.weight for door in chosen)
    outcomes = []
    for door in chosen:
        outcomes.append(enter(door, round(door.weight * share), given.seed))
        print(table(outcomes[-1:]).splitlines()[2], flush=True)
        for text in outcomes[-1].unanswered[:40]:
            print(f"    {text}", flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    words = f"`python -m tests.fuzz --inputs {given.inputs} --seed {given.seed}`; {machine}."
    text = f"{table(outcomes)}\n\n{words}"
    print(f"\n{text}")
    if given.write:
        begin, end = map(re.escape, MARKS)
        pattern = re.compile(f"(?<={begin}\n).*?(?={end})", re.DOTALL)
        page = PAGE.read_text("utf-8")
        PAGE.write_text(pattern.sub(lambda _: f"\n{text}\n\n", page), "utf-8")
    return int(any(one.unanswered for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
