"""Committees, core-set and BADGE: time and memory at the size of Cityscapes."""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from alseg.acquisition import committee
from alseg.acquisition.badge import Gradients, badge
from alseg.acquisition.clustering import k_center
from alseg.acquisition.rows import Rows
from benchmarks.harness import Comparison, alone, compare, equal, table, within

CLASSES = 19


def main(quick: bool) -> None:
    print(
        table(
            [
                *committees(quick),
                *core_set(quick),
                *gradients(quick),
                passes(quick),
                *on_disk(quick),
            ]
        )
    )
    print(passes_of_core_set(picks=200, labelled=100))


def committees(quick: bool) -> list[Comparison]:
    passes, height, width = (3, 32, 64) if quick else (10, 512, 1024)
    generator = torch.Generator().manual_seed(0)
    shape = 1, CLASSES, height, width
    base = 3 * torch.randn(shape, generator=generator)
    logits = [base + torch.randn(shape, generator=generator) for _ in range(passes)]

    def running(score):
        sums = committee.CommitteeSums.of(logits[0])
        for opinion in logits[1:]:
            sums.add(opinion)
        return score(sums)

    def entropy(p, dim):
        return -torch.xlogy(p, p).sum(dim)

    def stacked_bald():
        p = torch.stack([opinion.softmax(1) for opinion in logits])  # (T, B, C, H, W)
        return entropy(p.mean(0), 1) - entropy(p, 2).mean(0)

    def stacked_votes():
        best = torch.stack([opinion.argmax(1) for opinion in logits])
        share = F.one_hot(best, CLASSES).float().mean(0)  # of (T, B, H, W, C)
        return entropy(share, -1)

    size = f"{passes} passes of {CLASSES}x{height}x{width} logits"
    ways = {
        "BALD": ("softmax of all passes stacked", stacked_bald, committee.bald),
        "vote entropy": ("one_hot of all passes stacked", stacked_votes, committee.vote_entropy),
    }
    return [
        compare(f"{name}, {size}", obvious, way, partial(running, score), within(1e-5), repeats=3)
        for name, (obvious, way, score) in ways.items()
    ]


def core_set(quick: bool) -> list[Comparison]:
    large, small = (
        ((400, 16, 20), (200, 16, 10)) if quick else ((50_000, 512, 200), (5_000, 512, 50))
    )
    labelled = 100
    return [
        _core_set(*large, labelled, "np.linalg.norm to each pick, running minimum", running_norms),
        _core_set(*small, labelled, "matrix of all pairs (torch.cdist)", matrix_of_pairs),
    ]


def passes_of_core_set(picks: int, labelled: int) -> str:
    """How the way scales that is too slow to run."""
    again = picks * labelled + picks * (picks - 1) // 2
    return (
        f"k-center, {picks} picks, {labelled} labelled: with the distances to all centres taken "
        f"again for each pick, {again:,} passes over the features instead of {labelled + picks}."
    )


def _core_set(units, dim, picks, labelled, name, obvious) -> Comparison:
    # whole numbers have exact distances, so that no rounding decides a pick
    rng = np.random.default_rng(0)
    features = rng.integers(0, 16, (units, dim)).astype(np.float32)
    covered = rng.integers(0, 16, (labelled, dim)).astype(np.float32)
    ours = partial(k_center, features, picks, np.arange(units), covered, progress=False)
    return compare(
        f"k-center, {picks} of {units:,} features of {dim} numbers, {labelled} labelled",
        name,
        partial(obvious, features, picks, covered),
        ours,
        equal,
        repeats=1,
    )


def running_norms(features, picks, covered):
    points = torch.from_numpy(covered)
    chunks = torch.from_numpy(features).split(4096)
    nearest = np.concatenate([torch.cdist(chunk, points).amin(1).numpy() for chunk in chunks])
    chosen = []
    for _ in range(picks):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return np.array(chosen)


def matrix_of_pairs(features, picks, covered):
    points = torch.from_numpy(np.concatenate([covered, features]))
    distance = torch.cdist(points, points)
    chosen = list(range(len(covered)))
    for _ in range(picks):
        chosen.append(int(distance[:, chosen].amin(1).argmax()))
    return np.array(chosen[len(covered) :]) - len(covered)


def on_disk(quick: bool) -> list[Comparison]:
    """Picks from features that a scoring pass left on the disk, of which nine in ten are open."""
    units, dim, picks = (400, 16, 10) if quick else (60_000, 256, 100)
    rng = np.random.default_rng(0)
    folder = tempfile.TemporaryDirectory()
    p = rng.dirichlet(np.full(CLASSES, 0.3), units)
    columns = {"features": rng.random((units, dim)), "error": np.eye(CLASSES)[p.argmax(1)] - p}
    for name, column in columns.items():
        np.save(Path(folder.name) / f"{name}.npy", column.astype(np.float32))
    rows, uniforms = np.flatnonzero(rng.random(units) < 0.9), rng.random(picks)

    def factor(name):
        return np.load(Path(folder.name) / f"{name}.npy", mmap_mode="r")

    def copied():
        taken = Gradients(
            *(factor(name).astype(np.float64)[rows] for name in ("error", "features"))
        )
        return badge(taken, rows, uniforms, progress=False)

    def where_they_lie():
        taken = Gradients(*(Rows(factor(name), rows) for name in ("error", "features")))
        return badge(taken, rows, uniforms, progress=False)

    def cover_of_copies():
        return k_center(factor("features")[rows], picks, rows, progress=False)

    def cover():
        return k_center(Rows(factor("features"), rows), picks, rows, progress=False)

    what = (
        f"{picks} of {units:,} units, features of {dim} numbers on the disk, mapped pages counted"
    )
    with folder:
        return [
            compare(f"BADGE, {what}", "copied as float64", copied, where_they_lie, equal, 1),
            compare(f"k-center, {what}", "copied", cover_of_copies, cover, equal, 1),
        ]


def passes(quick: bool) -> Comparison:
    """BADGE among units of which a trained network is sure of most."""
    units, dim, picks = (500, 16, 20) if quick else (57_000, 256, 1000)
    rng = np.random.default_rng(0)
    best = rng.integers(CLASSES, size=units)
    logits = torch.from_numpy(rng.normal(size=(units, CLASSES)))
    logits[np.arange(units), best] += torch.from_numpy(rng.exponential(6, units))
    p = logits.softmax(1).numpy()
    error = np.eye(CLASSES)[p.argmax(1)] - p
    of_class = 2 * rng.normal(size=(CLASSES, dim))
    features = np.maximum(of_class[best] + rng.normal(size=(units, dim)), 0)
    uniforms = rng.random(picks)

    def pass_for_pass():
        length = (error**2).sum(1) * (features**2).sum(1)
        nearest, chosen = np.full(units, np.inf), [int(length.argmax())]
        for u in uniforms[1:]:
            last = chosen[-1]
            inner = (error @ error[last]) * (features @ features[last])
            squared = np.maximum(length + length[last] - 2 * inner, 0)
            squared[last] = 0
            nearest = np.minimum(nearest, squared)
            mass = np.cumsum(nearest)
            chosen.append(int(np.searchsorted(mass, u * mass[-1])))
        return np.array(chosen)

    def ours():
        taken = Gradients(error, features)
        return badge(taken, np.arange(units), uniforms, progress=False)

    what = f"BADGE, {picks} of {units:,} units, most of them sure, {CLASSES}x{dim} gradients"
    return compare(what, "all units for each pick", pass_for_pass, ours, equal, repeats=1)


def gradients(quick: bool) -> list[Comparison]:
    dim, picks = (16, 10) if quick else (256, 100)
    few, many = (300, 1000) if quick else (10_000, 95_200)
    rng = np.random.default_rng(0)
    uniforms = rng.random(picks)
    p = rng.dirichlet(np.full(CLASSES, 0.3), many)
    error = np.eye(CLASSES)[p.argmax(1)] - p
    features = rng.random((many, dim))

    def ours(units):
        factors = Gradients(error[:units], features[:units])
        return badge(factors, np.arange(units), uniforms, progress=False)

    def dense():
        g = (error[:few, :, None] * features[:few, None, :]).reshape(few, -1)
        chosen = [int((g**2).sum(axis=1).argmax())]
        nearest = np.full(few, np.inf)
        for u in uniforms[1:]:
            nearest = np.minimum(nearest, ((g - g[chosen[-1]]) ** 2).sum(axis=1))
            mass = np.cumsum(nearest)
            chosen.append(int(np.searchsorted(mass, u * mass[-1])))
        return np.array(chosen)

    def task(units):
        return f"BADGE, {picks} of {units:,} patches, {CLASSES}x{dim} gradients"

    gib = many * CLASSES * dim * error.itemsize / 2**30
    return [
        compare(task(few), "dense gradients", dense, partial(ours, few), equal, repeats=1),
        alone(task(many), f"dense gradients: {gib:.1f} GiB, not run", partial(ours, many)),
    ]
