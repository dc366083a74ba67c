"""A cluster of two nodes on this machine: Debian's munged, slurmctld and two slurmd."""

import os
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")


def why_not() -> str | None:
    """Why SLURM cannot be started here; None where it can."""
    missing = [name for name in NEEDED if shutil.which(name, path=_path()) is None]
    if missing:
        return f"{', '.join(missing)} not installed (slurmctld, slurmd, slurm-client, munge)"
    if os.geteuid() != 0:
        return "starting SLURM takes root"
    return None


def _path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


@contextmanager
def cluster(folder: Path):
    """Two nodes, n1 and n2, of two cores each; yields the environment of its commands."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    key, socket = folder / "munge.key", folder / "munge.socket"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    host = os.uname().nodename.split(".")[0]
    (folder / "slurm.conf").write_text(f"""ClusterName=toy
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=26817
AuthType=auth/munge
AuthInfo=socket={socket},cred_expire=5
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
ReturnToService=2
SlurmdTimeout=10
KillWait=10
MinJobAge=600
JobRequeue=1
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=26821 CPUs=2 CoresPerSocket=2 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=26822 CPUs=2 CoresPerSocket=2 State=UNKNOWN
PartitionName=toy Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
""")
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n")
    environment = os.environ | {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": _path()}
    started = []

    def start(*words: str) -> subprocess.Popen:
        process = subprocess.Popen(
            words,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        started.append(process)
        return process

    try:
        start(
            "munged",
            "--foreground",
            "--force",
            f"--socket={socket}",
            f"--key-file={key}",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
        )
        _until(socket.exists, "munged")
        start("slurmctld", "-D")
        for node in ("n1", "n2"):
            start("slurmd", "-D", "-N", node)
        _until(lambda: _idle(environment) == 2, "two idle nodes")
        yield environment
    finally:
        subprocess.run(["scancel", "--user=root"], env=environment, check=False)
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _idle(environment) -> int:
    words = ["sinfo", "--noheader", "--Node", "--format=%t"]
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    return said.stdout.split().count("idle")


def _until(true, what: str, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, f"no {what} after {seconds} s"
        time.sleep(0.2)
