"""MADBAL: scores of pixels, of superpixels, and the choice among clusters, as the text has them.

The pixels' scores are no loop in the text either, and stand in rows of their own.
"""

import heapq
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from alseg.methods.madbal.budget import choose_superpixels
from alseg.methods.madbal.disagreement import pixel_scores
from alseg.methods.madbal.grid import enlarged_to_grid
from alseg.methods.madbal.superpixels import superpixel_scores, without_asked
from benchmarks.bench_mulquery import wavy_regions
from benchmarks.harness import Comparison, compare, equal, table, within

CLASSES, CLUSTERS, PER_IMAGE = 19, 9, 20
DISTINCT = (
    4  # images that are drawn; the others of the pool repeat them, with clusters of their own
)


def main(quick: bool = False) -> None:
    size = (64, 128) if quick else (256, 512)
    print(table([*pixels(size, quick), *superpixels(size, quick)]))


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
    return direct_pixels(logits, auxiliary, depth_weights, hard, maps.edges)


def fast_from_grid(maps):
    return pixel_scores(
        enlarged_to_grid(maps.logits),
        [enlarged_to_grid(x) for x in maps.auxiliary],
        enlarged_to_grid(maps.depth_weights),
        enlarged_to_grid(maps.hard_logits, sigmoid=True),
        maps.edges,
    )


def pixels(size, quick: bool) -> list[Comparison]:
    maps = network_maps(*size)
    cells = f"one image of {size[0]}x{size[1]} cells"
    on_grid = *maps[:3], maps.hard_logits.sigmoid(), maps.edges
    ways = (
        (
            f"scores of pixels, {cells}, through the full size",
            "the text: 81 maps enlarged 4x, shrunk",
            partial(direct_from_full_size, maps),
            partial(fast_from_grid, maps),
        ),
        (
            f"scores of pixels, {cells}, on the grid",
            "the text, whole maps",
            partial(direct_pixels, *on_grid),
            partial(pixel_scores, *on_grid),
        ),
    )
    repeats = 1 if quick else 7
    return [compare(task, name, a, b, within(1e-4), repeats) for task, name, a, b in ways]


class Scored(NamedTuple):
    """An image of the pool: everything that the pixels' scores leave to do."""

    scores: np.ndarray
    labels: np.ndarray
    regions: np.ndarray
    clusters: np.ndarray


def pool(size, num_images, seed=0):
    """Scores and predicted classes of images some cells of which have been asked."""
    rng = np.random.default_rng(seed)
    whole = wavy_regions(*size, 16).numpy().astype(np.int16)
    count = int(whole.max()) + 1
    drawn = []
    for index in range(min(DISTINCT, num_images)):
        maps = network_maps(*size, seed=index)
        asked = rng.choice(whole.size, PER_IMAGE, replace=False)
        labels = maps.logits.argmax(1)[0].to(torch.uint8).numpy()
        drawn.append((fast_from_grid(maps)[0].numpy(), labels, without_asked(whole, asked)))
    frequent = rng.dirichlet(np.ones(CLUSTERS))
    return [
        Scored(*drawn[index % DISTINCT], rng.choice(CLUSTERS, count, p=frequent))
        for index in range(num_images)
    ]


def direct_superpixels(scores, labels, regions, _clusters):
    """One mask per superpixel: id, mean score, pixels, most frequent class, best pixel."""
    rows = []
    for unit in np.unique(regions):
        if unit < 0:
            continue
        mask = regions == unit
        own = scores[mask].astype(np.float64)
        label = np.bincount(labels[mask]).argmax()
        rows.append((unit, own.mean(), len(own), label, np.flatnonzero(mask)[own.argmax()]))
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


def direct_pool(images):
    return direct_choice([direct_superpixels(*one) for one in images], [x.clusters for x in images])


def fast_superpixels(scores, labels, regions, _clusters):
    maps = (torch.from_numpy(one) for one in (scores, labels, regions))
    found = superpixel_scores(*maps, num_regions=len(_clusters), num_classes=CLASSES)
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


def fast_pool(images):
    return fast_choice([fast_superpixels(*one) for one in images], [x.clusters for x in images])


def as_columns(rows):
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def superpixels(size, quick: bool) -> list[Comparison]:
    num_images, repeats = (2, 1) if quick else (200, 7)
    images = pool(size, num_images)
    first, clusters = images[:1], [one.clusters for one in images]
    count = len(clusters[0])
    cells = f"one image of {size[0]}x{size[1]} cells, {count} superpixels"
    many = f"{num_images} images, {num_images * count} superpixels"
    masks, heaps = "one mask per superpixel", "loops and heaps over superpixels"
    tables = [fast_superpixels(*one) for one in images]
    listed = [list(zip(*(column.tolist() for column in one), strict=True)) for one in tables]
    return [
        compare(
            f"superpixels of {cells}",
            f"the text: {masks}",
            lambda: as_columns(direct_superpixels(*images[0])),
            partial(fast_superpixels, *images[0]),
            within(1e-9),
            repeats,
        ),
        compare(
            f"superpixels and choice of {PER_IMAGE} pixels, {cells}",
            f"the text: {masks}, {heaps}",
            partial(direct_pool, first),
            partial(fast_pool, first),
            equal,
            repeats,
        ),
        compare(
            f"choice of {PER_IMAGE} pixels each, {many}",
            f"the text: {heaps}",
            partial(direct_choice, listed, clusters),
            partial(fast_choice, tables, clusters),
            equal,
            repeats,
        ),
        compare(
            f"superpixels and choice of {PER_IMAGE} pixels each, {many}",
            f"the text: {masks}, {heaps}",
            partial(direct_pool, images),
            partial(fast_pool, images),
            equal,
            1,
        ),
    ]
