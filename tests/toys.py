"""Small things the tests share: an image set in memory, block maps, a run on a tiny network."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alseg.active.run import Run
from alseg.cli.options import TrainerOptions
from alseg.core.images import VOID, ClassTable, DataSplits, Sceneless
from alseg.data.datamodule import ActiveDataModule
from alseg.data.transforms import EvalTransform, TrainTransform
from alseg.labels.budget import Budget
from alseg.labels.oracle import SimulatedOracle
from alseg.labels.pool import LabelPool
from alseg.labels.tables import PIXELS
from alseg.methods.mulquery.method import MulQuery
from alseg.nn.network import Network

COLORS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]], dtype=np.uint8)


@dataclass(frozen=True)
class ToyImages(Sceneless):
    """Images of three colours in rectangles, with a strip of void; everything from a seed."""

    count: int
    size_: tuple[int, int] = (32, 48)
    seed: int = 0
    has_truth: bool = True
    classes: ClassTable = field(
        default_factory=lambda: ClassTable(("red", "green", "blue"), COLORS)
    )
    scenes: tuple[str, ...] = ()

    @property
    def names(self):
        return [f"toy_{index:02d}" for index in range(self.count)]

    def __len__(self):
        return self.count

    def size(self, index):
        return self.size_

    def truth(self, index):
        rng = np.random.default_rng((self.seed, index))
        height, width = self.size_
        labels = np.zeros(self.size_, dtype=np.uint8)
        for _ in range(4):
            y, x = rng.integers(height), rng.integers(width)
            labels[y : y + height // 2, x : x + width // 2] = rng.integers(3)
        labels[:2] = VOID
        return labels

    def image(self, index):
        rng = np.random.default_rng((self.seed, index, 1))
        labels = self.truth(index)
        pixels = np.where(labels == VOID, 1, labels)
        noise = rng.integers(-30, 30, (*self.size_, 3))
        return np.clip(COLORS[pixels].astype(int) + noise, 0, 255).astype(np.uint8)

    def scene(self, index):
        """Scenes in turn, whatever the pixels show."""
        return index % len(self.scenes) if self.scenes else super().scene(index)

    def fingerprint(self, index):
        return hashlib.blake2b(self.image(index).tobytes()).hexdigest()


class BlockMaps:
    """Square regions of a side; a stand-in for maps from `alseg.regions`."""

    def __init__(self, sizes, side=8, version="blocks"):
        self.version = version
        self.side = side
        self.sizes = [(int(h), int(w)) for h, w in sizes]
        self.num_regions = np.array([(h // side) * (w // side) for h, w in self.sizes])

    def __getitem__(self, index):
        height, width = self.sizes[index]
        y, x = np.mgrid[:height, :width] // self.side
        return (y * (width // self.side) + x).astype(np.int32)


class WholeMaps:
    """Every image is one region."""

    version = "image"

    def __init__(self, sizes):
        self.sizes = [(int(h), int(w)) for h, w in sizes]
        self.num_regions = np.ones(len(self.sizes), dtype=np.int64)

    def __getitem__(self, index):
        return np.zeros(self.sizes[index], dtype=np.int32)


def toy_pool(count=4, amount=20.0, **budget):
    images = ToyImages(count)
    sizes = np.array([images.size(index) for index in range(count)])
    return images, LabelPool(sizes, 3, Budget(amount=amount, **budget), [BlockMaps(sizes)])


def toy_run(
    root: Path, rounds=3, seed=0, method=None, network=None, kind=None, amount=10.0, **trainer
) -> Run:
    """A run that trains in seconds: 6 images of 32x48, a small FPN."""
    planned = {"axis": "units", "rule": "within"} if method and method.plans_rounds else {}
    images, pool = toy_pool(count=6, amount=amount, **planned)
    if kind is None:
        regions = method.defaults.get("regions") if method else None
        kind = {"pixels": "pixel", "grid": "patch", "image": "image"}.get(regions, "region")
    side = {"region": 8, "patch": 16, "image": 48}.get(kind, 8)
    if kind == "image":
        pool.add_maps(WholeMaps(pool.sizes))
    elif side != 8:
        pool.add_maps(BlockMaps(pool.sizes, side, kind))
    regions = {"region": "blocks", "pixel": PIXELS}.get(kind, kind)
    splits = DataSplits(images, ToyImages(2, seed=1))
    short = {"steps": 4, "batch_size": 2, "epoch_steps": 2, "lr": 1e-3, "head_factor": 1.0}
    return Run(
        method=method or MulQuery(**short, stage_two_steps=2, stage_two_batch_size=2),
        splits=splits,
        datamodule=ActiveDataModule(
            splits,
            pool,
            TrainTransform(crop=(32, 48)),
            EvalTransform(),
        ),
        pool=pool,
        regions=regions,
        kind=kind,
        oracle=SimulatedOracle(trim=0),
        network=network or TINY,
        root=root,
        rounds=rounds,
        seed=seed,
        trainer=TrainerOptions(accelerator="cpu", enable_progress_bar=False, **trainer).keywords,
    )


#: Small, with dropout: what a resumed stage draws has to be what it would have drawn.
TINY = Network(
    "FPN",
    "tu-test_resnet",
    None,
    {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
)
