"""The Lite R-ASPP of torchvision on any encoder of segmentation-models-pytorch."""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torchvision.models.segmentation.lraspp import LRASPPHead

from alseg.nn.interface import upsample


class LRASPPDecoder(nn.Module):
    """torchvision's head without its two classifiers, which become one.

    torchvision adds a 1x1 convolution of the low features and one of the high features. Both read
    the same grid, so that one 1x1 convolution of the two side by side is the same function::

        W_low x_low + b_low + W_high x_high + b_high
            = [W_low W_high] [x_low; x_high] + (b_low + b_high)

    It has one bias per class where torchvision has two of which only the sum is seen.

    Args:
        low_channels: Channels of the low features.
        high_channels: Channels of the high features.
        inner_channels: Channels the high features are brought to.
    """

    def __init__(self, low_channels: int, high_channels: int, inner_channels: int) -> None:
        super().__init__()
        head = LRASPPHead(low_channels, high_channels, 1, inner_channels)
        self.cbr = head.cbr
        self.scale = head.scale

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the encoder's features to (B, low + inner channels, H / 8, W / 8)."""
        low, high = features[3], features[-1]
        inner = self.cbr(high) * self.scale(high)
        return torch.cat([low, upsample(inner, (low.shape[2], low.shape[3]))], dim=1)


class LRASPP(nn.Module):
    """Parts of a Lite R-ASPP (Howard et al., "Searching for MobileNetV3", ICCV 2019).

    Low features are the last ones of the encoder at 1/8 of the image, high features its last ones.
    With ``tu-mobilenetv3_large_100`` it is torchvision's ``lraspp_mobilenet_v3_large`` but for
    three things: that one takes its low features after the first of the three blocks at 1/8,
    dilates the first block of the last stage too, and has 1e-3 in its batch norms, timm 1e-5.

    Args:
        encoder_name: Encoder of segmentation-models-pytorch.
        encoder_weights: ``imagenet`` or None.
        encoder_output_stride: 8, 16 or 32.
        decoder_channels: Channels the high features are brought to.
        classes: Output channels.
        **kwargs: To timm's encoders.
    """

    def __init__(
        self,
        encoder_name: str = "tu-mobilenetv3_large_100",
        encoder_weights: str | None = "imagenet",
        encoder_output_stride: int = 16,
        decoder_channels: int = 128,
        classes: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, weights=encoder_weights, output_stride=encoder_output_stride, **kwargs
        )
        low, high = self.encoder.out_channels[3], self.encoder.out_channels[-1]
        self.decoder = LRASPPDecoder(low, high, decoder_channels)
        self.segmentation_head = nn.Sequential(nn.Conv2d(low + decoder_channels, classes, 1))
