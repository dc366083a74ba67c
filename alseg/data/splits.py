"""What all data sets of files end with: every file is checked, and images get their masks."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import DataSplits
from alseg.core.masks import MaskTable
from alseg.data.checks import Problems, check_classes, check_images
from alseg.data.decoded import DecodedImages
from alseg.data.files import KEEP_SIZE, NO_SCENES, FileImages, ImageFile, Resize, SceneTable
from alseg.data.find import find_twice
from alseg.data.masks import class_table
from alseg.data.reading.images import AS_RGB, Reading
from alseg.data.reading.known import KnownFiles

log = logging.getLogger(__name__)


def file_splits(
    train: Sequence[ImageFile],
    val: Sequence[ImageFile],
    masks: MaskTable,
    problems: Problems,
    *,
    colors: Mapping[str, Sequence[int]] | NDArray[np.uint8] | None = None,
    resize: Resize = KEEP_SIZE,
    any_loaded_size: bool = False,
    scenes: SceneTable = NO_SCENES,
    reading: Reading = AS_RGB,
    progress: bool = True,
    cache: Path | None = None,
    decoded: str | None = None,
    choice: Sequence[ImageFile] = (),
) -> DataSplits:
    """Check the files of both splits, say which classes occur in no mask, and open them.

    Args:
        train: Images of the pool.
        val: Images that are evaluated on.
        masks: How masks are read.
        problems: What is known to be wrong; raised with what is found here.
        colors: Display colour of each class, in the order of the ids; None for those of the masks.
        resize: The size images are loaded at.
        any_loaded_size: Masks may have the size that images are loaded at, besides their own.
        scenes: Classes of whole images.
        reading: How images are read; percentiles become limits by those of the pool.
        progress: Show a progress bar.
        cache: Folder that remembers checked files; see `alseg.data.checks.check_images`.
        decoded: Folder that keeps decoded images, see `alseg.data.decoded`; None for none.
        choice: Images that checkpoints are chosen on; empty = those evaluated on.

    Raises:
        UserError: If anything is wrong with the files; all of it is listed.
    """
    files = [*train, *val, *choice]
    loaded = resize.size if any_loaded_size else None
    known_files = KnownFiles(cache)
    find_twice({file.name: file.image for file in files}, problems)
    seen = check_images(
        *(files, masks, problems),
        loaded=loaded,
        reading=reading,
        progress=progress,
        known=known_files,
    )
    known = [(file.name, held) for file, held in zip(files, seen, strict=True)]
    parts = {"training": known[: len(train)], "validation": known[len(train) :]}
    notes = check_classes(
        masks,
        {part: [(n, held) for n, held in some if held is not None] for part, some in parts.items()},
        problems,
    )
    problems.raise_any()
    for note in notes:
        log.warning("%s: %s", problems.where, note)
    if any(held is not None and held.unlisted for held in seen):
        masks = masks.listing_void()  # all classes occur besides it, so it is none of them
    shown = [*colors.values()] if isinstance(colors, Mapping) else colors
    table = class_table(masks, None if shown is None else np.array(shown, dtype=np.uint8))
    if reading.percentiles is not None:
        reading = limits_of(reading, [file.image for file in train], known_files)
    parts_of = [
        FileImages(part, table, masks, resize, scenes, reading, known_files)
        for part in (train, val, *([choice] if choice else []))
    ]
    if decoded is not None:
        keep_decoded(parts_of, Path(decoded).expanduser())
    return DataSplits(*parts_of)


def keep_decoded(splits: Sequence[FileImages], folder: Path) -> None:
    """Let images be kept decoded in a folder, if there is room for all of them.

    Args:
        splits: The images.
        folder: See `alseg.data.decoded.DecodedImages`.
    """
    every = [(images, index) for images in splits for index in range(len(images))]
    names = [images.fingerprint(index) for images, index in every]
    sizes = [math.prod(images.size(index)) * images.channels for images, index in every]
    decoded = DecodedImages.where_there_is_room(folder, names, sizes)
    for images in splits:
        images.decoded = decoded


def limits_of(reading: Reading, images: Sequence[Path], known: KnownFiles) -> Reading:
    """Limits in place of percentiles, and in the log; remembered for the same images.

    Args:
        reading: How images are read.
        images: Those that percentiles are taken of.
        known: Remembers them.

    Raises:
        UserError: See `alseg.data.reading.images.Reading.with_limits_of`.
    """
    asked = reading.percentiles
    if asked is None or not images:
        return reading
    digest = blake2b(repr((reading.bands, asked)).encode(), digest_size=16)
    for path in images:
        digest.update(f"{path}\0{known.stamp(path)}".encode())
    fact = f"limits {digest.hexdigest()}"
    found = known.get(images[0], fact)
    if found is None:
        reading = reading.with_limits_of(images)
        found = json.dumps(reading.describe()["range"])
        known.put(images[0], fact, found)
        known.save()
    limits = tuple((float(low), float(high)) for low, high in json.loads(found))
    log.info(
        "data.range=[p%g,p%g] of %d training images is %s",
        *asked,
        len(images),
        ", ".join(f"[{low:g},{high:g}]" for low, high in limits),
    )
    return Reading(reading.bands, limits)
