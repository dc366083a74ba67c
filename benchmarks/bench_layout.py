"""``trainer.channels_last`` beside the usual layout: forward passes and training steps."""

import copy
from typing import Any

import torch

from alseg.nn.losses import labelled_cross_entropy
from alseg.nn.segmenter import build_segmenter
from benchmarks.harness import Comparison, compare, table, within

CLASSES = 19
ENCODERS = ("mobilenet_v2", "resnet18")


def main(quick: bool) -> None:
    print(table(row for encoder in ENCODERS for row in rows(encoder, quick)))


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
        network.zero_grad()
        loss = labelled_cross_entropy(network(images), labels)
        loss.backward()
        return loss.detach()

    size = f"DeepLabV3Plus on {encoder}, 2 images of {side}x{side}"
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
