"""How uncertain a network is about each pixel, from its logits.

`entropy`, `least_confidence`, `margin` and `best_vs_second_best` are one score each, `pixel_scores`
and `best_two` several at once. The definitions (``_entropy`` and so on) are plain torch, run on
every device and can be differentiated. Where no gradient is asked for, a kernel takes their place:
on a CPU `alseg.acquisition.blocks`, on a GPU `alseg.acquisition.fused`. All are finite for any
finite logits and for logits of ``-inf`` (classes ruled out), as long as one logit per pixel is
finite; NaN logits give NaN scores.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.blocks import LOG_ZERO, Visit, scan


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
    return _score("entropy", logits, temperature, dim)


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
    return _score("least_confidence", logits, temperature, dim)


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
    return _score("margin", logits, temperature, dim)


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
    return _score("bvsb", logits, temperature, dim)


class BestTwo(NamedTuple):
    """What the two most probable classes say of every pixel, and the mean over the pixels."""

    bvsb: Tensor
    """``p2 / p1``, 0..1, higher is more uncertain, (B, H, W), float32."""
    top1: Tensor
    """The most probable class, lowest id among equals, (B, H, W), uint8."""
    mean: Tensor
    """Mean probability of each class over all pixels of an image, (B, C), float32; NaN if not
    asked for."""


@torch.no_grad()
def pixel_scores(logits: Tensor, temperature: float = 1.0, dim: int = 1) -> PixelScores:
    """`entropy`, `margin`, `best_vs_second_best` and the most probable class in one pass.

    Without gradient.

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
    _check_classes(logits, dim)
    return PixelScores(**_scores(PixelScores._fields, logits, temperature, dim))


@torch.no_grad()
def best_two(logits: Tensor, temperature: float = 1.0, mean: bool = False) -> BestTwo:
    """`best_vs_second_best` and the most probable class, and the mean softmax if it is wanted.

    Without gradient; cheaper than `pixel_scores`.

    Args:
        logits: Class scores before softmax, (B, C, H, W), 2 <= C <= 255.
        temperature: Logits are divided by it, > 0.
        mean: Whether to compute the mean probabilities.

    Raises:
        ValueError: If the temperature is not positive or C is out of range.
    """
    _check_classes(logits, 1)
    sums = np.full(logits.shape[:2], 0.0 if mean else np.nan)

    def add(image: int, pixels: slice, shares: NDArray[np.floating[Any]]) -> None:
        sums[image] += shares.sum(axis=1)

    found = _scores(("bvsb", "top1"), logits, temperature, 1, add if mean else None)
    if mean and logits.device.type != "cpu":
        means = torch.softmax(_scaled(logits, temperature), 1).mean(dim=(2, 3)).float()
    else:
        pixels = max(1, logits.shape[2] * logits.shape[3])
        means = torch.from_numpy(sums / pixels).float().to(logits.device)
    return BestTwo(found["bvsb"], found["top1"], means)


@torch.no_grad()
def add_opinion(
    logits: Tensor, temperature: float, probabilities: Tensor, entropies: Tensor, votes: Tensor
) -> None:
    """Add what one network says of a batch to running sums, in one pass, in place.

    Args:
        logits: Class scores before softmax, (B, C, H, W).
        temperature: Logits are divided by it, > 0.
        probabilities: Sum of the class probabilities, (B, C, H, W), contiguous.
        entropies: Sum of the entropies, (B, H, W).
        votes: How often each class was the most probable one, (B, C, H, W), uint8, contiguous.
    """
    sums, counts = probabilities.flatten(2), votes.flatten(2)

    def add(image: int, pixels: slice, shares: NDArray[np.floating[Any]]) -> None:
        sums[image, :, pixels] += torch.from_numpy(shares)

    on_cpu = logits.device.type == "cpu"
    found = _scores(("entropy", "top1"), logits, temperature, 1, add if on_cpu else None)
    if not on_cpu:
        sums += torch.softmax(_scaled(logits, temperature), 1).flatten(2)
    entropies += found["entropy"]
    classes = torch.arange(logits.shape[1], dtype=torch.uint8, device=logits.device)
    counts += found["top1"].flatten(1)[:, None] == classes[:, None]


@torch.no_grad()
def most_probable(logits: Tensor, dim: int = 1) -> Tensor:
    """The class of highest logit, the lowest id among equals: ``argmax``, many times faster on CPU.

    Args:
        logits: Any shape with 1 <= C <= 255 along `dim`.
        dim: Dimension of the classes.

    Returns:
        Class ids, shape of `logits` without `dim`, uint8.

    >>> most_probable(torch.tensor([[0.0, 2.0, 2.0]])).tolist()
    [1]
    """
    return _scores(("top1",), logits, 1.0, dim)["top1"]


@torch.no_grad()
def scores_by_name(
    names: Sequence[str], logits: Tensor, temperature: float = 1.0
) -> dict[str, Tensor]:
    """Some of `alseg.acquisition.blocks.SCANNED` in one pass. Without gradient.

    Args:
        names: Which.
        logits: Class scores before softmax, (B, C, H, W), 2 <= C <= 255.
        temperature: Logits are divided by it, > 0.

    Returns:
        Maps by name, (B, H, W).
    """
    _check_classes(logits, 1)
    return _scores(names, logits, temperature, 1)


def _score(name: str, logits: Tensor, temperature: float, dim: int) -> Tensor:
    if logits.requires_grad and torch.is_grad_enabled():
        return _DEFINITIONS[name](_scaled(logits, temperature), dim)
    return _scores((name,), logits, temperature, dim)[name]


def _scores(
    names: Sequence[str],
    logits: Tensor,
    temperature: float,
    dim: int,
    visit: Visit | None = None,
) -> dict[str, Tensor]:
    """Some scores by the kernel of the device, without gradient."""
    _check_temperature(temperature)
    dim %= logits.ndim
    if "top1" in names and logits.shape[dim] > 255:
        raise ValueError(f"class ids are uint8: at most 255 classes, not {logits.shape[dim]}")
    if logits.device.type == "cpu":
        return scan(logits.to(_work_type(logits)), 1 / temperature, dim, names, visit)
    scaled = _scaled(logits, temperature)
    return {name: _DEFINITIONS[name](scaled, dim) for name in names}


def _entropy(z: Tensor, dim: int) -> Tensor:
    log_p = torch.log_softmax(z, dim)
    return (log_p.exp() * -log_p.clamp(min=LOG_ZERO)).sum(dim)


def _least_confidence(z: Tensor, dim: int) -> Tensor:
    return -torch.expm1(torch.log_softmax(z, dim).amax(dim))


def _margin(z: Tensor, dim: int) -> Tensor:
    best, second = _two(torch.softmax(z, dim), dim)
    return 1 - (best - second)


def _best_vs_second_best(z: Tensor, dim: int) -> Tensor:
    best, second = _two(z, dim)
    return torch.exp(second - best)


def _two(values: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The two largest values."""
    largest = values.topk(2, dim).values
    return largest.select(dim, 0), largest.select(dim, 1)


def _top1(z: Tensor, dim: int) -> Tensor:
    return z.argmax(dim).to(torch.uint8)


#: Scores by name: from logits that are divided by the temperature, and the dimension of classes.
_DEFINITIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "entropy": _entropy,
    "least_confidence": _least_confidence,
    "margin": _margin,
    "bvsb": _best_vs_second_best,
    "top1": _top1,
}


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
