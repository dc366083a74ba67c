"""Image sets and region sources that worker processes can import."""

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from alseg.core.errors import UserError
from alseg.core.images import ClassTable, Sceneless
from alseg.regions.base import Unit
from alseg.regions.simple import Grid


class FakeImages(Sceneless):
    """Random images; ``content`` stands for what lies in the files."""

    classes = ClassTable(("a", "b"), np.zeros((2, 3), np.uint8))
    has_truth = False

    def __init__(self, sizes: Sequence[tuple[int, int]], content: Sequence[int] | None = None):
        self.sizes = list(sizes)
        self.content = list(content or range(len(sizes)))
        self.names = [f"street/{index:04}.jpg" for index in range(len(sizes))]

    def __len__(self) -> int:
        return len(self.sizes)

    def size(self, index: int) -> tuple[int, int]:
        return self.sizes[index]

    def image(self, index: int) -> np.ndarray:
        rng = np.random.default_rng(self.content[index])
        small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        height, width = self.sizes[index]
        tall = np.repeat(small, -(-height // 4), axis=0)[:height]
        wide = np.repeat(tall, -(-width // 4), axis=1)[:, :width].astype(int)
        return (wide + rng.integers(-8, 9, wide.shape)).clip(0, 255).astype(np.uint8)

    def truth(self, index: int) -> np.ndarray:
        raise UserError("no truth")

    def fingerprint(self, index: int) -> str:
        return f"{self.content[index]:x}-{self.sizes[index]}"


@dataclass(frozen=True)
class Recorded:
    """Four patches and a corner in no region; notes every image it cuts in a file.

    Attributes:
        journal: The file.
        seconds: How long a cut takes.
        refuse: Names that raise a UserError.
        die: End the process, if it is a worker.
    """

    unit: ClassVar[Unit] = "region"

    journal: str
    seconds: float = 0.0
    refuse: tuple[str, ...] = ()
    die: bool = False

    def parameters(self) -> dict[str, Any]:
        return {"name": "recorded"}

    def check(self, images: FakeImages) -> None:
        pass

    def __call__(self, image: np.ndarray, name: str) -> np.ndarray:
        if self.die and multiprocessing.parent_process() is not None:
            os._exit(1)
        if name in self.refuse:
            raise UserError(f"{name} is refused.")
        time.sleep(self.seconds)
        with open(self.journal, "a") as file:
            file.write(f"{name} {os.getpid()}\n")
        regions = Grid(rows=2, cols=2)(image, name)
        regions[0, 0] = -1
        regions[regions == 3] = int(image[0, 0, 0])  # depends on the content, leaves holes
        return regions

    def cuts(self) -> list[list[str]]:
        """Name and process of every cut so far."""
        path = Path(self.journal)
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
