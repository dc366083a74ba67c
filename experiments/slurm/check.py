"""What the processes of a job see, and a run of a minute on embedded data; ends with "OK".

python experiments/slurm/check.py RUN_DIR [OPTION=VALUE ...]
"""

import os
import resource
import shutil
import socket
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import alseg

TINY = [
    "method=pixelpick",
    "rounds=2",
    "data.train=16",
    "data.val=4",
    "data.size=[64,80]",
    "budget.amount=80",
    "method.steps=20",
    "method.epoch_steps=10",
    "method.batch_size=4",
    "workers=1",
]


def sight() -> str:
    """What this process sees, in one line."""
    import torch

    given = os.environ
    rank, size = given.get("SLURM_PROCID", "0"), given.get("SLURM_NTASKS", "1")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cache = Path(given.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=cache):
        pass  # it can be written to
    shared = shutil.disk_usage("/dev/shm").free / 2**20 if Path("/dev/shm").is_dir() else 0
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        f"process {rank} of {size} on {socket.gethostname()}: alseg {alseg.__version__}, "
        f"torch {torch.__version__}, lightning {version('lightning')}, "
        f"devices {', '.join(gpus) or 'CPU'}, {len(os.sched_getaffinity(0))} cores, "
        f"cache {cache}, temporary files {tempfile.gettempdir()}, "
        f"shared memory {shared:.0f} MiB free, {files} open files"
    )


def main() -> int:
    """Print, run, judge."""
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    print(sight(), flush=True)
    words = [*TINY, f"run_dir={sys.argv[1]}", *sys.argv[2:]]
    sys.argv = [sys.argv[0], *words]
    status = alseg.run(*words)
    if status == 0 and os.environ.get("SLURM_PROCID", "0") == "0":
        print("OK", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
