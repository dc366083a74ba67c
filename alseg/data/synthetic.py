"""Painted scenes: a data set for trying things out, without files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import ClassTable, DataSplits, Sceneless

#: Classes in the order of their ids, with display colours.
COLORS = {
    "sky": (125, 180, 225),
    "building": (110, 80, 90),
    "road": (128, 64, 128),
    "ground": (150, 200, 120),
    "tree": (40, 110, 50),
    "water": (40, 90, 190),
    "car": (20, 20, 120),
    "person": (220, 30, 60),
    "pole": (170, 170, 170),
    "sign": (240, 210, 20),
}

#: Bytes of painted images that one split keeps in memory.
MEMORY = 1 << 28


@dataclass(frozen=True)
class Synthetic:
    """Streets and landscapes painted from a seed: ten classes, of which three are small and rare.

    Attributes:
        train: Number of training images.
        val: Number of validation images.
        size: Height and width in pixels.
        crowding: Factor on the number of trees, cars, people and poles.
        seed: Seed of all images. An image depends on the seed, its split, its position and the
            two options above, not on how many images there are.
    """

    small: ClassVar[Mapping[str, str]] = {
        "network.architecture": "FPN",
        "network.encoder": "resnet18",
        "network.weights": "null",
        "network.options": "{decoder_pyramid_channels:64,decoder_segmentation_channels:64}",
        "budget.amount": "800",
        "augment.scale": "[0.75,1.5]",
    }

    train: int = 200
    val: int = 50
    size: tuple[int, int] = (128, 160)
    crowding: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        size = list(self.size)
        if len(size) != 2 or not all(isinstance(n, int) and 32 <= n <= 4096 for n in size):
            raise UserError(
                f"data.size is {size}; write height and width in pixels, each from 32 to 4096, "
                f"such as [128, 160]."
            )
        if self.train < 1 or self.val < 0:
            raise UserError(
                f"data.train is {self.train} and data.val {self.val}; ask for at least one "
                f"training image and no negative number."
            )
        if not 0 <= self.crowding <= 20:
            raise UserError(f"data.crowding is {self.crowding}; write a factor from 0 to 20.")
        if self.seed < 0:
            raise UserError(f"data.seed is {self.seed}; write a whole number of at least 0.")

    def splits(self, progress: bool = True, cache: Path | None = None) -> DataSplits:
        """The two splits; images are painted when they are asked for.

        Args:
            progress: Unused; nothing here takes long.
            cache: Unused; there are no files to check.
        """
        height, width = self.size

        def split(name: str, count: int) -> PaintedImages:
            return PaintedImages(name, count, (height, width), self.crowding, self.seed)

        return DataSplits(split("train", self.train), split("val", self.val))


class PaintedImages(Sceneless):
    """One split of `Synthetic`, an `alseg.core.images.ImageSet`.

    Attributes:
        classes: Names and display colours.
        names: ``train_00000`` and so on.
        has_truth: True.
    """

    has_truth = True

    def __init__(
        self, split: str, count: int, size: tuple[int, int], crowding: float, seed: int
    ) -> None:
        self.classes = ClassTable(tuple(COLORS), np.array([*COLORS.values()], dtype=np.uint8))
        self.names: Sequence[str] = tuple(f"{split}_{i:05d}" for i in range(count))
        self._key = (seed, int(split == "val"))
        self._size = size
        self._crowding = crowding
        self._painted: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8]]] = {}

    def __repr__(self) -> str:
        height, width = self._size
        return (
            f"PaintedImages({len(self)} scenes of {height} x {width}, {len(self.classes)} classes)"
        )

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, the same for all images."""
        self.names[index]  # an index out of range is an error here as everywhere
        return self._size

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, 3), uint8, RGB."""
        return self._paint(index)[0].copy()

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Ground truth, (H, W), uint8, class ids or VOID."""
        return self._paint(index)[1].copy()

    def fingerprint(self, index: int) -> str:
        """Digest of the pixels, which no version number can vouch for, 32 hex digits."""
        return blake2b(self._paint(index)[0].tobytes(), digest_size=16).hexdigest()

    def _paint(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        index = range(len(self))[index]
        if index in self._painted:
            return self._painted[index]
        from alseg.data.painting.scene import paint_scene

        rng = np.random.Generator(np.random.PCG64([*self._key, index]))
        painted = paint_scene(rng, *self._size, self._crowding)
        if (len(self._painted) + 1) * painted[0].nbytes * 4 // 3 <= MEMORY:
            self._painted[index] = painted
        return painted

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_painted": {}}  # a worker paints its own: copying costs more
