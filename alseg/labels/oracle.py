"""Who answers: the ground truth, or a person through files."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ImageSet
from alseg.core.options import FREE
from alseg.core.progress import progress_bar
from alseg.core.registry import Registry
from alseg.labels.answerfile import UNSURE_WORDS, VOID_WORD, read_bytes
from alseg.labels.human import ANSWERS, check_names, keep_read, read_answers, write_questions
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.base import Annotator
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.tables import Answers, Query

log = logging.getLogger(__name__)

ORACLES = Registry(
    "oracle",
    {
        "simulated": "alseg.labels.oracle:SimulatedOracle",
        "human": "alseg.labels.oracle:HumanOracle",
        "browser": "alseg.label.oracle:BrowserOracle",
        "table": "alseg.labels.published:TableOracle",
    },
)


class AwaitingAnswersError(Exception):
    """The run has to wait for a person; the message says what to do. Not a failure."""


class Oracle(Protocol):
    """Answers a query from the top until the budget is spent."""

    def check(self, images: ImageSet) -> None:
        """Raise `UserError` if this oracle cannot answer for the images."""
        ...

    def answer(self, query: Query, pool: LabelPool, images: ImageSet, folder: Path) -> Answers:
        """Answer the first rows of a query.

        Args:
            query: Units in the order they are asked.
            pool: Prices the answers; not changed.
            images: The pool's images.
            folder: Folder of the round, for files exchanged with a person.

        Returns:
            Answers for the rows the budget pays for.

        Raises:
            AwaitingAnswersError: If a person has to answer first.
            UserError: If given answers are malformed.
        """
        ...


@dataclass(frozen=True)
class SimulatedOracle:
    """Reads the answers off the ground truth. Void pixels cost their click and answer "void".

    Attributes:
        trim: Width in pixels of the square by which region boundaries are dilated before class
            sets are read off, odd, 0 = none: an annotator does not see a few stray pixels of the
            neighbour (mulquery 2.2, arXiv 2309.09319). Small regions keep all their pixels.
        vote_void: Whether void takes part in the vote for a region's dominant class.
        by_hand: Kinds of answers that are left to a person, as by oracle=human, such as ``[mask]``:
            there the run writes its questions and stops.
    """

    trim: int = 5
    vote_void: bool = True
    by_hand: tuple[str, ...] = field(default=(), metadata=FREE)

    def __post_init__(self) -> None:
        if self.trim < 0 or (self.trim and self.trim % 2 == 0):
            raise UserError(f"oracle.trim is {self.trim}; it must be 0 or an odd width in pixels.")
        for kind in self.by_hand:
            if kind not in KINDS:
                raise unknown_name("oracle.by_hand", kind, KINDS)

    def check(self, images: ImageSet) -> None:
        """Refuse images without ground truth."""
        if not images.has_truth:
            raise UserError(
                "oracle=simulated reads answers off the ground truth, and the training images have "
                "none; give data.masks, or use oracle=human to answer yourself."
            )
        if self.by_hand:
            HumanOracle().check(images)

    def answer(
        self,
        query: Query,
        pool: LabelPool,
        images: ImageSet | None = None,
        folder: Path | None = None,
    ) -> Answers:
        """Answer from the ground truth, see `Oracle.answer`.

        Args:
            query: Units in the order they are asked.
            pool: Prices the answers; not changed.
            images: Images with truth; None = those the pool was made of (`LabelPool.of`).
            folder: Folder of the round, for what is left to a person.
        """
        images = pool.data if images is None else images
        if images is None:
            raise UserError("the oracle needs images: oracle.answer(query, pool, images).")
        self.check(images)
        if query.answer in self.by_hand and folder is not None:
            return HumanOracle().answer(query, pool, images, folder)
        return affordable(answer_from_truth(query, pool, images, self.trim, self.vote_void), pool)


def affordable(answers: Answers, pool: LabelPool) -> Answers:
    """The first answers, as many as the budget pays for; all where the query is already so long."""
    if pool.budget.is_certain(answers.answer):
        return answers
    cost = pool.budget.cost(answers, pool.unit_pixels(answers))
    return answers.head(pool.budget.bought(np.asarray(getattr(cost, pool.budget.axis))))


def answer_from_truth(
    query: Query, pool: LabelPool, images: ImageSet, trim: int, vote_void: bool
) -> Answers:
    """What the ground truth says of every row of a query, whatever it costs.

    Args:
        query: The n units.
        pool: Knows the region maps.
        images: Images with truth.
        trim: See `SimulatedOracle`.
        vote_void: See `SimulatedOracle`.

    Returns:
        n answers.
    """
    kind, how = KINDS[query.answer], Annotator(trim, vote_void)
    rows_said: list[Any] = [None] * len(query)
    groups = rows_by_image(query.image)
    for image, rows in progress_bar(groups, "answering", unit="image", hidden=len(groups) < 100):
        units = pool.units_of(query.regions, image, query.unit[rows])
        said = kind.of_truth(units, images, pool.num_classes, how)
        for row, one in zip(rows.tolist(), said, strict=True):
            rows_said[row] = one
    num_names = pool.num_classes if kind.covers_pixels else len(kind.names(images))
    return Answers.of_rows(query, num_names, rows_said)


@dataclass(frozen=True)
class HumanOracle:
    """A person, through files: the run writes the questions, stops, and goes on when answered.

    Attributes:
        accept_partial: Go on with fewer answers than the budget pays for.
    """

    accept_partial: bool = field(default=False, metadata=FREE)

    def check(self, images: ImageSet) -> None:
        """Refuse names of classes or scenes that an answers file cannot hold."""
        check_names(images.classes.names)
        check_names(images.scenes)

    def answer(self, query: Query, pool: LabelPool, images: ImageSet, folder: Path) -> Answers:
        """Read the answers file of the round, or write the questions; see `Oracle.answer`."""
        path = folder / ANSWERS
        if not path.exists():
            write_questions(query, pool, images, folder)
            raise awaiting(query, folder)
        raw = read_bytes(path)
        answers = read_answers(path, query, pool, images, raw)
        cost = pool.budget.cost(answers, pool.unit_pixels(answers))
        costs = np.asarray(getattr(cost, pool.budget.axis))
        reached = costs.sum() >= pool.budget.amount
        if len(answers) < len(query) and not reached and not self.accept_partial:
            # would the budget pay for one more? Every answer given is kept, also beyond the budget
            following = query.tail(len(answers)).head(1)
            least = pool.budget.least_cost(query.answer, pool.unit_pixels(following))
            if pool.budget.bought(np.append(costs, least)) > len(answers):
                raise UserError(
                    f"{path} answers {len(answers)} questions for {costs.sum():g} of "
                    f"{pool.budget.amount:g} {pool.budget.axis}; go on from row {len(answers)} of "
                    f"questions.csv, or give oracle.accept_partial=true to train with these."
                )
        log.info("%s: %s", path, _counted(answers, KINDS[query.answer].names(images)))
        keep_read(folder, raw)
        return answers


def awaiting(query: Query, folder: Path) -> AwaitingAnswersError:
    """What tells a person to answer the questions of a round.

    Args:
        query: The questions.
        folder: Folder of the round, with the files that `write_questions` wrote.
    """
    return AwaitingAnswersError(
        f"Round {query.round} waits for your answers: {folder / 'questions.csv'} lists up "
        f"to {len(query)} questions in order, {folder / 'questions'} shows them on the "
        f"images, {folder / 'HOW_TO_ANSWER.txt'} says what to write. Save your answers as "
        f"{folder / ANSWERS}, then give the same command again."
    )


def _counted(answers: Answers, names: Sequence[str]) -> str:
    """How often each name was said, in words."""
    if answers.masks is not None:
        return f"{len(answers)} masks"
    counts = zip([*names, VOID_WORD, UNSURE_WORDS[0]], answers.counts().tolist(), strict=True)
    return ", ".join(f"{count} {name}" for name, count in counts if count)
