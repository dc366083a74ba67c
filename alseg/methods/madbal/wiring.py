"""Which features of a network the depth head and the detector read, and through which layers.

MADBAL (arXiv 2308.14904, F8) as its reference implementation wires its three networks:

- DeepLabv3+: a second last part of the decoder with a second classifier, which read the two maps
  that the decoder joins; the detector reads the one of them that comes from the ASPP. The last part
  of segmentation-models-pytorch is one separable convolution of 304 to 256 channels; the
  reference's is two full ones, with 1.2 million parameters more, as `ConfigurableDeepLabV3Plus` has
  with ``decoder_separable=false``.
- Lite R-ASPP: a second head; the detector reads the low features, and the high ones brought to
  half their channels.
- DeepLabv3, and every network the reference does not know: a second decoder with a second
  classifier; the detector reads the encoder's last features brought to a quarter of their channels.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from torch import Tensor, nn

from alseg.nn.deeplabv3plus import ConfigurableDecoder
from alseg.nn.lraspp import LRASPPDecoder
from alseg.nn.segmenter import LinearClassifier, Segmenter, upsample
from alseg.nn.taps import stage_channels, tap_shapes

#: What the decoders of DeepLabv3+ call the two maps that they join, and what reads these.
_JOINS: dict[type[nn.Module], tuple[str, str, str]] = {
    DeepLabV3PlusDecoder: ("up", "block1", "block2"),
    ConfigurableDecoder: ("enlarge", "low", "join"),
}


class Wiring(NamedTuple):
    """Layers that read a network, and the names of what they read (see `alseg.nn.taps.taps`).

    A layer with one name is given that output, one with several names a list of outputs.
    """

    read: list[str]
    """What the depth head reads."""
    depth_head: nn.Module
    """Says how much each depth is to be believed: returns (B, 3, h, w)."""
    last: list[str]
    """What `reduce` reads for the detector."""
    reduce: nn.Module
    """Reduces the channels of what it reads."""
    reduced_channels: int
    """Channels that `reduce` returns."""
    hidden_channels: int
    """Channels inside the detector."""


class Joined(nn.Module):
    """A module that reads feature maps of one grid, concatenated along their channels."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Concatenate maps (B, D_k, h, w) to (B, sum of D_k, h, w), and apply the module."""
        output: Tensor = self.module(torch.cat(list(maps), dim=1))
        return output


class LowBesideReduced(nn.Module):
    """Low features concatenated with high ones, whose channels are reduced first.

    High features are enlarged to the grid of the low ones.
    """

    def __init__(self, reduce: nn.Module) -> None:
        super().__init__()
        self.reduce = reduce

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map (B, D, h, w) and (B, E, h', w') to (B, D + reduced channels, h, w)."""
        low, high = maps
        return torch.cat([low, upsample(self.reduce(high), (low.shape[2], low.shape[3]))], dim=1)


def wire(
    network: Segmenter, reduced_channels: int | None = None, hidden_channels: int | None = None
) -> Wiring:
    """Choose which features are read, and build the layers that read them, with fresh weights.

    Args:
        network: The segmentation network.
        reduced_channels: Channels the encoder's last features are brought to; None for those of the
            reference. A DeepLabv3+ has none to choose.
        hidden_channels: Channels inside the detector; None for those of the reference: 512, for a
            Lite R-ASPP 256.
    """
    decoder = network.decoder
    if type(decoder) in _JOINS:
        high_map, low_map, join = _JOINS[type(decoder)]
        read = [f"decoder.{high_map}", f"decoder.{low_map}"]
        context, features = tap_shapes(network, [read[0], "decoder"])
        head = Joined(_second_head(network, decoder.get_submodule(join), features.channels))
        wide = hidden_channels or 512
        return Wiring(read, head, read[:1], nn.Identity(), context.channels, wide)
    high, features = tap_shapes(network, ["encoder[-1]", "decoder"])
    stages = _second_head(network, decoder, features.channels)
    if isinstance(decoder, LRASPPDecoder):
        narrow = reduced_channels or high.channels // 2
        beside = LowBesideReduced(nn.Conv2d(high.channels, narrow, 3, padding=1))
        last, both = ["encoder[3]", "encoder[-1]"], stage_channels(network)[3] + narrow
        return Wiring(["encoder"], stages, last, beside, both, hidden_channels or 256)
    narrow = reduced_channels or high.channels // 4
    reduce = nn.Conv2d(high.channels, narrow, 3, padding=1)
    return Wiring(["encoder"], stages, ["encoder[-1]"], reduce, narrow, hidden_channels or 512)


def fresh_copy(module: nn.Module) -> nn.Module:
    """A copy with fresh weights and running statistics, in training mode and with gradients.

    Args:
        module: Of any network, frozen or not.
    """
    twin = copy.deepcopy(module)
    for layer in twin.modules():
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()
    return twin.requires_grad_(True).train()


def _second_head(network: Segmenter, decoder: nn.Module, channels: int) -> nn.Module:
    """Like the network's decoder, or its last part, and its classifier, with three outputs."""
    own = network.classifier
    side = own.conv.kernel_size[0] if isinstance(own, LinearClassifier) else 1
    return nn.Sequential(fresh_copy(decoder), nn.Conv2d(channels, 3, side, padding=side // 2))
