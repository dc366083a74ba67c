"""Step 1, pixel by pixel: entropy, disagreement between depths, predicted hardness.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
Everything works from log-softmax and is finite for any finite logits.
"""

from collections.abc import Sequence
from math import log
from typing import Literal, get_args

import torch
from torch import Tensor

from alseg.acquisition.scores import entropy
from alseg.errors import unknown_name
from alseg.nn.precision import at_least_float32

#: How the disagreement of two predictions is read, see `disagreement`.
Reading = Literal["image_mean", "pixel_reversed", "pixel_js"]
READINGS: tuple[str, ...] = get_args(Reading)


def disagreement(log_p: Tensor, log_q: Tensor, reading: Reading = "image_mean") -> Tensor:
    """How far two predictions are apart, by way of their mean ``M = (P + Q) / 2`` (F19).

    - ``image_mean`` (F19a, what the reference computes): the mean over all pixels of an image and
      over the classes of ``(KL(M | P) + KL(M | Q)) / 2``, one number per image. It is smaller by
      the number of classes than the mean of the next, and ranks no pixel above another.
    - ``pixel_reversed`` (F19b, what the reference seems to mean): the sum over the classes, for
      every pixel.
    - ``pixel_js`` (F19c): the Jensen-Shannon divergence ``(KL(P | M) + KL(Q | M)) / 2``, at most
      ln 2, for every pixel.

    Args:
        log_p: Logarithms of probabilities, (B, C, H, W).
        log_q: Likewise.
        reading: One of the three.

    Returns:
        Nats, >= 0, (B, H, W), or (B, 1, 1) for ``image_mean``.

    Raises:
        UserError: For an unknown reading.
    """
    if reading not in READINGS:
        raise unknown_name("reading", reading, READINGS)
    log_m = torch.logaddexp(log_p, log_q).sub_(log(2))
    if reading == "pixel_js":
        terms = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
        return 0.5 * terms.sum(1)
    terms = log_m.exp() * (2 * log_m - log_p - log_q)
    if reading == "pixel_reversed":
        return 0.5 * terms.sum(1)
    return 0.5 * terms.mean(dim=(1, 2, 3), keepdim=True)[:, 0]


def depth_disagreements(
    logits: Tensor, auxiliary: Sequence[Tensor], reading: Reading = "image_mean"
) -> Tensor:
    """Disagreement of the final prediction with that of each depth (F19).

    Args:
        logits: Final logits on the grid, (B, C, h, w).
        auxiliary: Logits of the auxiliary classifiers on the grid, from the shallowest on.
        reading: See `disagreement`.

    Returns:
        (B, 3, h, w), or (B, 3, 1, 1) for ``image_mean``.
    """
    log_p = at_least_float32(logits).log_softmax(1)
    return torch.stack(
        [disagreement(log_p, at_least_float32(q).log_softmax(1), reading) for q in auxiliary], dim=1
    )


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
    believed, times ``exp`` of the predicted hardness, 1..e. All maps are on the grid: logits come
    there before their softmax, probabilities and weights as they are (see
    `alseg.methods.madbal.grid.to_grid`).

    Args:
        logits: Final logits, (B, C, h, w).
        auxiliary: Logits of the three auxiliary classifiers, from the shallowest on.
        depth_weights: (B, 3, h, w).
        hard: Probabilities of the detector, 0..1, (B, 2, h, w): on an edge, and inside.
        edges: Pixels on image edges, (B, h, w), bool or 0 and 1.
        reading: See `disagreement`. With ``image_mean`` a score depends on the whole image, so
            images must not be cut or padded.

    Returns:
        >= 0, (B, h, w), float32 (float64 for float64 logits).
    """
    apart = depth_disagreements(logits, auxiliary, reading)
    unsure = entropy(logits) + (depth_weights * apart).sum(1)
    return unsure * torch.where(edges.bool(), hard[:, 0], hard[:, 1]).exp()
