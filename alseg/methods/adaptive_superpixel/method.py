"""Adaptive superpixels as a method of the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.active.choose import check_budget, query_from_scores, random_query
from alseg.active.context import RoundContext
from alseg.active.method import Method, Scoring
from alseg.active.one_fit import TrainingOptions
from alseg.active.stage import Stage
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import VOID, ImageSet
from alseg.labels.supervision import LabelFiles
from alseg.labels.tables import AnswerKind, Answers, Query, Table, UnitKind
from alseg.regions.base import Maps
from alseg.regions.merged import MergedMaps

if TYPE_CHECKING:  # torch takes seconds to import
    from alseg.methods.adaptive_superpixel.stages import Train

PRIORS = ("published", "normalized")
#: Images on which the quality of labels is measured at most.
_MEASURED = 500


@dataclass(frozen=True)
class AdaptiveSuperpixel(TrainingOptions, Method):
    """Superpixels merged by what the model has learnt, answers sieved (Kim et al., ICCV 2023).

    arXiv 2303.16817. Round 0 asks for the dominant class of random superpixels. After every round
    neighbours with like predictions are merged, from the base superpixels anew, and the merged ones
    with the highest class-balanced uncertainty are asked. Before every further round all answers
    are sieved: pixels the newest model does not think are of the answered class are ignored.
    `README.md` has the rest.

    Attributes:
        eps: Superpixels are merged while their distance to the root is smaller; null = not merged.
        limit: Share of the base superpixels after which merging stops; null = no limit.
        prior: ``published`` divides the pixels of each class by those of the full images, even
            where predictions are smaller, as the paper's code does; ``normalized`` makes the shares
            sum to 1, which balances more strongly. With predictions of full size both are the same.
        sieve: Leave out pixels below the knee of their region's confidences.
        sieve_above: Sieve regions of at least so many mean base superpixels.
        sieve_steps: Points of the confidence curve the knee is looked for among.
        exclude_labelled: Do not ask about regions of which at least half was answered before. The
            paper's code asks again, and pays again.
        prediction_scale: Factor on the size of images for the pass that merges, scores and sieves;
            the paper halves Cityscapes.
    """

    asks: ClassVar[Mapping[UnitKind, tuple[AnswerKind, ...]]] = {"region": ("dominant",)}
    defaults: ClassVar[Mapping[str, str]] = {"budget.rule": "within"}
    small: ClassVar[Mapping[str, str]] = {
        "method.steps": "120",
        "method.lr": "0.05",
        "method.epoch_steps": "40",
        "budget.amount": "200",
    }
    eps: float | None = 0.1
    limit: float | None = None
    prior: str = "published"
    sieve: bool = True
    sieve_above: float = 2.0
    sieve_steps: int = 20
    exclude_labelled: bool = False
    prediction_scale: float = 1.0
    steps: int = 60_000
    lr: float = 0.007
    head_factor: float = 1.0
    optimizer: str = "sgd"
    weight_decay: float = 4e-5
    floor: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior not in PRIORS:
            raise unknown_name("method.prior", self.prior, PRIORS)
        if self.eps is not None and not self.eps > 0:
            raise UserError(f"method.eps is {self.eps}; give a distance > 0, or null not to merge.")
        if self.limit is not None and not 0 < self.limit <= 1:
            raise UserError(f"method.limit is {self.limit}; it is a share, 0..1, or null.")
        if self.limit is not None and self.eps is None:
            raise UserError(
                "method.limit ends the merging that method.eps=null leaves out; give only one."
            )
        for option in ("prediction_scale", "sieve_above", "sieve_steps"):
            if not getattr(self, option) > 0:
                raise UserError(f"method.{option} is {getattr(self, option)}; it must be > 0.")

    def learns(self, answers: Answers, own: bool) -> bool:
        """The class of superpixels of any map, as of those that another run has merged."""
        return answers.kind == "region" and answers.answer in ("dominant", "correct")

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """One fit from scratch."""
        return [self.train(context)]

    def train(self, context: RoundContext) -> "Train":
        """The fit of a round."""
        from alseg.methods.adaptive_superpixel.stages import Train

        return Train(name="train", fit=self.fit(), context=context, method=self)

    def ask(self, context: RoundContext) -> Query | Scoring:
        """Random base superpixels first, then merged ones by one pass over the whole pool."""
        if context.round == 0:
            check_budget(context, "dominant")
            return random_query(context, "dominant")
        return Scoring(
            "train",
            pick=lambda tables: self.pick(context, tables),
            images=np.arange(len(context.pool)),  # the class shares are those of all regions
            keep=("merges",),  # the maps of every round are made from them again
        )

    def regions(self, context: RoundContext) -> Maps | None:
        """The merged superpixels that this round asks about."""
        kept = context.ledger.scores(context.round) if context.round else None
        if kept is None:
            return None
        base = context.pool.maps[context.regions]
        image, root = kept["merges"]["image"], kept["merges"]["root"]
        cuts = np.searchsorted(image, np.arange(1, len(context.pool)))
        return MergedMaps(base, merged_version(context), np.split(root, cuts))

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Merged superpixels of highest uncertainty, held back where a class is common (F5, F6)."""
        from alseg.acquisition.balance import class_balanced, class_shares, relative_to_largest
        from alseg.acquisition.region_table import RegionTable, summarize

        rows = RegionTable(**{n: np.asarray(tables["regions"][n]) for n in RegionTable._fields})
        regions = summarize(rows)
        sizes = {name: np.asarray(column) for name, column in tables["sizes"].items()}
        total = float(sizes["pixels"].sum()) if self.prior == "published" else None
        shares = class_shares(regions.label, context.pool.num_classes, regions.pixels, total)
        score = class_balanced(relative_to_largest(regions.uncertainty), regions.label, shares)
        # regions too thin for the grid of the prediction have no score, and are not asked
        width = int(sizes["unit"].max(initial=0)) + 1
        known = sizes["image"].astype(np.int64) * width + sizes["unit"]
        place = np.searchsorted(known, regions.image.astype(np.int64) * width + regions.unit)
        allowed = np.ones(len(score), dtype=bool)
        if self.exclude_labelled:
            allowed = 2 * sizes["asked"][place] < sizes["pixels"][place]
        return query_from_scores(
            context,
            "dominant",
            regions.image[allowed],
            regions.unit[allowed],
            score[allowed],
            sizes["pixels"][place][allowed],
            regions=merged_version(context),
        )

    def measures(self, context: RoundContext, truth: ImageSet | None) -> Mapping[str, float]:
        """Pixels of an asked region, and the share of wrong labels before and after sieving."""
        from alseg.labels.quality import label_quality

        pool = context.pool
        pixels = pool.unit_pixels(pool.history[context.round])
        mean = float(pixels.mean()) if len(pixels) else float("nan")  # nothing but what is owned
        if truth is None:
            return {"region_pixels": mean}
        learnt = self.train(context).supervision()
        images = pool.images()
        some = images[np.linspace(0, len(images) - 1, min(len(images), _MEASURED)).astype(int)]
        counts = np.zeros((2, 4), dtype=np.int64)
        for image in some.tolist():
            known = truth.truth(image)
            counts[0] += label_quality(pool.render(image), known)
            counts[1] += label_quality(learnt(image).maps["target"], known)
        raw, sieved = counts
        return {
            "region_pixels": mean,
            "noise_answered": _noise(raw),
            "noise_learnt": _noise(sieved),
            "sieved_share": float(1 - sieved[1] / raw[1]) if raw[1] else float("nan"),
        }

    def show(self, context: RoundContext, image: int) -> Mapping[str, NDArray[Any]]:
        """Base superpixels, those this round asked about, what was learnt and what sieved out."""
        pool = context.pool
        asked = pool.history[context.round].regions
        maps: dict[str, NDArray[Any]] = {"superpixels": pool.maps[context.regions][image]}
        if asked != context.regions:
            maps["merged"] = pool.maps[asked][image]
        learnt = self.train(context).supervision()
        if not isinstance(learnt, LabelFiles) or learnt.path(image).exists():
            maps["learnt"] = target = learnt(image).maps["target"]
            if isinstance(learnt, LabelFiles):
                maps["sieved out"] = np.where(target == VOID, pool.render(image), VOID)
        return maps


def merged_version(context: RoundContext) -> str:
    """Name of the maps the query of a round is about."""
    return f"{context.regions}-merged-{context.round:03d}"


def _noise(quality: NDArray[np.int64]) -> float:
    from alseg.labels.quality import LabelQuality

    return LabelQuality(*quality.tolist()).noise
