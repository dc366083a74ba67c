"""What the commands that use a trained network share: views of images, and the IoU of labels."""

import csv
import hashlib
import io
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ImageSet
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
