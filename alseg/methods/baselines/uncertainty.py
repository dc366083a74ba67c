"""Ask what the network, or a committee of its dropout masks, is unsure of, or truly wrong about."""

from dataclasses import dataclass
from typing import Any, ClassVar

from alseg.active.method import RoundContext
from alseg.errors import UserError
from alseg.methods.baselines.base import Scored


@dataclass(frozen=True)
class Entropy(Scored):
    """Highest entropy of the predicted probabilities (Wang & Shang, IJCNN 2014)."""

    score: ClassVar[str] = "entropy"


@dataclass(frozen=True)
class LeastConfidence(Scored):
    """Lowest probability of the best class (Lewis & Gale, SIGIR 1994)."""

    score: ClassVar[str] = "least_confidence"


@dataclass(frozen=True)
class Margin(Scored):
    """Smallest gap between the two best classes (Scheffer et al., IDA 2001)."""

    score: ClassVar[str] = "margin"


@dataclass(frozen=True)
class BvSB(Scored):
    """Largest ratio of second best to best class (Joshi et al., CVPR 2009)."""

    score: ClassVar[str] = "bvsb"


@dataclass(frozen=True)
class Bald(Scored):
    """Mutual information of class and weights, by Monte Carlo dropout (Gal et al., ICML 2017).

    Attributes:
        passes: Stochastic passes over each image, 2..255.
    """

    score: ClassVar[str] = "bald"

    passes: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.passes <= 255:
            raise UserError(f"method.passes is {self.passes}; give 2..255.")

    def scoring(self, context: RoundContext) -> dict[str, Any]:
        """With the number of passes."""
        return {**super().scoring(context), "passes": self.passes}


@dataclass(frozen=True)
class VoteEntropy(Bald):
    """Entropy of the votes of a committee of dropout masks (Dagan & Engelson, ICML 1995)."""

    score: ClassVar[str] = "vote_entropy"


@dataclass(frozen=True)
class OracleError(Scored):
    """Most pixels predicted wrongly: an upper bound that no choice without the truth can know.

    Reads the ground truth of the whole pool. Void pixels are never wrong.
    """

    score: ClassVar[str] = "error"

    @property
    def reads_truth(self) -> bool:
        """Always."""
        return True
