"""The command ``python -m alseg.sweep``."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from alseg.cli.sweep import main
from alseg.cluster.records import Record, read_record, write_record

pytest.importorskip("submitit", reason="pip install 'alseg[cluster]'")

TINY = [
    "rounds=2", "data.train=6", "data.val=2", "data.size=[48,64]", "regions=pixels",
    "budget.amount=30", "method.steps=2", "method.epoch_steps=2", "method.batch_size=2",
    "workers=0", "trainer.accelerator=cpu", "network.architecture=Unet",
    "network.options={encoder_depth:3,decoder_channels:[16,16,16]}",
]  # fmt: skip


def refused(capsys, *words):
    assert main(list(words)) == 2
    said = capsys.readouterr()
    return said.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["method=random,margn"], "method=margn: unknown method 'margn'"),
        (["method=random", "seed=0,x"], "seed=x: "),
        (["method=random", "method.steps=2,3", *TINY[:6], *TINY[7:]], "epochs"),
        (["method=random", "oracle=browser"], "oracle=browser wants a person"),
        ([], "give the runs"),
        (["method=random", "--on", "moon"], "on is 'moon'; give local or slurm."),
        (["method=random", "jobs=0"], "jobs is 0; give at least 1."),
        (["method=random", "gpus=0,a"], "gpus is '0,a'"),
        (["method=random", "gpus=0,1,2", "jobs=2"], "3 GPUs cannot be dealt out evenly to 2 jobs"),
        (["method=random", "slurm.partition=a"], "slurm.… are options of sbatch"),
        (["method=random", "--status"], "give no options of runs with it"),
        (["--status"], "there is no sweep in out="),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_is(words, sentence, capsys, tmp_path):
    assert sentence in refused(capsys, *words, f"out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_run_is_refused(capsys, tmp_path):
    folder = tmp_path / "out" / "seed1" / "round_000"
    folder.mkdir(parents=True)
    (folder / "answers.npz").touch()
    (folder.parent / "run.json").write_text('{"method": "margin"}')
    said = refused(capsys, "method=random", "seed=0,1", *TINY, f"out={tmp_path / 'out'}")
    assert said.startswith("error: seed=1: ")
    assert "belongs to a run with another configuration" in said


def test_slurm_that_is_not_here_gets_a_sentence(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    said = refused(capsys, "method=random", *TINY, f"out={tmp_path / 'out'}", "--on", "slurm")
    assert "squeue was not found" in said


def test_status_counts_the_runs_and_the_exit_status_tells_of_failures(capsys, tmp_path):
    names = ["a", "b", "c"]
    (tmp_path / ".sweep").mkdir()
    index = {name: ["method=random", "rounds=3"] for name in names}
    (tmp_path / ".sweep" / "runs.json").write_text(json.dumps(index))
    states = dict.fromkeys(names, "done")

    def status():
        for name, state in states.items():
            sentence = "no disk" if state == "failed" else ""
            write_record(tmp_path / name, Record(state, sentence))
        code = main(["--status", f"out={tmp_path}"])
        return code, capsys.readouterr().out

    code, said = status()
    assert code == 0
    assert said.splitlines()[0].split() == ["run", "state", "rounds"]
    assert said.splitlines()[1].split() == ["a", "done", "0/3"]
    assert f"python -m alseg.compare {tmp_path / 'a'}" in said
    states["b"] = "waiting"
    code, said = status()
    assert code == 3
    assert "2 done" in said
    assert "alseg.compare" not in said
    states["c"] = "failed"
    code, said = status()
    assert code == 1
    assert "no disk" in said
    assert said.splitlines()[-1] == "1 waiting, 1 done, 1 failed"


def test_a_damaged_index_gets_a_sentence(capsys, tmp_path):
    (tmp_path / ".sweep").mkdir()
    (tmp_path / ".sweep" / "runs.json").write_text("[1]")
    assert "give the command of the sweep again" in refused(capsys, "--status", f"out={tmp_path}")


@pytest.mark.slow
def test_twelve_runs_of_which_one_is_killed_and_one_fails(tmp_path):
    out = tmp_path / "out"
    broken = out / "margin_seed2" / "rounds.csv"
    broken.mkdir(parents=True)  # a file cannot be written there
    words = [
        sys.executable, "-m", "alseg.sweep", "method=random,margin,entropy", "seed=0,1,2,3", *TINY,
        "--jobs", "2", f"out={out}",
    ]  # fmt: skip
    sweep = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    victim = out / "random_seed1"
    until = time.monotonic() + 120
    while not (victim / ".job").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(_process_of(victim), signal.SIGKILL)
    said, _ = sweep.communicate(timeout=400)
    assert sweep.returncode == 1
    assert "10 done, 2 failed" in said
    assert "[2/12] method=random seed=1: failed" in said
    assert read_record(victim).sentence.startswith("its process ended without a word")
    assert "margin_seed2/rounds.csv" in read_record(out / "margin_seed2").sentence
    # the same command tries these two again, and no other
    broken.rmdir()
    again = subprocess.run(words, capture_output=True, text=True, timeout=200, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "12 runs" in again.stdout.splitlines()[0]
    assert "10 of them done" in again.stdout.splitlines()[0]
    assert again.stdout.count(": begun") == 2
    folders = [str(folder) for folder in sorted(out.glob("[a-z]*_seed?"))]
    compared = subprocess.run(
        [sys.executable, "-m", "alseg.compare", *folders, f"out={tmp_path / 'c'}", "plots=false"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert compared.returncode == 0, compared.stderr


def _process_of(root):
    """The process of a job: the one that holds the lock of its folder open."""
    lock = str(root / ".lock")
    for process in os.listdir("/proc"):
        if process.isdecimal():
            try:
                files = os.listdir(f"/proc/{process}/fd")
                held = [os.readlink(f"/proc/{process}/fd/{file}") for file in files]
            except OSError:
                continue
            if lock in held:
                return int(process)
    raise AssertionError(f"no process holds {lock}")
