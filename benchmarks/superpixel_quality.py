"""Superpixels on CamVid before a label is bought: best labels, borders, time and memory.

    python -m benchmarks.superpixel_quality CamVid --images 40

``seeds_published`` is asked for the ``--requests``, with the settings of the papers, and gives what
it gives; the other sources are asked for whatever gives as many regions as that. ``grid``, squares
that do not look at the image, is the floor. Every line is measured in a process of its own.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.data.camvid import CamVid
from alseg.labels.quality import best_labels, boundary_recall, class_iou, confusion
from alseg.regions.base import RegionSource
from alseg.regions.simple import Grid
from alseg.regions.superpixels import OpenCVSlic, PublishedSeeds, Seeds, Slic
from benchmarks.harness import peak

#: Pixels, along both axes, within which a border counts as found.
TOLERANCE = 2

Pictures = Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@dataclass(frozen=True)
class Row:
    """What was measured of one source; means over the images.

    Attributes:
        source: Its name.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        images: Their number.
        asked: Regions asked for in an image.
        regions: Regions obtained.
        pixels: Mean size of a region.
        miou: Mean IoU of the best labels the regions allow.
        accuracy: Share of pixels these labels have right.
        recall: Share of the borders in the ground truth that lie at a border of regions.
        cpu_s: Processor time for one image, median.
        peak_mib: Peak of resident memory above what was there before, in MiB; None where there is
            no telling.
    """

    source: str
    height: int
    width: int
    images: int
    asked: int
    regions: float
    pixels: float
    miou: float
    accuracy: float
    recall: float
    cpu_s: float
    peak_mib: int | None


def squares(count: int, height: int, width: int) -> Grid:
    rows = max(1, round((count * height / width) ** 0.5))
    return Grid(rows=rows, cols=max(1, round(count / rows)))


def sources(height: int, width: int) -> dict[str, Callable[[int], RegionSource]]:
    """How each source is asked for a number of regions."""
    return {
        "seeds_published": lambda count: PublishedSeeds(num_regions=count),
        "seeds": lambda count: Seeds(num_regions=count),
        "slic": lambda count: Slic(num_regions=count),
        "slic_opencv": lambda count: OpenCVSlic(num_regions=count),
        "grid": partial(squares, height=height, width=width),
    }


def present(regions: NDArray[np.int32]) -> int:
    """Regions that have a pixel."""
    return int(np.count_nonzero(np.bincount(regions.ravel())))


def request_for(name: str, target: float, pictures: Pictures) -> int:
    """What to ask a source for to obtain a number of regions, by trying on a few images."""
    make = sources(*pictures[0][1].shape)[name]
    some = [image for image, _ in pictures[:: max(1, len(pictures) // 8)]]
    asked = best = round(target)
    nearest = np.inf
    for _ in range(5):
        source = make(asked)
        ratio = float(np.mean([present(source(image, "")) for image in some])) / target
        if abs(np.log(ratio)) < nearest:
            best, nearest = asked, abs(np.log(ratio))
        if nearest < 0.01:
            break
        asked = max(1, round(asked / ratio))
    return best


def measure(name: str, asked: int, pictures: Pictures, num_classes: int) -> Row:
    """Measure one source on images and their ground truth."""
    height, width = pictures[0][1].shape
    make = sources(height, width)[name]
    make(10)(pictures[0][0][:64, :64], "")  # imports what it needs
    source = make(asked)

    def seconds() -> list[float]:
        times = []
        for image, _ in pictures:
            start = process_time()
            source(image, "")
            times.append(process_time() - start)
        return times

    times, mib = peak(seconds)
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    found = np.zeros(2, dtype=np.int64)
    obtained = []
    for image, truth in pictures:
        regions = source(image, "")
        obtained.append(present(regions))
        best = best_labels(regions, truth, num_classes, int(regions.max()) + 1)
        counts += confusion(best, truth, num_classes)
        found += boundary_recall(regions, truth, TOLERANCE)
    mean = float(np.mean(obtained))
    return Row(
        source=name,
        height=height,
        width=width,
        images=len(pictures),
        asked=asked,
        regions=round(mean, 1),
        pixels=round(height * width / mean, 1),
        miou=round(float(np.nanmean(class_iou(counts))), 4),
        accuracy=round(float(counts.trace() / counts.sum()), 4),
        recall=round(float(found[0] / found[1]), 4),
        cpu_s=round(float(np.median(times)), 3),
        peak_mib=None if mib is None else round(mib),
    )


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a fresh process, whose memory nothing else has used."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.superpixel_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", help="holds train, trainannot, val, valannot")
    parser.add_argument("--images", type=int, default=40, help="spread evenly over the pool")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="resize images to it")
    parser.add_argument("--requests", type=int, nargs="+", default=[200, 706, 3000])
    every = list(sources(1, 1))
    parser.add_argument("--sources", nargs="+", default=every, choices=every)
    parser.add_argument("--csv", type=Path, help="add the rows to this file")
    options = parser.parse_args()

    train = CamVid(options.root, size=options.size).splits().train
    chosen = np.linspace(0, len(train) - 1, min(options.images, len(train))).astype(int).tolist()
    pictures = [(train.image(index), train.truth(index)) for index in chosen]
    names = [field.name for field in fields(Row)]
    print("| " + " | ".join(names) + " |", "| --- " + "| ---: " * (len(names) - 1) + "|", sep="\n")
    for request in options.requests:
        published = alone(measure, "seeds_published", request, pictures, len(train.classes))
        for name in options.sources:
            row = published
            if name != "seeds_published":
                asked = alone(request_for, name, published.regions, pictures)
                row = alone(measure, name, asked, pictures, len(train.classes))
            print(
                "| " + " | ".join(str(value) for value in asdict(row).values()) + " |", flush=True
            )
            if options.csv:
                new = not options.csv.exists()
                with options.csv.open("a", newline="") as file:
                    writer = csv.DictWriter(file, names, lineterminator="\n")
                    if new:
                        writer.writeheader()
                    writer.writerow(asdict(row))


if __name__ == "__main__":
    main()
