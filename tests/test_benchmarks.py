import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness import alone, compare, equal, table, within

ROOT = Path(__file__).parents[1]


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)


def test_every_benchmark_runs():
    done = run("--quick")
    assert done.returncode == 0, done.stderr
    names = sorted(path.stem[len("bench_") :] for path in ROOT.glob("benchmarks/bench_*.py"))
    assert names
    assert [line[3:] for line in done.stdout.splitlines() if line.startswith("## ")] == [
        *names,
        "all",
    ]
    assert done.stdout.count("| task |") >= len(names)


def test_only_all_of_it_is_kept():
    for arguments in (("acquisition", "--write"), ("--quick", "--write")):
        done = run(*arguments)
        assert done.returncode == 2
        assert "--write keeps all benchmarks at their full size: give it alone" in done.stderr


def test_unknown_benchmark_is_named():
    done = run("acquisitions", "--quick")
    assert done.returncode == 2
    assert "unknown benchmark acquisitions; known: acquisition" in done.stderr


def test_ways_alternate_and_are_checked_once():
    calls = []
    ways = [lambda name=name: calls.append(name) or np.arange(2) for name in "ab"]
    row = compare("count", "slowly", *ways, equal, repeats=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert row.repeats == 3
    assert row.ratio == row.obvious_s / row.ours_s
    line = table([row]).splitlines()[-1]
    assert line.startswith("| count | slowly |")
    assert "| equal | 3 |" in line


def test_what_takes_minutes_is_run_once():
    calls = []
    ways = [lambda name=name: calls.append(name) or np.arange(2) for name in "ab"]
    row = compare("count", "slowly", *ways, equal, repeats=0)
    assert "".join(calls) == "ab"
    assert row.repeats == 1
    assert row.ratio == row.obvious_s / row.ours_s > 0


def test_a_way_run_alone():
    calls = []
    row = alone("count", "slowly: not run", lambda: calls.append(1), repeats=3)
    assert len(calls) == 4
    assert row.ratio is None
    line = table([row]).splitlines()[-1]
    assert line.startswith("| count | slowly: not run | - |")
    assert line.endswith("| not compared | 3 |")


def test_memory_is_the_peak_of_each_way():
    # in a process of its own: the allocator of one that ran the suite may hold the memory already
    script = (
        "import numpy as np; from benchmarks.harness import compare, within; "
        "row = compare('fill', '64 MiB', lambda: np.ones(2**23).sum(), lambda: np.ones(2).sum(), "
        "within(1e9), 1); print(row.obvious_mib, row.ours_mib)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    obvious, ours = done.stdout.split()
    if obvious == "None":
        pytest.skip("only Linux tells the peak")
    assert 56 < float(obvious) < 96
    assert float(ours) < 16


def test_different_outputs_stop_the_comparison():
    with pytest.raises(AssertionError):
        compare("x", "y", lambda: np.zeros(2), lambda: np.ones(2), equal)
    with pytest.raises(AssertionError, match=r"differ by 1.0e\+00, more than 1e-01"):
        within(0.1)(np.zeros(2), np.ones(2))
    with pytest.raises(AssertionError, match="shapes"):
        within(0.1)(np.zeros(2), np.zeros((1, 2)))
    assert within(2)((np.zeros(1), np.zeros(2)), (np.zeros(1), np.ones(2))).startswith("max diff 1")
    with pytest.raises(ValueError, match="zip"):
        equal((np.zeros(1),), (np.zeros(1), np.zeros(1)))
