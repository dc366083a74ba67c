"""Segmentation networks of segmentation-models-pytorch behind one small interface."""

import inspect
import json
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alseg.core.errors import UserError, unknown_name
from alseg.nn.hub import asking_hub
from alseg.nn.interface import (
    CosineClassifier,
    LinearClassifier,
    Segmenter,
    cosine_logits,
    min_train_images,
    upsample,
)
from alseg.nn.sources import cached_weights, offered_packages, packaged_weights
from alseg.nn.weights import first_layer, fit, further_block, read_weights, strip_prefix, timm_names

__all__ = [
    "CosineClassifier",
    "LinearClassifier",
    "Segmenter",
    "build_segmenter",
    "check_network",
    "cosine_logits",
    "min_train_images",
    "rebuild_segmenter",
    "upsample",
]

log = logging.getLogger(__name__)


def _architectures() -> dict[str, Any]:
    """The architectures by their names in lower case."""
    import segmentation_models_pytorch as smp  # takes seconds, as do the modules that build on it

    from alseg.nn.deeplabv2 import DeepLabV2
    from alseg.nn.deeplabv3plus import ConfigurableDeepLabV3Plus
    from alseg.nn.fcn import FCN
    from alseg.nn.fpn import DilatedFPN
    from alseg.nn.lraspp import LRASPP

    own = {
        "configurabledeeplabv3plus": ConfigurableDeepLabV3Plus,
        "deeplabv2": DeepLabV2,
        "dilatedfpn": DilatedFPN,
        "fcn": FCN,
        "lraspp": LRASPP,
    }
    return {**smp.MODEL_ARCHITECTURES_MAPPING, **own}


def check_network(
    architecture: str,
    encoder: str,
    weights: str | None,
    in_channels: int = 3,
    weights_bgr: bool = False,
) -> None:
    """Check names and the weights file, before any work; see `build_segmenter`.

    Raises:
        UserError: For an unknown architecture or encoder, a weights file that is not there, or
            ``weights_bgr`` without a file or with images of other than three channels.
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
    if weights_bgr and (weights in (None, "imagenet") or in_channels != 3):
        raise UserError(
            f"network.weights_bgr=true is for a file of weights and images of three channels, not "
            f"for network.weights={weights or 'null'} and {in_channels} channels; leave it out."
        )


def build_segmenter(
    architecture: str,
    encoder: str,
    weights: str | None,
    num_outputs: int,
    cosine: bool = False,
    options: dict[str, Any] | None = None,
    in_channels: int = 3,
    weights_bgr: bool = False,
) -> Segmenter:
    """Build a network by name.

    Args:
        architecture: Any architecture of segmentation-models-pytorch, e.g. ``DeepLabV3Plus``, or
            ``ConfigurableDeepLabV3Plus``, ``DeepLabV2``, ``DilatedFPN``, ``FCN`` or ``LRASPP``.
        encoder: Any of its encoders, or a timm model with the prefix ``tu-``.
        weights: ``imagenet``, from an installed package with them (the extra ``weights``), the
            hub's cache, or the hub, in this order; a path to a state dict of the encoder or of
            the whole network, see `alseg.nn.weights`; or None for random weights.
        num_outputs: Number of output channels.
        cosine: Classify by cosine similarity instead of a convolution with bias.
        options: More keyword arguments for the architecture, e.g. ``decoder_atrous_rates``.
        in_channels: Channels of the images. The first layer of pretrained weights is repeated over
            other numbers than three, and scaled by 3 / `in_channels`; summed for one channel.
        weights_bgr: The file's first layer takes blue, green and red, as Caffe's do; it is turned
            round, since images here are RGB.

    Raises:
        UserError: For unknown names, options the architecture does not take or a checkpoint
            cannot hold, or weights that cannot be had or do not fit.
    """
    check_network(architecture, encoder, weights, in_channels, weights_bgr)
    plain = _plain_options(options or {})
    cls = _architectures()[architecture.lower()]
    known = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}
    for name in options or {}:
        # what the architecture does not know goes to the encoder: only timm's take more
        if name not in known and not encoder.startswith("tu-"):
            raise unknown_name(f"network.options of {architecture}", name, known)
    file = None if weights in (None, "imagenet") else Path(weights)
    source: dict[str, Any] = {}
    hub: AbstractContextManager[None] = nullcontext()
    if weights == "imagenet":
        file = packaged_weights(encoder)
        if file is None and (cached := cached_weights(encoder)):
            log.info("ImageNet weights from the hub's cache, %s", cached)
            if encoder.startswith("tu-"):  # others know their file
                source = {"pretrained_cfg_overlay": {"file": str(cached)}}
        elif file is None:
            hub = asking_hub()
    try:
        with hub:
            model = cls(
                encoder_name=encoder,
                encoder_weights="imagenet" if weights == "imagenet" and file is None else None,
                classes=num_outputs,
                in_channels=in_channels,
                **{**source, **(options or {})},
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
            f"{_first_line(error)}). Without the hub there are three ways: "
            f"{offered_packages(encoder)}; copy the hub's cache (HF_HOME) of a machine that has "
            f"them; or give network.weights=PATH to a file you have. network.weights=null starts "
            f"from random weights."
        ) from error
    classifier = model.segmentation_head[0]
    if cosine:
        classifier = CosineClassifier(classifier.in_channels, num_outputs)
    elif isinstance(classifier, nn.Conv2d):
        side = classifier.kernel_size[0]
        classifier = LinearClassifier(classifier.in_channels, num_outputs, side)
    multiple = getattr(model, "multiple", None) or int(model.encoder.output_stride)
    aligned = getattr(model, "align_corners", False)
    remainder = getattr(model, "remainder", 0)
    network = Segmenter(model.encoder, model.decoder, classifier, multiple, aligned, remainder)
    network.description = {
        "architecture": architecture,
        "encoder": encoder,
        "outputs": num_outputs,
        "cosine": cosine,
        "options": plain,
        "in_channels": in_channels,
    }
    if file is not None:
        _load_weights(network, file, weights_bgr)
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


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no reason given")


def _plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers, words, lists and dicts of these: what a checkpoint may hold and a file can say."""
    try:
        return json.loads(json.dumps(dict(options)))
    except TypeError as error:
        raise UserError(
            f"network.options {dict(options)} hold something that cannot be written into a "
            f"checkpoint ({error}); give numbers, words, and lists of them."
        ) from error


def _load_weights(network: Segmenter, path: Path, bgr: bool) -> None:
    """Load an encoder's or a network's state dict, for RGB; ``bgr`` says the file is for BGR.

    Raises:
        UserError: If the file cannot be read, has less than nine tenths of the encoder, or is of
            a deeper one.
    """
    from alseg.nn.deeplabv2 import CaffeResNet, own_name

    state = read_weights(path)
    encoder, whole = network.encoder.state_dict(), network.state_dict()
    if isinstance(network.encoder, CaffeResNet):
        state = strip_prefix(state, lambda name: name in whole or own_name(name) is not None)
        state = network.encoder.own_names(state, str(path))
    elif "_conv_stem.weight" not in encoder:
        theirs = strip_prefix(state, lambda name: name.startswith(("_conv_stem.", "_blocks.")))
        state = timm_names(theirs, encoder) if "_conv_stem.weight" in theirs else state
    fits = [
        (network.encoder, alone := fit(state, encoder), alone),
        (network, everything := fit(state, whole), everything.part("encoder.")),
    ]
    target, found, trunk = max(fits, key=lambda candidate: candidate[1].count)
    if trunk.count < 0.9 * trunk.needed:
        raise UserError(
            f"{path} fits {trunk.count} of the {trunk.needed} tensors of this encoder (without a "
            f"value: {trunk.lacks}); it belongs to another network, or another library names the "
            f"layers of this one differently. Choose the encoder it was made for, a file of the "
            f"library that the encoder is from, or network.weights=null."
        )
    if block := further_block(state, encoder):
        raise UserError(
            f"{path} is of a deeper network: it has {block} (in this encoder's terms), a block "
            f"more than the encoder has in that stage. Choose the encoder it was made for, or "
            f"network.weights=null."
        )
    # some encoders take no strict=False, and drop the names of their classifiers by themselves
    nn.Module.load_state_dict(target, found.found, strict=False)
    log.info("loaded %d of the %d tensors of the encoder from %s", trunk.count, trunk.needed, path)
    if bgr:
        with torch.no_grad():
            first = first_layer(dict(network.encoder.named_parameters()))
            first.copy_(first.flip(1))
        log.info("turned its first layer from BGR to RGB")
    if trunk.count < trunk.needed:
        log.warning("%s has no value for %s: they start at random", path, trunk.lacks)
    if target is network:
        head, needed = found.count - trunk.count, found.needed - trunk.needed
        log.info("and %d of the %d of the decoder and the classifier", head, needed)
