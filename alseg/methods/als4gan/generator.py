"""The generator: DeepLabv2 on a ResNet of the older, Caffe kind (ALS4GAN, arXiv 2110.07782).

Its tensors are named as in the DeepLabv2 files that circulate for PyTorch.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from alseg.nn.segmenter import upsample


class Stage(NamedTuple):
    """Bottlenecks of one resolution and width."""

    blocks: int
    channels: int
    stride: int
    """Of the first block."""
    dilation: int
    """Of the 3 x 3 convolutions of all blocks."""


#: ResNet-101 with output stride 8.
RESNET101 = (Stage(3, 256, 1, 1), Stage(4, 512, 2, 1), Stage(23, 1024, 1, 2), Stage(3, 2048, 1, 4))


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
    """Trunk of DeepLabv2.

    Args:
        stages: What follows the stem, as ``layer2``, ``layer3``, ...
        stem: Channels of the stem, ``layer1``.
        momentum: Share of the newest batch in the running statistics, in PyTorch's sense; None
            freezes them, as suits pretrained weights. The reference has 0.999, by which they are
            all but those of the last batch alone.
    """

    def __init__(
        self, stages: Sequence[Stage] = RESNET101, stem: int = 64, momentum: float | None = 1e-3
    ) -> None:
        super().__init__()
        self.frozen = momentum is None
        share = 0.0 if momentum is None else momentum
        self.layer1 = Stem(stem, share)
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
        self.channels = channels
        self.train()

    def train(self, mode: bool = True) -> "CaffeResNet":
        """Switch to training; frozen statistics stay as they are."""
        super().train(mode)
        if self.frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to features (B, D, h, w)."""
        for layer in self.children():
            images = layer(images)
        return images


class SummedHead(nn.Module):
    """Dilated 3 x 3 classifiers side by side, whose outputs are added.

    Args:
        in_channels: Channels of the trunk.
        num_classes: C.
        rates: One dilation per classifier. S4GAN's own code adds up the first two alone.
    """

    def __init__(
        self, in_channels: int, num_classes: int, rates: Sequence[int] = (6, 12, 18, 24)
    ) -> None:
        super().__init__()
        for number, rate in enumerate(rates):
            conv = nn.Conv2d(in_channels, num_classes, 3, padding=rate, dilation=rate)
            nn.init.normal_(conv.weight, mean=0.0, std=0.01)
            nn.init.zeros_(conv.get_parameter("bias"))
            self.add_module(f"c{number}", conv)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, D, h, w) to (B, C, h, w)."""
        return sum(conv(features) for conv in self.children())


class DeepLabV2(nn.Module):
    """A trunk, a summed head, and bilinear upsampling with aligned corners (E11).

    Args:
        trunk: Maps (B, 3, H, W) to features of `head`.
        head: The classifiers.
    """

    def __init__(self, trunk: nn.Module, head: SummedHead) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def coarse(self, images: Tensor) -> Tensor:
        """Logits on the trunk's own grid: (B, 3, H, W) to (B, C, h, w)."""
        return self.head(self.trunk(images))

    def forward(self, images: Tensor) -> Tensor:
        """Logits at the size of the images: (B, 3, H, W) to (B, C, H, W)."""
        height, width = images.shape[-2:]
        return upsample(self.coarse(images), (height, width), align_corners=True)

    def parameter_groups(self, lr: float, weight_decay: float = 5e-4) -> list[dict[str, Any]]:
        """Optimiser groups: trunk at `lr`, head weights at 10 x, head biases at 20 x undecayed."""
        weights = [p for name, p in self.head.named_parameters() if name.endswith("weight")]
        biases = [p for name, p in self.head.named_parameters() if name.endswith("bias")]
        trunk = [p for p in self.trunk.parameters() if p.requires_grad]
        return [
            {"params": trunk, "lr": lr, "weight_decay": weight_decay},
            {"params": weights, "lr": 10 * lr, "weight_decay": weight_decay},
            {"params": biases, "lr": 20 * lr, "weight_decay": 0.0},
        ]


def deeplab_resnet101(
    num_classes: int,
    rates: Sequence[int] = (6, 12, 18, 24),
    momentum: float | None = 1e-3,
) -> DeepLabV2:
    """The paper's generator, with random weights.

    Args:
        num_classes: C.
        rates: See `SummedHead`.
        momentum: See `CaffeResNet`.
    """
    trunk = CaffeResNet(momentum=momentum)
    return DeepLabV2(trunk, SummedHead(trunk.channels, num_classes, rates))
