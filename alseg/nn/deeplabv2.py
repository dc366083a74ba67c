"""DeepLabv2 (Chen et al., arXiv 1606.00915) on its own ResNets, or on any other encoder.

Tensors of its trunk are named as in the DeepLabv2 files that circulate for PyTorch.

Which ``augment.mean`` and ``augment.std`` belong to which ``network.weights``:

- ``imagenet``, or a file of torchvision: ImageNet's, which are the defaults.
- A DeepLabv2 file, whose names begin with ``base.``, if its weights come from Caffe:
  ``mean=[0.48109,0.45752,0.40787]`` and ``std=[0.00392157,0.00392157,0.00392157]``, that is
  0..255 minus (122.679, 116.669, 104.007). Caffe takes BGR and images here are RGB: give
  ``network.weights_bgr=true``.
- A checkpoint of alseg: those of its run.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import torch.nn.functional as F
from torch import Tensor, nn

from alseg.core.errors import UserError
from alseg.nn.interface import Segmenter

#: Encoders that stand for a trunk of DeepLabv2's own kind, and the blocks of its stages.
TRUNKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3), "resnet152": (3, 8, 36, 3)}
MOMENTUM, WIDTH = 1e-3, 64


class Stage(NamedTuple):
    """Bottlenecks of one resolution and width."""

    blocks: int
    channels: int
    stride: int
    """Of the first block."""
    dilation: int
    """Of the 3 x 3 convolutions of all blocks."""


def dilated_stages(blocks: Sequence[int], width: int, output_stride: int) -> list[Stage]:
    """Stages of a ResNet that halves its grid until a stride is reached, and then dilates.

    Args:
        blocks: Bottlenecks of each stage.
        width: Channels of the stem, whose stride is 4; the first stage has four times as many.
        output_stride: Pixels of the image per cell, along one side.

    >>> [(stage.stride, stage.dilation) for stage in dilated_stages((3, 4, 23, 3), 64, 8)]
    [(1, 1), (2, 1), (1, 2), (1, 4)]
    """
    stages, reached, dilation = [], 4, 1
    for number, count in enumerate(blocks):
        stride = 2 if number and reached < output_stride else 1
        dilation *= 2 if number and stride == 1 else 1
        reached *= stride
        stages.append(Stage(count, 4 * width << number, stride, dilation))
    return stages


class ConvNorm(nn.Module):
    """Convolution without bias, and batch normalisation whose scale and shift are never trained."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        momentum: float,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, eps=1e-5, momentum=momentum)
        self.bn.requires_grad_(False)

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve and normalise."""
        return self.bn(self.conv(maps))


class Stem(nn.Module):
    """7 x 7 convolution and pooling, both halving; the pooling keeps a cut-off last window."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, channels, 7, momentum, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to a quarter of the sides."""
        return self.pool(F.relu(self.conv1(images)))


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1; the stride lies in the first, as in Caffe's ResNets.

    The first block of a stage has a convolution as its shortcut, also where no size changes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        momentum: float,
        stride: int,
        dilation: int,
        first: bool,
    ) -> None:
        super().__init__()
        inner = out_channels // 4
        self.reduce = ConvNorm(in_channels, inner, 1, momentum, stride=stride)
        self.conv3x3 = ConvNorm(inner, inner, 3, momentum, dilation=dilation)
        self.increase = ConvNorm(inner, out_channels, 1, momentum)
        self.shortcut: nn.Module = nn.Identity()
        if first:
            self.shortcut = ConvNorm(in_channels, out_channels, 1, momentum, stride=stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Add the three convolutions to the shortcut."""
        inner = F.relu(self.conv3x3(F.relu(self.reduce(maps))))
        return F.relu(self.increase(inner) + self.shortcut(maps))


class CaffeResNet(nn.Module):
    """Trunk of DeepLabv2, with the interface of an encoder.

    Args:
        stages: What follows the stem, as ``layer2``, ``layer3``, ...
        stem: Channels of the stem, ``layer1``.
        momentum: Share of the newest batch in the running statistics, in PyTorch's sense; None
            freezes them, as suits pretrained weights.

    Attributes:
        out_channels: Of the images, of the stem, and of each stage.
    """

    def __init__(
        self, stages: Sequence[Stage], stem: int = WIDTH, momentum: float | None = MOMENTUM
    ) -> None:
        super().__init__()
        self.frozen = momentum is None
        share = 0.0 if momentum is None else momentum
        self.layer1 = Stem(stem, share)
        self.out_channels = [3, stem, *(stage.channels for stage in stages)]
        channels = stem
        for number, stage in enumerate(stages, start=2):
            layer = nn.Sequential()
            for block in range(stage.blocks):
                first = block == 0
                stride = stage.stride if first else 1
                bottleneck = Bottleneck(
                    channels, stage.channels, share, stride, stage.dilation, first
                )
                layer.add_module(f"block{block + 1}", bottleneck)
                channels = stage.channels
            self.add_module(f"layer{number}", layer)
        self.train()

    def train(self, mode: bool = True) -> "CaffeResNet":
        """Switch to training; frozen statistics stay as they are."""
        super().train(mode)
        if self.frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) to the images themselves, and features (B, D, h, w) of each layer."""
        features = [images]
        for layer in self.children():
            features.append(layer(features[-1]))
        return features

    def own_names(self, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
        """Weights of torchvision's ResNet or of a DeepLabv2 by their names in a `Segmenter`.

        Args:
            state: Tensors by name. Those of a `Segmenter` are left as they are.
            source: What the weights are called in an error, such as their path.

        Raises:
            UserError: If any tensor of the trunk is missing or has another shape. Counts of
                batches, which older files lack, are not needed.
        """
        renamed = {own: value for name, value in state.items() if (own := own_name(name))}
        if not renamed:
            return dict(state)
        needed = {
            f"encoder.{name}": value.shape
            for name, value in self.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
        missing = [
            name
            for name, shape in needed.items()
            if name not in renamed or renamed[name].shape != shape
        ]
        if missing:
            raise UserError(
                f"{source} fills {len(needed) - len(missing)} of the {len(needed)} tensors of "
                f"DeepLabv2's trunk (the first without a value: {missing[0]}); give the weights of "
                f"the same ResNet as torchvision saves them, or of a DeepLabv2, or "
                f"network.weights=null."
            )
        return renamed


_TORCHVISION = {"1": "reduce", "2": "conv3x3", "3": "increase"}


def own_name(name: str) -> str | None:
    """Where a tensor of a file belongs in a DeepLabv2 of alseg.

    Args:
        name: A name of torchvision's ResNets, or of PyTorch's DeepLabv2 files (``base.layer2...``).

    Returns:
        The name in a `Segmenter`, or None for tensors of other classifiers.

    >>> own_name("layer1.0.bn2.weight"), own_name("conv1.weight")
    ('encoder.layer2.block1.conv3x3.bn.weight', 'encoder.layer1.conv1.conv.weight')
    >>> own_name("base.layer4.block9.reduce.conv.weight"), own_name("base.aspp.c0.bias")
    ('encoder.layer4.block9.reduce.conv.weight', 'classifier.c0.bias')
    """
    if found := re.fullmatch(r"(?:base\.)?(layer\d\.(?:conv1|block\d+)\..+)", name):
        return f"encoder.{found[1]}"
    if found := re.fullmatch(r"(?:base\.)?aspp\.(c\d+\.(?:weight|bias))", name):
        return f"classifier.{found[1]}"
    if found := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
        return f"encoder.layer1.conv1.{found[1]}.{found[2]}"
    if found := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)([123])\.(\w+)", name):
        stage, block, kind, number, rest = found.groups()
        inner = f"layer{int(stage) + 1}.block{int(block) + 1}.{_TORCHVISION[number]}"
        return f"encoder.{inner}.{kind}.{rest}"
    if found := re.fullmatch(r"layer(\d)\.0\.downsample\.([01])\.(\w+)", name):
        stage, kind, rest = found.groups()
        return f"encoder.layer{int(stage) + 1}.block1.shortcut.{('conv', 'bn')[int(kind)]}.{rest}"
    return None


class LastFeatures(nn.Module):
    """A decoder without weights: the encoder's last features."""

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Take the last of several (B, D, h, w)."""
        return features[-1]


class SummedClassifier(nn.Module):
    """Dilated 3 x 3 classifiers side by side, whose outputs are added.

    Args:
        in_channels: D, channels of the features.
        num_outputs: C.
        rates: One dilation per classifier.
    """

    def __init__(
        self, in_channels: int, num_outputs: int, rates: Sequence[int] = (6, 12, 18, 24)
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        for number, rate in enumerate(rates):
            conv = nn.Conv2d(in_channels, num_outputs, 3, padding=rate, dilation=rate)
            nn.init.normal_(conv.weight, mean=0.0, std=0.01)
            nn.init.zeros_(conv.get_parameter("bias"))
            self.add_module(f"c{number}", conv)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, D, h, w) to logits (B, C, h, w) and the features, unchanged."""
        return sum(conv(features) for conv in self.children()), features


class DeepLabV2(nn.Module):
    """Parts of a DeepLabv2 (Chen et al., arXiv 1606.00915) without its CRF, at one scale.

    With ``resnet50``, ``resnet101`` or ``resnet152`` the trunk is the paper's: strides in the 1 x 1
    convolutions, pooling that keeps cut-off windows, scale and shift of the batch norms as they
    are. Every other encoder, ``tu-resnet101`` too, is taken as it is, dilated, and its batch norms
    learn. Scores are enlarged with corner pixels aligned. A cosine classifier takes the place of
    the summed one, and sees one cell at a time.

    Args:
        encoder_name: Encoder of segmentation-models-pytorch.
        encoder_weights: ``imagenet`` or None.
        encoder_output_stride: 8, 16 or 32.
        rates: Dilations of the classifiers that are added up.
        bn_momentum: Share of the newest batch in the running statistics of the paper's trunk, in
            PyTorch's sense; None freezes them.
        width: Channels of the stem of the paper's trunk, by which all others grow and shrink;
            pretrained weights have 64.
        classes: Output channels.
        in_channels: Channels of the images; 3 for the trunks of the paper.
        **kwargs: To timm's encoders.

    Raises:
        UserError: For an option that the encoder does not have, or one out of its range.
    """

    align_corners = True

    def __init__(
        self,
        encoder_name: str = "resnet101",
        encoder_weights: str | None = "imagenet",
        encoder_output_stride: int = 8,
        rates: Sequence[int] = (6, 12, 18, 24),
        bn_momentum: float | None = MOMENTUM,
        width: int = WIDTH,
        classes: int = 1,
        in_channels: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if in_channels != 3 and encoder_name in TRUNKS:
            raise UserError(
                f"network.architecture=DeepLabV2 with network.encoder={encoder_name} reads red, "
                f"green and blue, not {in_channels} channels; choose another encoder or "
                f"architecture, or three bands with data.bands."
            )
        if not rates or min(rates) < 1:
            raise UserError(
                f"network.options.rates is {list(rates)}; give dilations of at least 1."
            )
        #: Sides need no padding with the paper's trunk: aligned corners fit any size.
        self.multiple = 1
        self.encoder: Any
        if encoder_name in TRUNKS:
            self.encoder = _trunk(encoder_name, encoder_output_stride, bn_momentum, width)
            if encoder_weights is not None:
                theirs = smp.encoders.get_encoder(encoder_name, weights=encoder_weights)
                named = self.encoder.own_names(theirs.state_dict(), f"ImageNet's {encoder_name}")
                own = {name.removeprefix("encoder."): value for name, value in named.items()}
                self.encoder.load_state_dict(own)
        elif (bn_momentum, width) != (MOMENTUM, WIDTH):
            raise UserError(
                f"network.options bn_momentum and width are for network.encoder="
                f"{', '.join(TRUNKS)}; leave them out for {encoder_name}."
            )
        else:
            self.encoder = smp.encoders.get_encoder(
                encoder_name,
                weights=encoder_weights,
                output_stride=encoder_output_stride,
                in_channels=in_channels,
                **kwargs,
            )
            self.multiple = int(self.encoder.output_stride)
        self.decoder = LastFeatures()
        head = SummedClassifier(self.encoder.out_channels[-1], classes, rates)
        self.segmentation_head = nn.Sequential(head)


def _trunk(name: str, output_stride: int, momentum: float | None, width: int) -> CaffeResNet:
    if output_stride not in (8, 16, 32):
        raise UserError(
            f"network.options.encoder_output_stride is {output_stride}; give 8, 16 or 32."
        )
    if momentum is not None and not 0 <= momentum <= 1:
        raise UserError(
            f"network.options.bn_momentum is {momentum}; it is a share, 0 to 1, or null to freeze."
        )
    if width < 1:
        raise UserError(f"network.options.width is {width}; give at least 1 channel.")
    return CaffeResNet(dilated_stages(TRUNKS[name], width, output_stride), width, momentum)


def deeplab_groups(
    network: Segmenter, lr: float, weight_decay: float = 5e-4
) -> list[dict[str, Any]]:
    """Optimiser groups of DeepLabv2's training: encoder, weights of the head, biases of the head.

    Args:
        network: Of any architecture; its head are the decoder and the classifier.
        lr: Of the encoder; that of the head's weights is 10 times, that of its biases 20 times as
            large.
        weight_decay: Of all but the head's biases.
    """
    head = [*network.decoder.named_parameters(), *network.classifier.named_parameters()]
    learned = [(name, parameter) for name, parameter in head if parameter.requires_grad]
    return [
        {
            "params": [p for p in network.encoder.parameters() if p.requires_grad],
            "lr": lr,
            "weight_decay": weight_decay,
        },
        {
            "params": [p for name, p in learned if not name.endswith("bias")],
            "lr": 10 * lr,
            "weight_decay": weight_decay,
        },
        {
            "params": [p for name, p in learned if name.endswith("bias")],
            "lr": 20 * lr,
            "weight_decay": 0.0,
        },
    ]
