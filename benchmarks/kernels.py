"""What the kernels of a GPU have to move and to read, and how long they take where there is one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from alseg.acquisition.fused import Grid, committee_sums, grid_scores, grid_sums
from benchmarks.bench_mulquery import wavy_regions

CLASSES, PASSES = 19, 10
#: An H100: bytes a second from its memory, numbers a second from the caches of its multiprocessors
#: (132 of them, 32 numbers per clock of 1.7 GHz).
MEMORY, CACHE = 3.35e12, 132 * 32 * 1.7e9


@dataclass(frozen=True)
class Case:
    """What a method asks of a kernel for one image.

    Attributes:
        name: The method, and what comes out.
        run: With the kernel or without it.
        images: Grids of logits that are read.
        readings: How often every class of a pixel is looked at.
        maps: Maps of full size that are read or written, four bytes a pixel.
    """

    name: str
    run: Callable[[bool], Any]
    images: int
    readings: int
    maps: int


def cases(height: int, width: int, device: str) -> list[Case]:
    size = (height, width)
    generator = torch.Generator().manual_seed(0)
    shape = (PASSES, CLASSES, height // 4, width // 4)
    passes = Grid(3 * torch.randn(shape, generator=generator).to(device), size, size)
    one, two = (passes._replace(logits=passes.logits[:n]) for n in (1, 2))
    regions = wavy_regions(height, width, 32)[None].int().to(device)
    count = int(regions.max()) + 1

    def mulquery(kernel: bool) -> Any:
        return grid_sums(one, "bvsb", regions, count, 0.1, True, True, kernel)

    def classes(kernel: bool) -> Any:
        return grid_sums(one, "bvsb", regions, count, by_class=True, fused=kernel)

    def entropy_of_regions(kernel: bool) -> Any:
        return grid_sums(one, "entropy", regions, count, fused=kernel)

    def bald(kernel: bool) -> Any:
        return committee_sums(passes, "bald", regions[0], count, kernel)

    return [
        Case("entropy, a map", lambda k: grid_scores(one, ["entropy"], fused=k), 1, 1, 1),
        Case("entropy of regions", entropy_of_regions, 1, 1, 1),
        Case("mulquery: regions, classes, prior", mulquery, 1, 2, 1),
        Case("classbal: regions, classes", classes, 1, 1, 1),
        Case("equal: maps of two views", lambda k: grid_scores(two, ["entropy"], fused=k), 2, 1, 2),
        Case(f"bald, {PASSES} passes, regions", bald, PASSES, 2, 1),
    ]


def on_a_gpu(quick: bool) -> str:
    """One row for each case."""
    height, width = (64, 128) if quick else (1024, 2048)
    there = torch.cuda.is_available()
    pixels, rows = height * width, []
    for case in cases(height, width, "cuda" if there else "cpu"):
        moved = 4 * (CLASSES * case.images * pixels // 16 + case.maps * pixels)
        read = 4 * CLASSES * case.images * case.readings * pixels
        limits = f"{moved / 1e6:.0f} MB, {1e6 * moved / MEMORY:.0f} us"
        limits += f" | {read / 1e6:.0f} M, {1e6 * read / CACHE:.0f} us"
        times = (
            " | ".join(f"{milliseconds(case, k):.3f} ms" for k in (True, False)) if there else ""
        )
        rows.append(f"| {case.name} | {limits} | {times or 'not measured | not measured'} |")
    head = "| one image | memory moved, limit | numbers read, limit | kernel | plain torch |"
    where = f"Measured on {torch.cuda.get_device_name()}." if there else "There is no GPU here."
    return "\n".join(
        [
            f"\nScores of {CLASSES}x{height}x{width} from a grid of a quarter; the limits are those"
            f" of an H100, computed and not measured. {where}\n",
            head,
            "| --- | ---: | ---: | ---: | ---: |",
            *rows,
        ]
    )


def milliseconds(case: Case, kernel: bool) -> float:
    """Mean of 20 runs on a GPU after 10 that are not counted."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for turn in range(30):
        if turn == 10:
            start.record()
        case.run(kernel)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 20
