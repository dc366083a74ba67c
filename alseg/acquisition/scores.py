"""How uncertain a network is about each pixel, from its logits.

`entropy`, `least_confidence`, `margin` and `best_vs_second_best` state one formula each and can be
differentiated. `pixel_scores` computes the ones used for querying together, several times faster.
All are finite for any finite logits and for logits of ``-inf`` (classes ruled out), as long as one
logit per pixel is finite; NaN logits give NaN scores.
"""

from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# exp() of this is 0 in every floating type, and 0 times it is 0; with -inf it would be NaN.
_LOG_ZERO = -1e4

# Pixels worked on at a time on a CPU: the buffers of one block stay in the cache.
_BLOCK = 2**15

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
    ``ln s - t / s`` and the best probability ``1 / s``: one exponential per logit. Contiguous
    float32 logits are read in place and no array of their size is written. Without gradient.

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
    stack = stack.detach().to(dtype).contiguous()
    outputs = PixelScores(
        entropy=stack.new_empty(stacks * run),
        margin=stack.new_empty(stacks * run),
        bvsb=stack.new_empty(stacks * run),
        top1=stack.new_empty(stacks * run, dtype=torch.uint8),
    )
    on_cpu = stack.device.type == "cpu"
    block = max(1, min(run, _BLOCK) if on_cpu else run)
    buffers = [stack.new_empty(block) for _ in range(4)]
    buffers.append(stack.new_full((block,), _LOG_ZERO))  # NumPy is slow against a scalar
    buffers.append(stack.new_empty(block, dtype=torch.bool))
    # On a CPU NumPy: of thousands of short operations, each shared among threads as torch does,
    # most of the time is spent waiting for one another, on a busy machine seconds per image.
    for index in range(stacks):
        for start in range(0, run, block):
            z = stack[index, :, start : start + block]
            length = z.shape[1]
            here = index * run + start
            arrays = z, *(out[here : here + length] for out in outputs)
            work = [buffer[:length] for buffer in buffers]
            if on_cpu:
                with np.errstate(invalid="ignore"):  # pixels without a finite logit become NaN
                    _score_block(np, 1 / temperature, *(x.numpy() for x in (*arrays, *work)))
            else:
                _score_block(torch, 1 / temperature, *arrays, *work)
    return PixelScores(*(out.reshape(shape) for out in outputs))


def _score_block(
    xp: Any,
    inverse_temperature: float,
    z: Any,
    entropy: Any,
    margin: Any,
    bvsb: Any,
    top1: Any,
    best: Any,
    total: Any,
    weighted: Any,
    spare: Any,
    floor: Any,
    hit: Any,
) -> None:
    """Score the pixels of one block, channel by channel, in preallocated arrays.

    Args:
        xp: The library of the arrays, `numpy` or `torch`.
        inverse_temperature: Logits are multiplied by it.
        z: Logits, (C, n).
        entropy: Output, (n,), like `margin`, `bvsb` and, uint8, `top1`.
        margin: Output.
        bvsb: Output.
        top1: Output.
        best: Buffer, (n,), like `total`, `weighted`, `spare` and, bool, `hit`.
        total: Buffer.
        weighted: Buffer.
        spare: Buffer.
        floor: `_LOG_ZERO`, (n,).
        hit: Buffer.
    """
    channels = list(z)
    num_classes = len(channels)
    second, power, rank = bvsb, margin, top1  # outputs serve as buffers until the end

    xp.maximum(channels[0], channels[1], out=best)
    xp.minimum(channels[0], channels[1], out=second)
    for channel in channels[2:]:
        xp.minimum(best, channel, out=spare)
        xp.maximum(second, spare, out=second)
        xp.maximum(best, channel, out=best)

    total[:] = 0
    weighted[:] = 0
    rank[:] = 1  # C - class id, so that the largest is the lowest class that attains the maximum
    hit_rank = hit.view(xp.uint8)
    for c, channel in enumerate(channels):
        xp.greater_equal(channel, best, out=hit)
        xp.multiply(hit_rank, num_classes - c, out=hit_rank)
        xp.maximum(rank, hit_rank, out=rank)
        xp.subtract(channel, best, out=spare)
        if inverse_temperature != 1:
            xp.multiply(spare, inverse_temperature, out=spare)
        xp.maximum(spare, floor, out=spare)
        xp.exp(spare, out=power)
        xp.add(total, power, out=total)
        xp.multiply(power, spare, out=power)
        xp.add(weighted, power, out=weighted)

    top1[:] = num_classes - rank
    xp.subtract(second, best, out=bvsb)
    xp.multiply(bvsb, inverse_temperature, out=bvsb)
    xp.exp(bvsb, out=bvsb)
    xp.log(total, out=entropy)
    xp.divide(weighted, total, out=weighted)
    xp.subtract(entropy, weighted, out=entropy)
    xp.subtract(bvsb, 1, out=margin)
    xp.divide(margin, total, out=margin)
    xp.add(margin, 1, out=margin)


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
