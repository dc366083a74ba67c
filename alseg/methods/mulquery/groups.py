"""What losses and pseudo labels share: the prototypical pixel, and enough precision for it."""

import torch
from torch import Tensor


def first_argmax(values: Tensor, groups: Tensor, num_groups: int) -> Tensor:
    """Index of the largest value of each group; ties go to the first.

    Args:
        values: (n,), floating point; no gradient flows through the result.
        groups: Group of each value, (n,), int64, ``0 <= group < num_groups``.
        num_groups: G.

    Returns:
        Index into `values` for each group, (G,), int64; n for groups without a value.

    >>> values = torch.tensor([0.1, 0.7, 0.7, 0.2])
    >>> first_argmax(values, torch.tensor([0, 2, 2, 0]), 4).tolist()
    [3, 4, 1, 4]
    """
    values = values.detach()
    largest = values.new_full((num_groups,), -torch.inf)
    largest = largest.scatter_reduce(0, groups, values, "amax")
    place = torch.arange(len(values), device=values.device)
    place = place.where(values == largest[groups], len(values))
    first = groups.new_full((num_groups,), len(values))
    return first.scatter_reduce(0, groups, place, "amin")
