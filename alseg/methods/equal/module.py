"""The module of both phases: it learns from two views of a batch, and scores patches."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.acquisition.fused import grid_scores, has_kernel
from alseg.acquisition.scores import most_probable
from alseg.active.module import SegmentationModule
from alseg.core.images import VOID
from alseg.methods.equal.acquisition import patch_majority, patch_means, two_view_entropy
from alseg.methods.equal.losses import consistency, cross_entropy, two_view_loss
from alseg.methods.equal.views import paired_views, shrunk, two_views


class TwoViews(SegmentationModule):
    """Learns label maps from an image and its mirror image (EquAL F4-F6, F10).

    The network has one output more than there are classes, for void, which no pixel is trained
    towards; it takes part in the softmax and in the entropy, not in the evaluation.

    Args:
        consistency: Train on both views and on their agreement; else on one by cross-entropy.
        one_pass: Compute both views in one call, which mixes their batch statistics.
        grid: Rows and columns of patches.
        scale: Factor on the sides of whole images before they are scored or evaluated; what is
            trained on comes so small.
        void_wins: Whether a patch is void where void and a class are equally frequent; used where
            a batch that is scored has its truth.
        **shared: See `SegmentationModule`.
    """

    def __init__(
        self,
        consistency: bool,
        one_pass: bool,
        grid: tuple[int, int],
        scale: float = 1.0,
        void_wins: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.consistency = consistency
        self.views = paired_views if one_pass else two_views
        self.grid = grid
        self.scale = scale
        self.void_wins = void_wins

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss on ``target`` (B, H, W). One coin decides whether the whole batch is mirrored."""
        images, labels = batch["image"], batch["target"]
        if self.network.training and len(images) < self.network.min_train_images:
            images, labels = images.repeat(2, 1, 1, 1), labels.repeat(2, 1, 1)
        if float(torch.rand(())) < 0.5:
            images, labels = images.flip(-1), labels.flip(-1)
        known = self.has_labels(batch)
        if not self.consistency:
            scores = self.network(images)
            return {"loss": cross_entropy(scores, labels) if known else scores.sum() * 0.0}
        plain, mirrored = self.views(self.network, images)
        if known:
            terms = two_view_loss(plain, mirrored, labels)
            agreement = terms.plain_to_mirrored + terms.mirrored_to_plain
            return {"loss": terms.total, "agreement": agreement}
        # every patch of the batch is void: the mean over no labelled pixel is left out
        agreement = consistency(plain, mirrored) + consistency(mirrored, plain)
        return {"loss": agreement, "agreement": agreement}

    def predict_step(
        self, batch: dict[str, Tensor], batch_idx: int
    ) -> dict[str, dict[str, Tensor]]:
        """Table ``patches``: image, unit, score, and void where the truth is there to be read."""
        rows, cols = self.grid
        score = patch_means(self._entropy(shrunk(batch["image"], self.scale)), rows, cols)
        index = batch["index"].to(score.device).int()
        unit = torch.arange(rows * cols, dtype=torch.int32, device=score.device)
        table = {
            "image": index.repeat_interleave(len(unit)),
            "unit": unit.repeat(len(index)),
            "score": score.flatten(),
        }
        if "target" in batch:
            table["void"] = torch.cat([self._void(*pair) for pair in self._pairs(batch)])
        return {"patches": table}

    def _entropy(self, images: Tensor) -> Tensor:
        """`two_view_entropy` of images, (B, H, W), by the kernel without logits at their size."""
        if not has_kernel(images.device):
            if self.consistency:
                plain, mirrored = paired_views(self.network, images)
            else:
                plain = mirrored = self.network(images)
            return two_view_entropy(plain.float(), mirrored.float())
        views = torch.cat([images, images.flip(-1)]) if self.consistency else images
        entropy = grid_scores(self.network.grid(views), ["entropy"])["entropy"].float()
        if not self.consistency:
            return 2 * entropy
        plain, mirrored = entropy.chunk(2)
        return plain + mirrored.flip(-1)

    def evaluate(self, batch: dict[str, Tensor]) -> None:
        """Add a batch of whole images to the confusion matrix, at their own size."""
        if self.scale == 1:
            super().evaluate(batch)
            return
        scores = self.network(shrunk(batch["image"], self.scale))[:, : self.num_classes]
        size = [int(side) for side in batch["target"].shape[-2:]]
        scores = F.interpolate(scores.float(), size=size, mode="bilinear", align_corners=False)
        self.iou.update(most_probable(scores), batch["target"])

    def _pairs(self, batch: dict[str, Tensor]) -> Any:
        return zip(batch["target"], batch["regions"], strict=True)

    def _void(self, truth: Tensor, regions: Tensor) -> Tensor:
        """Which patches of an image are void by majority."""
        majority = patch_majority(
            truth.cpu().numpy().astype("uint8"),
            regions.cpu().numpy(),
            self.num_classes,
            self.grid[0] * self.grid[1],
            self.void_wins,
        )
        return torch.from_numpy(majority == VOID)
