"""Run every ``bench_*.py`` beside this file: ``python -m benchmarks [NAME ...] [--quick]``.

Each prints what it has measured when it has ended; the last table holds all of it.
"""

import argparse
from importlib import import_module
from pkgutil import iter_modules

import benchmarks
from benchmarks.harness import MEASURED, machine, table


def main() -> None:
    prefix = "bench_"
    found = [m.name for m in iter_modules(benchmarks.__path__) if m.name.startswith(prefix)]
    names = sorted(name.removeprefix(prefix) for name in found)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"among: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.names) - set(names)):
        parser.error(f"unknown benchmark {', '.join(unknown)}; known: {', '.join(names)}")
    print(machine())
    for name in arguments.names or names:
        print(f"\n## {name}\n", flush=True)
        import_module(f"benchmarks.{prefix}{name}").main(quick=arguments.quick)
    print(f"\n## all\n\n{table(MEASURED)}")


if __name__ == "__main__":
    main()
