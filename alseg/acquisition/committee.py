"""Disagreement of several opinions about each pixel: dropout passes, or members of an ensemble.

The opinions are summed up one after the other (`CommitteeSums`), so T of them take the memory of
one or two, never that of T. The scores are functions of the sums. Monte Carlo dropout switches on
dropout only; batch normalisation stays in evaluation mode.
"""

from collections.abc import Callable
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
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        sums = cls(
            logits.new_zeros(logits.shape, dtype=dtype),
            logits.new_zeros(logits[:, 0].shape, dtype=dtype),
            logits.new_zeros(logits.shape, dtype=torch.uint8),
            0,
        )
        sums.add(logits, temperature)
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
        scores.add_opinion(logits, temperature, self.probabilities, self.entropy, self.votes)
        self.size += 1


def predictive_entropy(sums: CommitteeSums) -> Tensor:
    """Entropy of the mean probabilities (Gal & Ghahramani, ICML 2016), 0..ln C nats, (B, H, W).

    >>> sums = CommitteeSums.of(torch.tensor([[500.0, 0.0]])[..., None, None])
    >>> sums.add(torch.tensor([[0.0, 500.0]])[..., None, None])
    >>> round(float(predictive_entropy(sums)), 6)
    0.693147
    """
    return _entropy_of_mean(sums.probabilities, sums.size)


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
    entropy = _entropy_of_mean(sums.probabilities if soft else sums.votes, sums.size)
    return entropy / log(2) if bits else entropy


def margin(sums: CommitteeSums) -> Tensor:
    """One minus the gap between the two best mean probabilities, 0..1, (B, H, W)."""
    return scores.margin(_mean_logits(sums))


def least_confidence(sums: CommitteeSums) -> Tensor:
    """One minus the best mean probability, 0..1 - 1/C, (B, H, W)."""
    return scores.least_confidence(_mean_logits(sums))


#: Scores of several opinions by name; those of `alseg.active.scoring.SCORES` are of the mean
#: probabilities.
COMMITTEE_SCORES: dict[str, Callable[[CommitteeSums], Tensor]] = {
    "entropy": predictive_entropy,
    "least_confidence": least_confidence,
    "margin": margin,
    "bald": bald,
    "vote_entropy": vote_entropy,
}


def _mean_logits(sums: CommitteeSums) -> Tensor:
    """Logits whose softmax is the mean of the probabilities."""
    return (sums.probabilities / sums.size).log()


def _entropy_of_mean(sums: Tensor, size: int) -> Tensor:
    """Entropy over the classes of ``sums / size``, (B, C, H, W) to (B, H, W).

    Class by class, so that no second array of the size of the sums is written.
    """
    entropy = torch.special.entr(sums[:, 0] / size)
    for channel in sums[:, 1:].unbind(1):
        entropy += torch.special.entr(channel / size)
    return entropy.clamp_(min=0)  # a share may be rounded to just above 1
