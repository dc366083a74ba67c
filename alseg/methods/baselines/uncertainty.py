"""Ask what the network, or a committee of its dropout masks, is unsure of, or truly wrong about."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.active.choose import query_from_scores
from alseg.active.context import RoundContext
from alseg.active.one_fit import ANY_REGION_QUESTION, Scored
from alseg.core.errors import UserError
from alseg.labels.tables import Query, Table


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

    def committee(self) -> int:
        """Stochastic passes over each image."""
        return self.passes


@dataclass(frozen=True)
class VoteEntropy(Bald):
    """Entropy of the votes of a committee of dropout masks (Dagan & Engelson, ICML 1995)."""

    score: ClassVar[str] = "vote_entropy"


@dataclass(frozen=True)
class ClassBal(Scored):
    """BvSB held back where the predicted class is common (Cai et al., CVPR 2021).

    A unit counts as its dominant predicted class; its mean ratio of second best to best class is
    multiplied by ``exp(-share)``, the share of the units of that class in the whole pool, asked or
    not. With ``regions=seeds_published`` and dominant labels it is the paper's "Sp+Do+ClassBal".

    Attributes:
        prediction_scale: Factor on the size of images for the pass that scores; the paper halves
            Cityscapes. Regions too thin for the smaller grid are not asked.
    """

    score: ClassVar[str] = "bvsb_and_class"

    asks = ANY_REGION_QUESTION  # a pixel has no share worth counting

    prediction_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prediction_scale > 0:
            raise UserError(
                f"method.prediction_scale is {self.prediction_scale}; it must be > 0, such as 0.5."
            )

    def scoring_scale(self) -> float:
        """Factor on the size of images for the pass over the pool."""
        return self.prediction_scale

    def scored_images(self, context: RoundContext) -> NDArray[np.int64]:
        """The whole pool, since shares are those of all units, or a part of it."""
        images = np.arange(len(context.pool), dtype=np.int64)
        if self.pool_fraction < 1:
            count = max(1, round(self.pool_fraction * len(images)))
            images = np.sort(context.before.rng("pool").choice(images, count, replace=False))
        return images

    def pick(self, context: RoundContext, units: Table) -> Query:
        """The open units of highest balanced score."""
        from alseg.acquisition.balance import class_balanced, class_shares, relative_to_largest
        from alseg.acquisition.randomized import power_noise

        label = np.asarray(units["label"])
        shares = class_shares(label, context.pool.num_classes)
        score = class_balanced(relative_to_largest(np.asarray(units["score"])), label, shares)
        if self.power is not None:  # of the balanced score, which has to be >= 0 to be balanced
            score = power_noise(score, self.power, context.rng("noise"))
        return query_from_scores(
            context, self.asked(context), units["image"], units["unit"], score, units["pixels"]
        )


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
