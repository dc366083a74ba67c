"""Pretrained weights for the generator.

The reference copies what has the right name from torchvision's file, and nothing has. Here names
are translated, and a file that does not fill the trunk is refused.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from alseg.errors import UserError
from alseg.methods.als4gan.generator import DeepLabV2

_TORCHVISION = {"1": "reduce", "2": "conv3x3", "3": "increase"}


def generator_name(name: str) -> str | None:
    """Where a tensor of a file belongs in the generator.

    Args:
        name: A name of torchvision's ResNets, or of PyTorch's DeepLabv2 files (``base.layer2...``).

    Returns:
        The name in `DeepLabV2`, or None for tensors of a classifier.

    >>> generator_name("layer1.0.bn2.weight"), generator_name("conv1.weight")
    ('trunk.layer2.block1.conv3x3.bn.weight', 'trunk.layer1.conv1.conv.weight')
    >>> generator_name("base.layer4.block9.reduce.conv.weight"), generator_name("base.aspp.c0.bias")
    ('trunk.layer4.block9.reduce.conv.weight', 'head.c0.bias')
    """
    if found := re.fullmatch(r"base\.(layer\d+\..+)", name):
        return f"trunk.{found[1]}"
    if found := re.fullmatch(r"base\.aspp\.(c\d+\.(?:weight|bias))", name):
        return f"head.{found[1]}"
    if found := re.fullmatch(r"(conv|bn)1\.(\w+)", name):
        return f"trunk.layer1.conv1.{found[1]}.{found[2]}"
    if found := re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn)([123])\.(\w+)", name):
        stage, block, kind, number, rest = found.groups()
        inner = f"layer{int(stage) + 1}.block{int(block) + 1}.{_TORCHVISION[number]}"
        return f"trunk.{inner}.{kind}.{rest}"
    if found := re.fullmatch(r"layer(\d)\.0\.downsample\.([01])\.(\w+)", name):
        stage, kind, rest = found.groups()
        return f"trunk.layer{int(stage) + 1}.block1.shortcut.{('conv', 'bn')[int(kind)]}.{rest}"
    return None


def load_weights(generator: DeepLabV2, state: Mapping[str, Tensor], source: str) -> int:
    """Copy weights into the trunk, and into the head where they fit it.

    Args:
        generator: Changed in place.
        state: Tensors by name, of torchvision's ResNet or of a DeepLabv2.
        source: What the weights are called in an error, such as their path.

    Returns:
        Number of tensors copied.

    Raises:
        UserError: If any tensor of the trunk is missing or has another shape. Counts of batches,
            which older files lack, are not needed.
    """
    own = generator.state_dict()
    fitting = {}
    for name, value in state.items():
        target = generator_name(name)
        if target in own and own[target].shape == value.shape:
            fitting[target] = value
    needed = {
        name
        for name in own
        if name.startswith("trunk.") and not name.endswith("num_batches_tracked")
    }
    missing = sorted(needed - fitting.keys())
    if missing:
        raise UserError(
            f"{source} fills {len(needed) - len(missing)} of the {len(needed)} tensors of the "
            f"generator's trunk (the first without a value: {missing[0]}); give the weights of "
            f"the same ResNet as torchvision saves them, or of a DeepLabv2, or none."
        )
    with torch.no_grad():
        generator.load_state_dict(fitting, strict=False)
    return len(fitting)
