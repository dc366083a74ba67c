"""What a segmentation network gives its users, and the parts all architectures share."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alseg.acquisition.fused import Grid


def cosine_logits(features: Tensor, weight: Tensor, eps: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Cosine classifier: similarity of unit features and unit class weights.

    The temperature is not part of it: losses and acquisition divide by it
    (mulquery section 3, arXiv 2309.09319).

    Args:
        features: (B, D, h, w).
        weight: Class weights, (C, D).
        eps: Smallest norm divided by.

    Returns:
        Cosines in [-1, 1], (B, C, h, w), and the features scaled to unit norm, (B, D, h, w).
    """
    unit = F.normalize(features, dim=1, eps=eps)
    directions = F.normalize(weight, dim=1, eps=eps)
    return F.conv2d(unit, directions[:, :, None, None]), unit


def upsample(maps: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Bilinear resize of maps.

    Args:
        maps: (B, C, h, w).
        size: Height and width of the result.
        align_corners: Corner pixels keep their values, as in DeepLabv2; by default pixels are
            areas, and the images' borders are aligned.
    """
    if maps.shape[-2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=align_corners)


class CosineClassifier(nn.Module):
    """1x1 classifier on unit features without bias; its output is a cosine, not a logit."""

    def __init__(self, num_features: int, num_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_outputs, num_features))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)  # as nn.Conv2d, which it replaces

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, D, h, w) to cosines (B, C, h, w) and unit features (B, D, h, w)."""
        return cosine_logits(features, self.weight)


class LinearClassifier(nn.Module):
    """The usual convolution with bias; the features pass through as they are.

    Args:
        num_features: D.
        num_outputs: C.
        kernel_size: Odd.
        std: Weights start from a normal distribution of this deviation, cut off at twice of it, and
            biases at 0; None for PyTorch's uniform distribution.
    """

    def __init__(
        self, num_features: int, num_outputs: int, kernel_size: int, std: float | None = None
    ) -> None:
        super().__init__()
        self.in_channels = num_features
        self.conv = nn.Conv2d(num_features, num_outputs, kernel_size, padding=kernel_size // 2)
        if std is not None:
            nn.init.trunc_normal_(self.conv.weight, std=std, a=-2 * std, b=2 * std)
            nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, D, h, w) to logits (B, C, h, w) and the features, unchanged."""
        return self.conv(features), features


def min_train_images(module: nn.Module) -> int:
    """Images a batch needs to train on: 2 where a batch norm follows a global pooling, else 1."""
    branches = (list(m) for m in module.modules() if isinstance(m, nn.Sequential))
    pooled = any(
        isinstance(layer, nn.AdaptiveAvgPool2d)
        and layer.output_size in (1, (1, 1))
        and any(isinstance(later, nn.BatchNorm2d) for later in branch)
        for branch in branches
        for layer in branch
    )
    return 2 if pooled else 1


class Segmenter(nn.Module):
    """Encoder, decoder and classifier for images of any size.

    Attributes:
        encoder: Backbone of segmentation-models-pytorch.
        decoder: Decoder of the architecture.
        classifier: Maps features to scores and features: `CosineClassifier`, `LinearClassifier`,
            or the architecture's own.
        min_train_images: Images a batch needs to train on, see the function of that name: 2 for
            the DeepLabs.
        multiple: Input sides are padded (replicated border, bottom and right) to multiples of
            this many pixels, the encoder's output stride, and the outputs cropped again.
        remainder: Sides are padded to multiples plus so many pixels, see `canvas`.
        align_corners: How its grid lies on the canvas, see `upsample`.
        description: How to build it again, see `alseg.nn.segmenter.rebuild_segmenter`: plain
            values that a checkpoint can hold; empty if it was not built by name.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        classifier: nn.Module,
        multiple: int,
        align_corners: bool = False,
        remainder: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classifier = classifier
        self.multiple = multiple
        self.align_corners = align_corners
        self.remainder = remainder
        self.description: dict[str, Any] = {}
        self.min_train_images = min_train_images(decoder)

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that images of a size are padded to.

        >>> Segmenter(nn.Identity(), nn.Identity(), nn.Identity(), 16, remainder=1).canvas(512, 513)
        (513, 513)
        """
        more = [(self.remainder - side) % self.multiple for side in (height, width)]
        return height + more[0], width + more[1]

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Outputs on the decoder's own grid.

        Args:
            images: Normalised, (B, `in_channels`, H, W), float32.

        Returns:
            Scores (B, C, h, w), features (B, D, h, w), and the (height, width) of the padded
            canvas that the h x w grid covers: `enlarge` brings both to the size of the images.
        """
        height, width = images.shape[-2:]
        canvas = self.canvas(int(height), int(width))
        pad = (0, canvas[1] - width, 0, canvas[0] - height)
        if any(pad):
            images = F.pad(images, pad, mode="replicate")
        scores, features = self.classifier(self.decoder(self.encoder(images)))
        return scores, features, canvas

    def grid(self, images: Tensor) -> Grid:
        """Scores on the decoder's own grid, (B, C, h, w), and what it covers; see `features`."""
        scores, _, canvas = self.features(images)
        return Grid(scores, canvas, (images.shape[-2], images.shape[-1]), self.align_corners)

    def forward(self, images: Tensor) -> Tensor:
        """Scores at the size of the images: (B, 3, H, W) to (B, C, H, W), cosines or logits."""
        scores, _, canvas = self.features(images)
        return self.enlarge(scores, canvas, (images.shape[-2], images.shape[-1]))

    def enlarge(self, maps: Tensor, canvas: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """Bring maps on the network's grid to pixels.

        Args:
            maps: (B, C, h, w), from `features`.
            canvas: From `features`.
            size: Height and width of the images.

        Returns:
            (B, C, H, W).
        """
        return upsample(maps, canvas, self.align_corners)[..., : size[0], : size[1]]

    def parameter_groups(self, lr: float, head_factor: float) -> list[dict[str, Any]]:
        """Optimiser groups: the encoder at ``lr``, decoder and classifier at ``head_factor`` x."""
        head = [*self.decoder.parameters(), *self.classifier.parameters()]
        return [
            {"params": list(self.encoder.parameters()), "lr": lr},
            {"params": head, "lr": lr * head_factor},
        ]
