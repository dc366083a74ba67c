"""MADBAL: scores of pixels, of superpixels, and the choice among clusters, against its text.

The text brings every output of the network to the size of the image and back to a grid of a quarter
of it (step 1, pixels), cuts each superpixel out by a mask (step 1, superpixels), and keeps the best
of each cluster and image in a heap (step 2).
"""

import heapq
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from alseg.methods.madbal.budget import choose_superpixels
from alseg.methods.madbal.disagreement import pixel_scores
from alseg.methods.madbal.grid import enlarged_to_grid
from alseg.methods.madbal.superpixels import superpixel_scores
from benchmarks.bench_mulquery import wavy_regions
from benchmarks.harness import Comparison, compare, equal, table, within

CLASSES, CLUSTERS, PER_IMAGE = 19, 9, 20
#: Images that are drawn; the others of the pool repeat them, with clusters of their own.
DISTINCT = 4


def main(quick: bool = False) -> None:
    size = (64, 128) if quick else (256, 512)
    images = pool(size, 2 if quick else 40)
    repeats = 1 if quick else 7
    print(table([*pixels(images, repeats), *superpixels(images, repeats), *whole(images, repeats)]))


class Maps(NamedTuple):
    """What the network says of one image on the grid, before the sigmoid."""

    logits: torch.Tensor
    auxiliary: list[torch.Tensor]
    depth_weights: torch.Tensor
    hard_logits: torch.Tensor
    edges: torch.Tensor


def network_maps(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def noise(channels, spread):
        return spread * torch.randn(1, channels, height, width, generator=generator)

    objects = wavy_regions(height, width, 32)
    means = 2 * torch.randn(int(objects.max()) + 1, CLASSES, generator=generator)
    logits = means[objects].movedim(-1, 0)[None] + noise(CLASSES, 1)
    return Maps(
        logits,
        [logits + noise(CLASSES, spread) for spread in (2, 1.5, 1)],
        noise(3, 1).softmax(1),
        noise(2, 1),
        torch.rand(1, height, width, generator=generator) < 0.2,
    )


def direct_pixels(logits, auxiliary, depth_weights, hard, edges):
    """Entropy, disagreement of the depths and hardness, each over the whole image at once."""
    eps = torch.finfo(torch.float32).eps
    p = logits.softmax(1)
    score = -(p * p.clamp(eps, 1 - eps).log()).sum(1)
    for k, maps in enumerate(auxiliary):
        q = maps.softmax(1)
        m = (p + q) / 2
        apart = 0.5 * (m * (m.log() - p.log()) + m * (m.log() - q.log()))
        score = score + depth_weights[:, k] * apart.mean()
    return score * torch.where(edges, hard[:, 0].exp(), hard[:, 1].exp())


def direct_from_full_size(maps):
    """All maps enlarged to the image, as the network returns them there, and shrunk again."""

    def enlarged(x):
        return F.interpolate(x, scale_factor=4, mode="bilinear", align_corners=False)

    full = [enlarged(x) for x in (maps.logits, *maps.auxiliary, maps.depth_weights)]
    full.append(enlarged(maps.hard_logits).sigmoid())
    logits, *auxiliary, depth_weights, hard = (
        F.interpolate(x, scale_factor=0.25, mode="bilinear", align_corners=False) for x in full
    )
    scores = direct_pixels(logits, auxiliary, depth_weights, hard, maps.edges)
    return scores[0], logits.argmax(1)[0]


def fast_from_grid(maps):
    logits = enlarged_to_grid(maps.logits)
    scores = pixel_scores(
        logits,
        [enlarged_to_grid(x) for x in maps.auxiliary],
        enlarged_to_grid(maps.depth_weights),
        enlarged_to_grid(maps.hard_logits, sigmoid=True),
        maps.edges,
    )
    return scores[0], logits.argmax(1)[0]


def pixels(images, repeats: int) -> list[Comparison]:
    maps = images[0].maps
    on_grid = *maps[:3], maps.hard_logits.sigmoid(), maps.edges
    return [
        compare(
            f"step 1, pixels: {cells(images)}",
            "the text: 81 maps enlarged 4x and shrunk",
            lambda: direct_from_full_size(maps)[0],
            lambda: fast_from_grid(maps)[0],
            within(1e-5),
            repeats,
        ),
        compare(
            f"the same, of maps that are on the grid: {cells(images)}",
            "the text, whole maps",
            partial(direct_pixels, *on_grid),
            partial(pixel_scores, *on_grid),
            within(1e-5),
            repeats,
        ),
    ]


class Image(NamedTuple):
    """An image of the pool: what the network says of it, and its superpixels."""

    maps: Maps
    regions: torch.Tensor
    clusters: np.ndarray


def pool(size, num_images, seed=0):
    """Images some cells of which have been asked."""
    rng = np.random.default_rng(seed)
    squares = wavy_regions(*size, 16).numpy().astype(np.int16)
    count = int(squares.max()) + 1
    drawn = []
    for index in range(min(DISTINCT, num_images)):
        asked = rng.choice(squares.size, PER_IMAGE, replace=False)
        left = squares.copy()
        left.flat[asked] = -1
        drawn.append((network_maps(*size, seed=index), torch.from_numpy(left)))
    frequent = rng.dirichlet(np.ones(CLUSTERS))
    return [
        Image(*drawn[index % DISTINCT], rng.choice(CLUSTERS, count, p=frequent))
        for index in range(num_images)
    ]


def cells(images) -> str:
    height, width = images[0].regions.shape
    return f"one image of {height}x{width} cells, {len(images[0].clusters)} superpixels"


def direct_superpixels(scores, labels, regions):
    """One mask per superpixel: id, mean score, pixels, most frequent class, best pixel."""
    scores, labels, regions = scores.flatten(), labels.flatten(), regions.flatten()
    rows = []
    for unit in regions.unique().tolist():
        if unit < 0:
            continue
        own = (regions == unit).nonzero().squeeze(1)
        score = scores[own]
        label = labels[own].bincount().argmax()
        best = own[score.argmax()]
        rows.append((unit, score.double().mean().item(), len(own), label.item(), best.item()))
    return rows


def direct_quotas(worth, n):
    quotas = [int(n * w // sum(worth)) for w in worth]
    quotas[quotas.index(min(quotas))] += n - sum(quotas)
    return quotas


def direct_repair(quotas, available, rng):
    fitted = list(quotas)
    while any(a > r for a, r in zip(fitted, available, strict=True)):
        over = [k for k in range(CLUSTERS) if fitted[k] > available[k]]
        free = [k for k in range(CLUSTERS) if k not in over]
        excess = sum(fitted[k] - available[k] for k in over)
        for k in free:
            fitted[k] += excess // len(free)
        fitted[free[rng.integers(len(free))]] += excess % len(free)
        for k in over:
            fitted[k] = available[k]
    return fitted


def direct_choice(tables, clusters, seed=0):
    """Sums superpixel by superpixel, then one heap per cluster and image: image, pixel."""
    score_sum, count = [0.0] * CLUSTERS, [0] * CLUSTERS
    classes = np.zeros((CLASSES, CLUSTERS))
    for rows, own in zip(tables, clusters, strict=True):
        for unit, score, size, label, _ in rows:
            score_sum[own[unit]] += score
            count[own[unit]] += size
            classes[label, own[unit]] += 1
    shares = classes / np.maximum(classes.sum(0), 1)
    worth = [a / b if b else 0.0 for a, b in zip(score_sum, count, strict=True)]
    quotas, rng, chosen = direct_quotas(worth, PER_IMAGE), np.random.default_rng(seed), []
    for image, (rows, own) in enumerate(zip(tables, clusters, strict=True)):
        available = [0] * CLUSTERS
        for unit, *_ in rows:
            available[own[unit]] += 1
        room = direct_repair(quotas, available, rng)
        heaps = [[] for _ in range(CLUSTERS)]
        for unit, score, _, label, pixel in rows:
            k = own[unit]
            heapq.heappush(heaps[k], (score * np.exp(-shares[label, k]), unit, pixel))
            if len(heaps[k]) > room[k]:
                heapq.heappop(heaps[k])
        chosen += [(image, pixel) for heap in heaps for _, _, pixel in heap]
    return np.array(sorted(chosen))


def fast_superpixels(scores, labels, regions):
    count = int(regions.max()) + 1
    found = superpixel_scores(scores, labels, regions, num_regions=count, num_classes=CLASSES)
    return tuple(column.numpy() for column in found)


def fast_choice(tables, clusters, seed=0):
    unit, score, size, label, pixel = (np.concatenate(one) for one in zip(*tables, strict=True))
    image = np.repeat(np.arange(len(tables)), [len(one[0]) for one in tables])
    own = np.concatenate([k[one[0]] for k, one in zip(clusters, tables, strict=True)])
    rows = choose_superpixels(
        *(score, size, label, image, own, unit),
        PER_IMAGE,
        num_images=len(tables),
        num_classes=CLASSES,
        num_clusters=CLUSTERS,
        draw=np.random.default_rng(seed).integers,
    )
    rows = rows[np.lexsort((pixel[rows], image[rows]))]
    return np.stack([image[rows], pixel[rows]], axis=1)


def as_columns(rows):
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def superpixels(images, repeats: int) -> list[Comparison]:
    clusters = [one.clusters for one in images]
    scored = [(*fast_from_grid(one.maps), one.regions) for one in images[:DISTINCT]]
    tables = [fast_superpixels(*scored[i % DISTINCT]) for i in range(len(images))]
    listed = [list(zip(*(column.tolist() for column in one), strict=True)) for one in tables]
    return [
        compare(
            f"step 1, superpixels: {cells(images)}",
            "the text: one mask per superpixel",
            lambda: as_columns(direct_superpixels(*scored[0])),
            partial(fast_superpixels, *scored[0]),
            within(1e-9),
            repeats,
        ),
        *(
            compare(
                f"step 2, {PER_IMAGE} pixels of each: {many}",
                "the text: loops and heaps over superpixels",
                partial(direct_choice, listed[:n], clusters[:n]),
                partial(fast_choice, tables[:n], clusters[:n]),
                equal,
                repeats,
            )
            for n, many in ((1, cells(images)), (len(images), f"{len(images)} such images"))
        ),
    ]


def whole(images, repeats: int) -> list[Comparison]:
    def steps(count: int, pixels: Callable, superpixels: Callable, choice: Callable):
        tables = [superpixels(*pixels(one.maps), one.regions) for one in images[:count]]
        return choice(tables, [one.clusters for one in images[:count]])

    direct = direct_from_full_size, direct_superpixels, direct_choice
    fast = fast_from_grid, fast_superpixels, fast_choice
    return [
        compare(
            f"steps 1 and 2, {PER_IMAGE} pixels of each: {many}",
            "the text, all of it",
            partial(steps, count, *direct),
            partial(steps, count, *fast),
            equal,
            times,
        )
        for count, many, times in (
            (1, cells(images), repeats),
            (len(images), f"{len(images)} such images", 0),
        )
    ]
