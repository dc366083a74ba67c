"""A large image predicted by windows, beside the bare forward passes of these windows."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alseg.core.images import ClassTable
from alseg.core.windows import window_starts
from alseg.data.files import KEEP_SIZE
from alseg.inference.trained import TrainedSegmenter, predict_labels
from alseg.nn.segmenter import build_segmenter
from benchmarks.harness import Comparison, compare, equal, table

CLASSES = 19


def main(quick: bool) -> None:
    """Print the table."""
    print(table(windows(quick)))


def windows(quick: bool) -> list[Comparison]:
    """The most probable class of every pixel, by windows that share a quarter of a side."""
    side, window, repeats = (160, 64, 1) if quick else (1280, 512, 3)
    rows = [
        _windows(architecture, side, window, repeats)
        for architecture in ("LRASPP", "DeepLabV3Plus")
    ]
    return rows if quick else [*rows, _windows("LRASPP", 6000, 1024, 1)]


def _windows(architecture: str, side: int, window: int, repeats: int) -> Comparison:
    torch.manual_seed(0)
    network = build_segmenter(architecture, "mobilenet_v2", None, CLASSES, False, {}).eval()
    classes = ClassTable(tuple(map(str, range(CLASSES))), np.zeros((CLASSES, 3), np.uint8))
    model = TrainedSegmenter(network, classes, (0.5,) * 3, (0.2,) * 3, KEEP_SIZE, 1.0)
    image = np.random.default_rng(0).integers(256, size=(side, side, 3), dtype=np.uint8)
    starts = window_starts(side, window, 0.25)
    part = torch.zeros(1, 3, window, window)

    @torch.inference_mode()
    def forwards() -> None:
        for _ in range(len(starts) ** 2):
            network(part)

    @torch.inference_mode()
    def whole() -> NDArray[Any]:
        total, count = torch.zeros(CLASSES, side, side), torch.zeros(side, side)
        for top in starts:
            for left in starts:
                here = np.s_[..., top : top + window, left : left + window]
                shown = torch.from_numpy(image[top : top + window, left : left + window] / 255)
                normal = ((shown.permute(2, 0, 1).float() - 0.5) / 0.2)[None]
                total[here] += network(normal).softmax(1)[0]
                count[here] += 1
        return (total / count).argmax(0).numpy()

    return compare(
        f"{architecture}, {side}x{side} by {len(starts) ** 2} windows of {window}x{window}",
        "probabilities of the whole image, then argmax",
        whole,
        lambda: predict_labels(model, image, (window, window)),
        almost_equal,
        repeats,
        limit=("forward of the windows", forwards),
    )


def almost_equal(expected: NDArray[Any], got: NDArray[Any]) -> str:
    """Labels may differ where two classes are as probable up to rounding."""
    share = float((expected != got).mean())
    assert share < 1e-3, f"{share:.2%} of the labels differ"
    return equal(expected, got) if not share else f"all but {share:.1e} of the labels equal"
