"""Region maps of a whole image set: made once, in parallel, and kept on disk.

A cached map lies in ``<cache>/<version>/<xx>/<key>.npz``, where the key names the image's content,
its name and the parameters of the source. Entries are independent of the image set, so train and
validation images, or two runs at once, share them. The sizes of all regions of a set lie beside
them, see `alseg.regions.sizes`.
"""

import hashlib
import io
import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import ImageSet, shown, truth_fingerprint
from alseg.core.processes import usable_cores
from alseg.core.progress import progress_bar
from alseg.regions.base import RegionSource, listed, map_version, reads_truth
from alseg.regions.runs import Runs
from alseg.regions.sizes import SizeTable, read_table, stamps_of, table_path, write_table

log = logging.getLogger(__name__)

Found = TypeVar("Found")

#: Processes at most, unless the caller says otherwise: superpixels can take gigabytes in each.
_MOST_WORKERS = 16
#: Seconds of work below which starting processes does not pay.
_WORTH_PROCESSES = 5.0


class RegionMaps:
    """The region maps of one image set, read from the cache one at a time.

    Can be pickled and used from the workers of a data loader. A map that is gone or damaged is made
    again when it is asked for.

    Attributes:
        version: Which maps these are, such as ``seeds-3f2a91c0``: decided by the parameters of the
            source alone.
        num_regions: Largest id + 1 of each map, (N,), int64; 0 for a map without regions.
    """

    def __init__(
        self,
        version: str,
        num_regions: NDArray[np.int64],
        source: RegionSource,
        images: ImageSet,
        paths: Sequence[Path],
        sizes: SizeTable | None = None,
    ) -> None:
        self.version = version
        self.num_regions = num_regions
        self._sizes = sizes
        self._source = source
        self._images = images
        self._paths = tuple(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __repr__(self) -> str:
        count = int(self.num_regions.sum())
        return f"RegionMaps({self.version}, {len(self.num_regions)} images, {count} region ids)"

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Region id of each pixel of an image, (H, W), int32: 0..R-1, or -1 in no region."""
        return self.runs(index).dense()

    def runs(self, index: int) -> Runs:
        """The map of an image as runs of equal ids."""
        index = range(len(self))[index]
        path = self._paths[index]
        runs = _read_runs(path)
        if runs is None:
            log.warning("Making the region map of %s again.", self._images.names[index])
            _cut(self._source, self._images, index, path)
            runs = _read_runs(path)
        if runs is None:
            raise OSError(f"the region map {path} was written but cannot be read back")
        return runs

    def region_sizes(self, index: int) -> NDArray[np.int64]:
        """Pixels of every region of an image, (R,), int64; 0 for ids without a pixel."""
        if self._sizes is not None:
            return self._sizes[index]
        return self.runs(index).sizes(int(self.num_regions[index]))


def extract_regions(
    source: RegionSource,
    images: ImageSet,
    cache: Path,
    workers: int | None = None,
    progress: bool = True,
    share: tuple[int, int] = (0, 1),
) -> RegionMaps:
    """Cut all images into regions, or find the maps that were made before.

    Several runs may do this at the same time and with the same cache: each map is made by one of
    them. What was made before an interruption is kept.

    Args:
        source: How to cut.
        images: The images; they must be picklable if there are workers.
        cache: Folder of all maps; it is made where missing.
        workers: Processes that cut; by default one per CPU and at most 16. With 0 or 1, or where
            there is little to do, this process does the work.
        progress: Show a progress bar.
        share: Index i and number n of shares: of images i, i + n, i + 2n, ... maps are made, the
            others are for other processes. All, by default.

    Returns:
        The maps, in the order of the images. Those of other shares may not be there yet.

    Raises:
        UserError: If images cannot be cut (all of them are named), or a worker process died.
    """
    parameters = source.parameters()
    version = map_version(parameters)
    keys = [
        _key(parameters, _content(source, images, index), name)
        for index, name in enumerate(images.names)
    ]
    paths = [cache / version / key[:2] / f"{key}.npz" for key in keys]
    table = read_table(table_path(cache / version, keys))
    known = _unchanged(table, paths)
    counts = np.zeros(len(paths), dtype=np.int64) if table is None else table.counts.copy()
    jobs = []
    mine = range(share[0], len(images), share[1])
    for index in np.flatnonzero(~known).tolist():
        if index not in mine:
            continue
        count = _read_count(paths[index])
        if count is None:
            jobs.append((index, paths[index]))
        else:
            counts[index] = count
    if jobs:
        source.check(images)
        if workers is None:
            workers = min(usable_cores(), _MOST_WORKERS)
        problems: list[tuple[int, str]] = []
        outcomes = _outcomes(source, images, jobs, workers)
        bar = progress_bar(
            outcomes, f"regions {version}", total=len(jobs), unit="image", hidden=not progress
        )
        for index, outcome in bar:
            if isinstance(outcome, UserError):
                problems.append((index, str(outcome)))
            else:
                counts[index] = outcome
        if problems:
            problems.sort()
            texts = [f"{images.names[index]}: {text.rstrip('.')}" for index, text in problems]
            raise UserError(
                f"{len(texts)} of {len(images)} images cannot be cut into regions: {listed(texts)}."
            )
    log.info("Region maps %s: %d made, %d cached.", version, len(jobs), len(mine) - len(jobs))
    counts.flags.writeable = False
    maps = RegionMaps(version, counts, source, images, paths)
    if len(mine) == len(images) and (table is None or not known.all()):
        stamps = stamps_of(paths)  # before the maps are read: a change in between is seen next time

        def sizes() -> Iterator[NDArray[np.int64]]:
            hidden = not progress or len(paths) < 1000
            every = range(len(paths))
            for index in progress_bar(every, f"sizes {version}", unit="image", hidden=hidden):
                kept = table if known[index] else None
                yield maps.region_sizes(index) if kept is None else kept[index]

        table = write_table(table_path(cache / version, keys), sizes(), stamps)
    return RegionMaps(version, counts, source, images, paths, table)


def _unchanged(table: SizeTable | None, paths: Sequence[Path]) -> NDArray[np.bool_]:
    """Which maps are the files whose sizes are known, (N,), bool."""
    if table is None:
        return np.zeros(len(paths), dtype=bool)
    stamps = stamps_of(paths)
    return np.asarray((stamps == table.stamps).all(axis=1) & (stamps >= 0).all(axis=1))


def _content(source: RegionSource, images: ImageSet, index: int) -> str:
    """What the map of an image depends on: its picture, and for some sources its labels."""
    content = images.fingerprint(index)
    if reads_truth(source):
        content += truth_fingerprint(images, index)
    return content


def _key(parameters: dict[str, Any], fingerprint: str, name: str) -> str:
    """Name of a map."""
    # the name of the image too: a source may look at it, as that of files does
    text = json.dumps([parameters, fingerprint, name], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _outcomes(
    source: RegionSource, images: ImageSet, jobs: Sequence[tuple[int, Path]], workers: int
) -> Iterator[tuple[int, int | UserError]]:
    """Do the jobs and yield image index and number of regions, or what is wrong, in any order."""
    started = time.monotonic()
    first, rest = jobs[0], jobs[1:]
    yield first[0], _attempt(source, images, *first)
    remaining = (time.monotonic() - started) * len(rest)  # seconds, if all are like the first
    if workers <= 1 or remaining < _WORTH_PROCESSES:
        for job in rest:
            yield job[0], _attempt(source, images, *job)
        return
    # not fork: the parent may hold threads and locks of torch
    pool = ProcessPoolExecutor(
        min(workers, len(rest)), get_context("spawn"), _start_worker, (source, images)
    )
    try:
        futures = {pool.submit(_attempt_in_worker, *job): job[0] for job in rest}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that cuts images into regions died; if memory ran out use fewer workers, "
            "and in a script without `if __name__ == '__main__':`, or with classes of your own in "
            "a notebook, use workers=0. Maps made so far are kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: tuple[RegionSource, ImageSet] | None = None  # set in worker processes only


def _start_worker(source: RegionSource, images: ImageSet) -> None:
    global _worker
    _worker = source, images


def _attempt_in_worker(index: int, path: Path) -> int | UserError:
    if _worker is None:
        raise RuntimeError("this is not a worker process")
    return _attempt(*_worker, index, path)


def _attempt(source: RegionSource, images: ImageSet, index: int, path: Path) -> int | UserError:
    try:
        return _cut(source, images, index, path)
    except UserError as error:
        return error


def _cut(source: RegionSource, images: ImageSet, index: int, path: Path) -> int:
    """Make the map of an image unless another process has, and return its number of regions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):  # 256 locks, however many images
        count = _read_count(path)
        if count is None:
            image = shown(images.image(index))
            try:
                cut: Any = source  # by labels, where it has a method for that
                regions = (
                    cut.of_truth(images.truth(index))
                    if reads_truth(source)
                    else source(image, images.names[index])
                )
            except Exception as error:
                error.add_note(f"while cutting image {images.names[index]!r} into regions")
                raise
            if regions.shape != image.shape[:2] or regions.dtype != np.int32 or regions.min() < -1:
                raise TypeError(f"{source} must return ids >= -1 of the image's size as int32")
            count = int(regions.max()) + 1
            write_runs(path, Runs.of(regions), count)
    return count


def write_runs(path: Path, runs: Runs, count: int) -> None:
    """Write a map with so many region ids: the whole file or none."""
    arrays = {
        "num_regions": np.int64(count),
        "shape": np.array(runs.shape, dtype=np.int64),
        "run_ids": (runs.ids + 1).astype(np.min_scalar_type(count)),
        "run_lengths": runs.lengths,
    }
    buffer = io.BytesIO()  # each member has a CRC
    np.savez_compressed(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())


def _read_count(path: Path) -> int | None:
    """Number of regions of a cached map, without unpacking it; None if there is no such map."""
    found = _read(path, lambda members: members["num_regions"])
    return None if found is None else int(found)


def _read_runs(path: Path) -> Runs | None:
    """A cached map; None if there is no such map."""
    return _read(path, unpack_runs)


def unpack_runs(members: Mapping[str, NDArray[Any]]) -> Runs:
    """The map in the members of a file that `write_runs` wrote."""
    if "ids" in members:  # maps of release 0.1 are images of ids
        return Runs.of(members["ids"].astype(np.int32) - np.int32(1))
    height, width = members["shape"].tolist()
    ids = members["run_ids"].astype(np.int32) - np.int32(1)
    return Runs(ids, members["run_lengths"], (height, width))


def _read(path: Path, what: Callable[[Mapping[str, NDArray[Any]]], Found]) -> Found | None:
    """Something of a cached map; None if there is no such file, or only a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return what(file)
    except FileNotFoundError:
        return None
    except (
        BadZipFile,
        zlib.error,
        ValueError,
        KeyError,
        EOFError,
    ) as error:  # what damaged files raise
        log.warning("The cached region map %s is damaged (%s); it is made again.", path, error)
        path.unlink(missing_ok=True)
        return None
