"""Run every ``bench_*.py`` beside this file: ``python -m benchmarks [NAME ...] [--quick]``.

Each prints what it has measured when it has ended; the last table holds all of it. ``--write``
keeps what was printed in ``results.md`` beside this file.
"""

import argparse
import io
import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TextIO

import benchmarks
from alseg.core.files import write_atomic
from benchmarks.harness import MEASURED, machine, table

_HEAD = """# What `python -m benchmarks` printed

Written by `python -m benchmarks --write` in one go; what the rows mean, and what was aimed at, is
in [README.md](README.md).

"""


class _Both(io.TextIOBase):
    """Writes to a stream, and keeps what was written."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.kept = io.StringIO()

    def write(self, text: str, /) -> int:
        self.kept.write(text)
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()


def main() -> None:
    prefix = "bench_"
    found = [m.name for m in iter_modules(benchmarks.__path__) if m.name.startswith(prefix)]
    names = sorted(name.removeprefix(prefix) for name in found)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--write", action="store_true", help="keep what is printed in results.md")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(names)):
        parser.error(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(names)}")
    if arguments.write and (arguments.names or arguments.quick):
        parser.error("--write keeps all benchmarks at their full size: give it alone")
    both = _Both(sys.stdout)
    with redirect_stdout(both):
        print(machine())
        for name in arguments.names or names:
            print(f"\n## {name}\n", flush=True)
            import_module(f"benchmarks.{prefix}{name}").main(quick=arguments.quick)
        if not arguments.write:
            print(f"\n## all\n\n{table(MEASURED)}")
    if arguments.write:
        write_atomic(Path(__file__).with_name("results.md"), _HEAD + both.kept.getvalue())


if __name__ == "__main__":
    main()
