"""Superpixels of one size by several sources; what labels they allow: `superpixel_quality`."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.regions.superpixels import OpenCVSlic, PublishedSeeds, Seeds, Slic
from benchmarks.harness import Comparison, compare, table


def main(quick: bool) -> None:
    """Print the table."""
    print(table(superpixels(quick)))


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Surfaces of several colours with noise, which need about as many bins as a photograph."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / a) + np.sin(y / b) for a, b in ((31, 47), (59, 23), (41, 37))]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return np.clip(127 + 50 * np.stack(waves, axis=2) + noise, 0, 255).astype(np.uint8)


def counted(expected: NDArray[Any], got: NDArray[Any]) -> str:
    """How many regions there are; they are other ones."""
    assert expected.shape == got.shape
    return f"{len(np.unique(expected))} and {len(np.unique(got))} regions"


def superpixels(quick: bool) -> list[Comparison]:
    """The published sources beside those that need less."""
    height, width, count = (64, 128, 32) if quick else (1024, 2048, 8192)
    image = picture(height, width)
    cases = (
        (Slic(num_regions=count), "scikit-image", OpenCVSlic(num_regions=count), "slic_opencv"),
        (PublishedSeeds(num_regions=count), "seeds_published", Seeds(num_regions=count), "seeds"),
    )
    for slow, _, fast, _ in cases:
        for source in (slow, fast):  # imports what it needs
            type(source)(num_regions=32)(image[:64, :128], "")
    return [
        compare(
            f"about {count:,} superpixels of {height}x{width}, regions={name}",
            other,
            partial(slow, image, ""),
            partial(fast, image, ""),
            counted,
            0,
        )
        for slow, other, fast, name in cases
    ]
