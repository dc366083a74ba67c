"""Single pixels to ask about in one image: the most uncertain ones, or a draw from those.

Pixels are flat indices ``y * W + x``.
"""

import numpy as np
import torch
from torch import Tensor

from alseg.acquisition.units import UnitScores, top_pixels

#: What draws: NumPy's generator, or its older one for the numbers of published code.
Draws = np.random.Generator | np.random.RandomState


def exclude_pixels(scores: Tensor, excluded: Tensor) -> Tensor:
    """Scores with ``-inf`` where a pixel may not be asked, such as where it has been.

    Args:
        scores: (H, W) or flat, float.
        excluded: Flat indices, (m,), int64.

    Returns:
        Shape of `scores`.

    >>> exclude_pixels(torch.tensor([[0.5, 0.25]]), torch.tensor([0])).tolist()
    [[-inf, 0.25]]
    """
    return scores.reshape(-1).index_fill(0, excluded, -torch.inf).reshape(scores.shape)


def ranked_pixels(scores: Tensor, n: int) -> Tensor:
    """The pixels of highest score, highest first; among equals the lower index.

    Args:
        scores: (H, W) or flat, float.
        n: Pixels wanted; all if there are fewer.

    Returns:
        Flat indices, (min(n, H * W),), int64.

    >>> ranked_pixels(torch.tensor([[1.0, 4.0], [4.0, 5.0]]), 3).tolist()
    [3, 1, 2]
    """
    if scores.device.type != "cpu":
        return scores.reshape(-1).float().sort(descending=True, stable=True).indices[:n]
    best = top_pixels(scores, n)
    return torch.from_numpy(best.unit.numpy()[np.argsort(-best.score.numpy(), kind="stable")])


def draw_pixels(
    scores: Tensor,
    n: int,
    share: float,
    rng: Draws,
    reverse: bool = False,
    left: int | None = None,
) -> UnitScores:
    """Pixels drawn at random from the most uncertain ones (PixelPick, arXiv 2104.06394).

    ``n`` pixels, uniformly and without replacement, from the ``k = int(share * H * W)`` of highest
    score: near duplicates lie next to each other, and the draw takes few of them. Pixels that may
    not be asked are never among the k. In reverse order, k pixels are drawn from the whole image
    and the n of highest score among those are taken.

    Args:
        scores: (H, W) or flat, float, higher is more uncertain; ``-inf`` = may not be asked.
        n: Pixels wanted; all that may be asked if there are fewer.
        share: Share of the image's pixels that are drawn from, 0..1, but at least n of them; 0
            takes the n of highest score, in either order.
        rng: Draws one permutation, unless `share` is 0. With ``numpy.random.RandomState`` the
            pixels are those of the reference implementation.
        reverse: Draw first, rank afterwards.
        left: Pixels that may be asked; None = count them, for which the host waits for a GPU.

    Returns:
        The pixels by ascending index.

    >>> scores = torch.tensor([0.9, 0.8, 0.1, 0.7, -torch.inf])
    >>> set(draw_pixels(scores, 2, 0.6, np.random.default_rng(0)).unit.tolist()) <= {0, 1, 3}
    True
    """
    flat = scores.reshape(-1).float()
    open_pixels = flat > -torch.inf
    if left is None:
        left = int(open_pixels.sum())
    n, k = min(n, left), int(share * flat.numel())
    if share == 0:
        return top_pixels(flat, n)
    if reverse:
        order = torch.as_tensor(rng.permutation(flat.numel()), device=flat.device)
        may_ask = open_pixels[order]
        # as many of the first k as may be asked, and more only where those are too few
        drawn = order[may_ask][: max(n, int(may_ask[:k].sum()))].sort().values
        unit = drawn[ranked_pixels(flat[drawn], n)]
    else:
        ranked = ranked_pixels(flat, max(n, min(k, left)))
        unit = ranked[torch.as_tensor(rng.permutation(len(ranked))[:n], device=flat.device)]
    unit = unit.sort().values
    return UnitScores(unit, flat[unit], torch.ones_like(unit))
