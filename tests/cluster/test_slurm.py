"""Sweeps and scripts on a SLURM of two nodes, both on this machine."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alseg.cluster.records import read_record
from tests.cli.test_sweep import TINY
from tests.cluster import slurm

pytest.importorskip("submitit", reason="pip install 'alseg[cluster]'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(slurm.why_not() is not None, reason=str(slurm.why_not())),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    with slurm.cluster(folder) as environment:
        python = Path(sys.executable).parent
        yield environment | {
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "PATH": f"{python}:{environment['PATH']}",
            "XDG_CACHE_HOME": str(folder / "cache"),
        }


def say(nodes, *words, check=True):
    done = subprocess.run(
        words, env=nodes, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def queue(nodes):
    """Number of a job -> its state and node, of the jobs that are not over."""
    rows = say(nodes, "squeue", "--noheader", "--array", "--format=%i %T %N").splitlines()
    return {row.split()[0]: row.split()[1:] for row in rows}


def until(true, seconds=240.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)


def test_an_array_of_six_runs_of_which_one_is_requeued_and_one_loses_its_node(nodes, tmp_path):
    out = tmp_path / "out"
    words = [word.replace("method.steps=2", "method.steps=60") for word in TINY]
    sweep = [sys.executable, "-m", "alseg.sweep", f"out={out}"]
    grid = ["method=random,margin", "seed=0,1,2", *words, "--on", "slurm", "minutes=20"]
    said = say(nodes, *sweep, *grid)
    assert "[6/6] method=margin seed=2: job " in said
    numbers = {
        f"{name}_seed{seed}": said.split(f"method={name} seed={seed}: job ")[1].split()[0]
        for name in ("random", "margin")
        for seed in range(3)
    }
    signalled = "random_seed0"
    until(lambda: (out / signalled / "log.txt").exists())
    # SLURM's warning that time is up, as submitit asks for it
    warning = subprocess.Popen(["scancel", "--signal=USR2", numbers[signalled]], env=nodes)
    until(lambda: read_record(out / signalled).state == "queued")
    warning.kill()  # it would warn the job again that was started anew
    lost = next(
        name
        for name, number in numbers.items()
        if queue(nodes).get(number, ["", ""])[-1] == "n2" and (out / name / "log.txt").exists()
    )
    say(nodes, "scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=taken away")
    time.sleep(1)
    # unless it has come back by itself
    say(nodes, "scontrol", "update", "NodeName=n2", "State=RESUME", check=False)
    until(lambda: not queue(nodes), 400)
    status = subprocess.run([*sweep, "--status"], env=nodes, capture_output=True, text=True)
    assert status.returncode == 0, status.stdout + status.stderr
    assert "6 done" in status.stdout
    for name in (signalled, lost):  # begun twice, in one log
        text = (out / name / "log.txt").read_text()
        assert text.count("begun on") == 2, text
    assert "Stopped by SIGUSR2" in (out / signalled / "log.txt").read_text()
    # bit-equal to a run that nothing happened to
    plain = tmp_path / "plain"
    command = [sys.executable, "-m", "alseg.run", "method=random", "seed=0", *words]
    say(nodes | {"SLURM_CONF": ""}, *command, f"run_dir={plain}")
    query = "round_001/query.npz"
    assert (out / signalled / query).read_bytes() == (plain / query).read_bytes()
    measured = [
        json.loads((root / "round_001/metrics.json").read_text())
        for root in (out / signalled, plain)
    ]
    assert measured[0]["miou"] == measured[1]["miou"]


def test_the_check_says_ok(nodes, tmp_path):
    log, folder = tmp_path / "check.log", tmp_path / "check"
    words = ["sbatch", "--wait", f"--output={log}", "experiments/slurm/check.sbatch"]
    done = subprocess.run(
        words,
        env=nodes | {"CHECK_DIR": str(folder), "MASTER_ADDR": "127.0.0.1"},
        cwd=ROOT,
        timeout=300,
        check=False,
    )
    text = log.read_text()
    assert done.returncode == 0, text
    assert "process 0 of 2 on" in text
    assert "process 1 of 2 on" in text
    assert text.rstrip().endswith("OK")


def test_a_script_whose_time_is_nearly_up_is_requeued_and_goes_on(nodes, tmp_path):
    log, folder = tmp_path / "one.log", tmp_path / "run"
    words = ["method=random", *TINY, "method.steps=60", f"run_dir={folder}"]
    words.remove("method.steps=2")
    script = ["sbatch", "--parsable", "--gpus-per-node=0", f"--output={log}", "--time=20"]
    number = say(nodes, *script, "--cpus-per-task=1", "experiments/slurm/one_gpu.sbatch", *words)
    number = number.strip()
    until(lambda: (folder / "round_000").exists())
    subprocess.Popen(["scancel", "--batch", "--signal=USR1", number], env=nodes)
    until(lambda: number not in queue(nodes), 400)
    text = (folder / "log.txt").read_text()
    assert text.count("begun on") == 2, text + log.read_text()
    assert "Stopped by SIGUSR1" in text
    assert "Report:" in text
    assert "stopping at the next batch" in log.read_text()


def test_the_toy_is_what_the_tests_believe(nodes):
    where = say(nodes, "srun", "--nodes=2", "--ntasks-per-node=1", "printenv", "SLURMD_NODENAME")
    assert sorted(where.split()) == ["n1", "n2"]
    assert os.environ.get("SLURM_CONF") != nodes["SLURM_CONF"]
