"""Plain cross-entropy on label maps."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from alseg.active.module import SegmentationModule
from alseg.images import VOID


class CrossEntropy(SegmentationModule):
    """Mean cross-entropy over labelled pixels.

    Args:
        temperature: Divides the scores.
        **shared: See `SegmentationModule`.
    """

    def __init__(self, temperature: float, **shared: Any) -> None:
        super().__init__(**shared)
        self.temperature = temperature

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss on ``target`` (B, H, W); 0 when a batch has no labelled pixel."""
        scores = self.network(batch["image"])
        if not bool((batch["target"] != VOID).any()):
            return {"loss": scores.sum() * 0.0}
        scores = scores.float() / self.temperature
        return {"loss": F.cross_entropy(scores, batch["target"], ignore_index=VOID)}
