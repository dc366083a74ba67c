"""What an install brings: packages, megabytes and start-up times, for the table in docs/install.md.

    python -m venv fresh && pip wheel --no-deps -w dist . && fresh/bin/pip install dist/*.whl
    python -m benchmarks.installs dist/*.whl --python fresh/bin/python

The interpreter is that of an environment with the plain install and nothing else; extras are looked
at beside it, in folders that are deleted again.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Of maintainers, not users.
LEFT_OUT = {"dev"}
TRIES = 5
_PLAIN = """
from importlib.metadata import distributions
found = [d for d in distributions() if d.metadata["Name"] not in ("pip", "setuptools", "wheel")]
files = [d.locate_file(f) for d in found for f in d.files or ()]
print(len(found), sum(f.stat().st_size for f in files if f.is_file()))
"""


def extras() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [name for name in project["optional-dependencies"] if name not in LEFT_OUT]


def cpu_seconds(command: list[str], folder: str) -> float:
    """User and system time of a process, the least of some tries; other work does not count."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    found = []
    for _ in range(TRIES):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, cwd=folder, env=clean | {"PYTHONPATH": folder}
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, command
        found.append(usage.ru_utime + usage.ru_stime)
    return min(found)


def start_up(python: str, folder: str) -> tuple[float, float]:
    """Seconds of ``import alseg`` and of ``python -m alseg.run --help``, less the interpreter's."""
    nothing = cpu_seconds([python, "-c", "pass"], folder)
    imported = cpu_seconds([python, "-c", "import alseg"], folder)
    helped = cpu_seconds([python, "-m", "alseg.run", "--help"], folder)
    return imported - nothing, helped - nothing


def pip(python: str, *words: str) -> str:
    command = [python, "-m", "pip", "--disable-pip-version-check", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def added(python: str, wheel: Path, extra: str, folder: str) -> list[str]:
    """Put what an extra adds to the plain install into a folder; the names of the packages."""
    report = pip(python, "install", "-q", "--dry-run", "--report", "-", f"{wheel}[{extra}]")
    found = {
        item["metadata"]["name"]: item["metadata"]["version"]
        for item in json.loads(report)["install"]
        if item["metadata"]["name"] != "alseg"
    }
    pins = [f"{name}=={version}" for name, version in found.items()]
    if pins:
        pip(python, "install", "-q", "--no-deps", "--target", folder, *pins)
    return sorted(found, key=str.lower)


def size(folder: str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def row(name: str, count: int, octets: int, seconds: tuple[float, float], packages: str) -> str:
    imported, helped = seconds
    return f"| {name} | {count} | {octets / 1e6:.0f} | {imported:.2f} | {helped:.2f} | {packages} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--python", required=True, help="of an environment with the plain install")
    given = parser.parse_args()
    wheel, python = given.wheel.resolve(), str(Path(given.python).absolute())
    print("| install | packages | MB | `import alseg`, s | `--help`, s | which |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    with tempfile.TemporaryDirectory() as folder:
        plain = subprocess.run(
            [python, "-I", "-c", _PLAIN], check=True, capture_output=True, text=True
        )
        count, octets = map(int, plain.stdout.split())
        print(row("`alseg`", count, octets, start_up(python, folder), "the core"), flush=True)
    for extra in extras():
        with tempfile.TemporaryDirectory() as folder:
            names = added(python, wheel, extra, folder)
            cells = len(names), size(folder), start_up(python, folder), ", ".join(names)
            print(row(f"`alseg[{extra}]`", *cells), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
