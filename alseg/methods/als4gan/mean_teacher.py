"""The stage of the multi-label mean teacher, which corrects a segmenter that is trained."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from alseg.acquisition.scores import most_probable
from alseg.active.module import EvaluatedModule, normalisation
from alseg.methods.als4gan.mlmt import (
    classes_present,
    consistency,
    consistency_weight,
    fuse,
    mlmt_loss,
    teacher_decay,
    update_teacher,
)
from alseg.nn.segmenter import Segmenter

#: Height and width of images in the released training.
SIDE = 320
#: Weight decay of the student.
WEIGHT_DECAY = 1e-5
#: What the cosine divides the learning rate by in the end; the reference's fall from 0.03 to 1e-4.
LR_FALL = 300

_FLIP = v2.RandomHorizontalFlip()
_STRONG = v2.Compose(
    [
        v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
        _FLIP,
        v2.GaussianBlur(13, (0.1, 2.0)),  # 3 of the largest sigma to either side
    ]
)


class MeanTeacher(EvaluatedModule):
    """Learns which classes an image contains, and switches the others off in a segmenter.

    A student learns from labelled images and agrees with its teacher on unlabelled ones (E21,
    E22); the teacher follows it (E23). The segmenter stands still. Evaluated is what the segmenter
    predicts of the classes that the teacher finds (E24).

    Args:
        network: The trained segmenter.
        num_classes: C.
        student: Maps (B, 3, H, W) to logits (B, C).
        epochs: Of the training, the horizon of its schedules.
        lr: Learning rate of SGD with Nesterov's momentum, lowered after every epoch by a cosine.
        burn_in: Last epoch without consistency, 0-based.
        threshold: Classes that are less probable are off.
        side: Height and width that images are resized to for student and teacher; None = not.
        teacher_sees_all: The teacher's batch norms see labelled images too.
    """

    def __init__(
        self,
        network: Segmenter,
        num_classes: int,
        student: nn.Module,
        epochs: int,
        lr: float,
        burn_in: int,
        threshold: float,
        side: int | None = None,
        teacher_sees_all: bool = False,
    ) -> None:
        super().__init__(network.requires_grad_(False), num_classes)
        self.student = student
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.epochs = epochs
        self.lr = lr
        self.burn_in = burn_in
        self.threshold = threshold
        self.side = side
        self.teacher_sees_all = teacher_sees_all
        self.train()

    def train(self, mode: bool = True) -> "MeanTeacher":
        """Student and teacher train, the segmenter never does: its running statistics stay."""
        super().train(mode)
        self.network.eval()
        return self

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load weights of this stage, or those of the adversarial one without its discriminator."""
        own = {k: v for k, v in state_dict.items() if not k.startswith("discriminator.")}
        return super().load_state_dict(own, *args, **kwargs)

    def configure_optimizers(self) -> Any:
        """SGD of the student alone."""
        optimizer = torch.optim.SGD(
            self.student.parameters(),
            lr=self.lr,
            momentum=0.9,
            weight_decay=WEIGHT_DECAY,
            nesterov=True,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, self.epochs, eta_min=self.lr / LR_FALL
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "epoch"},
        }

    def loss(self, batch: Mapping[str, Mapping[str, Tensor]], epoch: int) -> dict[str, Tensor]:
        """Loss terms (E21) of a batch, which is one of labelled and several of other images."""
        labelled = batch["labelled"]
        others = [part["image"] for name, part in batch.items() if name != "labelled"]
        unlabelled = resized(torch.cat(others), self.side)
        mean, std = self._normalisation(unlabelled)
        seen = weak_view(resized(labelled["image"], self.side))
        logits = self.student(seen)
        strong = self.student(strong_view(unlabelled, mean, std))
        with torch.no_grad():
            views = weak_view(unlabelled)
            together = torch.cat([seen, views]) if self.teacher_sees_all else views
            weak = self.teacher(together)[-len(views) :]
        present = self._present(labelled)
        known = labelled["known"] if "known" in labelled else rows_known(present)
        weight = consistency_weight(epoch, self.epochs, self.burn_in)
        agreement = consistency(strong, weak)
        if len(known):
            loss = mlmt_loss(logits[known], present[known], strong, weak, weight)
        else:
            loss = weight * agreement + 0 * logits.sum()
        return {"loss": loss, "consistency": agreement}

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """See on the host which crops have labels, before a device has them."""
        if not isinstance(batch, Mapping) or "labelled" not in batch:
            return batch
        labelled = batch["labelled"]
        known = rows_known(self._present(labelled))
        return {**batch, "labelled": {**labelled, "known": known}}

    def _present(self, labelled: Mapping[str, Tensor]) -> Tensor:
        """Classes that labelled images contain, (B, C), bool."""
        if "present" in labelled:
            return labelled["present"].bool()
        return classes_present(labelled["target"], self.num_classes)

    def _normalisation(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the images' channels, (3, 1, 1) each."""
        return normalisation(images, self.trainer.datamodule)  # type: ignore[attr-defined]

    def training_step(self, batch: Mapping[str, Mapping[str, Tensor]], batch_idx: int) -> Tensor:
        """Compute, check and log the loss."""
        terms = self.loss(batch, self.trainer.current_epoch)
        images = torch.cat([part["index"] for part in batch.values()])
        self.look_at(terms["loss"], "loss of the classifier", images)
        self.tell({f"train/{name}": term for name, term in terms.items()}, terms["loss"])
        return terms["loss"]

    def on_train_batch_end(self, *args: Any) -> None:
        """Let the teacher follow."""
        update_teacher(self.teacher, self.student, teacher_decay(self.global_step))

    def evaluate(self, batch: dict[str, Tensor]) -> None:
        """Add a batch of whole images to the confusion matrix, absent classes switched off."""
        scores = self.network(batch["image"])[:, : self.num_classes]
        present = self.teacher(resized(batch["image"], self.side)).float().sigmoid()
        fused = fuse(scores, present, self.threshold)
        self.iou.update(most_probable(fused), batch["target"])


def rows_known(present: Tensor) -> Tensor:
    """Crops that show some class: one without labels does not say that nothing is there.

    Args:
        present: Classes of each crop, (B, C), bool.

    Returns:
        Their positions, (n,), int64.
    """
    return present.any(dim=1).nonzero().squeeze(1)


def resized(images: Tensor, side: int | None) -> Tensor:
    """Images brought to squares of a side, bilinear with antialiasing; None = as they are."""
    if side is None or images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)


def weak_view(images: Tensor) -> Tensor:
    """Images, (B, 3, H, W), of which each is mirrored or not."""
    return torch.stack([_FLIP(image) for image in images])


def strong_view(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Images with changed colours, mirrored or not, and blurred, each in its own way.

    Args:
        images: Normalised, (B, 3, H, W).
        mean: Of the normalisation, of images in [0, 1], (3, 1, 1).
        std: Likewise.

    Returns:
        Normalised, (B, 3, H, W).
    """
    colors = (images * std + mean).clamp(0, 1)
    return (torch.stack([_STRONG(image) for image in colors]) - mean) / std
