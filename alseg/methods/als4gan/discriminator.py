"""The discriminator: does a class map belong to its image? (S4GAN, arXiv 1908.05724)."""

from typing import NamedTuple

from torch import Tensor, nn


class Judgement(NamedTuple):
    """What the discriminator says about a batch."""

    scores: Tensor
    """Probability of being real, 0..1, (B,)."""
    features: Tensor
    """Channels of the last convolution, averaged over all pixels, (B, 8 width)."""


class Discriminator(nn.Module):
    """Four strided convolutions, their mean over all pixels, and one linear unit.

    The reference averages 20 x 20 values, which fits inputs of 320 pixels alone; here the mean runs
    over whatever there is, so inputs may have any sides from 16 pixels up.

    Args:
        num_classes: C.
        width: Channels of the first convolution; each of the others doubles them.
        dropout: Probability of losing a whole channel after each of the first three convolutions.
    """

    def __init__(self, num_classes: int, width: int = 64, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = _halving(num_classes + 3, width)
        self.conv2 = _halving(width, 2 * width)
        self.conv3 = _halving(2 * width, 4 * width)
        self.conv4 = _halving(4 * width, 8 * width)
        self.fc = nn.Linear(8 * width, 1)
        self.activation = nn.LeakyReLU(0.2)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, maps: Tensor) -> Judgement:
        """Judge class maps beside images, (B, C + 3, H, W)."""
        for conv in (self.conv1, self.conv2, self.conv3):
            maps = self.dropout(self.activation(conv(maps)))
        features = self.activation(self.conv4(maps)).mean(dim=(2, 3))
        return Judgement(self.fc(features).sigmoid()[:, 0], features)


def _halving(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1)
