"""Scores of pixels, statistics of regions and selection, at the size of Cityscapes."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from skimage.measure import regionprops

from alseg.acquisition.scores import best_two, most_probable, pixel_scores
from alseg.acquisition.selection import top
from alseg.acquisition.statistics import class_histogram, region_counts, region_sums
from alseg.core.images import VOID
from benchmarks.harness import Comparison, compare, equal, table, within

CLASSES = 19


def main(quick: bool) -> None:
    rows = [*scores(quick), *reductions(quick), *statistics(quick), *selection(quick)]
    print(table(rows))


def obvious_scores(logits):
    p = logits.softmax(1)
    best = p.topk(2, dim=1).values
    entropy = -(p * p.log()).sum(1)
    return entropy, 1 - (best[:, 0] - best[:, 1]), best[:, 1] / best[:, 0], p.argmax(1)


def reduced_scores(logits):
    """Without topk: the second best is the best of what is left."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    best, top1 = p.max(1)
    second = p.scatter(1, top1[:, None], -1).amax(1)
    return -(p * log_p).sum(1), 1 - (best - second), second / best, top1


def scores(quick: bool) -> list[Comparison]:
    height, width = (32, 64) if quick else (1024, 2048)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(1, CLASSES, height, width, generator=generator)
    task = f"entropy, margin, p2/p1, argmax of {CLASSES}x{height}x{width} logits"
    ways = {
        "softmax, topk, -p log p, argmax": obvious_scores,
        "log_softmax, max, scatter, amax": reduced_scores,
    }
    ours = partial(pixel_scores, logits)
    return [
        compare(task, name, partial(way, logits), ours, within(5e-6), repeats=5)
        for name, way in ways.items()
    ]


def reductions(quick: bool) -> list[Comparison]:
    """What needs less than all scores: the class, the two best, and the mean probabilities."""
    height, width = (32, 64) if quick else (512, 1024)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(1, CLASSES, height, width, generator=generator)

    def two(mean: bool):
        p = logits.softmax(1)
        best = p.topk(2, dim=1)
        found = best.values[:, 1] / best.values[:, 0], best.indices[:, 0]
        return (*found, p.mean((2, 3))) if mean else found

    size = f"of {CLASSES}x{height}x{width} logits"
    return [
        compare(
            f"argmax {size}",
            "torch.argmax",
            lambda: logits.argmax(1),
            lambda: most_probable(logits),
            equal,
            5,
        ),
        compare(
            f"bvsb and argmax {size}",
            "softmax, topk",
            lambda: two(mean=False),
            lambda: best_two(logits)[:2],
            within(5e-6),
            5,
        ),
        compare(
            f"bvsb, argmax and mean probabilities {size}",
            "softmax, topk, mean",
            lambda: two(mean=True),
            lambda: best_two(logits, mean=True),
            within(5e-6),
            5,
        ),
    ]


def statistics(quick: bool) -> list[Comparison]:
    height, width, side = (64, 128, 16) if quick else (1024, 2048, 32)
    y, x = np.mgrid[:height, :width]
    wave = side / 4 * np.sin(x / side)  # borders that are no straight lines
    line = np.clip((y + wave) // side, 0, height // side - 1)
    regions = (line * (width // side) + x // side).astype(np.int32)
    num_regions = int(regions.max()) + 1
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, (height, width)).astype(np.uint8)
    labels[rng.random((height, width)) < 0.05] = VOID
    values = rng.random((height, width), dtype=np.float32)
    maps = [torch.from_numpy(array) for array in (regions, labels, values)]
    size = f"{height}x{width} pixels, {num_regions} regions"

    def loop_histogram():
        counts = [
            np.bincount(labels[regions == r], minlength=256)[:CLASSES] for r in range(num_regions)
        ]
        return np.stack(counts)

    def one_hot_histogram():
        known = maps[1] != VOID
        one_hot = F.one_hot(torch.where(known, maps[1], 0).long(), CLASSES) * known[..., None]
        counts = torch.zeros(num_regions, CLASSES, dtype=torch.int64)
        index = maps[0].long().flatten()[:, None].expand(-1, CLASSES)
        return counts.scatter_add_(0, index, one_hot.flatten(0, 1))

    def loop_means():
        return np.array([values[regions == r].mean(dtype=np.float64) for r in range(num_regions)])

    def skimage_means():
        return np.array([p.intensity_mean for p in regionprops(regions + 1, values)])

    histogram = partial(class_histogram, maps[1], maps[0], num_regions, CLASSES)

    def means():
        counts = region_counts(maps[0], num_regions)
        return region_sums(maps[2], maps[0], num_regions) / counts.clamp(min=1)

    histogram_task = f"histogram of {CLASSES} classes per region, {size}"
    means_task = f"mean score per region, {size}"
    few = 5
    return [
        compare(histogram_task, "numpy loop over regions", loop_histogram, histogram, equal, few),
        compare(histogram_task, "one_hot, scatter_add", one_hot_histogram, histogram, equal, few),
        compare(means_task, "numpy loop over regions", loop_means, means, within(1e-6), few),
        compare(means_task, "skimage regionprops", skimage_means, means, within(1e-6), few),
    ]


def selection(quick: bool) -> list[Comparison]:
    m, n = (6_000, 100) if quick else (6_000_000, 100_000)
    rng = np.random.default_rng(0)
    where = np.arange(m)
    columns = rng.random(m, dtype=np.float32), where // 2048, where % 2048

    def python_sorted():
        score, image, unit = (column.tolist() for column in columns)
        rows = sorted(zip([-s for s in score], image, unit, where.tolist(), strict=True))
        return np.array([row[3] for row in rows[:n]])

    def numpy_lexsort():
        score, image, unit = columns
        return np.lexsort((unit, image, -score))[:n]

    task = f"the best {n:,} of {m:,} regions"
    ours = partial(top, *columns, n)
    return [
        compare(task, "numpy lexsort", numpy_lexsort, ours, equal, repeats=3),
        compare(task, "sorted list of tuples", python_sorted, ours, equal, repeats=1),
    ]
