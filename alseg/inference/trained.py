"""A trained network: out of the checkpoint of any run, with all that using it takes."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, unknown_name
from alseg.data.files import Resize, resize_smoothly
from alseg.inference.checkpoint import (
    Checkpoint,
    TrainedSegmenter,
    described,
    normalisation,
    read_checkpoint,
)

if TYPE_CHECKING:  # torch takes seconds to import
    import torch

    from alseg.nn.segmenter import Segmenter

log = logging.getLogger(__name__)

__all__ = [
    "Checkpoint",
    "TrainedSegmenter",
    "load_segmenter",
    "newest_segmenter",
    "predict_labels",
    "read_checkpoint",
    "seen_factor",
]

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("32-true", "bf16")
#: What of several views and windows is averaged.
AVERAGES = ("probabilities", "logits")


def load_segmenter(
    checkpoint: str | Path, device: str = "auto", precision: str = "32-true"
) -> TrainedSegmenter:
    """Load the network of a checkpoint: of any method, of any stage, wherever the file lies.

    A checkpoint describes its network and images itself. If the data it was trained on did not
    describe themselves, the classes are numbered, and ImageNet's normalisation is taken, with a
    warning.

    Args:
        checkpoint: ``round_NNN/<stage>/last.ckpt`` or ``best.ckpt`` of a run folder, or a copy;
            or what `alseg.export` made of one: its folder, ``model.safetensors`` or
            ``model.onnx`` (which has a precision and a device of its own).
        device: ``cpu``, ``cuda``, or ``auto`` for the latter where there is one.
        precision: ``32-true``, or ``bf16`` for mixed precision.

    Raises:
        UserError: If the file is missing or no checkpoint of alseg, or the device is.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if Path(checkpoint).suffix == ".onnx" and Path(checkpoint).expanduser().is_file():
        from alseg.inference.onnxfile import load_onnx

        return load_onnx(Path(checkpoint).expanduser())
    target = _device(device)
    found = read_checkpoint(checkpoint)
    path, images = found.path, found.images
    segmenter = _segmenter(found)
    with described(path, "images"):
        return TrainedSegmenter(
            network=segmenter.eval().to(target),
            classes=found.classes(),
            **normalisation(path, images),
            resize=Resize.from_options(images.get("size"), images.get("scale", 1.0)),
            temperature=found.temperature,
            precision=precision,
            masks=found.masks,
            reading=found.reading,
        )


def newest_segmenter(folder: Path, device: str = "auto") -> TrainedSegmenter | None:
    """The network that a round trained last, for a look at it between rounds.

    The state of PyTorch's random numbers is left as it was.

    Args:
        folder: ``round_NNN`` of a run folder.
        device: See `load_segmenter`.

    Returns:
        None if no ``last.ckpt`` of a stage holds a segmentation network.
    """
    import torch

    found = sorted(folder.glob("*/last.ckpt"), key=lambda path: path.stat().st_mtime)
    for path in reversed(found):
        try:
            with torch.random.fork_rng(devices=[]):  # networks are made before they are filled
                return load_segmenter(path, device)
        except UserError:  # a stage of another kind, such as a classifier
            continue
    return None


def predict_labels(
    model: TrainedSegmenter,
    image: NDArray[np.uint8],
    window: tuple[int, int] | None = None,
    overlap: float = 0.25,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    resize: bool = True,
    done: Callable[[int], object] = lambda pixels: None,
    average: str = "probabilities",
) -> NDArray[np.uint8]:
    """The most probable class of every pixel of an image of any size.

    By windows, memory holds the scores of a few windows and of the rows that two windows share,
    never those of the whole image.

    Args:
        model: See `load_segmenter`.
        image: (H, W, C), uint8, RGB unless the network was trained on other bands.
        window: Height and width of windows in pixels; None = the whole image.
        overlap: Share of a window that its neighbour covers too, 0 to below 1.
        scales: Factors on the size of what the network sees.
        flip: Average with the mirror image too.
        resize: Show the image at the size the run loaded its images at; else at its own. A whole
            image that this shrinks is shrunk as the run shrank its own.
        done: Told how many more pixels are finished, part by part.
        average: What of windows, scales and mirror images is averaged: ``probabilities``, or
            ``logits``, see `alseg.inference.views`.

    Returns:
        Class ids, (H, W), uint8.

    Raises:
        UserError: If ``average`` is neither.
    """
    import torch

    from alseg.acquisition.scores import most_probable
    from alseg.inference.views import (
        enlarged_bands,
        mean_of_views,
        row_band,
        score_tiles,
        view_sizes,
    )

    if average not in AVERAGES:
        raise unknown_name("average", average, AVERAGES)
    network = model.logits if average == "logits" else model
    height, width = image.shape[:2]
    factor = seen_factor(model, (height, width), resize)
    labels = np.empty((height, width), dtype=np.uint8)

    def views(part: "torch.Tensor") -> "torch.Tensor":
        sizes = view_sizes((part.shape[-2], part.shape[-1]), scales, factor)
        return mean_of_views(network, part, sizes, flip)

    def crop(top: int, left: int, high: int, wide: int) -> "torch.Tensor":
        return model.normalized(image[top : top + high, left : left + wide])

    def keep(top: int, left: int, scores: "torch.Tensor") -> None:
        for rows in scores[0].split(row_band(scores), dim=1):
            best = most_probable(rows, dim=0).cpu().numpy()
            labels[top : top + best.shape[0], left : left + best.shape[1]] = best
            top += best.shape[0]
        done(scores[0, 0].numel())

    with torch.inference_mode():  # what the network returned is changed in place
        if window is None and factor[0] * factor[1] < 1:
            # not as a whole in floating point, and not all of its scores at its own size
            ((high, wide),) = view_sizes((height, width), [1.0], factor)
            small = resize_smoothly(image, high, wide)
            sizes = view_sizes((high, wide), scales)
            scores = mean_of_views(network, model.normalized(small), sizes, flip)
            top = 0
            for band in enlarged_bands(scores, (height, width)):
                keep(top, 0, band)
                top += band.shape[2]
        else:
            for tile in score_tiles(views, crop, (height, width), window, overlap):
                keep(*tile)
    return labels


def seen_factor(
    model: TrainedSegmenter, size: tuple[int, int], resize: bool = True
) -> tuple[float, float]:
    """How much higher and wider than its file the network sees an image.

    Args:
        model: See `load_segmenter`.
        size: H and W of the file.
        resize: See `predict_labels`.
    """
    seen = model.resize(*size) if resize else size
    return seen[0] / size[0], seen[1] / size[1]


def _device(name: str) -> "torch.device":
    import torch

    if name not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no GPU here; give device=cpu.")
    return torch.device(name)


def _segmenter(found: Checkpoint) -> "Segmenter":
    """The network of a checkpoint, which takes no more memory than the file has weights."""
    import torch

    from alseg.nn.segmenter import rebuild_segmenter

    with described(found.path, "network"):
        named = f"{found.network['architecture']} with {found.network['encoder']}"
        try:
            with torch.device("meta"):  # shapes alone
                needed = {
                    k: v.shape for k, v in rebuild_segmenter(found.network).state_dict().items()
                }
        except (RuntimeError, NotImplementedError) as error:
            if "meta" not in str(error):  # some encoders look at numbers while they are made
                raise
            needed = {name: value.shape for name, value in found.state.items()}
        held = {
            name: value.shape
            for name, value in found.state.items()
            if value.untyped_storage().nbytes() >= value.numel() * value.element_size()
        }
        if wrong := sorted(k for k in {*needed, *held} if needed.get(k) != held.get(k)):
            raise UserError(
                f"{found.path} does not hold the {named} that it describes ({len(wrong)} tensors "
                f"are others, such as {wrong[0]}); give the checkpoint as the run left it."
            )
        segmenter = rebuild_segmenter(found.network)
        segmenter.load_state_dict(found.state)
    return segmenter
