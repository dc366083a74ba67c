"""Images and masks that a trained network is shown or measured on, found and checked."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import ClassTable, ImageSet, truth_fingerprint
from alseg.core.masks import MaskTable, table_of_colors, table_of_ids
from alseg.data.checks import Problems, check_classes, check_images
from alseg.data.files import KEEP_SIZE, FileImages, ImageFile, Resize
from alseg.data.find import find_files
from alseg.data.loose import find_images
from alseg.data.masks import stored_values
from alseg.data.reading.images import AS_RGB, Reading
from alseg.inference.prediction import ViewOptions

log = logging.getLogger(__name__)


def find_pairs(
    given: Mapping[str, str | None],
    options: ViewOptions,
    out: Path,
    classes: ClassTable,
    table: MaskTable | None,
    reading: Reading = AS_RGB,
) -> FileImages:
    """Images with their masks.

    Args:
        given: An image, a folder or a list, and then, if there are masks, the folder that holds
            them under the names of the images; by the options that gave them.
        options: Say how the masks are read.
        out: Folder of the results, which may lie in none of them.
        classes: Of the network.
        table: How the masks of its training were read; None if nobody knows.
        reading: How the images of its training were read.

    Raises:
        UserError: If something is not there, or has no mask, or it is not clear how the masks are
            to be read.
    """
    (images_option, images), (masks_option, masks_folder) = given.items()
    problems = Problems(f"{images_option}={images}")
    found = find_images(Path(images or "").expanduser(), problems)
    masks: dict[str, Path] = {}
    if masks_folder is not None:
        folder = Path(masks_folder).expanduser()
        if not folder.is_dir():
            raise UserError(
                f"{masks_option}={folder} is not a folder; give the folder of the masks."
            )
        masks = find_files(folder, "", problems)
        for name in sorted(found.keys() - masks.keys()):
            problems.add("images without a mask", str(found[name]))
    for option, path in given.items():
        folder = Path(path or "").expanduser()
        if path and folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                f"out={out} lies in {option}={folder}, where the next start would take the "
                f"results for {option}; give a folder outside of it."
            )
    problems.raise_any()
    files = [ImageFile(name, path, masks.get(name)) for name, path in found.items()]
    paths = [file.mask for file in files if file.mask is not None]
    masks_as = mask_table(options, classes, table, paths, masks_option)
    return FileImages(files, classes, masks_as, reading=reading)


def mask_table(
    options: ViewOptions,
    classes: ClassTable,
    known: MaskTable | None,
    masks: Sequence[Path],
    option: str = "masks",
) -> MaskTable:
    """How masks are read: as the options say, else as in training, else in the only way there is.

    Args:
        options: See `ViewOptions.mask_values` and `ViewOptions.ignore`.
        classes: Of the network.
        known: How the masks of its training were read; None if nobody knows.
        masks: The files.
        option: What the user calls them.

    Raises:
        UserError: If they could be read in two ways that differ.
    """
    ids = table_of_ids(classes.names)
    readings = {"ids": ids}
    if len({tuple(color) for color in np.asarray(classes.colors).tolist()}) == len(classes):
        readings["colors"] = table_of_colors(classes)
    if options.mask_values != "auto":
        if options.mask_values not in readings:
            raise UserError(
                "mask_values=colors, but two classes of this checkpoint have the same colour; "
                "give mask_values=ids and masks of ids."
            )
        return readings[options.mask_values].ignoring(options.ignore)
    if known is not None:
        return known.ignoring(options.ignore)
    colors = any(str(key).startswith("#") for key in options.ignore)
    if options.ignore:  # ids or colours, which says what the masks hold
        readings = {"colors" if colors else "ids": table_of_colors(classes) if colors else ids}
    able = {name: table.ignoring(options.ignore) for name, table in readings.items()}
    return _only_reading(able, masks, option) if masks else ids


def _only_reading(
    readings: Mapping[str, MaskTable], masks: Sequence[Path], option: str
) -> MaskTable:
    """The table that reads all masks; the first if none does, whose check then says why.

    Raises:
        UserError: If two of them do, and find different classes.
    """
    left = dict(readings)
    differing: Path | None = None
    usual = next(iter(left))
    for path in masks:
        labels = {}
        for name, table in left.items():
            try:
                values, palette = stored_values(path, table)
                if values.ndim == 3 and "colors" in left:
                    usual = "colors"
                labels[name] = table.read(values, palette)
            except UserError as error:
                log.debug("%s by %s: %s", path, name, error)
        if labels:  # else none reads it, and the check will say why
            left = {name: left[name] for name in labels}
        found = list(labels.values())
        if any(not np.array_equal(found[0], other) for other in found[1:]):
            differing = path
        if len(left) == 1:
            break
    if len(left) > 1 and differing is not None:
        ways = "; ".join(f"mask_values={name} ({table.summary()})" for name, table in left.items())
        raise UserError(
            f"{option}: this checkpoint does not say how masks are read, and {differing} can be "
            f"read in {len(left)} ways that differ; choose one: {ways}; or give the data set they "
            f"belong to, data=NAME data.root=FOLDER, in the place of images and masks."
        )
    name = usual if usual in left else next(iter(left))
    log.warning(
        "%s: this checkpoint does not say how masks are read; they are read as mask_values=%s (%s)",
        *(option, name, left[name].summary()),
    )
    return left[name]


def check_pairs(images: FileImages, files: Sequence[ImageFile], where: str, progress: bool) -> None:
    """Find everything that is wrong with files before the work.

    Args:
        images: Those the files are of.
        files: The files to look at.
        where: What they are called in an error.
        progress: Show a progress bar.
    """
    problems = Problems(where, ignore="ignore", colors="mask_values=colors")
    seen = check_images(files, images.masks, problems, reading=images.reading, progress=progress)
    held = [(file.name, s) for file, s in zip(files, seen, strict=True) if s is not None]
    notes = check_classes(images.masks, {"given": held}, problems)
    if held:
        problems.note(
            [
                f"masks are read so: {images.masks.summary()}; mask_values=ids or "
                f"mask_values=colors reads them in another way, see --help."
            ]
        )
    problems.raise_any()
    for note in notes:
        log.info("%s", note)


def contents(images: ImageSet) -> str:
    """What an image set holds, image by image: a text that differs if a pixel does."""
    return "\n".join(
        f"{images.fingerprint(index)} {truth_fingerprint(images, index)}"
        for index in range(len(images))
    )


def scored_images(data: Any, progress: bool, cache: Path | None) -> dict[str, ImageSet]:
    """The images of a data set that a trained network is measured on.

    Args:
        data: A component of `alseg.data.DATASETS`.
        progress: Show progress.
        cache: Folder that remembers checked files.

    Returns:
        ``validation``: those that its options score on; where these are a test part, that is
        ``test``, and ``validation`` is what a checkpoint may be chosen on. A set whose validation
        images are in the pool has ``test`` alone: there is nothing to choose on.
    """
    splits = data.splits(progress=progress, cache=cache)
    if getattr(data, "evaluate", "val") != "test":
        return {"validation": splits.val}
    if getattr(data, "val_in_pool", False):
        return {"test": splits.val}
    choice = replace(data, evaluate="val").splits(progress=progress, cache=cache)
    return {"validation": choice.val, "test": splits.val}


def check_same_classes(images: ImageSet, classes: ClassTable, named: bool) -> None:
    """Refuse a data set of other classes than the network's.

    Args:
        images: Of the data set.
        classes: Of the network.
        named: Whether the checkpoint names them.
    """
    if len(images.classes) != len(classes) or (named and images.classes.names != classes.names):
        names = ", ".join(classes.names) if named else "without names"
        raise UserError(
            f"the checkpoint knows {len(classes)} classes ({names}), data= has "
            f"{len(images.classes)} ({', '.join(images.classes.names)}); give the data set, or the "
            f"data.classes, it was trained with."
        )
    if not len(images):
        raise UserError("data= has no images to score on; see its options for validation images.")
    if not images.has_truth:
        raise UserError("data= has images without masks; nothing can be compared.")


def is_loaded(images: ImageSet) -> bool:
    """Whether images have been brought to another size than that of their files."""
    resize = getattr(images, "resize", KEEP_SIZE)
    return isinstance(resize, Resize) and resize != KEEP_SIZE


def checked_truth(images: ImageSet, index: int, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Ground truth of an image.

    Raises:
        UserError: If it has another size than the label map.
    """
    truth = images.truth(index)
    if labels.shape != truth.shape:
        path = images.files[index].mask if isinstance(images, FileImages) else None
        raise UserError(
            f"{path or images.names[index]} is {truth.shape[0]} x {truth.shape[1]}, its image "
            f"{labels.shape[0]} x {labels.shape[1]} (height x width); export both at the same "
            f"size."
        )
    return truth
