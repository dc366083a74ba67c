"""A feature pyramid on a dilated encoder; segmentation-models-pytorch's wants every size halved."""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch.nn.functional as F
from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder, SegmentationBlock
from torch import Tensor, nn

#: Of the finest features that are joined, and of the result.
_STRIDE = 4


class DilatedFPNDecoder(FPNDecoder):
    """The decoder of segmentation-models-pytorch for features some of which have one size.

    Args:
        encoder_channels: Of the encoder's features, the finest first.
        strides: Of the last four of them, the finest (4) first.
        pyramid_channels: Of the pyramid.
        segmentation_channels: Of what is made of each of its levels.
        dropout: Rate, of whole channels.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        strides: Sequence[int],
        pyramid_channels: int,
        segmentation_channels: int,
        dropout: float,
    ) -> None:
        super().__init__(
            encoder_channels=list(encoder_channels),
            pyramid_channels=pyramid_channels,
            segmentation_channels=segmentation_channels,
            dropout=dropout,
        )
        doublings = [(stride // _STRIDE).bit_length() - 1 for stride in reversed(strides)]
        self.seg_blocks = nn.ModuleList(
            SegmentationBlock(pyramid_channels, segmentation_channels, n_upsamples=n)
            for n in doublings
        )

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the encoder's features to (B, D, H / 4, W / 4)."""
        *finer, coarsest = features[-4:]
        level = self.p5(coarsest)
        levels = [level]
        for block, skip in zip((self.p4, self.p3, self.p2), reversed(finer), strict=True):
            if level.shape[-2:] != skip.shape[-2:]:
                level = F.interpolate(level, size=skip.shape[-2:], mode="nearest")
            level = level + block.skip_conv(skip)
            levels.append(level)
        parts = [block(one) for block, one in zip(self.seg_blocks, levels, strict=True)]
        joined: Tensor = self.dropout(self.merge(parts))
        return joined


class DilatedFPN(nn.Module):
    """Parts of an FPN (Lin et al., CVPR 2017, arXiv 1612.03144) on an encoder that is dilated.

    With an output stride of 32 it is the FPN of segmentation-models-pytorch.

    Args:
        encoder_name: Encoder of segmentation-models-pytorch.
        encoder_weights: ``imagenet`` or None.
        encoder_output_stride: 8, 16 or 32.
        decoder_pyramid_channels: Channels of the pyramid.
        decoder_segmentation_channels: Channels of what is made of each of its levels.
        decoder_dropout: Rate, of whole channels.
        classes: Output channels.
        **kwargs: To the encoder.
    """

    def __init__(
        self,
        encoder_name: str = "resnet50",
        encoder_weights: str | None = "imagenet",
        encoder_output_stride: int = 8,
        decoder_pyramid_channels: int = 256,
        decoder_segmentation_channels: int = 128,
        decoder_dropout: float = 0.2,
        classes: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if encoder_output_stride != 32:
            kwargs["output_stride"] = encoder_output_stride
        self.encoder = smp.encoders.get_encoder(encoder_name, weights=encoder_weights, **kwargs)
        self.decoder = DilatedFPNDecoder(
            self.encoder.out_channels,
            [min(stride, encoder_output_stride) for stride in (4, 8, 16, 32)],
            decoder_pyramid_channels,
            decoder_segmentation_channels,
            decoder_dropout,
        )
        self.segmentation_head = nn.Sequential(nn.Conv2d(decoder_segmentation_channels, classes, 1))
