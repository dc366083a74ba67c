"""Rendering targets, the size of answers on disk, and the memory of a scoring pass."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from alseg.active.shards import ShardWriter
from alseg.core.images import VOID
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import Answers, pack_sets
from benchmarks.harness import Comparison, compare, equal, table


def main(quick: bool) -> None:
    """Print the tables."""
    print(table(rendering(quick) + scoring(quick)))
    print(storage())


class Blocks:
    """A map of square regions."""

    version = "blocks"

    def __init__(self, height, width, side):
        y, x = np.mgrid[:height, :width] // side
        self.map = (y * (width // side) + x).astype(np.int32)
        self.num_regions = np.array([int(self.map.max()) + 1])

    def __getitem__(self, index):
        return self.map


def rendering(quick: bool) -> list[Comparison]:
    """A target of one image from 200 answers."""
    height, width, side = (128, 256, 8) if quick else (1024, 2048, 32)
    maps = Blocks(height, width, side)
    rng = np.random.default_rng(0)
    unit = rng.choice(maps.num_regions[0], 200, replace=False)
    label = rng.integers(0, 19, 200).astype(np.uint8)
    pool = LabelPool(np.array([[height, width]]), 19, Budget(), [maps])
    pool.commit(
        Answers(0, "region", "dominant", "blocks", 19, np.zeros(200, np.int64), unit, label=label)
    )

    def loop():
        target = np.full((height, width), VOID, np.uint8)
        for region, c in zip(unit, label, strict=True):
            target[maps.map == region] = c
        return target

    def dense():
        one_hot = np.zeros((int(maps.num_regions[0]), 20), bool)
        one_hot[:, 19] = True
        one_hot[unit] = np.eye(20, dtype=bool)[label]
        target = one_hot[maps.map].argmax(axis=2).astype(np.uint8)  # (H, W, C)
        return np.where(target == 19, np.uint8(VOID), target)

    task = f"target of {height}x{width} from 200 answers"
    return [
        compare(task, "loop over answers", loop, lambda: pool.render(0), equal),
        compare(task, "one-hot table, argmax", dense, lambda: pool.render(0), equal),
    ]


def scoring(quick: bool) -> list[Comparison]:
    """The tables of a scoring pass: kept in lists, or written as they come."""
    images, regions = (50, 256) if quick else (3000, 2048)

    def batch(image):
        rows = torch.arange(2 * regions, dtype=torch.int32)
        return {
            "regions": {
                "image": torch.full_like(rows, image),
                "unit": rows // 2,
                "value": rows.float() + image,
            }
        }

    def lists():
        kept = [batch(image)["regions"] for image in range(images)]
        return sum(len(columns["image"]) for columns in kept)

    def shards():
        with tempfile.TemporaryDirectory() as folder:
            writer = ShardWriter(Path(folder) / "rank_0")
            for image in range(images):
                writer.append(batch(image))
            writer.close()
            return (Path(folder) / "rank_0" / "regions.image.bin").stat().st_size // 4

    def same(a, b):
        assert a == b
        return "equal"

    few = images // 10
    row = compare(
        f"tables of {images} images x {2 * regions} rows", "lists", lists, shards, same, 3
    )
    images = few
    small = compare(f"tables of {few} images x {2 * regions} rows", "lists", lists, shards, same, 3)
    return [small, row]


def storage() -> str:
    """Bytes of 200 class sets on disk."""
    rng = np.random.default_rng(0)
    lines = []
    for num_classes in (19, 150):
        members = rng.random((200, num_classes + 1)) < 1.5 / num_classes
        answers = Answers(
            0, "region", "class_set", "seeds-12345678", num_classes,
            rng.integers(0, 2975, 200), rng.integers(0, 2048, 200), sets=pack_sets(members),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            answers.save(Path(folder) / "answers.npz")
            size = (Path(folder) / "answers.npz").stat().st_size
        lines.append(f"200 class sets of {num_classes} classes: {size} bytes on disk.")
    return "\n".join(lines)
