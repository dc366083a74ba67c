"""A committee of one network: its passes over an image, each with other features dropped."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from alseg.acquisition.committee import COMMITTEE_SCORES, CommitteeSums
from alseg.acquisition.fused import (
    Grid,
    GridSums,
    committee_map,
    committee_sums,
    fits_together,
    has_kernel,
    map_sums,
)
from alseg.core.errors import UserError
from alseg.nn.segmenter import Segmenter


@dataclass(frozen=True)
class DropoutCommittee:
    """Scores of images by several passes of a network with dropout.

    Images come one by one: what is dropped of one is not what others drew.

    Attributes:
        network: In evaluation mode.
        passes: T, 2..255.
        score: A name of `alseg.acquisition.committee.COMMITTEE_SCORES`.

    Raises:
        UserError: If the network has no dropout.
    """

    network: Segmenter
    passes: int
    score: str

    def __post_init__(self) -> None:
        if not any(module.p > 0 for module in self.dropouts):
            raise UserError(
                "this method asks a committee of dropout masks, and the network has no dropout; "
                "choose an architecture with dropout, such as DeepLabV3Plus, or give "
                "network.options one (e.g. decoder_aspp_dropout, dropout)."
            )

    @property
    def dropouts(self) -> list[nn.modules.dropout._DropoutNd]:
        """The layers that drop."""
        modules = self.network.modules()
        return [m for m in modules if isinstance(m, nn.modules.dropout._DropoutNd)]

    def scores(self, image: Tensor, seed: int) -> Tensor:
        """Pixel scores of an image (1, 3, H, W), (1, H, W)."""
        found = self._heard(image, seed)
        if isinstance(found, Grid):
            return committee_map(found, self.score)[None]
        return COMMITTEE_SCORES[self.score](found)

    def sums(self, image: Tensor, seed: int, regions: Tensor, num_regions: int) -> GridSums:
        """The same summed over the regions of the image, (1, H, W), of ids below `num_regions`."""
        found = self._heard(image, seed)
        if isinstance(found, Grid):
            return committee_sums(found, self.score, regions[0], num_regions)
        return map_sums(COMMITTEE_SCORES[self.score](found), regions, num_regions)

    def _heard(self, image: Tensor, seed: int) -> Grid | CommitteeSums:
        """The opinions on an image: their grids for the kernel if they fit, or their sums."""
        with self._dropping(image.device, seed):
            if not has_kernel(image.device, "committee"):
                sums = CommitteeSums.of(self.network(image).float())
                for _ in range(self.passes - 1):
                    sums.add(self.network(image).float())
                return sums
            first = self.network.grid(image)
            others = (self.network.grid(image) for _ in range(self.passes - 1))
            if fits_together(first, self.passes):
                together = [first.logits, *(other.logits for other in others)]
                return first._replace(logits=torch.cat(together))
            sums = CommitteeSums.of(first.enlarged())
            for other in others:
                sums.add(other.enlarged())
            return sums

    @contextmanager
    def _dropping(self, device: torch.device, seed: int) -> Iterator[None]:
        """Dropout at work, of random numbers that follow from the seed alone."""
        dropouts = self.dropouts
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            for module in dropouts:
                module.train()
            try:
                yield
            finally:
                for module in dropouts:
                    module.eval()
