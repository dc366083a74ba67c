"""Disagreement of several opinions about each pixel: dropout passes, or members of an ensemble.

The opinions are summed up one after the other (`CommitteeSums`), so T of them take the memory of
one or two, never that of T. The scores are functions of the sums. Monte Carlo dropout switches on
dropout only; batch normalisation stays in evaluation mode.
"""

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from alseg.acquisition import scores

_MAX_VOTES = 255  # votes are counted in uint8


@dataclass
class CommitteeSums:
    """Running sums over the opinions on a batch.

    Attributes:
        probabilities: Sum of the class probabilities, (B, C, H, W), float32 (float64 for float64
            logits).
        entropy: Sum of the entropies, (B, H, W).
        votes: How many opinions have each class as their best, the lowest id among equals,
            (B, C, H, W), uint8.
        size: Number of opinions so far, 1..255.
    """

    probabilities: Tensor
    entropy: Tensor
    votes: Tensor
    size: int

    @classmethod
    @torch.no_grad()
    def of(cls, logits: Tensor, temperature: float = 1.0) -> "CommitteeSums":
        """Sums over the first opinion.

        Args:
            logits: Class scores before softmax, (B, C, H, W).
            temperature: Logits are divided by it, > 0.
        """
        pixels = scores.pixel_scores(logits, temperature)
        sums = cls(
            torch.softmax(logits.to(pixels.entropy.dtype) / temperature, 1),
            pixels.entropy,
            torch.zeros(logits.shape, dtype=torch.uint8, device=logits.device),
            1,
        )
        _vote(sums.votes, pixels.top1)
        return sums

    @torch.no_grad()
    def add(self, logits: Tensor, temperature: float = 1.0) -> None:
        """Add one more opinion, in place.

        Args:
            logits: Of the same shape as the first.
            temperature: Logits are divided by it, > 0.

        Raises:
            ValueError: If the shape is another, or there are 255 opinions already.
        """
        if logits.shape != self.probabilities.shape:
            raise ValueError(
                f"an opinion of shape {tuple(logits.shape)} does not fit the others, "
                f"{tuple(self.probabilities.shape)}"
            )
        if self.size == _MAX_VOTES:
            raise ValueError(f"a committee has at most {_MAX_VOTES} members")
        pixels = scores.pixel_scores(logits, temperature)
        self.probabilities += torch.softmax(logits.to(self.probabilities.dtype) / temperature, 1)
        self.entropy += pixels.entropy
        _vote(self.votes, pixels.top1)
        self.size += 1


def predictive_entropy(sums: CommitteeSums) -> Tensor:
    """Entropy of the mean probabilities (Gal & Ghahramani, ICML 2016), 0..ln C nats, (B, H, W).

    >>> sums = CommitteeSums.of(torch.tensor([[500.0, 0.0]])[..., None, None])
    >>> sums.add(torch.tensor([[0.0, 500.0]])[..., None, None])
    >>> round(float(predictive_entropy(sums)), 6)
    0.693147
    """
    return scores.entropy(_mean_logits(sums))


def bald(sums: CommitteeSums) -> Tensor:
    """Entropy of the mean minus mean of the entropies, 0..ln min(C, T) nats, (B, H, W).

    Mutual information of a pixel's class and the weights (BALD: Houlsby et al. 2011; Gal et al.,
    ICML 2017); over the members of an ensemble it is their Jensen-Shannon divergence (Melville et
    al. 2005; Beluch et al., CVPR 2018).
    """
    return (predictive_entropy(sums) - sums.entropy / sums.size).clamp(min=0)


def vote_entropy(sums: CommitteeSums, soft: bool = False, bits: bool = False) -> Tensor:
    """Entropy of the votes, (B, H, W): query by committee (Dagan & Engelson, ICML 1995).

    Args:
        sums: Of the committee.
        soft: Every opinion spreads its vote by its probabilities, which makes this the
            `predictive_entropy`; else it votes for its best class.
        bits: In bits instead of nats.
    """
    votes = predictive_entropy(sums) if soft else scores.entropy(sums.votes.float().log())
    return votes / log(2) if bits else votes


def margin(sums: CommitteeSums) -> Tensor:
    """One minus the gap between the two best mean probabilities, 0..1, (B, H, W)."""
    return scores.margin(_mean_logits(sums))


def least_confidence(sums: CommitteeSums) -> Tensor:
    """One minus the best mean probability, 0..1 - 1/C, (B, H, W)."""
    return scores.least_confidence(_mean_logits(sums))


def _mean_logits(sums: CommitteeSums) -> Tensor:
    """Logits whose softmax is the mean of the probabilities."""
    return (sums.probabilities / sums.size).log()


def _vote(votes: Tensor, best: Tensor) -> None:
    """Count one vote per pixel."""
    classes = torch.arange(votes.shape[1], dtype=best.dtype, device=best.device)
    votes += best.unsqueeze(1) == classes.view(-1, *[1] * (best.ndim - 1))
