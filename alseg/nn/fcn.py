"""The fully convolutional network of torchvision on any encoder of segmentation-models-pytorch."""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead


class FCNDecoder(nn.Module):
    """torchvision's head without its classifier: 3x3 convolution, batch norm, ReLU, dropout.

    Args:
        in_channels: Channels of the encoder's last features.
        dropout: Rate.
    """

    def __init__(self, in_channels: int, dropout: float) -> None:
        super().__init__()
        convolution, norm, relu, _, _ = FCNHead(in_channels, 1)
        self.layers = nn.Sequential(convolution, norm, relu, nn.Dropout(dropout))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the encoder's features to (B, D, h, w), D a quarter of its last channels."""
        decoded: Tensor = self.layers(features[-1])
        return decoded


class FCN(nn.Module):
    """Parts of an FCN (Long et al., CVPR 2015) as torchvision's ``fcn_resnet50`` has it.

    With ``resnet50`` it has that network's 32 952 396 parameters for 12 outputs.

    Args:
        encoder_name: Encoder of segmentation-models-pytorch.
        encoder_weights: ``imagenet`` or None.
        encoder_output_stride: 8, 16 or 32.
        decoder_dropout: Rate.
        classes: Output channels.
        **kwargs: To timm's encoders.
    """

    def __init__(
        self,
        encoder_name: str = "resnet50",
        encoder_weights: str | None = "imagenet",
        encoder_output_stride: int = 8,
        decoder_dropout: float = 0.1,
        classes: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.encoder = smp.encoders.get_encoder(
            encoder_name, weights=encoder_weights, output_stride=encoder_output_stride, **kwargs
        )
        channels = self.encoder.out_channels[-1]
        self.decoder = FCNDecoder(channels, decoder_dropout)
        self.segmentation_head = nn.Sequential(nn.Conv2d(channels // 4, classes, 1))
