"""Scores of pixels on a CPU: one pass over the logits, block by block, inside the cache.

With ``m = max z``, ``s = sum exp(z - m)`` and ``t = sum exp(z - m) (z - m)``, the entropy is
``ln s - t / s`` and the best probability ``1 / s``: one exponential per logit, and none where only
the two best classes count. Contiguous logits are read in place, and no array of their size is
written. The definitions are in `alseg.acquisition.scores`.

NumPy, and not torch: of thousands of short operations, each shared among threads as torch does,
most of the time is spent waiting for one another, on a busy machine seconds per image.
"""

from collections.abc import Callable, Collection
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.floating[Any]]

#: Told of every block: the image (position in the stack of logits), the pixels, and the class
#: probabilities of these pixels, (C, n), which are overwritten by the next block.
Visit = Callable[[int, slice, Floats], None]

#: What `scan` computes, see `alseg.acquisition.scores`. All but ``top1`` are floating point.
SCANNED = ("entropy", "least_confidence", "margin", "bvsb", "top1")

# exp() of this is 0 in every floating type, and 0 times it is 0; with -inf it would be NaN.
LOG_ZERO = -1e4

# Pixels worked on at a time: the buffers of one block stay in the cache.
_BLOCK = 2**15

# The same where the probabilities of a block are buffered, too.
_VISITED = 2**13

# Shorter runs of contiguous pixels are not worth a block of their own.
_SHORT = 2**14


def scan(
    logits: Tensor,
    inverse_temperature: float,
    dim: int,
    wanted: Collection[str],
    visit: Visit | None = None,
) -> dict[str, Tensor]:
    """Some scores of every pixel.

    Args:
        logits: On the CPU, any shape with classes along `dim`; float32 or float64.
        inverse_temperature: Logits are multiplied by it.
        dim: Dimension of the classes, not negative.
        wanted: Names among `SCANNED`.
        visit: See `Visit`; for logits (B, C, ...) with classes along dimension 1.

    Returns:
        By name, of the shape of `logits` without `dim`: of its type, ``top1`` uint8.
    """
    shape = logits.shape[:dim] + logits.shape[dim + 1 :]
    stacks, run = prod(logits.shape[:dim]), prod(logits.shape[dim + 1 :])
    if stacks > 1 and run < _SHORT and visit is None:
        # e.g. (n, C): gather all pixels behind one another first
        stacks, run = 1, stacks * run
        stack = logits.movedim(dim, 0).reshape(1, logits.shape[dim], run)
    else:
        stack = logits.reshape(stacks, logits.shape[dim], run)
    arrays = stack.detach().numpy()
    if arrays.strides[2] != arrays.itemsize:
        arrays = np.ascontiguousarray(arrays)
    outputs = {
        name: np.empty((stacks, run), np.uint8 if name == "top1" else arrays.dtype)
        for name in wanted
    }
    block = _Block(arrays, inverse_temperature, visit is not None)
    with np.errstate(invalid="ignore"):  # pixels without a finite logit become NaN
        for index in range(stacks):
            for start in range(0, run, block.length):
                here = slice(start, min(start + block.length, run))
                found = {name: out[index, here] for name, out in outputs.items()}
                block.score(arrays[index, :, here], found)
                if visit is not None:
                    visit(index, here, block.shares(here.stop - start))
    return {name: torch.from_numpy(out).reshape(shape) for name, out in outputs.items()}


class _Block:
    """Buffers of one block of pixels, and the arithmetic on them, channel by channel."""

    def __init__(self, stack: Floats, inverse_temperature: float, visited: bool) -> None:
        _, classes, run = stack.shape
        self.length = max(1, min(run, _VISITED if visited else _BLOCK))
        self.inverse_temperature = inverse_temperature
        self.best, self.second, self.total, self.weighted, self.spare, self.power = np.empty(
            (6, self.length), stack.dtype
        )
        self.floor = np.full(self.length, LOG_ZERO, stack.dtype)  # slow against a scalar
        self.hit = np.empty(self.length, bool)
        self.powers = np.empty((classes if visited else 0, self.length), stack.dtype)

    def shares(self, length: int) -> Floats:
        """Class probabilities of the block that was scored last, (C, n)."""
        found = self.powers[:, :length]
        found /= self.total[:length]
        return found

    def score(self, z: Floats, out: dict[str, NDArray[Any]]) -> None:
        """Score the pixels of a block.

        Args:
            z: Logits, (C, n).
            out: Takes the scores, (n,) each.
        """
        length = z.shape[1]
        best, second, total = self.best[:length], self.second[:length], self.total[:length]
        if "margin" in out or "bvsb" in out:
            self._best_two(z, best, second)
            np.subtract(second, best, out=second)
            np.multiply(second, self.inverse_temperature, out=second)
            np.exp(second, out=out.get("bvsb", second))
        else:
            np.maximum.reduce(z, axis=0, out=best)
        if "top1" in out:
            self._first_best(z, best, out["top1"])
        if len(self.powers) or not out.keys() <= {"bvsb", "top1"}:
            self._sum(z, best, total, "entropy" in out)
        if "entropy" in out:
            entropy, weighted = out["entropy"], self.weighted[:length]
            np.log(total, out=entropy)
            np.divide(weighted, total, out=weighted)
            np.subtract(entropy, weighted, out=entropy)
        if "least_confidence" in out:
            np.subtract(total, 1, out=out["least_confidence"])
            np.divide(out["least_confidence"], total, out=out["least_confidence"])
        if "margin" in out:
            np.subtract(out.get("bvsb", second), 1, out=out["margin"])
            np.divide(out["margin"], total, out=out["margin"])
            np.add(out["margin"], 1, out=out["margin"])

    def _best_two(self, z: Floats, best: Floats, second: Floats) -> None:
        spare = self.spare[: z.shape[1]]
        np.maximum(z[0], z[1], out=best)
        np.minimum(z[0], z[1], out=second)
        for channel in z[2:]:
            np.minimum(best, channel, out=spare)
            np.maximum(second, spare, out=second)
            np.maximum(best, channel, out=best)

    def _first_best(self, z: Floats, best: Floats, top1: NDArray[np.uint8]) -> None:
        """The lowest class that attains the maximum."""
        hit, classes = self.hit[: z.shape[1]], len(z)
        rank = hit.view(np.uint8)
        top1[:] = 1  # C - class id, so that the largest is the lowest class
        for c, channel in enumerate(z):
            np.greater_equal(channel, best, out=hit)
            np.multiply(rank, classes - c, out=rank)
            np.maximum(top1, rank, out=top1)
        np.subtract(classes, top1, out=top1, casting="unsafe")

    def _sum(self, z: Floats, best: Floats, total: Floats, weighted: bool) -> None:
        """``s``, and ``t`` where it is wanted."""
        length = z.shape[1]
        spare, floor, sums = self.spare[:length], self.floor[:length], self.weighted[:length]
        total[:] = 0
        sums[:] = 0
        for c, channel in enumerate(z):
            power = self.powers[c, :length] if len(self.powers) else self.power[:length]
            np.subtract(channel, best, out=spare)
            if self.inverse_temperature != 1:
                np.multiply(spare, self.inverse_temperature, out=spare)
            np.maximum(spare, floor, out=spare)
            np.exp(spare, out=power)
            np.add(total, power, out=total)
            if weighted:
                np.multiply(power, spare, out=spare)
                np.add(sums, spare, out=sums)
