"""How uncertain a network is about each pixel, from its logits.

`entropy`, `least_confidence`, `margin` and `best_vs_second_best` state one formula each and can be
differentiated. `pixel_scores` computes the ones used for querying together, several times faster.
All are finite for any finite logits and for logits of ``-inf`` (classes ruled out), as long as one
logit per pixel is finite; NaN logits give NaN scores.
"""

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

# exp() of this is 0 in every floating type, and 0 times it is 0; with -inf it would be NaN.
_LOG_ZERO = -1e4

# Pixels worked on at a time on a CPU: the buffers of one block stay in the cache, and a block is
# still long enough for all cores to share.
_BLOCK = 2**18

# Shorter runs of contiguous pixels are not worth a block of their own.
_SHORT = 2**14


class PixelScores(NamedTuple):
    """Scores of every pixel; shapes are those of the logits without the class dimension."""

    entropy: Tensor
    """Entropy of the class distribution, 0..ln C nats, float32."""
    margin: Tensor
    """``1 - (p1 - p2)``, 0..1, higher is more uncertain, float32."""
    bvsb: Tensor
    """``p2 / p1``, 0..1, higher is more uncertain, float32."""
    top1: Tensor
    """The most probable class, lowest id among equals, uint8."""


def entropy(logits: Tensor, temperature: float = 1.0, dim: int = 1) -> Tensor:
    """Shannon entropy of the class distribution.

    Args:
        logits: Class scores before softmax, (B, C, H, W) or any shape with classes along `dim`.
        temperature: Logits are divided by it, > 0.
        dim: Dimension of the classes.

    Returns:
        Nats, 0..ln C, shape of `logits` without `dim`, float32 (float64 for float64 logits).

    >>> entropy(torch.tensor([[0.0, 0.0], [500.0, -500.0]])).tolist()
    [0.6931471824645996, 0.0]
    """
    log_p = torch.log_softmax(_scaled(logits, temperature), dim)
    return (log_p.exp() * -log_p.clamp(min=_LOG_ZERO)).sum(dim)


def least_confidence(logits: Tensor, temperature: float = 1.0, dim: int = 1) -> Tensor:
    """One minus the probability of the most probable class (Lewis & Gale 1994).

    Args:
        logits: Class scores before softmax, (B, C, H, W) or any shape with classes along `dim`.
        temperature: Logits are divided by it, > 0.
        dim: Dimension of the classes.

    Returns:
        0..1 - 1/C, higher is more uncertain, shape of `logits` without `dim`.

    >>> least_confidence(torch.tensor([[0.0, 0.0, 0.0, 0.0]])).tolist()
    [0.75]
    """
    return -torch.expm1(torch.log_softmax(_scaled(logits, temperature), dim).amax(dim))


def margin(logits: Tensor, temperature: float = 1.0, dim: int = 1) -> Tensor:
    """One minus the gap between the two most probable classes (Scheffer et al. 2001).

    Args:
        logits: Class scores before softmax, (B, C, H, W) or any shape with C >= 2 along `dim`.
        temperature: Logits are divided by it, > 0.
        dim: Dimension of the classes.

    Returns:
        ``1 - (p1 - p2)``, 0..1, higher is more uncertain, shape of `logits` without `dim`.

    >>> margin(torch.tensor([[0.0, 0.0], [500.0, -500.0]])).tolist()
    [1.0, 0.0]
    """
    _check_classes(logits, dim)
    top = torch.softmax(_scaled(logits, temperature), dim).topk(2, dim).values
    return 1 - (top.select(dim, 0) - top.select(dim, 1))


def best_vs_second_best(logits: Tensor, temperature: float = 1.0, dim: int = 1) -> Tensor:
    """Probability of the second best class over that of the best (Joshi et al. 2009, ratio form).

    It depends on the difference of two logits only, so it never divides by a vanished probability.

    Args:
        logits: Class scores before softmax, (B, C, H, W) or any shape with C >= 2 along `dim`.
        temperature: Logits are divided by it, > 0.
        dim: Dimension of the classes.

    Returns:
        ``p2 / p1``, 0..1, higher is more uncertain, shape of `logits` without `dim`.

    >>> best_vs_second_best(torch.tensor([[1.0, 1.0, -9.0]])).tolist()
    [1.0]
    """
    _check_classes(logits, dim)
    top = _scaled(logits, temperature).topk(2, dim).values
    return torch.exp(top.select(dim, 1) - top.select(dim, 0))


@torch.no_grad()
def pixel_scores(logits: Tensor, temperature: float = 1.0, dim: int = 1) -> PixelScores:
    """`entropy`, `margin`, `best_vs_second_best` and the most probable class in one pass.

    With ``m = max z``, ``s = sum exp(z - m)`` and ``t = sum exp(z - m) (z - m)``, the entropy is
    ``ln s - t / s`` and the best probability ``1 / s``: one exponential per logit, and no array as
    large as the logits is written. Without gradient.

    Args:
        logits: Class scores before softmax, (B, C, H, W) or any shape with 2 <= C <= 255 along
            `dim`; float16 and bfloat16 are computed in float32.
        temperature: Logits are divided by it, > 0.
        dim: Dimension of the classes.

    Returns:
        Scores, float32 (float64 for float64 logits), and classes, uint8.

    Raises:
        ValueError: If the temperature is not positive or C is out of range.
    """
    _check_temperature(temperature)
    _check_classes(logits, dim)
    num_classes = logits.shape[dim]
    if num_classes > 255:
        raise ValueError(f"class ids are uint8: at most 255 classes, not {num_classes}")
    dim %= logits.ndim
    shape = logits.shape[:dim] + logits.shape[dim + 1 :]
    stacks, run = prod(logits.shape[:dim]), prod(logits.shape[dim + 1 :])
    if stacks > 1 and run < _SHORT:  # e.g. (n, C): gather all pixels behind one another first
        stacks, run = 1, stacks * run
        stack = logits.movedim(dim, 0).reshape(1, num_classes, run)
    else:
        stack = logits.reshape(stacks, num_classes, run)

    dtype = _work_type(logits)
    block = max(1, min(run, _BLOCK) if logits.device.type == "cpu" else run)
    result = PixelScores(
        entropy=logits.new_empty(stacks * run, dtype=dtype),
        margin=logits.new_empty(stacks * run, dtype=dtype),
        bvsb=logits.new_empty(stacks * run, dtype=dtype),
        top1=logits.new_empty(stacks * run, dtype=torch.uint8),
    )
    buffers = _Buffers(*(logits.new_empty(block, dtype=dtype) for _ in range(4)))
    hit = logits.new_empty(block, dtype=torch.bool)
    for index in range(stacks):
        for start in range(0, run, block):
            z = stack[index, :, start : start + block]
            if z.dtype != dtype or z.stride(1) != 1:
                z = z.to(dtype).contiguous()
            length = z.shape[1]
            here = index * run + start
            _score_block(
                z,
                1 / temperature,
                PixelScores(*(out[here : here + length] for out in result)),
                _Buffers(*(buffer[:length] for buffer in buffers)),
                hit[:length],
            )
    return PixelScores(*(out.reshape(shape) for out in result))


class _Buffers(NamedTuple):
    best: Tensor
    total: Tensor
    weighted: Tensor
    spare: Tensor


def _score_block(
    z: Tensor, inverse_temperature: float, out: PixelScores, buffers: _Buffers, hit: Tensor
) -> None:
    """Fill `out` for the pixels of one block of logits, (C, n), channel by channel."""
    best, total, weighted, spare = buffers
    num_classes = len(z)
    second, power, rank = out.bvsb, out.margin, out.top1  # outputs serve as buffers until the end

    torch.maximum(z[0], z[1], out=best)
    torch.minimum(z[0], z[1], out=second)
    for c in range(2, num_classes):
        torch.minimum(best, z[c], out=spare)
        torch.maximum(second, spare, out=second)
        torch.maximum(best, z[c], out=best)

    total.zero_()
    weighted.zero_()
    rank.fill_(1)  # C - class id, so that the largest is the lowest class that attains the maximum
    for c in range(num_classes):
        torch.eq(z[c], best, out=hit)
        hit_rank = hit.view(torch.uint8)
        hit_rank.mul_(num_classes - c)
        torch.maximum(rank, hit_rank, out=rank)
        torch.sub(z[c], best, out=spare)
        if inverse_temperature != 1:
            spare.mul_(inverse_temperature)
        spare.clamp_(min=_LOG_ZERO)
        torch.exp(spare, out=power)
        total.add_(power)
        weighted.addcmul_(power, spare)

    rank.neg_().add_(num_classes)  # uint8 arithmetic is modulo 256; the result is in range
    second.sub_(best).mul_(inverse_temperature).exp_()
    torch.log(total, out=out.entropy)
    out.entropy.sub_(weighted.div_(total))
    torch.sub(second, 1, out=out.margin)
    out.margin.div_(total).add_(1)


def _scaled(logits: Tensor, temperature: float) -> Tensor:
    _check_temperature(temperature)
    return logits.to(_work_type(logits)) / temperature


def _work_type(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, not {temperature}")


def _check_classes(logits: Tensor, dim: int) -> None:
    if logits.shape[dim] < 2:
        raise ValueError(f"a second best class needs at least 2 classes, not {logits.shape[dim]}")
