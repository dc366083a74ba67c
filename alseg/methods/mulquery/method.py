"""Multi-class label query (Hwang et al., NeurIPS 2023, arXiv 2309.09319) as a method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from alseg.active.choose import check_budget, query_from_scores, random_query
from alseg.active.context import RoundContext
from alseg.active.method import Method, Scoring
from alseg.active.stage import KEEPS, Fit, Stage
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import VOID, ImageSet
from alseg.labels.budget import Budget
from alseg.labels.tables import AnswerKind, Query, Table, UnitKind

ACQUISITIONS = ("pixbal", "bvsb", "classbal", "random")
PSEUDO_LABELS = ("expand", "within", "naive", "naive_all")


@dataclass(frozen=True)
class MulQuery(Method):
    """Ask for the set of classes in a superpixel; learn from the sets in two stages.

    The defaults are the paper's settings for Cityscapes with ResNet-50; the presets under
    ``experiments/mulquery`` hold those for Pascal VOC.

    Attributes:
        answer: What is asked about a region: ``class_set`` (the paper's), or ``dominant``, its most
            frequent class, which is the baseline of the paper's figure 7b: a set of one, for the
            same two stages.
        acquisition: ``pixbal`` (the paper's), ``bvsb``, ``classbal`` or ``random``.
        nu: Strength of PixBal's class weights (A2): 6 on Cityscapes, 12 on VOC.
        prior_batch: Images per batch in the class prior (A1): 4 on Cityscapes, 12 on VOC.
        score_centre: Score the central square of so many pixels, to which the shorter side of every
            image is resized, as the paper on VOC: regions outside are asked in the first round
            only. null = whole images.
        undefined_class: Whether void is one more class that is answered, trained and banned from
            queries (Cityscapes), or dropped from the sets (VOC).
        temperature: Divides the cosines in all losses and in the acquisition.
        single_weight: Weight of the loss on regions of one class (L1).
        merged_weight: Weight of the merged positive loss (L2).
        prototype_weight: Weight of the prototypical pixel loss (L3).
        steps: Batches of stage 1.
        batch_size: Images per batch of stage 1.
        lr: Encoder's learning rate in stage 1.
        head_factor: Learning rate of decoder and classifier, as a multiple of the encoder's.
        weight_decay: Of AdamW, in both stages.
        stage_two: Whether stage 2 is trained; the query never depends on it.
        stage_two_steps: Batches of stage 2.
        stage_two_batch_size: Images per batch of stage 2.
        stage_two_lr: Encoder's learning rate in stage 2.
        pseudo_labels: ``expand`` (the paper's: prototypes label their region and its neighbours),
            ``within`` (the region only), ``naive`` (argmax in asked regions) or ``naive_all``.
        proto_temperature: Temperature of the softmax that picks prototypes in stage 2. The
            reference uses 1 here and `temperature` in the losses; which pixel wins depends on it.
        threshold: Similarity a neighbour's pixel must exceed: ``median`` or ``min`` of the region.
        strict: Let only prototypes above their own threshold compete in neighbours.
        pseudo_scales: Image sizes averaged for pseudo labels, as factors of the image's size.
        pseudo_flip: Whether mirror images are averaged too.
        keep: ``last`` or ``best`` checkpoint of each stage. The paper keeps the best on the very
            images it reports; ``last`` does not look at them.
        epoch_steps: Batches between two checkpoints (and validations with ``best``).
    """

    asks: ClassVar[Mapping[UnitKind, tuple[AnswerKind, ...]]] = {
        "region": ("class_set", "dominant"),
        "patch": ("class_set", "dominant"),
        "image": ("class_set", "dominant"),
    }
    defaults: ClassVar[Mapping[str, str]] = {"regions": "seeds"}
    #: Networks classify by cosines, divided by ``temperature``.
    cosine: ClassVar[bool] = True
    small: ClassVar[Mapping[str, str]] = {
        "method.steps": "120",
        "method.batch_size": "4",
        "method.lr": "2e-3",
        "method.head_factor": "1",
        "method.stage_two_steps": "120",
        "method.stage_two_batch_size": "4",
        "method.stage_two_lr": "2e-3",
        "method.epoch_steps": "40",
    }

    answer: str = "class_set"
    acquisition: str = "pixbal"
    nu: float = 6.0
    prior_batch: int = 4
    score_centre: int | None = None
    undefined_class: bool = True
    temperature: float = 0.1
    single_weight: float = 16.0
    merged_weight: float = 8.0
    prototype_weight: float = 1.0
    steps: int = 80_000
    batch_size: int = 4
    lr: float = 2e-5
    head_factor: float = 10.0
    weight_decay: float = 1e-5
    stage_two: bool = True
    stage_two_steps: int = 80_000
    stage_two_batch_size: int = 4
    stage_two_lr: float = 4e-5
    pseudo_labels: str = "expand"
    proto_temperature: float = 1.0
    threshold: str = "median"
    strict: bool = False
    pseudo_scales: tuple[float, ...] = (1.0,)
    pseudo_flip: bool = False
    keep: str = "last"
    epoch_steps: int = 500

    def __post_init__(self) -> None:
        for option, known in (
            ("answer", self.asks["region"]),
            ("acquisition", ACQUISITIONS),
            ("pseudo_labels", PSEUDO_LABELS),
            ("threshold", ("median", "min")),
            ("keep", KEEPS),
        ):
            if getattr(self, option) not in known:
                raise unknown_name(f"method.{option}", getattr(self, option), known)
        for option in ("temperature", "lr", "stage_two_lr", "head_factor", "prior_batch"):
            if not getattr(self, option) > 0:
                raise UserError(f"method.{option} is {getattr(self, option)}; it must be > 0.")

        if self.score_centre is not None and self.score_centre < 1:
            raise UserError(
                f"method.score_centre is {self.score_centre}; give pixels, such as 513, or null."
            )
        if self.acquisition == "random" and self.diversity is not None:
            raise UserError(
                f"method.diversity={self.diversity} spreads out a ranking, and "
                f"method.acquisition=random has none; give one of them."
            )
        if not self.pseudo_scales or min(self.pseudo_scales) <= 0:
            raise UserError(
                f"method.pseudo_scales is {list(self.pseudo_scales)}; give factors > 0, such as "
                f"[1.0]."
            )

    def check(self, images: ImageSet, budget: Budget) -> None:
        """Refuse more outputs than label maps have ids."""
        outputs = len(images.classes) + self.undefined_class
        if outputs > VOID:
            raise UserError(
                f"{len(images.classes)} classes and the undefined class make {outputs} outputs, "
                f"and label maps hold {VOID}; give method.undefined_class=false."
            )

    @property
    def asked(self) -> AnswerKind:
        """What is asked about a region."""
        return "dominant" if self.answer == "dominant" else "class_set"

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """Stage 1 on class sets and, unless switched off, stage 2 on pseudo labels."""
        from alseg.methods.mulquery.stages import StageOne, StageTwo

        shared: dict[str, Any] = {"context": context, "method": self}
        steps: dict[str, Any] = {"epoch_steps": self.epoch_steps, "keep": self.keep}
        one = StageOne(name="stage_one", fit=Fit(self.steps, self.batch_size, **steps), **shared)
        if not self.stage_two:
            return [one]
        fit = Fit(self.stage_two_steps, self.stage_two_batch_size, **steps)
        return [one, StageTwo(name="stage_two", fit=fit, one=one, **shared)]

    def ask(self, context: RoundContext) -> Query | Scoring:
        """Random regions first (section 5.2), then what stage 1 scores highest."""
        if context.round == 0:
            check_budget(context, self.asked)
        if context.round == 0 or self.acquisition == "random":
            return random_query(context, self.asked)
        return Scoring("stage_one", pick=lambda tables: self.pick(context, tables))

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Regions of highest score (sections 5.1-5.3)."""
        from alseg.acquisition.region_table import RegionTable, summarize
        from alseg.methods.mulquery import acquisition

        rows = RegionTable(**{name: tables["regions"][name] for name in RegionTable._fields})
        num_classes = context.pool.num_classes
        undefined = num_classes if self.undefined_class else None
        if self.acquisition == "pixbal":
            prior = acquisition.class_prior(tables["images"]["prior"], self.prior_batch)
            weights = acquisition.class_weights(prior, self.nu)
            scores = acquisition.pixbal_scores(rows, weights, undefined)
        elif self.acquisition == "bvsb":
            scores = acquisition.bvsb_scores(rows, undefined)
        else:
            scores, _ = acquisition.class_balanced_scores(
                rows, num_classes + self.undefined_class, undefined
            )
        return query_from_scores(
            context,
            self.asked,
            np.asarray(scores.image),
            np.asarray(scores.unit),
            scores.score,
            summarize(rows).pixels,
            ties="last",
        )
