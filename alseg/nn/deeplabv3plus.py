"""DeepLabv3+ (Chen et al., ECCV 2018) with the choices that published networks make differently.

``DeepLabV3Plus`` is that of segmentation-models-pytorch, with one separable convolution after the
pooled features and one after the join. ``ConfigurableDeepLabV3Plus`` has none and two, as in the
paper, and leaves open what mulquery (arXiv 2309.09319), adaptive superpixels (2303.16817) and
MADBAL (2308.14904) do each in their own way: ``experiments/README.md`` has a table of presets.
"""

from collections.abc import Sequence
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.func import functional_call

from alseg.core.errors import UserError, unknown_name
from alseg.nn.interface import LinearClassifier, upsample

PADDINGS = ("multiple", "one_more", "none")


class Resize(nn.Module):
    """Bilinear resize to a size given with the maps.

    Args:
        align_corners: See `alseg.nn.interface.upsample`.
    """

    def __init__(self, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize (B, D, h, w) to (B, D, H, W)."""
        return upsample(maps, size, self.align_corners)


def conv_block(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    dilation: int = 1,
    separable: bool = False,
    inner_norm: bool = False,
) -> nn.Sequential:
    """Convolution without bias that keeps the size, batch norm and ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        kernel_size: Odd.
        dilation: Of the kernel.
        separable: A depthwise and a 1 x 1 convolution instead of a full one.
        inner_norm: A batch norm and a ReLU between these two as well.
    """
    padding = dilation * (kernel_size // 2)
    layers: list[nn.Module] = []
    width = in_channels
    if separable:
        depthwise = nn.Conv2d(
            width, width, kernel_size, padding=padding, dilation=dilation, groups=width, bias=False
        )
        layers.append(depthwise)
        if inner_norm:
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.Conv2d(width, out_channels, 1, bias=False))
    else:
        layers.append(
            nn.Conv2d(
                width, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False
            )
        )
    return nn.Sequential(*layers, nn.BatchNorm2d(out_channels), nn.ReLU())


class ImagePooling(nn.Sequential):
    """The mean of each feature over the whole image, through a 1 x 1 convolution.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), *conv_block(in_channels, out_channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, D, h, w) to one value per image and channel, on the same grid."""
        pooled: Tensor = super().forward(maps)
        return pooled.expand(-1, -1, *maps.shape[-2:])


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1 x 1, dilated 3 x 3, and the pooled image, projected.

    Args:
        in_channels: Channels of the input.
        channels: Channels of each branch and of the result.
        rates: One dilation per 3 x 3 convolution.
        separable: See `conv_block`.
        inner_norm: See `conv_block`.
        dropout: Rate after the projection.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        rates: Sequence[int],
        separable: bool,
        inner_norm: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        dilated = [
            conv_block(in_channels, channels, 3, rate, separable, inner_norm) for rate in rates
        ]
        branches = [
            conv_block(in_channels, channels),
            *dilated,
            ImagePooling(in_channels, channels),
        ]
        self.branches = nn.ModuleList(branches)
        project = conv_block(len(branches) * channels, channels)
        self.project = nn.Sequential(*project, nn.Dropout(dropout))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, D, h, w) to (B, channels, h, w)."""
        found: Tensor = self.project(torch.cat([branch(maps) for branch in self.branches], dim=1))
        return found


class ConfigurableDecoder(nn.Module):
    """ASPP, join with early features, and 3 x 3 convolutions.

    Args:
        aspp: Reads the encoder's last features.
        low_stage: Which of the encoder's features are joined.
        low: Brings these to fewer channels.
        join: Reads the enlarged features of the ASPP beside the early ones.
        align_corners: How the former are enlarged.
    """

    def __init__(
        self,
        aspp: nn.Module,
        low_stage: int,
        low: nn.Module,
        join: nn.Module,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.low_stage = low_stage
        self.aspp = aspp
        self.low = low
        self.enlarge = Resize(align_corners)
        self.join = join
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Map the encoder's features to (B, D, h, w), on the grid of the early ones."""
        low = self.low(features[self.low_stage])
        context = self.enlarge(self.aspp(features[-1]), (low.shape[2], low.shape[3]))
        joined: Tensor = self.join(torch.cat([context, low], dim=1))
        return joined


class ConfigurableDeepLabV3Plus(nn.Module):
    """Parts of a DeepLabv3+ in which nothing is fixed that published networks do differently.

    Args:
        encoder_name: Encoder of segmentation-models-pytorch.
        encoder_weights: ``imagenet`` or None.
        encoder_output_stride: 8, 16 or 32.
        encoder_without: Modules of the encoder that are left out, by their paths: with
            ``features.18`` a ``mobilenet_v2`` ends with the 320 channels before its last 1 x 1
            convolution.
        decoder_channels: Of the ASPP's branches, its result, and the convolutions after the join.
        decoder_low_stage: Which of the encoder's features are joined: 2 are those at 1/4.
        decoder_low_channels: Channels these are brought to.
        decoder_atrous_rates: Dilations of the ASPP.
        decoder_aspp_separable: Whether its 3 x 3 convolutions are separable.
        decoder_aspp_dropout: Rate after its projection.
        decoder_convs: Number of 3 x 3 convolutions after the join.
        decoder_separable: Whether these are separable.
        decoder_inner_norm: Batch norm and ReLU between depthwise and 1 x 1 convolutions.
        decoder_dropouts: Rates after the convolutions after the join, one each; empty = none.
        align_corners: How the features of the ASPP and the scores are enlarged, see
            `alseg.nn.interface.upsample`.
        padding: What sides of images are padded to. ``multiple``: multiples of the output stride;
            ``one_more``: one pixel more than these, so that cells lie on pixels where corners are
            aligned (513 and 769 stay); ``none``: nothing.
        bn_momentum: Share of the newest batch in the running statistics of all batch norms, in
            PyTorch's sense; None leaves each as it was made, which is 0.1.
        encoder_bn_eps: Added to the variances in the encoder; None leaves what its weights were
            made with.
        decoder_bn_eps: The same in the decoder.
        classifier_std: The classifier starts from a normal distribution of this deviation, cut off
            at twice of it, and biases of 0; None for PyTorch's uniform one.
        classes: Output channels.
        in_channels: Channels of the images.
        **kwargs: To timm's encoders.

    Raises:
        UserError: For an option out of its range.
    """

    def __init__(
        self,
        encoder_name: str = "resnet50",
        encoder_weights: str | None = "imagenet",
        encoder_output_stride: int = 16,
        encoder_without: Sequence[str] = (),
        decoder_channels: int = 256,
        decoder_low_stage: int = 2,
        decoder_low_channels: int = 48,
        decoder_atrous_rates: Sequence[int] = (6, 12, 18),
        decoder_aspp_separable: bool = True,
        decoder_aspp_dropout: float = 0.1,
        decoder_convs: int = 2,
        decoder_separable: bool = True,
        decoder_inner_norm: bool = False,
        decoder_dropouts: Sequence[float] = (),
        align_corners: bool = False,
        padding: str = "multiple",
        bn_momentum: float | None = None,
        encoder_bn_eps: float | None = None,
        decoder_bn_eps: float = 1e-5,
        classifier_std: float | None = None,
        classes: int = 1,
        in_channels: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        _check(padding, decoder_atrous_rates, decoder_convs, decoder_dropouts, decoder_aspp_dropout)
        self.align_corners = align_corners
        self.encoder: Any = smp.encoders.get_encoder(
            encoder_name,
            weights=encoder_weights,
            output_stride=encoder_output_stride,
            in_channels=in_channels,
            **kwargs,
        )
        self.multiple = 1 if padding == "none" else int(self.encoder.output_stride)
        self.remainder = int(padding == "one_more")
        channels = _without(self.encoder, encoder_without)
        low = _low_channels(channels, decoder_low_stage)
        aspp = ASPP(
            channels[-1],
            decoder_channels,
            decoder_atrous_rates,
            decoder_aspp_separable,
            decoder_inner_norm,
            decoder_aspp_dropout,
        )
        join = nn.Sequential()
        width = decoder_channels + decoder_low_channels
        for number in range(decoder_convs):
            block = conv_block(
                width,
                decoder_channels,
                3,
                separable=decoder_separable,
                inner_norm=decoder_inner_norm,
            )
            join.extend(block)
            width = decoder_channels
            if number < len(decoder_dropouts) and decoder_dropouts[number]:
                join.append(nn.Dropout(decoder_dropouts[number]))
        self.decoder = ConfigurableDecoder(
            aspp, decoder_low_stage, conv_block(low, decoder_low_channels), join, align_corners
        )
        _set_norms(self.encoder, bn_momentum, encoder_bn_eps)
        _set_norms(self.decoder, bn_momentum, decoder_bn_eps)
        head = LinearClassifier(width, classes, 1, std=classifier_std)
        self.segmentation_head = nn.Sequential(head)


def _check(
    padding: str,
    rates: Sequence[int],
    convs: int,
    dropouts: Sequence[float],
    aspp_dropout: float,
) -> None:
    """Refuse options out of their range."""
    if padding not in PADDINGS:
        raise unknown_name("network.options.padding", padding, PADDINGS)
    if not rates or min(rates) < 1:
        raise UserError(
            f"network.options.decoder_atrous_rates is {list(rates)}; give dilations of at least 1."
        )
    if convs < 1:
        raise UserError(f"network.options.decoder_convs is {convs}; give at least 1.")
    if dropouts and len(dropouts) != convs:
        raise UserError(
            f"network.options.decoder_dropouts has {len(dropouts)} rates for {convs} convolutions; "
            f"give one each, 0 where nothing is dropped, or leave it out."
        )
    if not all(0 <= rate < 1 for rate in (*dropouts, aspp_dropout)):
        raise UserError(
            f"network.options.decoder_dropouts is {list(dropouts)} and decoder_aspp_dropout "
            f"{aspp_dropout}; rates are at least 0 and below 1."
        )


def _without(encoder: nn.Module, left_out: Sequence[str]) -> list[int]:
    """Leave modules out of an encoder.

    Returns:
        Channels of the images and of its features as they are now.
    """
    known = {name: module for name, module in encoder.named_modules() if name}
    for path in left_out:
        if path not in known:
            raise unknown_name("module in network.options.encoder_without", path, known)
        encoder.set_submodule(path, nn.Identity())
    channels: list[int] = list(getattr(encoder, "out_channels"))  # noqa: B009 - of no common class
    if left_out:
        tensors = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
        shapes = {name: tensor.to("meta") for name, tensor in tensors.items()}
        probe = torch.empty(2, channels[0], 64, 64, device="meta")
        try:
            with torch.no_grad():
                features = functional_call(encoder, shapes, probe)
        except RuntimeError as error:
            raise UserError(
                f"network.options.encoder_without is {list(left_out)}, and what is left of the "
                f"encoder does not fit together; leave out modules at its end."
            ) from error
        channels = [int(feature.shape[1]) for feature in features]
        encoder._out_channels = channels  # type: ignore[assignment] # what `out_channels` reads
    return channels


def _low_channels(channels: Sequence[int], stage: int) -> int:
    """Channels of the features that are joined."""
    stages = len(channels) - 1
    if not 1 <= stage < stages or not channels[stage]:
        raise UserError(
            f"network.options.decoder_low_stage is {stage}; this encoder has the stages 1 to "
            f"{stages}, and the last is that of the ASPP."
        )
    return channels[stage]


def _set_norms(module: nn.Module, momentum: float | None, eps: float | None) -> None:
    """Give batch norms another memory or another floor of the variance."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = layer.momentum if momentum is None else momentum
            layer.eps = layer.eps if eps is None else eps
