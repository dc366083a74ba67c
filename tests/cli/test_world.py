"""How many processes a launcher started, and who may work in a run folder."""

import os
import subprocess
import sys
import threading

import pytest

from alseg.cli.compose import options
from alseg.cli.options import TrainerOptions
from alseg.cli.run import run
from alseg.cli.world import FolderLock, job_name, launched
from alseg.core.errors import UserError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2",
            "GROUP_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}  # fmt: skip
SLURM = {"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "2",
         "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train"}  # fmt: skip
SCRIPT = {"LOCAL_RANK": "1", "WORLD_SIZE": "4"}
ONE_TASK = {"SLURM_NTASKS": "1"}


@pytest.fixture
def world(monkeypatch):
    """Sets the variables of a launcher, and takes away those of others."""

    def set_to(variables):
        for name in list(os.environ):
            if (
                name.startswith(("SLURM_", "TORCHELASTIC", "ALSEG_JOB", "MASTER_"))
                or name in TORCHRUN
            ):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_to


@pytest.mark.parametrize(
    ("variables", "given", "world_of"),
    [
        ({}, {}, (1, 1)),
        ({}, {"devices": 3, "num_nodes": 2}, (3, 2)),
        (TORCHRUN, {}, (2, 2)),
        (TORCHRUN, {"devices": 2}, (2, 2)),
        (TORCHRUN, {"devices": 2, "num_nodes": 2}, (2, 2)),
        (TORCHRUN | ONE_TASK, {}, (2, 2)),  # torchrun inside a job of SLURM
        (SLURM, {}, (2, 2)),
        (SLURM, {"num_nodes": 2}, (2, 2)),
        (ONE_TASK, {}, (1, 1)),
        (
            SLURM | {"SLURM_JOB_NAME": "bash"},
            {"devices": 3},
            (3, 1),
        ),  # processes are started by hand
        (SCRIPT, {"devices": 4}, (4, 1)),
        (SCRIPT, {"devices": 2, "num_nodes": 2}, (2, 2)),
        (SCRIPT, {"num_nodes": 2}, (2, 2)),
    ],
)
def test_the_world_is_the_launchers(world, variables, given, world_of):
    world(variables)
    assert TrainerOptions(**given).world() == world_of


@pytest.mark.parametrize(
    ("variables", "given", "sentence"),
    [
        (
            TORCHRUN,
            {"devices": 1},
            r"torchrun started 4 processes \(WORLD_SIZE=4, 2 on each machine",
        ),
        (
            TORCHRUN,
            {"devices": 1},
            r"but trainer\.devices=1 needs 2 processes; leave trainer\.devices",
        ),
        (TORCHRUN, {"devices": 4, "num_nodes": 1}, r"trainer\.devices=4 with trainer\.num_nodes=1"),
        (SLURM, {"devices": 4}, r"SLURM started 4 processes \(SLURM_NTASKS=4"),
        (SLURM, {"num_nodes": 1}, r"trainer\.num_nodes=1 needs 2 processes"),
        (ONE_TASK, {"devices": 2}, r"SLURM started 1 process .* the same --ntasks-per-node"),
        (
            {"SLURM_NTASKS": "4", "SLURM_NNODES": "2"},
            {},
            r"on 2 machines, but does not say how many on each; .* instead of --ntasks",
        ),
        (SCRIPT, {"devices": 1}, r"the launcher started 4 processes"),
        (SCRIPT, {}, None),
        (TORCHRUN | {"WORLD_SIZE": "many"}, {}, r"variable WORLD_SIZE is 'many'"),
        (TORCHRUN | {"WORLD_SIZE": "3"}, {}, r"as many on each of 2 machines needs 4 processes"),
    ],
)
def test_another_number_of_processes_is_refused(world, variables, given, sentence):
    world(variables)
    if sentence is None:
        assert TrainerOptions(**given).world() == (4, 1)
        return
    with pytest.raises(UserError, match=sentence):
        TrainerOptions(**given).world()


def test_a_mismatch_is_found_before_the_folder_is_made(world, tmp_path):
    world(TORCHRUN)
    with pytest.raises(UserError, match="torchrun started 4"):
        run(options("trainer.devices=1", f"run_dir={tmp_path / 'run'}"))
    assert not (tmp_path / "run").exists()


def test_jobs_have_names_of_their_own(world):
    world({})
    assert launched() is None
    assert job_name() != job_name()
    for variables in (TORCHRUN | {"MASTER_PORT": "1"}, SLURM, SCRIPT | {"MASTER_PORT": "1"}):
        world(variables)
        name = job_name()
        assert name == job_name()
        world(variables | {"RANK": "1", "SLURM_PROCID": "1"})
        assert job_name() == name  # another process of the same job
        world(variables | {"MASTER_PORT": "2", "SLURM_JOB_ID": "8"})
        assert job_name() != name


def test_one_job_works_in_a_folder_with_all_of_its_processes(world, tmp_path):
    world(SLURM)
    with FolderLock(tmp_path / "run", is_first=True):
        with FolderLock(tmp_path / "run", is_first=False, patience=0):
            pass  # another process of this job
        with pytest.raises(UserError, match=r"another process is at work in .*run; wait"):
            FolderLock(tmp_path / "run", is_first=True).__enter__()
        assert os.environ["ALSEG_JOB"] == job_name()  # for processes that Lightning starts
        world(SLURM | {"SLURM_JOB_ID": "8"})
        with pytest.raises(UserError, match="another process is at work"):
            FolderLock(tmp_path / "run", is_first=False, patience=0).__enter__()
    assert "ALSEG_JOB" not in os.environ
    with FolderLock(tmp_path / "run", is_first=True):
        pass


def test_the_other_processes_wait_for_the_first(world, tmp_path):
    world(SLURM)
    first = FolderLock(tmp_path / "run", is_first=True)
    timer = threading.Timer(0.3, first.__enter__)
    timer.start()
    with FolderLock(tmp_path / "run", is_first=False, patience=60):
        assert (tmp_path / "run" / ".job").exists()
    timer.join()
    first.__exit__()


def test_two_processes_of_torchrun_for_one_device_end_with_the_sentence(tmp_path):
    command = [
        sys.executable,
        "-m",
        "alseg.run",
        "trainer.devices=1",
        f"run_dir={tmp_path / 'run'}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **TORCHRUN})
    assert done.returncode == 2
    assert done.stderr.startswith("error: torchrun started 4 processes")
    assert not (tmp_path / "run").exists()
