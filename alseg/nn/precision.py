"""Precision of what is computed from a network's outputs."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision widened to float32; anything else as it is.

    >>> at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
