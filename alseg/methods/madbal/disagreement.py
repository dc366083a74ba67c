"""Step 1, pixel by pixel: entropy, disagreement between depths, predicted hardness.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
Everything works from log-softmax and is finite for any finite logits.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from alseg.acquisition import scores
from alseg.core.errors import unknown_name
from alseg.nn.precision import at_least_float32

#: How the disagreement of two predictions is read, see `depth_disagreements`.
Reading = Literal["image_mean", "pixel_reversed", "pixel_js"]
READINGS: tuple[str, ...] = get_args(Reading)

# Pixels worked on at a time on a CPU: all maps of one block stay in the cache.
_BLOCK = 2**12


@torch.no_grad()
def depth_disagreements(
    logits: Tensor, auxiliary: Sequence[Tensor], reading: Reading = "image_mean"
) -> Tensor:
    """How far the final prediction P and that of each depth Q are apart (F19). Without gradient.

    By way of their mean ``M = (P + Q) / 2``:

    - ``image_mean`` (F19a, what the reference computes): the mean over all pixels of an image and
      over the classes of ``(KL(M | P) + KL(M | Q)) / 2``, one number per image. It is smaller by
      the number of classes than the mean of the next, and ranks no pixel above another.
    - ``pixel_reversed`` (F19b, what the reference seems to mean): the sum over the classes, for
      every pixel.
    - ``pixel_js`` (F19c): the Jensen-Shannon divergence ``(KL(P | M) + KL(Q | M)) / 2``, at most
      ln 2, for every pixel.

    Args:
        logits: Final logits on the grid, (B, C, h, w).
        auxiliary: Logits of the auxiliary classifiers on the grid, from the shallowest on.
        reading: One of the three.

    Returns:
        Nats, >= 0, (B, 3, h, w), or (B, 3, 1, 1) for ``image_mean``.

    Raises:
        UserError: For an unknown reading.
    """
    if reading not in READINGS:
        raise unknown_name("reading", reading, READINGS)
    size = logits.shape[-2:]
    flat = [maps.flatten(2) for maps in (logits, *auxiliary)]
    block = _BLOCK if logits.device.type == "cpu" else flat[0].shape[2]
    apart = []
    for parts in zip(*(maps.split(block, dim=2) for maps in flat), strict=True):
        log_p, *others = (at_least_float32(part).log_softmax(1) for part in parts)
        apart.append(torch.stack([_apart(log_p, log_q, reading) for log_q in others], dim=1))
    pixels = torch.cat(apart, dim=2).clamp(min=0)  # rounding
    if reading == "image_mean":
        return pixels.mean(2)[..., None, None] / logits.shape[1]
    return pixels.unflatten(2, size)


def _apart(log_p: Tensor, log_q: Tensor, reading: Reading) -> Tensor:
    """Disagreement of every pixel, summed over the classes: (B, C, n) to (B, n)."""
    p, q = log_p.exp(), log_q.exp()
    m = (p + q).mul_(0.5)
    log_m = m.clamp(min=torch.finfo(m.dtype).tiny).log_()
    if reading == "pixel_js":
        return 0.5 * (p.mul_(log_p - log_m) + q.mul_(log_q - log_m)).sum(1)
    return 0.5 * log_m.mul_(2).sub_(log_p).sub_(log_q).mul_(m).sum(1)


@torch.no_grad()
def pixel_scores(
    logits: Tensor,
    auxiliary: Sequence[Tensor],
    depth_weights: Tensor,
    hard: Tensor,
    edges: Tensor,
    reading: Reading = "image_mean",
) -> Tensor:
    """Score of every pixel of the grid, higher is asked first (F20).

    Entropy (F18) plus the disagreement of each depth, weighted by how far the depth is to be
    believed, times ``exp`` of the predicted hardness, 1..e. Without gradient. All maps are on the
    grid: logits come there before their softmax, probabilities and weights as they are (see
    `alseg.methods.madbal.grid.to_grid`).

    Args:
        logits: Final logits, (B, C, h, w).
        auxiliary: Logits of the three auxiliary classifiers, from the shallowest on.
        depth_weights: (B, 3, h, w).
        hard: Probabilities of the detector, 0..1, (B, 2, h, w): on an edge, and inside.
        edges: Pixels on image edges, (B, h, w), bool or 0 and 1.
        reading: See `depth_disagreements`. With ``image_mean`` a score depends on the whole image,
            so images must not be cut or padded.

    Returns:
        >= 0, (B, h, w), float32 (float64 for float64 logits).
    """
    apart = depth_disagreements(logits, auxiliary, reading)
    unsure = scores.pixel_scores(logits).entropy + (depth_weights * apart).sum(1)
    return unsure * torch.where(edges.bool(), hard[:, 0], hard[:, 1]).exp()
