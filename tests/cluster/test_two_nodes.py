"""Two machines: network namespaces of this one, joined by a cable of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_sweep import TINY

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None,
        reason="network namespaces take root and ip (iproute2)",
    ),
]


@pytest.fixture
def spaces():
    """Two namespaces that reach each other as 10.77.0.1 and 10.77.0.2, and nothing else."""
    names = [f"alseg{os.getpid()}{side}" for side in "ab"]
    steps = [f"netns add {name}" for name in names]
    steps.append(f"link add eth0 netns {names[0]} type veth peer name eth0 netns {names[1]}")
    for number, name in enumerate(names, 1):
        steps += [f"-n {name} addr add 10.77.0.{number}/24 dev eth0"]
        steps += [f"-n {name} link set {device} up" for device in ("lo", "eth0")]
    try:
        for step in steps:
            done = subprocess.run(["ip", *step.split()], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"ip {step}: {done.stderr.strip()}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_two_machines_choose_what_one_process_chooses(spaces, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["method=margin", *TINY, f"cache={tmp_path / 'cache'}"]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0",
    }  # fmt: skip
    alone = [sys.executable, "-m", "alseg.run", *words, f"run_dir={one}"]
    subprocess.run(alone, env=environment, cwd=ROOT, check=True)
    shutil.copytree(one, two)
    shutil.rmtree(two / "round_001")
    machines = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run",
             "--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}",
             "--master-addr=10.77.0.1", "--master-port=29511", "-m", "alseg.run", *words,
             f"run_dir={two}"],
            env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank, name in enumerate(spaces)
    ]  # fmt: skip
    said = [machine.communicate(timeout=300)[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], "\n".join(said)
    for file in ("query.npz", "answers.npz"):  # from the network that one process has trained
        assert (one / "round_001" / file).read_bytes() == (two / "round_001" / file).read_bytes()
    assert (two / "round_001" / "metrics.json").exists()  # trained by both
