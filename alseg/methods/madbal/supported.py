"""A frozen segmentation network and its support modules, in one forward pass.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from alseg.methods.madbal.depths import depth_taps
from alseg.methods.madbal.network import SupportModules, SupportOutputs
from alseg.methods.madbal.wiring import wire
from alseg.nn.segmenter import Segmenter, min_train_images
from alseg.nn.taps import tap_shapes, tapped

_DROPOUTS = (nn.Dropout, nn.Dropout2d)


class SupportedMaps(NamedTuple):
    """What a supported network computes, before anything is enlarged."""

    scores: Tensor
    """Scores of the frozen network on its own grid, (B, C, h, w)."""
    support: SupportOutputs
    """On the grid of the shallowest depth."""
    canvas: tuple[int, int]
    """Height and width of the padded images that both grids cover."""


class Supported(nn.Module):
    """A segmentation network that no longer learns, and the support modules that do (F8).

    Attributes:
        network: The segmentation network, frozen.
        support: What reads its features; all that has gradients.
        frozen_dropout: Whether its dropout works while the support modules train.
        min_train_images: Images a batch needs to train the support modules on.
    """

    def __init__(
        self,
        network: Segmenter,
        num_classes: int,
        frozen_dropout: bool = False,
        reduced_channels: int | None = None,
        hidden_channels: int | None = None,
    ) -> None:
        """Freeze a network, and build support modules with weights of their own.

        Args:
            network: The segmentation network, which is not copied. Where features are read follows
                from how it was built, see `depth_taps` and `wire`.
            num_classes: C, outputs of the auxiliary classifiers.
            frozen_dropout: As in the reference, the frozen network drops features while the support
                modules train.
            reduced_channels: Channels of its last features that the detector reads, see `wire`.
            hidden_channels: Channels inside the detector, see `wire`.

        Raises:
            UserError: If the encoder has fewer than three stages.
        """
        super().__init__()
        self.network = network
        self.frozen_dropout = frozen_dropout
        self._depths = depth_taps(network)
        shapes = tap_shapes(network, self._depths)
        wiring = wire(network, reduced_channels, hidden_channels)
        self._read, self._last = wiring.read, wiring.last
        self.support = SupportModules(
            num_classes,
            channels=[shape.channels for shape in shapes],
            strides=[shape.stride // shapes[0].stride for shape in shapes],
            depth_head=wiring.depth_head,
            reduce=wiring.reduce,
            reduced_channels=wiring.reduced_channels,
            hidden=(wiring.hidden_channels, 64),
        ).to(next(network.parameters()).device)
        self.min_train_images = min_train_images(self.support)
        self.freeze()

    def freeze(self) -> None:
        """Take the gradients from the segmentation network, and put it into evaluation mode.

        The constructor has done it; call it if something else gave them back.
        """
        self.network.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Supported":
        """Set the mode of the support modules; the segmentation network stays in evaluation mode.

        Its batch norms keep their statistics; its dropout works in training if `frozen_dropout`.
        """
        super().train(mode)
        self.network.eval()
        for module in self.network.modules():
            if isinstance(module, _DROPOUTS):
                module.train(mode and self.frozen_dropout)
        return self

    def parameter_groups(self, lr: float, head_factor: float) -> list[dict[str, Any]]:
        """One optimiser group: the support modules at ``lr``."""
        return [{"params": list(self.support.parameters()), "lr": lr}]

    def maps(self, images: Tensor) -> SupportedMaps:
        """Everything on grids of its own: at full size the maps of an image take a lot of memory.

        Args:
            images: Normalised RGB, (B, 3, H, W), float32.
        """
        names = dict.fromkeys([*self._depths, *self._read, *self._last])
        with torch.no_grad():
            scores, _, canvas, taps = tapped(self.network, images, list(names))
        depths = [taps[name] for name in self._depths]
        grid = (depths[0].shape[2], depths[0].shape[3])
        support = self.support(depths, _given(taps, self._last), _given(taps, self._read), grid)
        return SupportedMaps(scores, support, canvas)

    def forward(self, images: Tensor) -> tuple[Tensor, SupportOutputs]:
        """Everything at the size of the images.

        Args:
            images: Normalised RGB, (B, 3, H, W), float32.

        Returns:
            Scores of the frozen network, (B, C, H, W), without gradient, and the outputs of the
            support modules.
        """
        size = (images.shape[-2], images.shape[-1])
        scores, support, canvas = self.maps(images)

        def full(maps: Tensor) -> Tensor:
            return self.network.enlarge(maps, canvas, size)

        first, second, third = (full(logits) for logits in support.auxiliary)
        return full(scores), SupportOutputs(
            (first, second, third), full(support.depth_weights), full(support.hard_logits)
        )


def _given(taps: Mapping[str, Any], names: Sequence[str]) -> Any:
    """One output as it is, several as a list."""
    return taps[names[0]] if len(names) == 1 else [taps[name] for name in names]
