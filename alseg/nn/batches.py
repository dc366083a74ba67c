"""How few images a network can be trained with at a time."""

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import nn


def takes_one_image(network: "nn.Module", channels: int, size: tuple[int, int]) -> bool:
    """Whether a network can be trained with one image per batch.

    Batch normalisation needs two values per channel. Where a network pools whole images to one
    value and normalises that, as the pyramid of DeepLabV3 does, one image has not enough.

    Args:
        network: It is left as it is; nothing is computed.
        channels: Of an image.
        size: Height and width of the crops it is trained on.
    """
    import torch

    probe = copy.deepcopy(network).to("meta").train()
    try:
        probe(torch.empty(1, channels, *size, device="meta"))
    except ValueError as error:
        return "more than 1 value per channel" not in str(error)
    except (RuntimeError, NotImplementedError):
        return True  # something in it cannot be tried without computing
    return True
