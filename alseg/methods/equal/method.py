"""EquAL as a method of the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.active.choose import most_units
from alseg.active.context import RoundContext
from alseg.active.method import Method, Scoring
from alseg.active.stage import KEEPS, Fit, Stage, Start
from alseg.core.errors import UserError, unknown_name
from alseg.labels.tables import AnswerKind, Answers, Query, Table, UnitKind
from alseg.methods.equal import schedule
from alseg.methods.equal.patches import patch_grid, patch_of_region
from alseg.methods.equal.recipe import recipe


@dataclass(frozen=True)
class Equal(Method):
    """Patches of high entropy under mirroring (Golestaneh & Kitani, BMVC 2020, arXiv 2008.01860).

    An untrained network picks the first patches. One network and one optimiser go through all
    rounds: each trains one pass over the images with labels, some train longer. After the last
    round a fresh network is trained on all labels, as stage ``final``. `README.md` has the rest.

    Attributes:
        batch_size: Images per batch once more patches than that are labelled; 1 or 2 before.
        lr: Learning rate of Adam, constant through the rounds.
        weight_decay: Of Adam, added to the gradient.
        consistency: Train on the mirror image as well and on its agreement with the image, and
            score both; false is plain entropy.
        milestone_epochs: Passes of the rounds that reach 30, 60 and 90 % of all purchases.
        evaluate_rounds: Evaluate after every round; false: at those milestones and at the end.
        final_epochs: Passes of the final training; 0 leaves it out.
        final_batch_size: Images per batch in the final training.
        final_consistency: Use both views in the final training, the "+" of the paper's tables.
        final_drop: Passes after which the final training lowers its learning rate tenfold.
        final_keep: ``last``, or ``best`` checkpoint on the validation images, as in the paper.
        skip_void: Never ask for patches whose true majority is void. Reads the ground truth of
            patches nobody was asked about, as the reference does.
        void_wins: With `skip_void`, whether void wins a tie with a class.
        per_image: Approximation: most patches of one image a round; null = no limit.
        round_scale: Factor on the sides of images, 0..1, while patches are chosen: rounds train,
            score and are evaluated on images so much smaller than the final training has.
        one_pass: Approximation: both views in one call, which saves time in training.
        rescore_every: Approximation: score the whole pool every so many rounds, and in between
            only what `rescore_patches` and `rescore_share` say.
        rescore_patches: Between two whole passes, score the images of this many best patches of
            the last whole pass.
        rescore_share: And this share of all other images, drawn at random.
    """

    asks: ClassVar[Mapping[UnitKind, tuple[AnswerKind, ...]]] = {"patch": ("mask",)}
    defaults: ClassVar[Mapping[str, str]] = {
        "regions": "grid",
        "regions.rows": "4",
        "regions.cols": "8",
        "budget.axis": "units",
        "budget.amount": "50",
        "budget.rule": "within",
        "augment.scale": "[1,1]",
        "augment.flip": "0",
    }
    small: ClassVar[Mapping[str, str]] = {
        "budget.amount": "12",
        "augment.scale": "[1,1]",
        "method.lr": "2e-3",
        "method.final_epochs": "30",
        "method.final_drop": "20",
    }
    plans_rounds: ClassVar[bool] = True
    ranks: ClassVar[bool] = False

    batch_size: int = 5
    lr: float = 5e-4
    weight_decay: float = 2e-4
    consistency: bool = True
    milestone_epochs: int = 5
    evaluate_rounds: bool = True
    final_epochs: int = 60
    final_batch_size: int = 5
    final_consistency: bool = True
    final_drop: int = 20
    final_keep: str = "last"
    skip_void: bool = False
    void_wins: bool = False
    per_image: int | None = None
    round_scale: float = 1.0
    one_pass: bool = False
    rescore_every: int = 1
    rescore_patches: int = 1000
    rescore_share: float = 0.1

    def __post_init__(self) -> None:
        least = {
            "batch_size": 1,
            "milestone_epochs": 1,
            "final_epochs": 0,
            "final_batch_size": 1,
            "final_drop": 1,
            "rescore_every": 1,
            "rescore_patches": 1,
            **({} if self.per_image is None else {"per_image": 1}),
        }
        for option, value in least.items():
            if getattr(self, option) < value:
                raise UserError(
                    f"method.{option} is {getattr(self, option)}; it must be at least {value}."
                )
        if not 0 < self.round_scale <= 1:
            raise UserError(
                f"method.round_scale is {self.round_scale}; give a factor above 0 and up to 1."
            )
        if not 0 <= self.rescore_share <= 1:
            raise UserError(f"method.rescore_share is {self.rescore_share}; it is a share, 0..1.")
        if self.final_keep not in KEEPS:
            raise unknown_name("method.final_keep", self.final_keep, KEEPS)
        recipe(self, final=False, batches=1)

    @property
    def reads_truth(self) -> bool:
        """With `skip_void`."""
        return self.skip_void

    def _per_round(self, context: RoundContext) -> int:
        """Patches a round buys.

        Raises:
            UserError: If it is none, or all rounds together would buy more than there is.
        """
        self.grid(context)
        units = context.pool.units(context.regions)[2]
        price = context.budget.least_cost("mask", units)
        each = context.budget.bought(np.full(most_units(context, "mask"), price.max()))
        if not 0 < each * context.rounds <= len(units):
            raise UserError(
                f"budget.amount is {context.budget.amount:g} {context.budget.axis}, which buys "
                f"{each} patches in each of {context.rounds} rounds of the {len(units)} patches of "
                f"{len(context.pool)} images; method=equal plans its rounds ahead: give an amount "
                f"that buys at least 1 a round and no more than there are in all rounds."
            )
        if self.per_image is not None and each > self.per_image * len(context.pool):
            raise UserError(
                f"a round buys {each} patches, but method.per_image={self.per_image} lets it ask "
                f"for no more than {self.per_image * len(context.pool)} of {len(context.pool)} "
                f"images; give a larger number, or a smaller budget.amount."
            )
        if self.rescore_every > 1 and each > self.rescore_patches:
            raise UserError(
                f"a round buys {each} patches, but method.rescore_patches={self.rescore_patches} "
                f"may leave it fewer to choose from; give at least {each}."
            )
        return each

    def learns(self, answers: Answers, own: bool) -> bool:
        """Masks of whatever regions."""
        return answers.masks is not None

    def grid(self, context: RoundContext) -> tuple[int, int]:
        """Rows and columns of patches.

        Raises:
            UserError: If the regions are no grid that divides the images.
        """
        maps = context.pool.maps[context.regions]
        grids = {
            size: patch_grid(maps[int(np.flatnonzero((context.pool.sizes == size).all(axis=1))[0])])
            for size in {(int(h), int(w)) for h, w in context.pool.sizes}
        }
        if len(set(grids.values())) > 1:
            raise UserError(
                "images of different sizes have different grids; give regions.rows and "
                "regions.cols instead of regions.size."
            )
        rows, cols = next(iter(grids.values()))
        height, width = self._round_augment(context).get("crop", (rows, cols))
        if height % rows or width % cols:
            raise UserError(
                f"method.round_scale={self.round_scale:g} leaves images of {height} x {width} "
                f"pixels, which {rows} x {cols} patches do not divide; give another factor."
            )
        return rows, cols

    def _round_augment(self, context: RoundContext) -> dict[str, Any]:
        """What of the training transform is otherwise in a round: its images may be smaller.

        Raises:
            UserError: If they differ in size, or no whole number of pixels is left of a side.
        """
        if self.round_scale == 1:
            return {}
        sizes = {(int(height), int(width)) for height, width in context.pool.sizes}
        small = {(height * self.round_scale, width * self.round_scale) for height, width in sizes}
        if len(sizes) > 1 or not all(side.is_integer() for size in small for side in size):
            raise UserError(
                f"method.round_scale={self.round_scale:g} makes images of "
                f"{' and '.join(f'{h} x {w}' for h, w in sorted(sizes)[:2])} pixels smaller; all "
                f"images must have one size, and whole numbers of pixels must be left of it."
            )
        height, width = small.pop()
        scale = (self.round_scale, self.round_scale)
        return {"crop": (int(height), int(width)), "scale": scale}

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """One pass, or some, with the weights of the round before; in the end the final training.

        Batch sizes and lengths are F7 and F8.
        """
        from alseg.methods.equal.stages import Final, Train

        images = len(context.pool.images())
        labelled = sum(len(answers) for answers in context.pool.history)
        each = max(1, len(context.pool.history[0])) if context.pool.history else 1
        every = schedule.milestone(each * context.rounds, each)
        milestone = schedule.at_milestone(labelled, every)
        last = context.round == context.rounds - 1
        fit = Fit.passes(
            schedule.round_epochs(labelled, every, self.milestone_epochs),
            images,
            schedule.batch_size(labelled, images, self.batch_size),
        )
        train = Train(
            name="train",
            fit=replace(fit, augment=self._round_augment(context)),
            start=Start("train", previous_round=True, optimizer=True),
            evaluate=self.evaluate_rounds or milestone or (last and not self.final_epochs),
            context=context,
            method=self,
        )
        if not last or not self.final_epochs:
            return [train]
        fit = Fit.passes(self.final_epochs, images, self.final_batch_size, self.final_keep)
        return [train, Final(name="final", fit=fit, context=context, method=self)]

    def ask(self, context: RoundContext) -> Scoring:
        """The patches a network scores highest, before its first step, too."""
        if context.round == 0:
            self._per_round(context)
        return Scoring(
            "train",
            pick=lambda tables: self.pick(context, tables),
            images=self._scored(context) if context.round else None,
            # where later rounds go by the scores of earlier ones
            keep=("patches",) if self.rescore_every > 1 else (),
        )

    def _scored(self, context: RoundContext) -> NDArray[np.int64] | None:
        """The whole pool (None), or a part of it where that was asked for."""
        since = context.round % self.rescore_every
        stale = context.ledger.scores(context.round - since) if since else None
        if stale is None:
            return None
        table = stale["patches"]
        may_ask = context.pool.is_open(
            context.regions, table["image"].astype(np.int64), table["unit"].astype(np.int64)
        )
        if self.skip_void:
            may_ask &= ~table["void"]
        still = np.flatnonzero(may_ask)
        best = still[np.argsort(-table["score"][still], kind="stable")[: self.rescore_patches]]
        chosen = np.unique(table["image"][best]).astype(np.int64)
        others = np.setdiff1d(np.arange(len(context.pool)), chosen)
        rng = context.before.rng("rescore")
        drawn = rng.permutation(others)[: int(self.rescore_share * len(others))]
        return np.union1d(chosen, drawn)

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """The open patches of highest score in the whole pool (F11)."""
        from alseg.methods.equal.acquisition import at_most_per_image, select_patches

        table: dict[str, Any] = {name: np.asarray(c) for name, c in tables["patches"].items()}
        rows, cols = self.grid(context)
        image, unit = table["image"].astype(np.int64), table["unit"].astype(np.int64)
        may_ask = context.pool.is_open(context.regions, image, unit)
        each = self._per_round(context)
        if self.skip_void:
            may_ask &= ~table["void"]
            if context.round == 0 and each * context.rounds > may_ask.sum():
                raise UserError(
                    f"{context.rounds} rounds of {each} patches are more than the "
                    f"{may_ask.sum()} patches that are not void by majority; give fewer rounds, "
                    f"a smaller budget.amount, or method.skip_void=false."
                )
        limited = self.per_image is not None
        chosen = select_patches(
            table["score"],
            image,
            patch_of_region(unit, rows, cols),
            may_ask,
            len(unit) if limited else each,
        )
        if self.per_image is not None:
            chosen = chosen[at_most_per_image(image[chosen], self.per_image)]
        chosen = chosen[:each]
        return Query(
            round=context.round,
            kind="patch",
            answer="mask",
            regions=context.regions,
            image=image[chosen],
            unit=unit[chosen],
            score=table["score"][chosen].astype(np.float32),
        )
