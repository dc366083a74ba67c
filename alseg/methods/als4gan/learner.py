"""The active learner: which images get masks, by the doubts of a classifier of whole scenes.

Equation numbers are those of ALS4GAN (arXiv 2110.07782) as its reference implementation has them.
The classifier starts from random images, asks for the scene classes of those it is least sure of,
and learns again, round by round. What it asked for then gets full masks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition import scores
from alseg.acquisition.selection import top
from alseg.core.errors import UserError, unknown_name

Strategy = Literal["entropy", "margin", "least_confidence"]


def uncertainty(logits: Tensor, strategy: Strategy) -> Tensor:
    """How unsure the classifier is of each image, higher is asked first.

    Args:
        logits: Scene logits, (N, K).
        strategy: ``entropy``, in nats (E6); ``margin``, ``1 - (p1 - p2)`` (E7), 1 for a single
            class; ``least_confidence``, ``1 - p1`` (E8).

    Returns:
        (N,), float32 (float64 for float64 logits).

    Raises:
        UserError: For an unknown strategy.

    >>> uncertainty(torch.tensor([[0.0, 0.0], [9.0, 0.0]]), "margin").round(decimals=3).tolist()
    [1.0, 0.0]
    """
    if strategy == "entropy":
        return scores.entropy(logits)
    if strategy == "least_confidence":
        return scores.least_confidence(logits)
    if strategy == "margin":
        if logits.shape[1] == 1:
            return torch.ones_like(scores.entropy(logits))
        return scores.margin(logits)
    raise unknown_name("strategy", strategy, get_args(Strategy))


def most_uncertain(values: NDArray[np.floating[Any]], n: int) -> NDArray[np.int64]:
    """The images to ask about next (E9).

    The reference takes the same set, in an order and among equals as NumPy happens to leave them;
    here the most uncertain come first, and among equals the first.

    Args:
        values: `uncertainty` of the pool's images, (N,).
        n: Images wanted, >= 0; all of them if there are fewer.

    Returns:
        Positions in `values`, (min(n, N),), int64.

    >>> most_uncertain(np.array([0.1, 0.7, 0.3, 0.7]), 3).tolist()
    [1, 3, 2]
    """
    rows = np.arange(len(values))
    return top(values, rows, np.zeros_like(rows), n)


def selection_list(rounds: Sequence[NDArray[np.int64]], n: int) -> NDArray[np.int64]:
    """The images that get masks: those asked about, in that order, up to `n` (E10).

    The classifier's random first images are not among them.

    Args:
        rounds: Images each round asked about, the most uncertain first.
        n: Masks bought.

    Raises:
        ValueError: If fewer were asked about.
    """
    asked = np.concatenate(rounds)
    if len(asked) < n:
        raise ValueError(f"{len(asked)} images were asked about, {n} are to get masks")
    return asked[:n]


# Sizes


def num_masks(images: int, ratio: float) -> int:
    """Images that get masks, a share of the pool, rounded up (E2).

    >>> num_masks(1679, 0.05)
    84
    """
    return ceil(ratio * images)


def num_random_masks(images: int, ratio: float, *, rounded_down: bool = False) -> int:
    """Images that get masks if they are drawn at random.

    Args:
        images: Images of the pool.
        ratio: Share of them that gets masks.
        rounded_down: As in the reference, which gives random sampling one image less.

    >>> num_random_masks(1679, 0.05), num_random_masks(1679, 0.05, rounded_down=True)
    (84, 83)
    """
    return floor(ratio * images) if rounded_down else num_masks(images, ratio)


def num_initial(masks: int, alpha: float) -> int:
    """Random images the classifier starts from (E3).

    >>> num_initial(84, 0.5)
    42
    """
    return floor(alpha * masks)


def num_per_round(initial: int, beta: float) -> int:
    """Images a round asks about (E4).

    >>> num_per_round(42, 0.9)
    38
    """
    return ceil(beta * initial)


def num_rounds(masks: int, per_round: int) -> int:
    """Rounds until enough images were asked about (E4).

    Raises:
        UserError: If rounds ask about nothing.

    >>> num_rounds(84, 38)
    3
    """
    if per_round < 1:
        raise UserError(
            f"with {masks} masks to place the classifier would start from no image and ask about "
            f"none; raise ratio, alpha or beta."
        )
    return ceil(masks / per_round)


@dataclass(frozen=True)
class LearnerPlan:
    """Sizes of the classifier's rounds, in images.

    Attributes:
        masks: Images that get masks.
        initial: Random images whose scene classes are bought first.
        round_sizes: Scene classes bought in each round.
    """

    masks: int
    initial: int
    round_sizes: tuple[int, ...]

    @property
    def class_labels(self) -> int:
        """Scene classes bought in all (E5), which is what the masks cost on top."""
        return self.initial + sum(self.round_sizes)


def plan_learner(
    images: int, ratio: float, alpha: float, beta: float, *, whole_last_round: bool = False
) -> LearnerPlan:
    """Sizes of everything, before any work (E2-E5).

    Args:
        images: Images of the pool.
        ratio: R, share of the images that gets masks, above 0 and up to 1.
        alpha: Share of the masks' number that the classifier starts from, 0..1.
        beta: Share of that number which each round asks about, 0..1.
        whole_last_round: The last round asks about as many as the others, as in the reference;
            what exceeds the masks is paid for and not used.

    Raises:
        UserError: If an option is out of range, rounds are empty, or the pool is too small.

    >>> plan_learner(642, 0.05, 0.1, 0.9).class_labels
    36
    >>> plan_learner(1679, 0.05, 0.5, 0.9)
    LearnerPlan(masks=84, initial=42, round_sizes=(38, 38, 8))
    """
    if not 0 < ratio <= 1:
        raise UserError(f"ratio is {ratio}; give a share of the images above 0 and up to 1.")
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not 0 <= value <= 1:
            raise UserError(f"{name} is {value}; give a share from 0 to 1.")
    masks = num_masks(images, ratio)
    initial = num_initial(masks, alpha)
    per_round = num_per_round(initial, beta)
    sizes = [per_round] * num_rounds(masks, per_round)
    if not whole_last_round:
        sizes[-1] -= sum(sizes) - masks
    if initial + sum(sizes) > images:
        raise UserError(
            f"the classifier starts from {initial} images and then asks about {sum(sizes)} "
            f"others, but the pool has {images}; lower ratio or alpha."
        )
    return LearnerPlan(masks, initial, tuple(sizes))
