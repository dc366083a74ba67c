"""What is known of a pool: sizes, commits, choices and targets, and how they grow with it."""

import os
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from alseg.acquisition.selection import order
from alseg.active.choose import query_from_scores, random_query
from alseg.active.context import Asking
from alseg.active.scoring import UnitScorer
from alseg.active.shards import ShardWriter, read_shards
from alseg.core.images import VOID, ClassTable, Sceneless
from alseg.core.masks import MaskTable, table_of_ids
from alseg.data.checks import Problems, check_images
from alseg.data.files import ImageFile
from alseg.data.reading.known import KnownFiles
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import PIXELS, Answers, Query
from alseg.regions.base import map_version
from alseg.regions.maps import RegionMaps, _key, extract_regions
from benchmarks.harness import Comparison, compare, equal, peak, table

CLASSES = 19


def main(quick: bool) -> None:
    """Print the tables."""
    print(table([*opening(quick), *targets(quick), *is_open(quick), *choosing(quick)]))
    print(scaling(quick))


class Named(Sceneless):
    """Images that are nothing but a name and a size."""

    classes = ClassTable(tuple("abc"), np.zeros((3, 3), np.uint8))
    has_truth = False

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self.names = [f"{index:07d}" for index in range(count)]
        self._size = size

    def __len__(self) -> int:
        return len(self.names)

    def size(self, index: int) -> tuple[int, int]:
        return self._size

    def image(self, index: int) -> NDArray[np.uint8]:
        return np.zeros((*self._size, 3), np.uint8)

    def truth(self, index: int) -> NDArray[np.uint8]:
        raise NotImplementedError

    def fingerprint(self, index: int) -> str:
        return self.names[index]


class Wavy:
    """Regions with borders that are no straight lines, as superpixels have."""

    unit = "region"

    def __init__(self, side: int) -> None:
        self.side = side

    def parameters(self) -> dict[str, Any]:
        return {"name": "wavy", "side": self.side}

    def check(self, images: Any) -> None:
        pass

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        return wavy(image.shape[0], image.shape[1], self.side)


def wavy(height: int, width: int, side: int) -> NDArray[np.int32]:
    y, x = np.mgrid[:height, :width]
    tall, wide = height // side, width // side
    line = np.clip((y + side / 4 * np.sin(x / side) + 2 * np.sin(x / 3)) // side, 0, tall - 1)
    column = np.clip((x + side / 4 * np.sin(y / 20) + 2 * np.sin(y / 2)) // side, 0, wide - 1)
    return (line * wide + column).astype(np.int32)


def pool_of(maps: RegionMaps, size: tuple[int, int], amount: float = 1000.0) -> LabelPool:
    sizes = np.tile(np.array([size]), (len(maps), 1))
    return LabelPool(sizes, CLASSES, Budget(amount, axis="units", rule="within"), [maps])


def answers_to(rng: Any, maps: RegionMaps, round: int, count: int) -> Answers:
    """Answers about units that no other round asks: each has every tenth of them."""
    regions = int(maps.num_regions[0])
    every = rng.choice(len(maps) * (regions // 10), count, replace=False)
    image, unit = np.divmod(every, regions // 10)
    label = rng.integers(0, CLASSES, count).astype(np.uint8)
    return Answers(
        round, "region", "dominant", maps.version, CLASSES, image, 10 * unit + round, label=label
    )


def opening(quick: bool) -> list[Comparison]:
    """A round of answers is committed: the pixels of every unit are its price."""
    size, side, count = ((64, 128), 8, 20) if quick else ((1024, 2048), 32, 3000)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        images = Named(count, size)
        open_maps = partial(extract_regions, Wavy(side), images, Path(folder), 0, progress=False)
        link_maps(images, Path(folder), Wavy(side))
        maps = open_maps()
        answers = answers_to(rng, maps, 0, count)

        def from_maps() -> NDArray[np.int64]:
            pixels = np.zeros(len(answers), dtype=np.int64)
            for index in range(count):
                counted = np.bincount(maps[index].ravel())
                rows = answers.image == index
                pixels[rows] = counted[answers.unit[rows]]
            return pixels

        def beside_them() -> NDArray[np.int64]:
            pool = pool_of(open_maps(), size)
            pool.commit(answers)
            return pool.unit_pixels(answers)

        task = f"open {count} maps of {size[0]}x{size[1]}, commit {len(answers)} answers"
        return [compare(task, "count the pixels of every map", from_maps, beside_them, equal, 1)]


def targets(quick: bool) -> list[Comparison]:
    """Targets of one image after five rounds, and with many masks."""
    size, side = ((64, 128), 8) if quick else ((1024, 2048), 32)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        maps = extract_regions(Wavy(side), Named(1, size), Path(folder), 0, progress=False)
        pool, masked = pool_of(maps, size), pool_of(maps, size)
        for round in range(5):
            pool.commit(answers_to(rng, maps, round, 6 if quick else 200))
        regions, count = maps[0], 12 if quick else 512
        asked = rng.choice(int(maps.num_regions[0]), count, replace=False)
        truth = rng.integers(0, CLASSES, size).astype(np.uint8)
        masks = tuple(truth[regions == unit] for unit in asked)
        none = np.zeros(count, dtype=np.int64)
        masked.commit(Answers(0, "region", "mask", maps.version, CLASSES, none, asked, masks=masks))

        def by_table() -> NDArray[np.uint8]:
            target = np.full(size, VOID, np.uint8)
            for answers, rows in pool.answers(0):
                labels = np.full(int(maps.num_regions[0]), VOID, np.uint8)
                labels[answers.unit[rows]] = answers.label[rows]
                painted = labels[maps[0]]
                target[painted != VOID] = painted[painted != VOID]
            return target

        def by_masks() -> NDArray[np.uint8]:
            target = np.full(size, VOID, np.uint8)
            ids = maps[0]
            for unit, mask in zip(asked, masks, strict=True):
                target[ids == unit] = mask
            return target

        text = f"target of {size[0]}x{size[1]}"
        return [
            compare(
                f"{text} after 5 rounds", "a table per round", by_table,
                partial(pool.render, 0), equal, 5,
            ),
            compare(
                f"{text} from {count} masks", "a comparison per mask", by_masks,
                partial(masked.render, 0), equal, 3,
            ),
        ]  # fmt: skip


def is_open(quick: bool) -> list[Comparison]:
    """Which of some pixels were not asked before, among very many answers."""
    images, each, some = (10, 200, 500) if quick else (1000, 10_000, 200_000)
    side = 1024
    rng = np.random.default_rng(0)
    pool = LabelPool(np.full((images, 2), side), CLASSES, Budget(np.inf, axis="units"), [])
    image = np.repeat(np.arange(images), each)
    unit = np.concatenate([rng.choice(side * side, each, replace=False) for _ in range(images)])
    label = np.zeros(len(unit), np.uint8)
    pool.commit(Answers(0, "pixel", "class", PIXELS, CLASSES, image, unit, label=label))
    asked = rng.integers(images, size=some), rng.integers(side * side, size=some)
    known = image * side**2 + unit

    def by_isin() -> NDArray[np.bool_]:
        return np.asarray(~np.isin(asked[0] * side**2 + asked[1], known))

    task = f"which of {some:,} pixels are open, {len(unit):,} answered"
    return [compare(task, "numpy isin", by_isin, partial(pool.is_open, PIXELS, *asked), equal, 3)]


class Sized:
    """Maps of which nothing is known but the sizes of their regions."""

    version = "sized"

    def __init__(self, images: int, regions: int) -> None:
        self.num_regions = np.full(images, regions)
        self._sizes = np.arange(regions) % 7 + 1

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        raise NotImplementedError

    def region_sizes(self, index: int) -> NDArray[np.int64]:
        return self._sizes


def scored(images: int, regions: int, amount: int) -> tuple[Asking, Any]:
    """A pool and the table of a scoring pass, on the disk as the pass leaves it."""
    budget = Budget(amount, axis="units", rule="within")
    pool = LabelPool(np.full((images, 2), 1024), CLASSES, budget, [Sized(images, regions)])
    rng = np.random.default_rng(0)
    folder = tempfile.TemporaryDirectory()
    rank = Path(folder.name) / "rank_0"
    shard = ShardWriter(rank)
    unit = torch.arange(regions, dtype=torch.int32)
    for index in range(images):
        score = torch.from_numpy(rng.random(regions, dtype=np.float32))
        columns = {"image": torch.full_like(unit, index), "unit": unit, "score": score}
        shard.append({"units": columns})
    shard.close()

    def columns() -> tuple[NDArray[Any], ...]:
        table = read_shards([rank])["units"]
        return tuple(table[name] for name in ("image", "unit", "score"))

    return Asking(0, 0, pool, "sized", "region"), (columns, folder)


def choosing(quick: bool) -> list[Comparison]:
    """The best units that a budget pays for, from a table on the disk, as a round chooses them."""
    images, regions, amount = (20, 64, 50) if quick else (3000, 2048, 100_000)
    asking, (columns, folder) = scored(images, regions, amount)

    def sort_all() -> tuple[NDArray[Any], ...]:
        image, unit, score = (np.array(column) for column in columns())
        rows = order(score, image, unit)[:amount]
        return image[rows], unit[rows]

    def in_parts() -> tuple[NDArray[Any], ...]:
        UnitScorer.of(asking)
        query = query_from_scores(asking, "dominant", *columns())
        return query.image, query.unit

    task = f"choose {amount:,} of {images * regions:,} regions"
    with folder:
        return [compare(task, "sort the whole table", sort_all, in_parts, equal, 3)]


def scaling(quick: bool) -> str:
    """Time and memory of the parts of a round, by the size of the pool."""
    counts = (50, 100) if quick else (1_000, 10_000, 100_000)
    rows: dict[str, list[tuple[float, float]]] = {}
    for count in counts:
        for name, (seconds, mib) in steps(count).items():
            rows.setdefault(name, []).append((seconds, mib))
    head = " | ".join(f"{count:,} images" for count in counts)
    lines = ["", f"| time and peak memory | {head} | slope of time |", "| --- |" + 4 * " --- |"]
    lines[2] = "| --- |" + (len(counts) + 1) * " ---: |"
    for name, cells in rows.items():
        shown = " | ".join(f"{1e3 * s:.0f} ms, {m:.0f} MiB" for s, m in cells)
        (first, _), (last, _) = cells[0], cells[-1]
        slope = np.log(last / first) / np.log(counts[-1] / counts[0])
        lines.append(f"| {name} | {shown} | {slope:.2f} |")
    return "\n".join(lines)


def steps(count: int) -> dict[str, tuple[float, float]]:
    """Seconds and MiB of opening, committing, choosing and rendering in a pool of small images."""
    size, side = (32, 64), 4
    found: dict[str, tuple[float, float]] = {}

    def measured(name: str, way: Any) -> Any:
        def timed() -> tuple[Any, float]:
            start = perf_counter()
            result = way()
            return result, perf_counter() - start

        (result, seconds), mib = peak(timed)
        found[name] = seconds, mib or 0.0
        return result

    with tempfile.TemporaryDirectory() as folder:
        images = Named(count, size)
        open_maps = partial(extract_regions, Wavy(side), images, Path(folder), 0, progress=False)
        link_maps(images, Path(folder), Wavy(side))
        open_maps()
        maps = measured("open the maps again", open_maps)
        pool = pool_of(maps, size, amount=5 * count)
        rng = np.random.default_rng(0)
        measured(
            "commit 5 answers an image", partial(pool.commit, answers_to(rng, maps, 0, 5 * count))
        )
        asking = Asking(1, 0, pool, maps.version, "region")
        query: Query = measured(
            "choose 5 of 128 regions an image", partial(random_query, asking, "dominant")
        )
        label = np.zeros(len(query), np.uint8)
        pool.commit(
            Answers(
                1, "region", "dominant", maps.version, CLASSES, query.image, query.unit,
                label=label,
            )
        )  # fmt: skip
        measured(
            "render 200 targets", lambda: [pool.render(i).sum() for i in range(min(200, count))]
        )
        measured("which images are open", partial(pool.open_images, maps.version))
        files, masks, cache = known_files(Path(folder) / "files", count, size)
        measured(
            "look at known files again",
            lambda: check_images(
                *(files, masks, Problems("files")), progress=False, known=KnownFiles(cache)
            ),
        )
    return found


def known_files(
    folder: Path, count: int, size: tuple[int, int]
) -> tuple[list[ImageFile], MaskTable, Path]:
    """Images of which is known that they are fine: links to a few, for one file is one decoding."""
    folder.mkdir()
    each, masks = 50_000, table_of_ids(("a", "b", "c"))  # names a file may have
    files = [ImageFile(f"{i:07d}", folder / f"{i:07d}.png", None) for i in range(count)]
    for start in range(0, count, each):
        Image.new("RGB", (size[1], size[0])).save(files[start].image)
        for file in files[start + 1 : start + each]:
            os.link(files[start].image, file.image)
    known = KnownFiles(folder)
    check_images(files[:1], masks, Problems("files"), progress=False, known=known)
    ((_, found),) = known._folders.items()
    known = KnownFiles(folder)
    for file in files:
        for fact, column in found.facts.items():
            known.put(file.image, fact, str(column[0]))
    known.save()
    return files, masks, folder


def link_maps(images: Named, cache: Path, source: Wavy) -> None:
    """Put one map in the place of all, which are equal: to cut them is not what is measured."""
    first = extract_regions(source, Named(1, images.size(0)), cache, 0, progress=False)
    made = first._paths[0]  # by links that are no names of one file: those are limited
    for name in images.names[1:]:
        key = _key(source.parameters(), name, name)
        folder = cache / map_version(source.parameters()) / key[:2]
        folder.mkdir(exist_ok=True)
        os.symlink(made, folder / f"{key}.npz")
