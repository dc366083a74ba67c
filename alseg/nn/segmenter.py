"""Segmentation networks of segmentation-models-pytorch behind one small interface."""

import inspect
import json
import logging
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alseg.core.errors import UserError, unknown_name

log = logging.getLogger(__name__)


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
    """The usual convolution with bias; the features pass through as they are."""

    def __init__(self, num_features: int, num_outputs: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_features, num_outputs, kernel_size, padding=kernel_size // 2)

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
        align_corners: How its grid lies on the canvas, see `upsample`.
        description: How to build it again, see `rebuild_segmenter`: plain values that a checkpoint
            can hold; empty if it was not built by name.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        classifier: nn.Module,
        multiple: int,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classifier = classifier
        self.multiple = multiple
        self.align_corners = align_corners
        self.description: dict[str, Any] = {}
        self.min_train_images = min_train_images(decoder)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Outputs on the decoder's own grid.

        Args:
            images: Normalised, (B, `in_channels`, H, W), float32.

        Returns:
            Scores (B, C, h, w), features (B, D, h, w), and the (height, width) of the padded
            canvas that the h x w grid covers: `enlarge` brings both to the size of the images.
        """
        height, width = images.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        if any(pad):
            images = F.pad(images, pad, mode="replicate")
        scores, features = self.classifier(self.decoder(self.encoder(images)))
        canvas = images.shape[-2:]
        return scores, features, (int(canvas[0]), int(canvas[1]))

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


def _architectures() -> dict[str, Any]:
    """The architectures by their names in lower case."""
    import segmentation_models_pytorch as smp

    from alseg.nn.deeplabv2 import DeepLabV2
    from alseg.nn.fcn import FCN
    from alseg.nn.lraspp import LRASPP

    own = {"deeplabv2": DeepLabV2, "fcn": FCN, "lraspp": LRASPP}
    return {**smp.MODEL_ARCHITECTURES_MAPPING, **own}


def check_network(architecture: str, encoder: str, weights: str | None) -> None:
    """Check names and the weights file, before any work.

    Raises:
        UserError: For an unknown architecture or encoder, or a weights file that is not there.
    """
    import segmentation_models_pytorch as smp
    import timm

    known = list(_architectures())
    if architecture.lower() not in known:
        raise unknown_name("architecture", architecture, known)
    if encoder.startswith("tu-"):
        model, _, _ = encoder[3:].partition(".")
        if not timm.is_model(model):
            # over a thousand names: show the closest ones only
            close = get_close_matches(model, timm.list_models(), n=8, cutoff=0.3)
            raise unknown_name("encoder", encoder, [f"tu-{m}" for m in close])
    elif encoder not in smp.encoders.get_encoder_names():
        raise unknown_name("encoder", encoder, smp.encoders.get_encoder_names())
    if weights not in (None, "imagenet") and not Path(weights).is_file():
        raise UserError(
            f"no weights file {weights!r}; give 'imagenet', a path to a state dict "
            f"(.pt, .pth or .safetensors), or null for random weights."
        )


def build_segmenter(
    architecture: str,
    encoder: str,
    weights: str | None,
    num_outputs: int,
    cosine: bool = False,
    options: dict[str, Any] | None = None,
    in_channels: int = 3,
) -> Segmenter:
    """Build a network by name.

    Args:
        architecture: Any architecture of segmentation-models-pytorch, e.g. ``DeepLabV3Plus``, or
            ``DeepLabV2``, ``FCN`` or ``LRASPP``.
        encoder: Any of its encoders, or a timm model with the prefix ``tu-``.
        weights: ``imagenet`` (downloaded once), a path to a state dict of the encoder or of the
            whole network, or None for random weights.
        num_outputs: Number of output channels.
        cosine: Classify by cosine similarity instead of a convolution with bias.
        options: More keyword arguments for the architecture, e.g. ``decoder_atrous_rates``.
        in_channels: Channels of the images. The first layer of pretrained weights is repeated over
            other numbers than three, and scaled by 3 / `in_channels`; summed for one channel.

    Raises:
        UserError: For unknown names, options the architecture does not take or a checkpoint
            cannot hold, or weights that cannot be had or do not fit.
    """
    check_network(architecture, encoder, weights)
    plain = _plain_options(options or {})
    cls = _architectures()[architecture.lower()]
    known = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}
    for name in options or {}:
        # what the architecture does not know goes to the encoder: only timm's take more
        if name not in known and not encoder.startswith("tu-"):
            raise unknown_name(f"network.options of {architecture}", name, known)
    try:
        model = cls(
            encoder_name=encoder,
            encoder_weights="imagenet" if weights == "imagenet" else None,
            classes=num_outputs,
            in_channels=in_channels,
            **(options or {}),
        )
    except TypeError as error:
        raise UserError(
            f"{architecture} with {encoder} does not take these options: {error}; "
            f"see network.options in the configuration."
        ) from error
    except (OSError, KeyError, RuntimeError) as error:
        if weights != "imagenet":
            raise
        raise UserError(
            f"ImageNet weights for {encoder!r} could not be had ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); give network.weights=PATH to a file you have, "
            f"or network.weights=null to start from random weights."
        ) from error
    classifier = model.segmentation_head[0]
    if cosine:
        classifier = CosineClassifier(classifier.in_channels, num_outputs)
    elif isinstance(classifier, nn.Conv2d):
        side = classifier.kernel_size[0]
        classifier = LinearClassifier(classifier.in_channels, num_outputs, side)
    multiple = getattr(model, "multiple", None) or int(model.encoder.output_stride)
    aligned = getattr(model, "align_corners", False)
    network = Segmenter(model.encoder, model.decoder, classifier, multiple, aligned)
    network.description = {
        "architecture": architecture,
        "encoder": encoder,
        "outputs": num_outputs,
        "cosine": cosine,
        "options": plain,
        "in_channels": in_channels,
    }
    if weights not in (None, "imagenet"):
        _load_weights(network, Path(weights))
    return network


def rebuild_segmenter(description: Mapping[str, Any]) -> Segmenter:
    """Build the network of a `Segmenter.description` again, with random weights.

    Raises:
        UserError: See `build_segmenter`.
    """
    return build_segmenter(
        description["architecture"],
        description["encoder"],
        None,
        description["outputs"],
        description["cosine"],
        description["options"],
        description.get("in_channels", 3),
    )


def _plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, words, lists and dicts of these: what a checkpoint may hold and a file can say."""
    try:
        return json.loads(json.dumps(dict(options)))
    except TypeError as error:
        raise UserError(
            f"network.options {dict(options)} hold something that cannot be written into a "
            f"checkpoint ({error}); give numbers, words, and lists of them."
        ) from error


def _repeated(weight: Tensor, channels: int) -> Tensor:
    """A first layer for more or fewer channels, as segmentation-models-pytorch makes one.

    Args:
        weight: (D, 3, k, k).
        channels: Channels of the images.
    """
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    index = torch.arange(channels) % weight.shape[1]
    return weight[:, index] * (weight.shape[1] / channels)


def _load_weights(network: Segmenter, path: Path) -> None:
    """Load an encoder's or a network's state dict; refuse a file that fits nothing."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Any] = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own kinds
        raise UserError(f"cannot read weights from {path} ({error}).") from error
    state = state.get("state_dict", state)
    if own_names := getattr(network.encoder, "own_names", None):
        state = own_names(state, str(path))
    best: tuple[int, nn.Module, dict[str, Tensor]] = (0, network, {})

    def size(names: Iterable[str]) -> int:
        """Tensors without the counts of batches, which older files lack."""
        return sum(not name.endswith("num_batches_tracked") for name in names)

    for target in (network.encoder, network):
        own = target.state_dict()
        for prefix in ("", "encoder.", "network.", "model.", "module.", "backbone."):
            found = {
                name: state[prefix + name]
                for name, value in own.items()
                if prefix + name in state and state[prefix + name].shape == value.shape
            }
            for name, value in own.items():  # a first layer for other channels
                theirs = state.get(prefix + name)
                if name not in found and isinstance(theirs, Tensor) and theirs.ndim == 4:
                    repeated = _repeated(theirs, value.shape[1])
                    if theirs.shape[1] == 3 and repeated.shape == value.shape:
                        found[name] = repeated
            if size(found) > best[0]:
                best = (size(found), target, found)
    count, target, found = best
    needed = size(network.encoder.state_dict())
    if count < 0.9 * needed:  # less than the encoder: the file belongs to another network
        raise UserError(
            f"{path} fits {count} of the {needed} tensors of this encoder; it belongs to another "
            f"network. Choose the encoder it was made for, or network.weights=null."
        )
    target.load_state_dict(found, strict=False)
    log.info("loaded %d tensors from %s", len(found), path)
