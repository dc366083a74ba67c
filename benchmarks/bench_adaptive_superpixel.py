"""Adaptive superpixels: merging and sieving of one image, against the text of the method."""

from functools import partial

import numpy as np
import torch

from alseg.acquisition.scores import pixel_scores
from alseg.acquisition.statistics import region_vectors
from alseg.core.images import VOID
from alseg.methods.adaptive_superpixel.labels import paint
from alseg.methods.adaptive_superpixel.merging import merge
from alseg.methods.adaptive_superpixel.sieving import answer_confidence, sieve
from alseg.regions.geometry import adjacency, pixels_in
from alseg.regions.merged import merged_map
from benchmarks.bench_mulquery import wavy_regions
from benchmarks.harness import Comparison, compare, equal, table

CLASSES = 19
EPS = 0.1
MIN_PIXELS = 512


def main(quick: bool = False) -> None:
    rows = [*merging(quick), *sieving(quick)]
    print(table(rows))


def direct_distance(p, q):
    """Square root of the mean divergence from the middle, term by term."""
    p, q = p / p.sum(), q / q.sum()
    m = (p + q) / 2
    return np.sqrt(max(sum((x[x > 0] * np.log(x[x > 0] / m[x > 0])).sum() for x in (p, q)) / 2, 0))


def direct_contacts(regions):
    """Neighbours of every region in the order of first contact, pixel by pixel."""
    lists = {int(region): [] for region in np.unique(regions)}
    for one, other in ((regions[:, :-1], regions[:, 1:]), (regions[:-1], regions[1:])):
        for y, x in zip(*np.nonzero(one != other), strict=True):
            a, b = int(one[y, x]), int(other[y, x])
            for u, v in ((a, b), (b, a)):
                if v not in lists[u]:
                    lists[u].append(v)
    return lists


def direct_merge(features, uncertainty, neighbours, eps):
    """Flood fill from the most uncertain region on, one comparison at a time: id -> root."""
    roots = {}
    for root in sorted(neighbours, key=lambda region: (-uncertainty[region], region)):
        if root in roots:
            continue
        roots[root] = root
        queue = [root]
        while queue:
            for other in neighbours[queue.pop(0)]:
                if other not in roots and direct_distance(features[root], features[other]) < eps:
                    roots[other] = root
                    queue.append(other)
    return roots


def direct_map(probabilities, uncertainty, regions, eps):
    """From half-size maps to the merged map, with one mask per region."""
    doubled = probabilities.repeat(2, axis=1).repeat(2, axis=2).astype(np.float64)
    uncertain = uncertainty.repeat(2, axis=0).repeat(2, axis=1).astype(np.float64)
    neighbours = direct_contacts(regions)
    features, means = {}, {}
    for region in neighbours:
        mask = regions == region
        features[region] = doubled[:, mask].mean(axis=1)
        means[region] = uncertain[mask].mean()
    merged = regions.copy()
    for region, root in direct_merge(features, means, neighbours, eps).items():
        merged[regions == region] = root
    return merged


def summed_map(probabilities, uncertainty, regions, eps):
    """The same without masks: sums per class over the doubled maps."""
    doubled = probabilities.repeat(2, axis=1).repeat(2, axis=2)
    uncertain = uncertainty.repeat(2, axis=0).repeat(2, axis=1)
    ids = regions.ravel()
    sizes = np.maximum(np.bincount(ids), 1)
    features = np.stack([np.bincount(ids, one.ravel()) / sizes for one in doubled], axis=1)
    means = np.bincount(ids, uncertain.ravel()) / sizes
    roots = direct_merge(features, means, direct_contacts(regions), eps)
    lookup = np.arange(len(sizes))
    lookup[list(roots)] = list(roots.values())
    return lookup[regions]


def fast_map(probabilities, uncertainty, regions, eps):
    maps = torch.from_numpy(np.concatenate([probabilities, uncertainty[None]]))
    num_regions = int(regions.max()) + 1
    means = region_vectors(maps, torch.from_numpy(regions), num_regions).numpy()
    roots = merge(means[:, :-1], means[:, -1], adjacency(regions, num_regions), eps)
    return merged_map(regions, roots)


def scene(height, width, seed=0):
    """Predictions on the half grid that change from object to object: classes, ratio, regions."""
    rng = np.random.default_rng(seed)
    regions = wavy_regions(height, width, 16).numpy()
    objects = wavy_regions(height // 2, width // 2, 32).numpy()
    logits = rng.normal(0, 2, (int(objects.max()) + 1, CLASSES))[objects]
    logits += rng.normal(0, 1, (len(np.unique(regions)), CLASSES))[regions[::2, ::2]] / 4
    logits += rng.normal(0, 0.5, logits.shape)
    logits = torch.from_numpy(logits.astype(np.float32)).movedim(-1, 0).contiguous()
    probabilities = logits.softmax(dim=0)
    return probabilities, pixel_scores(logits[None]).bvsb[0], regions


def merging(quick: bool) -> list[Comparison]:
    height, width = (64, 128) if quick else (1024, 2048)
    probabilities, uncertainty, regions = scene(height, width)
    inputs = probabilities.numpy(), uncertainty.numpy(), regions, EPS
    counts = f"{len(np.unique(regions))} into {len(np.unique(fast_map(*inputs)))} superpixels"
    task = f"means, graph and merging, {height}x{width}, {counts}"
    rows = [
        compare(task, name, partial(way, *inputs), partial(fast_map, *inputs), equal, repeats)
        for name, way, repeats in (
            ("the text: one mask per region, loops over contacts", direct_map, 1),
            ("sums per class over doubled maps, the text's loops", summed_map, 3),
        )
    ]
    means = region_vectors(probabilities, torch.from_numpy(regions), int(regions.max()) + 1).numpy()
    uncertain = region_vectors(uncertainty[None], torch.from_numpy(regions), len(means))[
        :, 0
    ].numpy()

    def direct():
        roots = direct_merge(means, uncertain, direct_contacts(regions), EPS)
        return np.array([roots[region] for region in range(len(means))])

    def ours():
        return merge(means, uncertain, adjacency(regions, len(means)), EPS)

    task = f"graph and merging alone, {height}x{width}, {len(means)} superpixels"
    return [*rows, compare(task, "the text's loops", direct, ours, equal, 3)]


def direct_knee(curve):
    """Kneedle, sensitivity 1, as the method states it."""
    m = len(curve)
    if curve[0] == curve[-1]:
        return 0
    d = [(y - curve[0]) / (curve[-1] - curve[0]) - i / (m - 1) for i, y in enumerate(curve)]
    candidate, limit = None, None
    for i in range(m - 1):
        before, after = d[max(i - 1, 0)], d[i + 1]
        if d[i] >= before and d[i] >= after:
            candidate, limit = i, d[i] - 1 / (m - 1)
        if candidate is None:
            continue
        if d[i] <= before and d[i] <= after:
            limit = 0
        if after < limit:
            return candidate
    return 0


def direct_sieve(probabilities, regions, ids, answers, min_pixels=MIN_PIXELS, steps=20):
    """Label map of some answers: doubled maps, one mask per region."""
    doubled = probabilities.repeat(2, axis=1).repeat(2, axis=2)
    labels = np.full(regions.shape, 255, dtype=np.uint8)
    for region, answer in zip(ids, answers, strict=True):
        mask = regions == region
        confidence = doubled[answer][mask]
        limit = confidence.min()
        if mask.sum() >= min_pixels:
            curve = np.sort(confidence)[:: max(1, mask.sum() // steps)].tolist()
            limit = np.float32(curve[direct_knee(curve)])
        labels[mask & (doubled[answer] >= limit)] = answer
    return labels


def fast_sieve(probabilities, regions, ids, answers):
    pixels = pixels_in(regions, ids)
    confidence = answer_confidence(probabilities, regions.shape, pixels, answers).numpy()
    kept = sieve(confidence, pixels.offsets, MIN_PIXELS)
    return paint(np.full(regions.shape, VOID, np.uint8), pixels, answers, kept)


def sieving(quick: bool) -> list[Comparison]:
    height, width, asked = (64, 128, 4) if quick else (1024, 2048, 60)
    probabilities, uncertainty, regions = scene(height, width, seed=1)
    merged = fast_map(probabilities.numpy(), uncertainty.numpy(), regions, EPS)
    ids, sizes = np.unique(merged, return_counts=True)
    ids = np.sort(ids[np.argsort(-sizes, kind="stable")][:asked])
    first = np.array([np.flatnonzero(merged.ravel() == region)[0] for region in ids])
    y, x = np.divmod(first, width)
    answers = probabilities.argmax(dim=0).numpy()[y // 2, x // 2]
    task = f"sieved labels of the {asked} largest regions, {height}x{width}"
    way = partial(direct_sieve, probabilities.numpy(), merged, ids, answers)
    ours = partial(fast_sieve, probabilities, merged, ids, answers)
    return [compare(task, "doubled maps, one mask per region", way, ours, equal, 5)]
