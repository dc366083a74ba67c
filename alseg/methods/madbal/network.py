"""The support modules: auxiliary classifiers at three depths, depth weights, hard-pixel detector.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alseg.nn.segmenter import upsample

#: Padding of the 5 x 5 deconvolution that enlarges by a stride, with one pixel of output padding.
_PADDING = {2: 2, 4: 1}


class SupportOutputs(NamedTuple):
    """What the support modules say, at the size asked for."""

    auxiliary: tuple[Tensor, Tensor, Tensor]
    """Logits of the auxiliary classifiers, from the shallowest on, (B, C, H, W) each."""
    depth_weights: Tensor
    """How much each depth is to be believed, 0..1, summing to 1, (B, 3, H, W)."""
    hard_logits: Tensor
    """Whether a pixel is hard, before the sigmoid: on an edge, and inside, (B, 2, H, W)."""


class ResidualBlock(nn.Module):
    """``x + conv(relu(conv(x)))``, 3 x 3, without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, D, h, w) to the same shape."""
        return maps + self.conv2(self.conv1(maps).relu())


class SqueezeExcitation(nn.Module):
    """Channels scaled by a gate that sees their means (Hu et al., CVPR 2018), without bias."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, D, h, w) to the same shape."""
        return maps * self.fc(maps.mean(dim=(2, 3)))[:, :, None, None]


class Detector(nn.Sequential):
    """Tells hard pixels from easy ones, on edges and inside (F8).

    Args:
        channels: Of the input.
        hidden: Channels after the first and after the second convolution.
    """

    def __init__(self, channels: int, hidden: tuple[int, int] = (512, 64)) -> None:
        wide, narrow = hidden
        super().__init__(
            nn.Conv2d(channels, wide, 3, padding=1),
            nn.Conv2d(wide, narrow, 3, padding=1),
            ResidualBlock(narrow),
            SqueezeExcitation(narrow),
            nn.Conv2d(narrow, 2, 3, padding=1),
        )


class SupportModules(nn.Module):
    """Reads features of a frozen segmentation network at three depths and at its end (F8).

    All auxiliary maps come onto the grid of the shallowest depth. They are fused by the depth
    weights, and the detector reads the fused map beside the last features.

    Attributes:
        classifiers: One per depth, from the shallowest on.
        depth_head: Says how much each depth is to be believed.
        reduce: Brings the last features to fewer channels.
        detector: Tells hard pixels from easy ones.
    """

    def __init__(
        self,
        num_classes: int,
        channels: Sequence[int],
        strides: Sequence[int],
        depth_head: nn.Module,
        reduce: nn.Module,
        reduced_channels: int,
        hidden: tuple[int, int] = (512, 64),
    ) -> None:
        """Build the modules with weights of their own.

        Args:
            num_classes: C.
            channels: Channels of the features of each depth, from the shallowest on.
            strides: Cells of the shallowest depth to a cell of each depth: 1, 2 or 4.
            depth_head: Maps the network's features to (B, 3, h, w); its weights are drawn anew.
            reduce: Maps the last features to `reduced_channels`; ``nn.Identity()`` keeps them.
            reduced_channels: Channels of the last features the detector reads.
            hidden: Channels inside the detector.

        Raises:
            ValueError: For a stride other than 1, 2 or 4, or other than three depths.
        """
        super().__init__()
        if not len(channels) == len(strides) == 3:
            raise ValueError(f"three depths are expected, not {len(channels)} and {len(strides)}")
        pairs = zip(channels, strides, strict=True)
        self.classifiers = nn.ModuleList(_classifier(n, num_classes, s) for n, s in pairs)
        self.depth_head = depth_head
        self.reduce = reduce
        self.detector = Detector(num_classes + reduced_channels, hidden)
        self.apply(initialise)

    def forward(
        self,
        depths: Sequence[Tensor],
        last: Tensor | Sequence[Tensor],
        read: Tensor | Sequence[Tensor],
        size: tuple[int, int],
    ) -> SupportOutputs:
        """Judge the features of a batch.

        Args:
            depths: Features of the three depths, from the shallowest on, (B, D_k, h_k, w_k).
            last: What `reduce` reads: feature maps on any grid.
            read: What `depth_head` reads: feature maps on any grid.
            size: Height and width of the outputs.
        """
        maps = [module(x) for module, x in zip(self.classifiers, depths, strict=True)]
        grid = maps[0].shape[-2:]
        # cells that deeper maps have beyond it, where the image is no multiple of their stride
        maps = [logits[..., : grid[0], : grid[1]] for logits in maps]
        # Nearest, and before the softmax, as in the reference's ResNet-50.
        depth_weights = F.interpolate(self.depth_head(read), size=grid, mode="nearest").softmax(1)
        fused = sum(depth_weights[:, k : k + 1] * maps[k] for k in range(3))
        context = upsample(self.reduce(last), (grid[0], grid[1]))
        hard = self.detector(torch.cat([fused, context], dim=1))
        first, second, third = (upsample(logits, size) for logits in maps)
        return SupportOutputs(
            (first, second, third), upsample(depth_weights, size), upsample(hard, size)
        )


def initialise(module: nn.Module) -> None:
    """Draw the weights of one layer as the reference does before phase II; for `nn.Module.apply`.

    Convolutions: normal by fan-in for ReLU (He et al., ICCV 2015); batch norm: weight 1, bias 1e-4;
    linear: standard deviation 1e-4. Transposed convolutions keep theirs, and so do biases.
    """
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.ones_(module.weight)
        nn.init.constant_(module.bias, 1e-4)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=1e-4)


def _classifier(channels: int, num_classes: int, stride: int) -> nn.Module:
    if stride == 1:
        return nn.Conv2d(channels, num_classes, 3, padding=1)
    if stride not in _PADDING:
        raise ValueError(f"the stride of a depth must be 1, 2 or 4, not {stride}")
    return nn.ConvTranspose2d(
        channels, num_classes, 5, stride, padding=_PADDING[stride], output_padding=1
    )
