"""Region maps of a whole image set: made once, in parallel, and kept on disk.

A cached map lies in ``<cache>/<version>/<xx>/<key>.npz``, where the key names the image's content,
its name and the parameters of the source. Entries are independent of the image set, so train and
validation images, or two runs at once, share them.
"""

import hashlib
import io
import json
import logging
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import ImageSet, shown
from alseg.core.progress import progress_bar
from alseg.regions.base import RegionSource, listed, map_version

log = logging.getLogger(__name__)

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
    ) -> None:
        self.version = version
        self.num_regions = num_regions
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
        index = range(len(self))[index]
        path = self._paths[index]
        regions = _read_map(path)
        if regions is None:
            log.warning("Making the region map of %s again.", self._images.names[index])
            _cut(self._source, self._images, index, path)
            regions = _read_map(path)
        if regions is None:
            raise OSError(f"the region map {path} was written but cannot be read back")
        return regions


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
    paths = [
        _entry(cache / version, parameters, images.fingerprint(index), name)
        for index, name in enumerate(images.names)
    ]
    found = [_read_count(path) for path in paths]
    mine = range(share[0], len(images), share[1])
    jobs = [(index, paths[index]) for index in mine if found[index] is None]
    counts = np.array([count or 0 for count in found], dtype=np.int64)
    if jobs:
        source.check(images)
        if workers is None:
            workers = min(_cpus(), _MOST_WORKERS)
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
    return RegionMaps(version, counts, source, images, paths)


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # what a cluster's scheduler lets this process use
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _entry(folder: Path, parameters: dict[str, Any], fingerprint: str, name: str) -> Path:
    # the name too: a source may look at it, as that of files does
    text = json.dumps([parameters, fingerprint, name], sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    return folder / key[:2] / f"{key}.npz"


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
                regions = source(image, images.names[index])
            except Exception as error:
                error.add_note(f"while cutting image {images.names[index]!r} into regions")
                raise
            if regions.shape != image.shape[:2] or regions.dtype != np.int32 or regions.min() < -1:
                raise TypeError(f"{source} must return ids >= -1 of the image's size as int32")
            count = int(regions.max()) + 1
            _write(path, regions, count)
    return count


def _write(path: Path, regions: NDArray[np.int32], count: int) -> None:
    # zlib shrinks a map as well as PNG does and unpacks twice as fast; each member has a CRC
    narrow = (regions + 1).astype(np.min_scalar_type(count))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, num_regions=np.int64(count), ids=narrow)
    write_atomic(path, buffer.getvalue())


def _read_count(path: Path) -> int | None:
    """Number of regions of a cached map, without unpacking it; None if there is no such map."""
    count = _read(path, "num_regions")
    return None if count is None else int(count)


def _read_map(path: Path) -> NDArray[np.int32] | None:
    ids = _read(path, "ids")
    if ids is None:
        return None
    regions: NDArray[np.int32] = ids.astype(np.int32)
    regions -= 1
    return regions


def _read(path: Path, member: str) -> NDArray[Any] | None:
    """One array of a cached map; None if there is no such file, or only a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[member])
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
