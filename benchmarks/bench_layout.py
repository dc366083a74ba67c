"""``trainer.channels_last`` and ``trainer.compile`` beside their defaults.

Forward passes and training steps; of compiled steps the seconds that the first one takes as well.
"""

import copy
import os
from typing import Any

import torch

from alseg.nn.losses import labelled_cross_entropy
from alseg.nn.segmenter import build_segmenter
from benchmarks.harness import Comparison, compare, table, within

CLASSES = 19
ENCODERS = ("mobilenet_v2", "resnet18")


def main(quick: bool) -> None:
    print(table(row for encoder in ENCODERS for row in rows(encoder, quick)))
    first: dict[str, float] = {}
    print()
    print(table(compiled(encoder, quick, first) for encoder in ENCODERS[: 1 if quick else None]))
    seconds = ", ".join(f"{encoder} {taken:.0f} s" for encoder, taken in first.items())
    print(f"\nThe first compiled step, compilation included, of the processor: {seconds}.")


def rows(encoder: str, quick: bool) -> list[Comparison]:
    torch.manual_seed(0)
    side, repeats = (64, 1) if quick else (256, 3)
    plain = build_segmenter("DeepLabV3Plus", encoder, None, CLASSES).eval()
    last: Any = copy.deepcopy(plain)
    last.to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, side, side)
    labels = torch.randint(0, CLASSES, (2, side, side))

    def forward(network: Any) -> Any:
        with torch.inference_mode():
            return network(images)

    def step(network: Any) -> Any:
        return _step(network, images, labels)

    size = _size(encoder, side)
    found = []
    for name, way in (("forward", forward), ("forward and backward", step)):
        task = f"{name} of {size}, channels last"
        found.append(
            compare(
                task,
                "channels first",
                lambda way=way: way(plain),
                lambda way=way: way(last),
                within(1e-3),
                repeats,
            )
        )
    return found


def compiled(encoder: str, quick: bool, first: dict[str, float]) -> Comparison:
    """Training steps, batch norms in training; ``first`` gets the seconds of the first one."""
    torch.manual_seed(0)
    side, repeats = (64, 1) if quick else (256, 7)
    plain = build_segmenter("DeepLabV3Plus", encoder, None, CLASSES).train()
    for dropout in plain.modules():
        if isinstance(dropout, torch.nn.Dropout):
            dropout.p = 0.0  # compiled code draws other numbers
    other: Any = copy.deepcopy(plain)
    # as alseg.active.compiled does
    backend = "eager" if quick else "inductor"  # compiling takes a minute
    other.forward = torch.compile(other.forward, dynamic=False, backend=backend)
    images = torch.randn(2, 3, side, side)
    labels = torch.randint(0, CLASSES, (2, side, side))
    start = sum(os.times()[:4])  # the compilers that were waited for, too
    _step(other, images, labels)
    first[encoder] = sum(os.times()[:4]) - start
    return compare(
        f"forward and backward of {_size(encoder, side)}, compiled",
        "not compiled",
        lambda: _step(plain, images, labels),
        lambda: _step(other, images, labels),
        within(1e-3),
        repeats,
    )


def _step(network: Any, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    network.zero_grad()
    loss = labelled_cross_entropy(network(images), labels)
    loss.backward()
    return loss.detach()


def _size(encoder: str, side: int) -> str:
    return f"DeepLabV3Plus on {encoder}, 2 images of {side}x{side}"
