"""The command: ``python -m alseg.predict checkpoint=… images=… out=…``.

In a notebook: `load_segmenter` a checkpoint, then `predict_labels` of arrays.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from alseg.cli import command
from alseg.cli.help import explain
from alseg.cli.words import read_options
from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import ClassTable
from alseg.data.files import FileImages
from alseg.data.labelmaps import read_label_map, read_origin, write_label_map
from alseg.inference.prediction import (
    ViewOptions,
    check_pairs,
    checked_truth,
    csv_text,
    find_pairs,
    images_of_any_size,
    iou_row,
    labels_of,
)
from alseg.inference.trained import TrainedSegmenter, load_segmenter, predict_labels
from alseg.labels.quality import confusion

__all__ = ["PredictOptions", "load_segmenter", "main", "predict", "predict_labels"]


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ViewOptions):
    """Predicts images with the network of a checkpoint, of any method and any stage.

    FOLDER/labels gets a PNG per image, whose pixels are class ids and whose palette shows the
    classes' colours; FOLDER/overlays a JPEG with a legend. Both keep the image's path below the
    folder of images. What is there is not predicted again: a stopped command goes on where it was.

    Attributes:
        checkpoint: The last.ckpt or best.ckpt of a stage, in its run folder or copied elsewhere.
        images: An image, a folder (searched with all folders in it), or a .txt file with one path
            per line, absolute or relative to that file.
        out: Folder of the results.
        masks: Folder of ground truth under the names of the images, class ids or the classes'
            colours. Prints mean and per-class IoU and writes metrics.json and metrics.csv.
        overlay: Draw the pictures.
        overwrite: Predict again what is there.
    """

    checkpoint: str
    images: str
    out: str
    masks: str | None = None
    overlay: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("checkpoint", "images", "out")

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return Path(self.out).expanduser()

    def label_map(self, name: str) -> Path:
        """File of the label map of an image."""
        return self.folder / "labels" / f"{name}.png"

    def picture(self, name: str) -> Path:
        """File of the picture of an image."""
        return self.folder / "overlays" / f"{name}.jpg"


def predict(options: PredictOptions) -> dict[str, Any] | None:
    """Do what is left to do of a command.

    Returns:
        What ``metrics.json`` holds; None without masks.

    Raises:
        UserError: For input that cannot be used.
    """
    with images_of_any_size():
        model = load_segmenter(options.checkpoint, options.device, options.precision)
        given = {"images": options.images, "masks": options.masks}
        images = find_pairs(given, options.folder, model.classes, options.ignore)
        origin = options.digest(Path(options.checkpoint).expanduser())
        todo = _to_predict(options, images, origin)
        wanted = range(len(images)) if options.masks is not None else todo
        files = [images.files[index] for index in wanted]
        check_pairs(images, files, f"images={options.images}", options.progress)
        _predict_all(options, model, images, todo, origin)
        skipped = len(images) - len(todo)
        note = " (there already; overwrite=true predicts them again)" if skipped else ""
        print(f"{len(todo)} predicted, {skipped} skipped{note}: {options.label_map('*')}")
        if options.overlay:
            print(f"Pictures: {options.picture('*')}")
        return _evaluate(options, images) if options.masks is not None else None


def _to_predict(options: PredictOptions, images: FileImages, origin: str) -> dict[int, int]:
    """Images without a label map, or all; each with its position among them.

    Raises:
        UserError: If there is a label map that was made by something else.
    """
    todo, foreign = [], []
    for index, name in enumerate(images.names):
        path = options.label_map(name)
        if options.overwrite or not path.exists():
            todo.append(index)
        elif read_origin(path) != origin:
            foreign.append(path)
    if foreign:
        raise UserError(
            f"{len(foreign)} label maps in out, such as {foreign[0]}, were not predicted by this "
            f"checkpoint with these options; give another out, or overwrite=true."
        )
    return {index: position for position, index in enumerate(todo)}


def _predict_all(
    options: PredictOptions,
    model: TrainedSegmenter,
    images: FileImages,
    todo: dict[int, int],
    origin: str,
) -> None:
    """Write what is missing; an image's label map comes last and says that it is done."""
    pixels = sum(math.prod(images.size(index)) for index in todo)
    hidden = not options.progress or not todo
    with tqdm(total=pixels, unit="px", unit_scale=True, disable=hidden) as bar:
        for index, name in enumerate(images.names):
            if index in todo:
                bar.set_description(f"{name} ({todo[index] + 1}/{len(todo)})")
                image = images.image(index)
                labels = labels_of(options, model, image, name, bar.update)
                if options.overlay:
                    _draw(options.picture(name), image, labels, model.classes)
                path = options.label_map(name)
                write_label_map(path, labels, np.asarray(model.classes.colors), origin)
            elif options.overlay and not options.picture(name).exists():
                labels = read_label_map(options.label_map(name))
                _draw(options.picture(name), images.image(index), labels, model.classes)


def _draw(
    path: Path, image: NDArray[np.uint8], labels: NDArray[np.uint8], classes: ClassTable
) -> None:
    """Lay the colours over an image, with a legend of the classes that occur."""
    from alseg.report.pictures import label_overlay, save_picture, with_legend

    there = np.unique(labels)
    picture = label_overlay(image, labels, classes.colors)
    names = [classes.names[label] for label in there]
    save_picture(path, with_legend(picture, names, classes.colors[there]))


def _evaluate(options: PredictOptions, images: FileImages) -> dict[str, Any]:
    """Print and write the IoU of one confusion matrix over all images."""
    names = images.classes.names
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    hidden = not options.progress
    for index in tqdm(range(len(images)), "comparing", unit="image", disable=hidden):
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
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def work(words: list[str]) -> None:
        predict(options_from(words))

    return command.main(arguments, lambda words: help_text(), work)
