"""What the commands that use a trained network share: images and masks, views, and their IoU."""

import csv
import hashlib
import io
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ClassTable, ImageSet, truth_fingerprint
from alseg.core.masks import MaskTable, table_of_colors, table_of_ids
from alseg.data.checks import Problems, check_classes, check_images
from alseg.data.files import KEEP_SIZE, FileImages, ImageFile, Resize
from alseg.data.find import find_files
from alseg.data.loose import find_images
from alseg.data.masks import stored_values
from alseg.data.reading.images import AS_RGB, Reading
from alseg.inference.trained import (
    AVERAGES,
    DEVICES,
    PRECISIONS,
    TrainedSegmenter,
    predict_labels,
    seen_factor,
)
from alseg.labels.quality import class_iou

log = logging.getLogger(__name__)

#: Height and width of the windows of images over ``max_pixels``, in pixels the network sees.
WINDOW = (1024, 1024)
#: Ways to read masks, see `ViewOptions`.
READINGS = ("auto", "ids", "colors")


@dataclass(frozen=True, kw_only=True)
class ViewOptions:
    """How images are shown to a network.

    Attributes:
        mask_values: How masks hold classes. auto: as the masks did that the checkpoint was trained
            with; ids: class ids 0, 1, ... in the order of the classes, and 255 for void, as label
            maps of this command hold them; colors: the colours of these label maps.
        ignore: What else is void in the masks: ids, or colours such as "#000000", that stand for
            no class.
        window: Height and width of windows in pixels of the image; null = the whole image.
        overlap: Share of a window that its neighbour covers too, 0 to below 1.
        max_pixels: Images of which the network would see more pixels are predicted by windows.
        scales: Factors on the size of what the network sees; the views are averaged.
        flip: Average with the mirror image too.
        average: What of windows, scales and mirror images is averaged: probabilities, or logits.
        resize: Show images to the network at the size the run loaded its own at (data.size,
            data.scale). Results have the size of the file in any case.
        device: auto, cpu or cuda.
        precision: 32-true, or bf16 for mixed precision.
        progress: Show a progress bar.
    """

    mask_values: str = "auto"
    ignore: list[str] = field(default_factory=list)
    window: tuple[int, int] | None = None
    overlap: float = 0.25
    max_pixels: int = 16_000_000
    scales: list[float] = field(default_factory=lambda: [1.0])
    flip: bool = False
    average: str = "probabilities"
    resize: bool = True
    device: str = "auto"
    precision: str = "32-true"
    progress: bool = True

    def __post_init__(self) -> None:
        if self.window is not None and (len(self.window) != 2 or min(self.window) < 1):
            raise UserError(f"window is {list(self.window)}; give [height,width] in pixels.")
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap is {self.overlap}; it is a share of a window, 0 to below 1.")
        if self.max_pixels < 1:
            raise UserError(f"max_pixels is {self.max_pixels}; give at least 1.")
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise UserError(f"scales is {list(self.scales)}; give one or more factors > 0.")
        known_words = {"device": DEVICES, "precision": PRECISIONS, "mask_values": READINGS}
        known_words["average"] = AVERAGES
        for option, known in known_words.items():
            if getattr(self, option) not in known:
                raise unknown_name(option, getattr(self, option), known)

    def require(self, *names: str) -> None:
        """Refuse paths that are empty."""
        for name in names:
            if not getattr(self, name):
                raise UserError(f"{name} is empty; give {name}=PATH.")

    def digest(self, checkpoint: Path, *more: str) -> str:
        """Digest of what, besides the images, decides predictions, and of more words."""
        with checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
        deciding = ("window", "overlap", "max_pixels", "scales", "flip", "resize", "precision")
        values = {name: getattr(self, name) for name in deciding}
        if self.average != "probabilities":  # results of releases without this option stay known
            values["average"] = self.average
        digest.update(json.dumps(values).encode())
        digest.update("".join(more).encode())
        return digest.hexdigest()


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


def labels_of(
    options: ViewOptions,
    model: TrainedSegmenter,
    image: NDArray[np.uint8],
    name: str,
    done: Callable[[int], object] = lambda pixels: None,
) -> NDArray[np.uint8]:
    """Label map of an image, by windows if it is large.

    Args:
        options: How it is shown to the network.
        model: The network.
        image: (H, W, 3), uint8, RGB.
        name: What it is called in a message.
        done: Told how many more pixels are finished.

    Returns:
        (H, W), uint8.
    """
    import torch

    size = (image.shape[0], image.shape[1])
    factor = seen_factor(model, size, options.resize)
    seen = math.prod(size) * math.prod(factor) * max(options.scales) ** 2
    window = options.window
    if window is None and seen > options.max_pixels:
        window = (math.ceil(WINDOW[0] / factor[0]), math.ceil(WINDOW[1] / factor[1]))
        log.info(
            "%s: %.3g million pixels are more than max_pixels=%d; predicted by windows of %d x %d",
            name,
            seen / 1e6,
            options.max_pixels,
            *window,
        )
    try:
        return predict_labels(
            model,
            image,
            window=None if window is None else (window[0], window[1]),
            overlap=options.overlap,
            scales=options.scales,
            flip=options.flip,
            resize=options.resize,
            done=done,
            average=options.average,
        )
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{name} does not fit into the memory of the GPU; give window=[512,512], or device=cpu."
        ) from error


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


def iou_row(counts: NDArray[np.int64], images: ImageSet) -> dict[str, Any]:
    """Mean and per-class IoU of a confusion matrix, as a row of a table.

    The mean is over the classes that occur in truth or prediction, as
    `torchmetrics.classification.MulticlassJaccardIndex` has it with ``average="macro"``.

    Args:
        counts: `alseg.labels.quality.confusion` of all images, (C, C).
        images: The images.

    Returns:
        ``images``, ``pixels`` (those that are not void), ``miou`` and ``iou_NAME`` of every class,
        0..1; None for what is absent.
    """
    iou = class_iou(counts)
    mean = float(np.nanmean(iou)) if not np.isnan(iou).all() else math.nan
    mean_and_classes = [None if math.isnan(value) else value for value in [mean, *iou.tolist()]]
    columns = ["miou", *(f"iou_{name}" for name in images.classes.names)]
    return {
        "images": len(images),
        "pixels": int(counts.sum()),
        **dict(zip(columns, mean_and_classes, strict=True)),
    }


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with the columns of its rows, in the order in which they first occur."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return table.getvalue()
