"""The command: ``python -m alseg.predict checkpoint=… images=… out=…``.

In a notebook: `load_segmenter` a checkpoint, then `predict_labels` of arrays.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.cli import command
from alseg.cli.datawords import check_source, split_words
from alseg.cli.help import explain
from alseg.cli.run import cache_folder
from alseg.cli.words import read_options
from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import VOID, ClassTable, ImageSet, shown
from alseg.core.progress import progress_bar
from alseg.core.rasters import any_size, read_header
from alseg.data.files import FileImages
from alseg.data.labelmaps import read_label_map, read_origin, write_geotiff, write_label_map
from alseg.data.reading.images import read_void
from alseg.inference.inputs import (
    check_pairs,
    check_same_classes,
    checked_truth,
    find_pairs,
    is_loaded,
    scored_images,
)
from alseg.inference.prediction import ViewOptions, csv_text, iou_row, labels_of
from alseg.inference.trained import (
    TrainedSegmenter,
    load_segmenter,
    predict_labels,
    read_checkpoint,
)
from alseg.labels.quality import confusion

__all__ = ["PredictOptions", "load_segmenter", "main", "predict", "predict_labels"]


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ViewOptions):
    """Predicts images with the network of a checkpoint, of any method and any stage.

    FOLDER/labels gets a PNG per image, whose pixels are class ids and whose palette shows the
    classes' colours; FOLDER/overlays a JPEG with a legend. Both keep the image's path below the
    folder of images. A GeoTIFF gets FOLDER/geotiff too: the ids with the same place on earth. Where
    it has no data, ids are 255. What is there is not predicted again unless its image has changed:
    a stopped command goes on where it was.

    In the place of images and masks, data=NAME with the options that run takes (data.root=FOLDER
    and so on) predicts and measures the images of a data set that its options score on, with its
    own names, ids and splits, at the size they are loaded at.

    Attributes:
        checkpoint: The last.ckpt or best.ckpt of a stage, in its run folder or copied elsewhere.
        images: An image, a folder (searched with all folders in it), or a .txt file with one path
            per line, absolute or relative to that file.
        out: Folder of the results.
        masks: Folder of ground truth under the names of the images, which hold classes as the masks
            did that the checkpoint was trained with (else see mask_values). Prints mean and
            per-class IoU and writes metrics.json and metrics.csv.
        overlay: Draw the pictures.
        overwrite: Predict again what is there.
    """

    checkpoint: str
    out: str
    images: str | None = None
    masks: str | None = None
    overlay: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("checkpoint", "out")

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return Path(self.out).expanduser()

    def label_map(self, name: str) -> Path:
        """File of the label map of an image."""
        return self.folder / "labels" / f"{name}.png"

    def geotiff(self, name: str) -> Path:
        """File of the label map of an image that has a place on earth."""
        return self.folder / "geotiff" / f"{name}.tif"

    def picture(self, name: str) -> Path:
        """File of the picture of an image."""
        return self.folder / "overlays" / f"{name}.jpg"


def predict(options: PredictOptions, data: Any = None) -> dict[str, Any] | None:
    """Do what is left to do of a command.

    Args:
        options: Its options.
        data: A data set of `alseg.data.DATASETS` in the place of ``images`` and ``masks``.

    Returns:
        What ``metrics.json`` holds; None without masks.

    Raises:
        UserError: For input that cannot be used.
    """
    check_source(options, data, "images", "masks")
    model = load_segmenter(options.checkpoint, options.device, options.precision)
    images: ImageSet
    if data is None:
        given = {"images": options.images, "masks": options.masks}
        images = find_pairs(
            *(given, options, options.folder, model.classes, model.masks, model.reading)
        )
    else:
        *_, images = scored_images(data, options.progress, cache_folder(None)).values()
        named = read_checkpoint(options.checkpoint).class_names
        check_same_classes(images, model.classes, bool(named))
        options = replace(options, resize=options.resize and not is_loaded(images))
    origin = options.digest(Path(options.checkpoint).expanduser())
    todo, changed = _to_predict(options, images, origin)
    compared = data is not None or options.masks is not None
    if isinstance(images, FileImages) and data is None:
        wanted = range(len(images)) if compared else todo
        files = [images.files[index] for index in wanted]
        check_pairs(images, files, f"images={options.images}", options.progress)
    _predict_all(options, model, images, todo, origin)
    skipped = len(images) - len(todo)
    note = " (there already; overwrite=true predicts them again)" if skipped else ""
    again = f", {changed} of them again, since their images have changed" if changed else ""
    print(f"{len(todo)} predicted{again}, {skipped} skipped{note}: {options.label_map('*')}")
    if options.overlay:
        print(f"Pictures: {options.picture('*')}")
    return _evaluate(options, images) if compared else None


def _to_predict(
    options: PredictOptions, images: ImageSet, origin: str
) -> tuple[dict[int, int], int]:
    """Images without a label map, with one of another image, or all.

    Returns:
        Their indices, each with its position among them, and how many have a label map of an image
        that was other than it is now.

    Raises:
        UserError: If there is a label map that was made by something else.
    """
    todo, foreign, changed = [], [], 0
    for index, name in enumerate(images.names):
        path = options.label_map(name)
        made = None if options.overwrite else read_origin(path)
        if options.overwrite or not path.exists():
            todo.append(index)
        elif made is None or made.partition(" ")[0] != origin:
            foreign.append(path)
        elif made != _origin(origin, images, index):
            todo.append(index)
            changed += 1
    if foreign:
        raise UserError(
            f"{len(foreign)} label maps in out, such as {foreign[0]}, were not predicted by this "
            f"checkpoint with these options; give another out, or overwrite=true."
        )
    return {index: position for position, index in enumerate(todo)}, changed


def _origin(origin: str, images: ImageSet, index: int) -> str:
    """What made the label map of an image: the checkpoint with its options, and the image."""
    return f"{origin} {images.fingerprint(index)}"


def _predict_all(
    options: PredictOptions,
    model: TrainedSegmenter,
    images: ImageSet,
    todo: dict[int, int],
    origin: str,
) -> None:
    """Write what is missing; an image's label map comes last and says that it is done."""
    pixels = sum(math.prod(images.size(index)) for index in todo)
    hidden = not options.progress or not todo
    with progress_bar(total=pixels, unit="px", unit_scale=True, hidden=hidden) as bar:
        for index, name in enumerate(images.names):
            if index in todo:
                bar.set_description(f"{name} ({todo[index] + 1}/{len(todo)})")
                image = images.image(index)
                labels = labels_of(options, model, image, name, bar.update)
                if isinstance(images, FileImages):
                    labels = _on_earth(options, images, index, labels)
                if options.overlay:
                    _draw(options.picture(name), image, labels, model.classes)
                path = options.label_map(name)
                made = _origin(origin, images, index)
                write_label_map(path, labels, np.asarray(model.classes.colors), made)
            elif options.overlay and not options.picture(name).exists():
                labels = read_label_map(options.label_map(name))
                _draw(options.picture(name), images.image(index), labels, model.classes)


def _on_earth(
    options: PredictOptions, images: FileImages, index: int, labels: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Void where an image has no data; a file with a place on earth gets a map that has it, too."""
    path = images.files[index].image
    void = read_void(path, images.reading)
    if void is not None and void.shape == labels.shape:
        labels = np.where(void, np.uint8(VOID), labels)
    header = read_header(path)
    if header.geo and (header.height, header.width) == labels.shape:
        colors = np.asarray(images.classes.colors)
        write_geotiff(options.geotiff(images.names[index]), labels, colors, header.geo)
    return labels


def _draw(
    path: Path, image: NDArray[np.uint8], labels: NDArray[np.uint8], classes: ClassTable
) -> None:
    """Lay the colours over an image, with a legend of the classes that occur."""
    from alseg.report.pictures import label_overlay, save_picture, with_legend

    there = np.unique(labels[labels != VOID])
    picture = label_overlay(shown(image), labels, classes.colors)
    names = [classes.names[label] for label in there]
    with any_size():
        picture = with_legend(picture, names, classes.colors[there])
    save_picture(path, picture)


def _evaluate(options: PredictOptions, images: ImageSet) -> dict[str, Any]:
    """Print and write the IoU of one confusion matrix over all images."""
    names = images.classes.names
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    hidden = not options.progress
    for index in progress_bar(range(len(images)), "comparing", unit="image", hidden=hidden):
        labels = read_label_map(options.label_map(images.names[index]))
        counts += confusion(labels, checked_truth(images, index, labels), len(names))
    metrics = iou_row(counts, images)
    width = max(map(len, ("mIoU", *names)))
    for name in ("mIoU", *names):
        value = metrics["miou" if name == "mIoU" else f"iou_{name}"]
        print(f"{name:{width}}  " + ("absent" if value is None else f"{value:.4f}"))
    text = json.dumps(metrics, indent=1, ensure_ascii=False) + "\n"
    write_atomic(options.folder / "metrics.json", text)
    write_atomic(options.folder / "metrics.csv", csv_text([metrics]))
    return metrics


def options_from(arguments: Sequence[str]) -> PredictOptions:
    """Read the words of a command, see `alseg.cli.words.read_options`."""
    return read_options(PredictOptions, arguments)


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        PredictOptions,
        "python -m alseg.predict checkpoint=FILE images=PATH out=FOLDER [option=value ...]",
        [
            "python -m alseg.predict checkpoint=runs/first/round_004/stage_two/last.ckpt "
            "images=photos out=predicted",
            "python -m alseg.predict checkpoint=last.ckpt images=tile.tif out=predicted "
            "'window=[512,512]' 'scales=[0.75,1,1.25]' flip=true",
            "python -m alseg.predict checkpoint=last.ckpt data=deepglobe data.root=deepglobe "
            "data.evaluate=test out=predicted",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def work(given: list[str]) -> None:
        words, data = split_words(given)
        predict(options_from(words), data)

    return command.main(arguments, lambda words: help_text(), work)
