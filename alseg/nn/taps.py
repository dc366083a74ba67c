"""Features from inside a network, read while it computes its scores: one forward pass for both."""

import math
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from alseg.core.errors import unknown_name
from alseg.nn.interface import Segmenter

_NAME = re.compile(r"(?P<module>[^\[\]]+)(\[(?P<item>-?\d+)\])?")


class Tapped(NamedTuple):
    """What a network computes on its own grid, and what passed the taps on the way."""

    scores: Tensor
    """(B, C, h, w), see `Segmenter.features`."""
    features: Tensor
    """(B, D, h, w), see `Segmenter.features`."""
    canvas: tuple[int, int]
    """Height and width of the padded images that all grids cover."""
    taps: Mapping[str, Any]
    """Output of every module asked for, by the name it was asked for."""


class TapShape(NamedTuple):
    """Channels and grid of a tapped feature map."""

    channels: int
    """D."""
    stride: int
    """Pixels of the image per cell, along one side."""


@contextmanager
def taps(network: nn.Module, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Read outputs of modules inside a network during one forward pass.

    Hooks stand on the modules only inside the ``with`` block, and listen to the thread that placed
    them only: nothing is left in what is pickled, copied or saved. What is read is the tensor
    itself, without a copy, with its gradient.

    Args:
        network: Any network.
        names: Paths of modules as in ``network.get_submodule``, e.g. ``encoder.layer1``; for
            modules that return several tensors one of them by its position, e.g. ``encoder[-1]``.

    Yields:
        What the names stand for, there after the forward pass.

    Raises:
        UserError: If the network has no such module.
        ValueError: If one was not run, or more than once, by the end of the block.

    >>> double = nn.Sequential(nn.Identity(), nn.Upsample(scale_factor=2))
    >>> with taps(double, ["0"]) as read:
    ...     _ = double(torch.ones(1, 1, 2, 2))
    >>> read["0"].shape
    torch.Size([1, 1, 2, 2])
    """
    wanted = {name: _parse(network, name) for name in names}
    outputs: dict[str, list[Any]] = {path: [] for path, _ in wanted.values()}
    here = threading.get_ident()
    read: dict[str, Any] = {}

    def listener(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if threading.get_ident() == here:
                outputs[path].append(output)

        return hook

    handles = []
    try:
        for path in outputs:
            handles.append(network.get_submodule(path).register_forward_hook(listener(path)))
        yield read
    finally:
        for handle in handles:
            handle.remove()
    for name, (path, item) in wanted.items():
        if len(outputs[path]) != 1:
            raise ValueError(
                f"module {path!r} was run {len(outputs[path])} times in one pass, not once"
            )
        output = outputs[path][0]
        read[name] = output if item is None else output[item]


def tapped(network: Segmenter, images: Tensor, names: Sequence[str]) -> Tapped:
    """Scores of images, and features from inside the network, in one forward pass.

    Args:
        network: The network, in any mode.
        images: Normalised RGB, (B, 3, H, W), float32.
        names: See `taps`; paths begin with ``encoder``, ``decoder`` or ``classifier``.

    Returns:
        Everything on its own grid: `Segmenter.enlarge` brings it to the size of the images.

    Raises:
        UserError: If the network has no such module.
        ValueError: If a module is not run, or more than once.
    """
    with taps(network, names) as read:
        scores, features, canvas = network.features(images)
    return Tapped(scores, features, canvas, read)


def tap_shapes(network: Segmenter, names: Sequence[str]) -> list[TapShape]:
    """Channels and strides of features inside a network, found without computing anything.

    The network runs on the meta device: only shapes are propagated, its weights and running
    statistics are not touched.

    Args:
        network: The network, in any mode, on any device.
        names: See `taps`; each must be one feature map, (B, D, h, w).
    """
    tensors = chain(network.named_parameters(), network.named_buffers())
    shapes = {name: tensor.to("meta") for name, tensor in tensors}
    side = math.lcm(2048, network.multiple)  # so large that one cell more does not count
    with taps(network, names) as read, torch.no_grad():
        functional_call(network, shapes, torch.empty(2, 3, side, side, device="meta"))
    return [TapShape(read[name].shape[1], round(side / read[name].shape[2])) for name in names]


def stage_taps(network: Segmenter, strides: Sequence[int] = (4, 8, 16)) -> list[str]:
    """The encoder's own stages, as many neighbours as strides are given, nearest to the strides.

    Args:
        network: The network.
        strides: Pixels per cell wanted, from the shallowest stage on.

    Returns:
        Names for `taps`, from the shallowest stage on. Strides of an encoder whose last stages are
        dilated may be smaller than those wanted: see `tap_shapes`.

    Raises:
        ValueError: If the encoder has fewer stages.
    """
    channels = stage_channels(network)
    # The first are the images themselves; a stage that an encoder lacks has no channels.
    names = [f"encoder[{index}]" for index in range(1, len(channels)) if channels[index] > 0]
    if len(names) < len(strides):
        raise ValueError(f"the encoder has {len(names)} stages, fewer than {len(strides)}")
    found = [shape.stride for shape in tap_shapes(network, names)]

    def distance(first: int) -> float:
        pairs = zip(found[first : first + len(strides)], strides, strict=True)
        return sum(max(a, b) / min(a, b) for a, b in pairs)

    start = min(range(len(names) - len(strides) + 1), key=distance)
    return names[start : start + len(strides)]


def stage_channels(network: Segmenter) -> list[int]:
    """Channels of everything the encoder returns: the images, then its stages; 0 = it has none."""
    channels: Any = network.encoder.out_channels
    return list(channels)


def _parse(network: nn.Module, name: str) -> tuple[str, int | None]:
    """Path of the module, and the position among what it returns."""
    match = _NAME.fullmatch(name)
    known = [path for path, _ in network.named_modules() if path]
    if match is None or match["module"] not in known:
        # hundreds of names: show the closest ones only
        raise unknown_name("module", name, get_close_matches(name, known, n=8, cutoff=0.3))
    return match["module"], None if match["item"] is None else int(match["item"])
