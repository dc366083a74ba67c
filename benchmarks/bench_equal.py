"""EquAL: the patches of one round, and the mean entropy of every patch of an image."""

from functools import partial

import numpy as np
import torch

from alseg.core.images import VOID
from alseg.methods.equal.acquisition import patch_means, select_patches
from benchmarks.harness import Comparison, compare, equal, table, within

ROWS, COLS = 4, 8
PATCHES = ROWS * COLS
WANTED = 5


def main(quick: bool) -> None:
    print(table([*selection(quick), *means(quick)]))


def selection(quick: bool) -> list[Comparison]:
    """One round late in a run: most of the best patches are labelled, and scores are tied."""
    images = 50 if quick else 2975
    rng = np.random.default_rng(0)
    score = rng.random((images, PATCHES), dtype=np.float32).round(3)
    majority = rng.integers(0, 20, (images, PATCHES)).astype(np.uint8)
    majority[majority == 19] = VOID
    labelled = (score > 0.9) & (rng.random(score.shape) < 0.99)
    image, patch = np.divmod(np.arange(score.size), PATCHES)

    def sort_and_walk():
        ranked = sorted(zip(score.ravel().tolist(), range(score.size), strict=True), reverse=True)
        picked = []
        for _, number in ranked:
            if len(picked) == WANTED:
                break
            where = divmod(number, PATCHES)
            if majority[where] == VOID or labelled[where]:
                continue
            picked.append(number)
        return np.array(picked)

    def ours():
        may_ask = (majority != VOID) & ~labelled
        return select_patches(score.ravel(), image, patch, may_ask.ravel(), WANTED)

    task = f"the best {WANTED} of {score.size:,} patches, {labelled.sum():,} of them labelled"
    return [compare(task, "sorted list of pairs, walked down", sort_and_walk, ours, equal)]


def means(quick: bool) -> list[Comparison]:
    height, width, repeats = (64, 128, 7) if quick else (256, 512, 101)
    h, w = height // ROWS, width // COLS
    values = torch.rand(1, height, width, generator=torch.Generator().manual_seed(0))

    def loop():
        mean = torch.empty(1, PATCHES)
        for row in range(ROWS):
            for col in range(COLS):
                patch = values[:, row * h : (row + 1) * h, col * w : (col + 1) * w]
                mean[:, row * COLS + col] = patch.mean(dim=(1, 2))
        return mean

    task = f"mean of a {height}x{width} map in each of {ROWS}x{COLS} patches"
    ours = partial(patch_means, values, ROWS, COLS)
    return [compare(task, "loop over patches", loop, ours, within(5e-6), repeats)]
