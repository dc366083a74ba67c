"""From files to batches: one training item, two loader processes, and the border of an epoch."""

import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.active.stage import Fit
from alseg.core.images import DataSplits
from alseg.data.datamodule import TrainItems
from alseg.data.folder import Folder
from alseg.data.loaders import FitLoader
from alseg.data.samplers import OnePlace, TrainStream
from alseg.data.transforms import IMAGENET_MEAN, IMAGENET_STD, TrainTransform
from alseg.labels.supervision import Target
from benchmarks.harness import Comparison, compare, equal, table

CLASSES = 19


def main(quick: bool) -> None:
    """Print the tables."""
    size, crop, count = ((64, 128), (32, 32), 4) if quick else ((1024, 2048), (512, 512), 24)
    with folder_of(size, count) as root:
        print(table(items(root, crop, count)))
        print(throughput(root, crop, quick))


class Truth:
    """Supervision by label maps in memory: how targets are painted is measured elsewhere."""

    def __init__(self, size: tuple[int, int], count: int) -> None:
        self.images = np.arange(count)
        self._target = np.random.default_rng(0).integers(0, CLASSES, size).astype(np.uint8)

    def __call__(self, image: int) -> Target:
        return Target({"target": self._target}, {})


@contextmanager
def folder_of(size: tuple[int, int], count: int) -> Iterator[Path]:
    """Images as smooth as photographs, and a mask each."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for part in ("images", "masks"):
            (root / part).mkdir()
        for index in range(count):
            small = rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8)
            smooth = Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC)
            noisy = np.asarray(smooth).astype(np.int16) + rng.integers(-4, 5, (*size, 3))
            picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
            picture.save(root / "images" / f"{index:02d}.png")
            Image.fromarray(np.zeros(size, np.uint8)).save(root / "masks" / f"{index:02d}.png")
        yield root


def opened(root: Path, cache: bool) -> DataSplits:
    kept = str(root / "decoded") if cache else None
    data = Folder(str(root), classes=["ground", "other"], val_fraction=0, cache=kept)
    return data.splits(progress=False, cache=root / "known")


def items(root: Path, crop: tuple[int, int], count: int) -> list[Comparison]:
    """One training item: the file decoded and all of it transformed, or what is shown of it."""
    import albumentations
    import cv2

    images = opened(root, cache=True).train
    supervision = Truth(images.size(0), count)
    ours = TrainItems(images, supervision, TrainTransform(crop), narrow=True)
    for index in range(count):
        images.image(index)  # the first epoch decodes
    steps = [
        albumentations.RandomScale(
            (-0.5, 1.0),
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST_EXACT,
            area_for_downscale="image",
            p=1.0,
        ),
        albumentations.PadIfNeeded(*crop, fill=(124, 116, 104), fill_mask=255),
        albumentations.RandomCrop(*crop),
        albumentations.HorizontalFlip(p=0.5),
        albumentations.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    pipeline = albumentations.Compose(steps)
    some = range(min(8, count))

    def whole() -> tuple[NDArray[Any], ...]:
        found = []
        for index in some:
            picture = np.asarray(Image.open(images.files[index].image).convert("RGB"))
            pipeline.set_random_state(np.random.default_rng(index), random.Random(index))
            result = pipeline(image=picture, mask=supervision(index).maps["target"])
            found += [result["image"].transpose(2, 0, 1), result["mask"].astype(np.int64)]
        return tuple(found)

    def cropped() -> tuple[NDArray[Any], ...]:
        found = []
        for index in some:
            item = ours.item(index, index)
            found.append((item["image"], item["maps"]))
        wide = [ours.transform.widened(*one) for one in found]
        return tuple(a.numpy() for image, maps in wide for a in (image, maps["target"]))

    height, width = images.size(0)
    task = f"{len(some)} training items, {height}x{width} PNG to {crop[0]}x{crop[1]}"
    return [compare(task, "Pillow, albumentations on all of it", whole, cropped, equal, 5)]


def throughput(root: Path, crop: tuple[int, int], quick: bool) -> str:
    """Items a second of loader processes alone, and what the border of an epoch costs."""
    lines = ["", "| loader processes | decoded images | items a second | border of an epoch |"]
    lines.append("| ---: | --- | ---: | ---: |")
    for workers in (0, 2):
        for cache in (False, True):
            if not (cache or quick or workers):
                continue
            images = opened(root, cache).train
            items = TrainItems(
                images, Truth(images.size(0), len(images)), TrainTransform(crop), narrow=True
            )
            fit = Fit(steps=3 * 12, batch_size=8, epoch_steps=12)
            stream = TrainStream(len(items), fit, (0, "benchmark"), OnePlace())
            loader = FitLoader(items, batch_size=None, sampler=stream, num_workers=workers)
            gaps, borders = times(loader, 3)
            kept = "kept" if cache else "no"
            rate = 8 / float(np.mean(gaps))
            border = 1e3 * (median(borders) - float(np.mean(gaps)))
            lines.append(f"| {workers} | {kept} | {rate:.0f} | {border:+.0f} ms |")
    return "\n".join(lines)


def times(loader: FitLoader, epochs: int) -> tuple[list[float], list[float]]:
    """Seconds from batch to batch: within epochs after the first batch, and over their borders."""
    gaps, borders = [], []
    last = None
    for _ in range(epochs):
        for number, _batch in enumerate(loader):
            now = perf_counter()
            if last is not None:
                (borders if not number else gaps).append(now - last)
            last = now
    return gaps, borders
