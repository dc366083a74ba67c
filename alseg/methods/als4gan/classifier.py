"""The classifier of whole images, whose doubts decide which images are asked about."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from alseg.active.module import CheckedModule
from alseg.core.errors import UserError, first_line, unknown_name
from alseg.core.images import VOID
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import Target
from alseg.methods.als4gan.learner import Strategy, uncertainty
from alseg.nn.hub import asking_hub, require_download
from alseg.nn.sources import offered_packages, packaged_weights
from alseg.nn.weights import timm_names

#: Classifiers of the reference; all others are timm's, with the prefix ``tu-``.
BACKBONES = ("vgg16", "resnet50", "resnet101")

#: Outputs of a backbone, ImageNet's classes, which stay between it and the scenes.
_BACKBONE_OUTPUTS = 1000


def build_classifier(backbone: str, weights: str | None, num_classes: int) -> nn.Sequential:
    """An ImageNet classifier as it is, and a linear layer on its 1000 outputs.

    Args:
        backbone: One of `BACKBONES`, or a timm model with the prefix ``tu-``.
        weights: ``imagenet`` (of an installed package, see `alseg.nn.sources.PACKAGES`, or
            downloaded once), a path to a state dict of the backbone, or None.
        num_classes: Scene classes.

    Returns:
        Maps (B, 3, H, W) to logits (B, num_classes).

    Raises:
        UserError: For an unknown backbone, or weights that cannot be had or do not fit.
    """
    imagenet = weights == "imagenet"
    file = packaged_weights(backbone) if imagenet else None if weights is None else Path(weights)
    try:
        model = _backbone(backbone, imagenet and file is None)
    except (OSError, RuntimeError) as error:
        if not imagenet:
            raise
        raise UserError(
            f"ImageNet weights for {backbone!r} could not be had ({type(error).__name__}: "
            f"{first_line(error)}); {offered_packages(backbone, 'method.classifier')}, "
            f"give method.classifier_weights=PATH to a file you have, or "
            f"method.classifier_weights=null to start from random weights."
        ) from error
    if file is not None:
        _load(model, file)
    return nn.Sequential(model, nn.Linear(_BACKBONE_OUTPUTS, num_classes))


def _backbone(name: str, imagenet: bool) -> nn.Module:
    if name.startswith("tu-"):
        import timm

        model, _, _ = name[3:].partition(".")
        if timm.is_model(model):
            with asking_hub() if imagenet else nullcontext():
                return timm.create_model(
                    name[3:], pretrained=imagenet, num_classes=_BACKBONE_OUTPUTS
                )
    elif name in BACKBONES:
        import torchvision

        if not imagenet:
            return torchvision.models.get_model(name, weights=None)
        # those of the reference's day
        weights: Any = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        require_download(weights.url)
        return torchvision.models.get_model(name, weights=weights)
    raise unknown_name("method.classifier", name, [*BACKBONES, "tu-<a model of timm>"])


def _load(model: nn.Module, path: Path) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        model.load_state_dict(timm_names(state, model.state_dict()) or state)
    except Exception as error:  # a missing file, another format, another network
        raise UserError(
            f"method.classifier_weights: {path} cannot be loaded "
            f"({first_line(error)}); give a state dict of the classifier as its library "
            f"saves it, 'imagenet', or null."
        ) from error


@dataclass(frozen=True)
class ImageClasses:
    """The classes of whole images that were answered; void is no class.

    Attributes:
        label: Class of each image.
    """

    label: Mapping[int, int]

    @classmethod
    def of(cls, pool: LabelPool, regions: str) -> "ImageClasses":
        """What was answered about the regions of a version, each of which is a whole image."""
        label: dict[int, int] = {}
        for answers in pool.known:
            if answers.regions == regions and answers.label is not None:
                said = zip(answers.image.tolist(), answers.label.tolist(), strict=True)
                label |= {image: c for image, c in said if c != VOID}
        return cls(label)

    @property
    def images(self) -> NDArray[np.int64]:
        """The images, ascending."""
        return np.array(sorted(self.label), dtype=np.int64)

    def __call__(self, image: int) -> Target:
        """``scene`` is the class, (1,), int64."""
        return Target({}, {"scene": np.array([self.label[image]], dtype=np.int64)})


class SceneClassifier(CheckedModule):
    """Learns the classes of whole images by cross-entropy, and says how unsure it is.

    Args:
        network: Maps (B, 3, H, W) to logits (B, K): a backbone and the layer on its outputs, see
            `build_classifier`.
        lr: Learning rate of SGD with momentum 0.9, constant.
        strategy: See `alseg.methods.als4gan.learner.uncertainty`.
        features: Return what the classifier sees in each image as well, for `method.diversity`.
    """

    def __init__(
        self, network: nn.Sequential, lr: float, strategy: Strategy, features: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.lr = lr
        self.strategy = strategy
        self.features = features

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean cross-entropy, and the share of images that are right."""
        logits, scene = self.network(batch["image"]).float(), batch["scene"][:, 0]
        right = (logits.argmax(dim=1) == scene).float().mean()
        return {"loss": F.cross_entropy(logits, scene), "accuracy": right}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Compute, check and log the loss."""
        terms = self.loss(batch)
        self.look_at(terms["loss"], "loss", batch.get("index"))
        self.tell({f"train/{name}": term for name, term in terms.items()}, terms["loss"])
        return terms["loss"]

    def configure_optimizers(self) -> Any:
        """SGD, as the reference."""
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)

    def predict_step(
        self, batch: dict[str, Tensor], batch_idx: int
    ) -> dict[str, dict[str, Tensor]]:
        """Table ``scenes``: image, score (higher is asked first) and the most probable class.

        With `features`, table ``diversity``: image, unit (always 0), the outputs of the backbone,
        which the last layer makes classes of, and the most probable class.
        """
        backbone, last = self.network
        # one image at a time: products of matrices round by the number of their rows, and how many
        # images share a batch depends on the number of devices
        outputs = torch.cat([backbone(image[None]) for image in batch["image"]])
        logits = torch.cat([last(seen[None]) for seen in outputs]).float()
        image, top = batch["index"].to(logits.device).int(), logits.argmax(dim=1).int()
        score = uncertainty(logits, self.strategy)
        tables = {"scenes": {"image": image, "score": score, "top": top}}
        if self.features:
            unit = torch.zeros_like(image)
            seen = {"features": outputs.half(), "label": top}
            tables["diversity"] = {"image": image, "unit": unit, **seen}
        return tables
