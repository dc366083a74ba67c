"""Starting the command again: of a run that is finished, and of one that waits for answers."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from alseg.cli.command import WAITING
from benchmarks.harness import Comparison, compare, table

#: A run whose work takes seconds.
TINY = (
    *("method=random", "rounds=1", "data=synthetic", "data.train=6", "data.val=2"),
    *("data.size=[48,64]", "regions.region_size=64", "network.architecture=Unet"),
    "network.encoder=resnet18",
    "network.options={encoder_depth:3,decoder_channels:[16,16,16]}",
    *("method.steps=2", "method.batch_size=2", "method.epoch_steps=2", "budget.amount=12"),
    *("workers=0", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"),
)


def main(quick: bool) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        print(table(starts(Path(folder), quick)))


def python(*words: str) -> int:
    """The exit status of a Python process."""
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run([sys.executable, *words], env=here, capture_output=True).returncode


def starts(folder: Path, quick: bool) -> list[Comparison]:
    """The whole command in a process of its own, beside the imports that training takes."""
    found = []
    cases = [("waiting", "human", WAITING), ("finished", "simulated", 0)]
    for what, oracle, status in cases[:1] if quick else cases:
        words = [
            *("-m", "alseg.run", *TINY, f"oracle={oracle}"),
            *(f"run_dir={folder / what}", f"cache={folder / 'cache'}"),
        ]

        def ours(words: list[str] = words) -> int:
            return python(*words)

        def agree(imported: Any, got: int, status: int = status) -> str:
            assert (imported, got) == (0, status), f"exit statuses {imported} and {got}"
            return f"exit status {status}"

        agree(0, ours())  # the run itself
        found.append(
            compare(
                f"the command of a {what} run, given again",
                "only importing torch, Lightning and the networks",
                lambda: python("-c", "import lightning, segmentation_models_pytorch"),
                ours,
                agree,
                0 if quick else 3,
                limit=("importing NumPy", lambda: python("-c", "import numpy")),
            )
        )
    return found
