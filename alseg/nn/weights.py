"""Weights from files as their makers ship them: finding the file, and fitting names to names.

All of it works on state dicts, tensors by name; `alseg.nn.segmenter` builds the networks.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alseg.core.errors import UserError

#: Keys under which a checkpoint keeps its tensors beside other things.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "network")
#: What stands in front of names: the module that held the network when it was saved.
PREFIXES = (
    "_orig_mod.",
    "module.",
    "model.",
    "network.",
    "encoder.",
    "backbone.",
    "base.",
    "body.",
)
#: Part of a DenseNet's name in older releases of torchvision.
_DENSE_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
#: What of an error of torch is for terminals, or for its own makers.
_NOISE = re.compile(r"\x1b\[[0-9;]*m|^\[enforce fail[^]]*\]\s*\.\s*")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a file by name, without what they are wrapped in.

    Args:
        path: A safetensors file if its name ends so, else one of ``torch.save``.

    Raises:
        UserError: If it cannot be read, or holds no tensors.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # every reader has its own kinds
        raise UserError(
            f"cannot read weights from {path} ({_reason(error)}); network.weights takes a "
            f"state dict, as torch.save(model.state_dict(), PATH) writes it, or a .safetensors "
            f"file."
        ) from error
    state = unwrapped(content)
    if not state:
        raise UserError(
            f"{path} holds no tensors by name; network.weights takes a state dict, as "
            f"torch.save(model.state_dict(), PATH) writes it, or a .safetensors file."
        )
    return state


def _reason(error: Exception) -> str:
    """Why a file could not be read, in one sentence."""
    said = _NOISE.sub("", str(error)).rpartition("WeightsUnpickler error: ")[2].strip()
    if found := re.search(r"\bGLOBAL (\S+)", said):
        return f"it holds {found[1]}, and only tensors, numbers and text are read"
    sentence = re.split(r"(?<=[.!?])\s|\n", said)[0].rstrip(".")
    if " " not in sentence or sentence.startswith("Unsupported operand"):
        return "it is no checkpoint of torch or safetensors"
    return sentence


def unwrapped(content: Any) -> dict[str, Tensor]:
    """Tensors by name from what a file holds; empty if it holds none.

    The DenseNets that torchvision offers have names of older releases, ``norm.1`` for ``norm1``.

    >>> list(unwrapped({"epoch": 3, "model": {"state_dict": {"w": torch.zeros(1)}}}))
    ['w']
    """
    if not isinstance(content, Mapping):
        return {}
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            return unwrapped(content[key])
    return {
        _DENSE_LAYER.sub(r"\1\2", str(name)): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }


def prefixes(names: Iterable[str]) -> list[str]:
    """What may stand in front of names, the shortest first: nothing, and chains of `PREFIXES`.

    >>> prefixes(["module.encoder.conv1.weight", "module.head.bias"])
    ['', 'module.', 'module.encoder.']
    """
    found = {""}
    for name in names:
        prefix = ""
        while part := next((p for p in PREFIXES if name.startswith(p, len(prefix))), None):
            prefix += part
            found.add(prefix)
    return sorted(found, key=lambda prefix: (len(prefix), prefix))


def strip_prefix(state: Mapping[str, Tensor], known: Callable[[str], bool]) -> dict[str, Tensor]:
    """Take away the prefix without which most names are known, and the tensors that lack it.

    Args:
        state: Tensors by name.
        known: Whether a name means something to the network.
    """

    def count(prefix: str) -> int:
        return sum(name.startswith(prefix) and known(name[len(prefix) :]) for name in state)

    best = max(prefixes(state), key=count)
    return {name[len(best) :]: value for name, value in state.items() if name.startswith(best)}


@dataclass(frozen=True)
class Fit:
    """What a file has for a module.

    Attributes:
        found: Tensors by the module's own names.
        missing: Names the file lacks. Counts of batches are never among them: older files have
            none.
        reshaped: Names whose tensor in the file has another shape.
    """

    found: dict[str, Tensor]
    missing: Sequence[str]
    reshaped: Sequence[str]

    def part(self, prefix: str) -> "Fit":
        """The same for a part of the module, whose names begin so; they stay whole."""
        return Fit(
            {name: value for name, value in self.found.items() if name.startswith(prefix)},
            [name for name in self.missing if name.startswith(prefix)],
            [name for name in self.reshaped if name.startswith(prefix)],
        )

    @property
    def count(self) -> int:
        """Tensors found, without counts of batches."""
        return sum(not is_count(name) for name in self.found)

    @property
    def needed(self) -> int:
        """Tensors there are to find, without counts of batches."""
        return self.count + len(self.missing) + len(self.reshaped)

    @property
    def lacks(self) -> str:
        """What has no value, in words: the first names and how many more."""
        words = [*self.missing, *(f"{name} (another shape)" for name in self.reshaped)]
        more = f" and {len(words) - 3} more" if len(words) > 3 else ""
        return ", ".join(words[:3]) + more


def is_count(name: str) -> bool:
    """Whether a tensor counts the batches a batch norm has seen."""
    return name.endswith("num_batches_tracked")


def fit(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Fit:
    """Find the tensors of a module in a file, under whichever prefix the most of them fit.

    A prefix that all of the module's own names share may be absent from the file: encoders that
    wrap timm's models have ``model.`` in front. timm joins the first parts of a name when it cuts
    a model into stages (``stages_0.`` for ``stages.0.``, ``stem_conv1.`` for ``stem.conv1.``). A
    first layer for three channels is fitted to more or fewer, see `repeated`.

    Args:
        state: Tensors of the file by name.
        own: Tensors of the module by name.
    """
    return _fit(state, own, *_best_prefixes(state, own))


def _best_prefixes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, str]:
    """The prefix in the file and the one in the module under which the most tensors fit."""
    pairs = [
        (theirs, ours)
        for ours in prefixes(own)
        if all(name.startswith(ours) for name in own)
        for theirs in prefixes(state)
    ]
    return max(pairs, key=lambda pair: _fit(state, own, *pair).count)


def _fit(state: Mapping[str, Tensor], own: Mapping[str, Tensor], theirs: str, ours: str) -> Fit:
    """Fit under one prefix in the file and one in the module."""
    found: dict[str, Tensor] = {}
    missing, reshaped = [], []
    exact = {theirs + name[len(ours) :] for name in own}
    others = [name for name in state if name.startswith(theirs) and name not in exact]
    times = Counter(map(_joined, others))
    joined = {_joined(name): name for name in others if times[_joined(name)] == 1}
    for name, value in own.items():
        full = theirs + name[len(ours) :]
        tensor = state.get(full if full in state else joined.get(_joined(full), ""))
        if tensor is None:
            if not is_count(name):
                missing.append(name)
        elif tensor.shape == value.shape:
            found[name] = tensor
        elif (first := _first_layer(tensor, value.shape)) is not None:
            found[name] = first
        else:
            reshaped.append(name)
    return Fit(found, missing, reshaped)


def _joined(name: str) -> str:
    """A name that is the same whether timm has joined its parts or not."""
    return name.replace("_", ".")


def further_block(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str | None:
    """A block of a file that a module lacks in its midst, as a deeper network's file has them.

    It carries on the count of blocks before it, has tensors like the last of these, and the module
    has layers after them: so what a module lacks because it ends earlier is no such block, and no
    head or decoder is one either.

    Args:
        state: Tensors of the file by name.
        own: Tensors of the module by name, in the order of its layers.

    Returns:
        The block's name without prefix, e.g. ``layer3.6``; None if there is none.
    """
    theirs, ours = _best_prefixes(state, own)
    bare = {n[len(theirs) :]: value for n, value in state.items() if n.startswith(theirs)}
    blocks = _blocks({n[len(ours) :]: value for n, value in own.items()})
    last_layer = [_joined(n[len(ours) :]) for n, value in own.items() if value.ndim > 1][-1:]
    there = _blocks(bare)
    for start, numbers in blocks.items():
        first, last = min(numbers), max(numbers)
        counted = first <= 1 and 2 <= len(numbers) == last - first + 1
        if not counted or there.get(start, {}).get(last + 1) != numbers[last]:
            continue
        if not any(name.startswith(start) for name in last_layer):
            block = f"{start}{last + 1}"
            return next(n for n in bare if _joined(n).startswith(f"{block}."))[: len(block)]
    return None


def _blocks(tensors: Mapping[str, Tensor]) -> dict[str, dict[int, dict[str, torch.Size]]]:
    """Shapes by what is before a number in the names, the number, and what is after it."""
    found: dict[str, dict[int, dict[str, torch.Size]]] = {}
    for name, value in tensors.items():
        if is_count(name):
            continue
        joined = _joined(name)
        for number in re.finditer(r"\d+(?=\.)", joined):
            block = found.setdefault(joined[: number.start()], {}).setdefault(int(number[0]), {})
            block[joined[number.end() :]] = value.shape
    return found


def _first_layer(weight: Tensor, shape: torch.Size) -> Tensor | None:
    """A layer for three channels as one of that shape; None if it is no such layer."""
    if weight.ndim != 4 or len(shape) != 4 or weight.shape[1] != 3:
        return None
    first = repeated(weight, shape[1])
    return first if first.shape == shape else None


def repeated(weight: Tensor, channels: int) -> Tensor:
    """A first layer for more or fewer channels, as segmentation-models-pytorch makes one.

    Args:
        weight: (D, 3, k, k).
        channels: Channels of the images.
    """
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    index = torch.arange(channels) % weight.shape[1]
    return weight[:, index] * (weight.shape[1] / channels)


def first_layer(weights: Mapping[str, Tensor]) -> Tensor:
    """The layer that sees the image: the first convolution, if it takes three channels.

    Args:
        weights: Of an encoder, by name, in the order of its layers.

    Raises:
        UserError: If there is none.
    """
    first = next((value for value in weights.values() if value.ndim == 4), None)
    if first is None or first.shape[1] != 3:
        raise UserError(
            "network.weights_bgr=true is for encoders whose first convolution takes three "
            "channels; turn the file's weights round yourself, and leave it out."
        )
    return first


#: Layers of efficientnet-pytorch by their names in timm: outside the blocks, in a block, and in a
#: block that does not expand its channels first.
_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_PLAIN = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def timm_names(state: Mapping[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """An EfficientNet-Lite of efficientnet-pytorch by the names of timm.

    Args:
        state: Tensors by name, ``_blocks.N._expand_conv.weight`` and so on; others are left out.
        own: Names of timm's model, with any prefix: its blocks are counted through the stages.
    """
    stages = {
        (int(found[1]), int(found[2]))
        for name in own
        if (found := re.search(r"(?:^|\.)blocks\.(\d+)\.(\d+)\.", name))
    }
    block_names = [f"blocks.{stage}.{block}" for stage, block in sorted(stages)]
    expanding = {name.split(".")[1] for name in state if "._expand_conv." in name}
    renamed = {}
    for name, value in state.items():
        if block := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            number, layer, rest = block.groups()
            layers = _EXPANDING if number in expanding else _PLAIN
            if layer in layers and int(number) < len(block_names):
                renamed[f"{block_names[int(number)]}.{layers[layer]}.{rest}"] = value
        elif (outside := re.fullmatch(r"(_\w+)\.(\w+)", name)) and outside[1] in _OUTSIDE:
            renamed[f"{_OUTSIDE[outside[1]]}.{outside[2]}"] = value
    return renamed
