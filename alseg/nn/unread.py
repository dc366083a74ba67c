"""Parameters that a network holds and never reads."""

import math

import torch
from torch.func import functional_call

from alseg.nn.interface import Segmenter


def unread_parameters(network: Segmenter) -> list[str]:
    """Learning parameters on which no score of a network depends.

    Some encoders hold layers that a shallow decoder never reads, such as the last two of a ResNet
    under a PSPNet. One pass forwards and backwards on the meta device finds them: only shapes are
    propagated, and weights, running statistics and random generators are not touched.

    Args:
        network: In any mode, on any device.

    Returns:
        Their names in the network, in order.

    Raises:
        RuntimeError: If something in it cannot be tried without computing (of this type are
            NotImplementedError and what torch raises for sizes and devices).
    """
    parameters = {
        name: torch.empty_like(value, device="meta").requires_grad_(value.requires_grad)
        for name, value in network.named_parameters()
    }
    learning = {name: value for name, value in parameters.items() if value.requires_grad}
    if not learning:
        return []
    buffers = {name: value.to("meta") for name, value in network.named_buffers()}
    side = math.lcm(512, network.multiple)
    channels = network.description.get("in_channels", 3)
    with torch.enable_grad():
        images = torch.empty(2, channels, side, side, device="meta")
        scores = functional_call(network, parameters | buffers, images)
        found = torch.autograd.grad(scores.sum(), list(learning.values()), allow_unused=True)
    return [name for name, grad in zip(learning, found, strict=True) if grad is None]
