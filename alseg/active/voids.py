"""Void answers as something to learn: a further output says where the next ones would be.

A void answer is paid and names no class. Where it was given is known all the same, and no ground
truth of other pixels has to be read to guess where more would be.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.acquisition.fused import SUMMED, Grid, grid_scores, has_kernel
from alseg.active.scoring import SCORES, ScoringModule
from alseg.core.images import VOID
from alseg.nn.losses import labelled_cross_entropy
from alseg.nn.precision import at_least_float32

#: Taken off the score of a pixel that is left for last; no score of `SCORES` spans as much.
_LAST = 100.0


def void_cross_entropy(scores: Tensor, answered: Tensor, num_classes: int) -> Tensor:
    """Mean binary cross-entropy of "the answer was void" over the pixels answered.

    Args:
        scores: Logits of void, (B, H, W); computed in float32 if less exact.
        answered: Class ids 0..C-1, C where the answer was void, `VOID` where none was given,
            (B, H, W), integer.
        num_classes: C.

    Returns:
        Scalar; 0 without an answer, and its gradient, too.

    >>> round(float(void_cross_entropy(torch.zeros(1, 1, 2), torch.tensor([[[4, 255]]]), 4)), 6)
    0.693147
    """
    known = answered != VOID
    losses = F.binary_cross_entropy_with_logits(
        at_least_float32(scores),
        (answered == num_classes).to(at_least_float32(scores).dtype),
        reduction="none",
    )
    return (losses * known).sum() / known.sum().clamp(min=1)


def left_for_last(scores: Tensor, void: Tensor, most: float) -> Tensor:
    """Scores by which pixels that are probably void come after all others, in their own order.

    Args:
        scores: Pixel scores, higher = asked first, (B, H, W).
        void: Logits of void, (B, H, W).
        most: Probability of void from which on a pixel is left for last, 0..1.

    Returns:
        (B, H, W).

    >>> left_for_last(torch.tensor([0.5, 0.25]), torch.tensor([2.0, -2.0]), 0.5).tolist()
    [-99.5, 0.25]
    """
    return scores - _LAST * (void.sigmoid() >= most)


class VoidScoringModule(ScoringModule):
    """Learns label maps, and from void answers where there is no class; scores pixels by both.

    The last of the network's C + 1 outputs is the logit of void. It takes no part in the softmax,
    so that what is said of the classes is what a network without it would say.

    Args:
        max_void: Pixels that are void with at least this probability are asked last.
        **shared: See `alseg.active.scoring.ScoringModule`; one pass, by a score of `SCORES`.
    """

    def __init__(self, max_void: float, **shared: Any) -> None:
        super().__init__(**shared)
        self.max_void = max_void

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss on ``target`` (B, H, W), see `alseg.labels.supervision.LabelsAndVoid`."""
        scores, answered = self.network(batch["image"]), batch["target"]
        classes = torch.where(answered == self.num_classes, VOID, answered)
        known = labelled_cross_entropy(scores[:, : self.num_classes], classes)
        void = void_cross_entropy(scores[:, self.num_classes], answered, self.num_classes)
        return {"loss": known + void, "void": void}

    def _region_sums(self, batch: Mapping[str, Tensor]) -> None:
        """None: the classes and void need two looks at the logits."""

    def _pixel_scores(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Pixel scores of a batch, (B, H, W)."""
        if self.score in SUMMED and has_kernel(batch["image"].device):
            return self._from_grid(self.network.grid(batch["image"]), str(self.score))
        score = SCORES[self.score] if isinstance(self.score, str) else self.score
        parts = []
        for logits in self._logits(batch["image"]):
            classes, void = logits[:, : self.num_classes], logits[:, self.num_classes]
            parts.append(left_for_last(score(classes), void, self.max_void))
        return torch.cat(parts)

    def _from_grid(self, grid: Grid, score: str) -> Tensor:
        """The same where a kernel reads the classes: of all outputs void alone is enlarged."""
        classes, void = grid.logits[:, : self.num_classes], grid.logits[:, self.num_classes :]
        scores = grid_scores(grid._replace(logits=classes), [score])[score]
        return left_for_last(scores, grid._replace(logits=void).enlarged()[:, 0], self.max_void)
