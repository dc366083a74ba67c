"""ALS4GAN as a method of the loop."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alseg.acquisition.diversity import Units
from alseg.active.choose import whole_images
from alseg.active.context import RoundContext
from alseg.active.method import Scoring
from alseg.active.stage import Fit, Stage, Start
from alseg.core.errors import UserError
from alseg.core.images import ImageSet, require_rgb
from alseg.labels.budget import Budget
from alseg.labels.tables import AnswerKind, Answers, Query, Table
from alseg.methods.als4gan.options import Options
from alseg.regions.base import Maps

if TYPE_CHECKING:  # torch takes seconds to import
    from alseg.methods.als4gan.learner import LearnerPlan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Als4gan(Options):
    """Images a scene classifier is unsure of, for a semi-supervised GAN (Desai & Ghose, WACV 2022).

    arXiv 2110.07782, on S4GAN, arXiv 1908.05724. A classifier of whole images starts from random
    images, asks for the scene classes of those it is least sure of, and learns again, round by
    round. What it asked about gets masks, once; in the last round a segmenter learns from these
    masks and from all other images against a discriminator, as stage ``segment``. `README.md` has
    the rest.
    """

    # What is bought, and when

    def _plan(self, images: int) -> "LearnerPlan":
        """What the classifier's rounds buy; it has none with a random choice."""
        from alseg.methods.als4gan.learner import LearnerPlan, num_random_masks, plan_learner

        if self.strategy == "random":
            down = self.as_reference(self.random_rounded_down)
            masks = num_random_masks(images, self.ratio, rounded_down=down)
            if masks < 1:
                raise UserError(
                    f"method.ratio is {self.ratio}, which of {images} images is none; raise it."
                )
            return LearnerPlan(masks, 0, ())
        whole = self.as_reference(self.whole_last_round)
        return plan_learner(images, self.ratio, self.alpha, self.beta, whole_last_round=whole)

    def rounds_of(self, images: ImageSet) -> int:
        """The classifier's first round, those in which it asks, and that of the masks."""
        sizes = self._plan(len(images)).round_sizes
        return len(sizes) + 2 if sizes else 1

    def check(self, images: ImageSet, budget: Budget) -> None:
        """The classifier's classes, its weights, and a budget that does not interfere."""
        require_rgb(images, "method=als4gan")
        plan = self._plan(len(images))
        most = max(plan.initial, plan.masks, *plan.round_sizes, 0)
        if budget.axis != "units" or budget.amount < most:
            raise UserError(
                f"method=als4gan plans what each round buys, up to {most} images, by method.ratio, "
                f"alpha and beta; leave out budget.amount and budget.axis."
            )
        if plan.round_sizes:
            self._check_answers(images)
        if plan.round_sizes or self.mlmt:
            from alseg.methods.als4gan.classifier import build_classifier

            # weights that cannot be had are found out now
            build_classifier(self.classifier, self.classifier_weights, 2)
            if self.classifier_weights is None:
                log.warning(
                    "The classifier starts from random weights (method.classifier_weights)."
                )

    def _check_answers(self, images: ImageSet) -> None:
        if self.learner == "scenes" and not images.scenes:
            raise UserError(
                "method.learner=scenes asks for the scene classes of images, and this data set has "
                "none; give method.learner=derived, which asks for the class that covers most of "
                "an image, or leave it out."
            )
        if self.question(images) == "dominant":
            log.info(
                "The classifier learns the class that covers most of each image%s.",
                "" if self.learner else ", since this data set has no scene classes",
            )

    def question(self, images: ImageSet) -> AnswerKind:
        """What the classifier asks about an image."""
        if self.learner == "derived" or not images.scenes:
            return "dominant"
        return "scene"

    def learns(self, answers: Answers, own: bool) -> bool:
        """Masks of whatever regions, and the classes of whole images."""
        return answers.masks is not None or super().learns(answers, own)

    def _is_last(self, context: RoundContext) -> bool:
        """Whether a round is that of the masks."""
        return context.round == context.rounds - 1

    def _learns(self, context: RoundContext) -> bool:
        """Whether the classifier is trained: what it asks for last is not needed for a choice."""
        return context.round < context.rounds - 2

    def _version(self, context: RoundContext) -> str:
        """Name of the maps the classifier asks about.

        They are those of the run under another name: an image whose class is known may still be
        asked for its mask.
        """
        return f"{context.regions}-scenes"

    def regions(self, context: RoundContext) -> Maps | None:
        """Whole images, for the questions of the classifier."""
        if self._is_last(context):
            return None
        from alseg.methods.als4gan.regions import Renamed

        return Renamed(context.pool.maps[context.regions], self._version(context))

    # Training

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """The classifier while it asks, the GAN in the end, and nothing in between."""
        from alseg.methods.als4gan.stages import Classifier, Mlmt, Segment

        shared: dict[str, Any] = {"context": context, "method": self}
        if self._is_last(context):
            fit = Fit(self.steps, self.batch_size, self.epoch_steps, keep=self.keep)
            # each of its two networks learns without the other
            in_turn = {"strategy": "ddp_find_unused_parameters_true"}
            segment = Segment(name="segment", fit=fit, trainer=in_turn, **shared)
            if not self.mlmt:
                return [segment]
            fit = self._mlmt_fit(context, len(segment.unlabelled()))
            return [segment, Mlmt(name="mlmt", fit=fit, start=Start(segment.name), **shared)]
        if not self._learns(context):
            return []
        fit = Fit.passes(
            self.classifier_passes,
            len(self.classes(context).images),
            self.classifier_batch_size,
        )
        fit = replace(fit, augment=self.classifier_augment())
        start = Start("classifier", previous_round=True)
        return [Classifier(name="classifier", fit=fit, start=start, evaluate=False, **shared)]

    def _mlmt_fit(self, context: RoundContext, unlabelled: int) -> Fit:
        """A pass goes over the unlabelled images once, or over the labelled ones.

        Raises:
            UserError: If whole images are to be resized, and differ in size.
        """
        size = self.mlmt_batch_size
        if not self.as_reference(self.mlmt_released):
            batches = -(-unlabelled // (size * self.mlmt_unlabelled))
            return Fit(self.mlmt_passes * batches, size, batches)
        sizes = {(int(height), int(width)) for height, width in context.pool.sizes}
        if len(sizes) > 1:
            raise UserError(
                "method.mlmt_released=true resizes whole images, and a batch of them has to have "
                "one size; give data.size, or leave it out."
            )
        batches = max(1, -(-len(context.pool.images(("mask",))) // size))
        whole = {"crop": sizes.pop(), "scale": (1.0, 1.0)}
        return Fit(self.mlmt_passes * batches, size, batches, augment=whole)

    def classes(self, context: RoundContext) -> Any:
        """The classes of images that were answered so far."""
        from alseg.methods.als4gan.classifier import ImageClasses

        return ImageClasses.of(context.pool, self._version(context))

    # Choosing

    def ask(self, context: RoundContext) -> Query | Scoring:
        """Random images first, then those the classifier is least sure of, in the end masks."""
        if context.round == 0:
            return self._first(context)
        if self._is_last(context):
            return self._masks(context)
        return Scoring(
            "classifier",
            pick=lambda tables: self._least_sure(context, tables["scenes"]),
            images=context.pool.open_images(self._version(context)),  # no class is known of them
        )

    def _first(self, context: RoundContext) -> Query:
        """Random images: their masks, or their classes to begin with."""
        prescribed = self.rounds_of(context.images)
        if context.rounds != prescribed:
            raise UserError(
                f"rounds is {context.rounds}, but what method=als4gan buys takes {prescribed}; "
                f"leave it out."
            )
        plan = self._plan(len(context.pool))
        drawn = context.rng("first").permutation(len(context.pool))
        version = context.regions if self._is_last(context) else self._version(context)
        drawn = drawn[context.pool.is_open(version, drawn, np.zeros_like(drawn))]
        if self._is_last(context):
            return whole_images(context, drawn[: plan.masks])
        return self._ask_classes(context, drawn[: plan.initial])

    def _ask_classes(
        self,
        context: RoundContext,
        images: NDArray[np.int64],
        score: NDArray[np.floating[Any]] | None = None,
    ) -> Query:
        answer = self.question(context.images)
        return whole_images(context, images, score, answer, self._version(context))

    def _least_sure(self, context: RoundContext, table: Table) -> Query:
        """The classes of the images the classifier is least sure of (E9)."""
        from alseg.methods.als4gan.learner import most_uncertain

        size = self._plan(len(context.pool)).round_sizes[context.round - 1]
        image, score = np.asarray(table["image"], dtype=np.int64), np.asarray(table["score"])
        rows = most_uncertain(score, len(score))
        if context.diversity is not None:
            units = Units(image, np.zeros_like(image), score.astype(np.float64))
            apart = context.diversity.choose(units, size, context.rng("diversity"))
            # where images coincide there are fewer clusters than images wanted
            rows = np.concatenate([apart, rows[~np.isin(rows, apart)]])
        return self._ask_classes(context, image[rows[:size]], score[rows[:size]])

    def _masks(self, context: RoundContext) -> Query:
        """The masks of what the classifier asked about (E10)."""
        from alseg.methods.als4gan.learner import selection_list

        plan, pool, history = self._plan(len(context.pool)), context.pool, context.pool.history
        asked = [answers.image for answers in history[1:]]
        wanted = min(plan.masks, sum(map(len, asked)))  # a person may have answered less
        score = np.concatenate([doubts(context, answers) for answers in history])
        first = len(history[0])
        images, score = selection_list(asked, wanted), score[first : first + wanted]
        if pool.owned:
            known = self._owned(context)
            images = np.concatenate([images, known[~np.isin(known, images)]])
            score = np.pad(score, (0, len(images) - len(score)))
            open_ = np.flatnonzero(pool.is_open(context.regions, images, np.zeros_like(images)))
            images, score = images[open_[: plan.masks]], score[open_[: plan.masks]]
        return whole_images(context, images, score)

    def _owned(self, context: RoundContext) -> NDArray[np.int64]:
        """Images another run was told the classes of, those it asked about last first."""
        version = self._version(context)
        tables = [table.image for table in context.pool.owned if table.regions == version]
        images = np.concatenate([np.zeros(0, dtype=np.int64), *reversed(tables)])
        return images[np.sort(np.unique(images, return_index=True)[1])]

    def measures(self, context: RoundContext, truth: ImageSet | None) -> Mapping[str, float]:
        """The two kinds of answers apart: classes of images, and masks."""
        history = context.pool.history[: context.round + 1]
        masks = sum(len(answers) for answers in history if answers.masks is not None)
        return {
            "class_labels": float(sum(map(len, history)) - masks),
            "masks": float(masks),
        }


def doubts(context: RoundContext, answers: Answers) -> NDArray[np.float32]:
    """How unsure the classifier was of the images of an earlier round, 0 where none was asked."""
    query = context.ledger.query(answers.round)
    if query is None:
        return np.zeros(len(answers), dtype=np.float32)
    return query.score[: len(answers)]
