"""Who is asked what next, what is answered, and what it cost: a replay of a journal's lines."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID
from alseg.label.journal import Line
from alseg.label.session import Session
from alseg.labels.budget import Cost
from alseg.labels.tables import Answers

#: Rows of a block; a block is leased to one annotator at a time.
BLOCK = 50
#: Seconds without an answer after which a block may go to somebody else.
LEASE = 600.0
#: Label of a pixel of an unfinished mask that nobody has painted yet.
OPEN = -1
#: Answers that the pace is the median of.
_PACE = 50

_NOTHING = np.zeros(0, dtype=np.uint8)


@dataclass(frozen=True)
class Given:
    """One answer, to one row, or to several at once.

    Attributes:
        id: Number of the answer.
        rows: Rows of the query.
        by: Annotator.
        value: A class id or None for void; of sets the ids, C for void; of masks the runs of equal
            labels over the unit's pixels: label, length, label, length, ...
        unsure: Whether the annotator could not tell: paid, and trained as void.
        seconds: Active seconds per row.
        clicks: Keys and clicks in all.
    """

    id: int
    rows: tuple[int, ...]
    by: str
    value: Any
    unsure: bool
    seconds: float
    clicks: int


class Asked(NamedTuple):
    """A row that is to be asked, and whether it is asked for the second time."""

    row: int
    second: bool


@dataclass
class Board:
    """The state of a round.

    Attributes:
        session: What is asked.
        overlap: Share of the rows that are asked twice, 0..1.
        finished: Whether the round was declared finished.
        given: Answers that stand, by number, in order.
        nonces: Marks of the requests that were carried out.
        drafts: Unfinished answers by annotator and row: a set, or the labels of a unit's pixels
            with `OPEN` where nothing is painted, int16.
        rejected: Rows whose suggestion was called wrong.
    """

    session: Session
    overlap: float = 0.0
    finished: bool = False
    given: dict[int, Given] = field(default_factory=dict)
    nonces: set[str] = field(default_factory=set)
    drafts: dict[tuple[str, int], Any] = field(default_factory=dict)
    rejected: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        n, num_classes = len(self.session), self.session.num_classes
        budget, query = self.session.budget, self.session.query
        self.certain = budget.is_certain(query.answer) and budget.axis != "seconds"
        order = by_image(query.image) if self.certain else np.arange(n)
        self.blocks = [order[start : start + BLOCK].tolist() for start in range(0, n, BLOCK)]
        self._block_of = {row: b for b, rows in enumerate(self.blocks) for row in rows}
        self._place = {row: place for place, row in enumerate(order.tolist())}
        self._left = [len(rows) for rows in self.blocks]
        self.twice = set(np.flatnonzero(np.random.default_rng(0).random(n) < self.overlap).tolist())
        self.answered = np.zeros(n, dtype=bool)
        self._label = np.full(n, VOID, dtype=np.uint8)
        self._members = np.zeros((n, num_classes + 1), dtype=bool)
        self._seconds = np.full(n, np.nan, dtype=np.float32)
        self._unsure = np.zeros(n, dtype=bool)
        self._live: dict[int, list[int]] = defaultdict(list)  # answers that stand, per row
        self._stack: dict[str, list[int]] = defaultdict(list)  # answers that stand, per annotator
        self._redo: dict[str, list[int]] = defaultdict(list)  # rows taken back, last one last
        self._undone: dict[int, float] = defaultdict(float)  # seconds of answers taken back
        self._owner: dict[int, str] = {}
        self._seen: dict[str, float] = {}
        self._next_id = 0

    # ------------------------------------------------------------------ lines

    @property
    def next_id(self) -> int:
        """Number of the next answer."""
        return self._next_id

    def apply(self, line: Line) -> None:
        """Carry out a line of the journal."""
        if nonce := line.get("nonce"):
            self.nonces.add(nonce)
        if by := line.get("by"):
            self._seen[by] = max(self._seen.get(by, 0.0), float(line.get("at", 0.0)))
        if line["do"] == "answer":
            self._answer(line)
        elif line["do"] == "undo":
            self._undo(line)
        elif line["do"] == "draft":
            self._draft(line)
        elif line["do"] == "reject":
            self.rejected.update(line["rows"])
        elif line["do"] == "finish":
            self.finished = True

    def _answer(self, line: Line) -> None:
        rows = tuple(line["rows"])
        given = Given(
            int(line["id"]), rows, line["by"], line["value"], bool(line.get("unsure")),
            float(line["seconds"]), int(line["clicks"]),
        )  # fmt: skip
        self.given[given.id] = given
        self._next_id = max(self._next_id, given.id + 1)
        self._stack[given.by].append(given.id)
        for row in rows:
            self._live[row].append(given.id)
            self._settle(row)
            self._owner[self._block_of[row]] = given.by
            if row in self._redo[given.by]:
                self._redo[given.by].remove(row)
            self.drafts.pop((given.by, row), None)

    def _undo(self, line: Line) -> None:
        given = self.given.pop(int(line["of"]))
        self._stack[given.by].remove(given.id)
        for row in reversed(given.rows):
            self._live[row].remove(given.id)
            self._undone[row] += given.seconds
            self._settle(row)
            self._redo[given.by].append(row)
            column = self.session.column
            if not given.unsure and column == "sets":
                self.drafts[given.by, row] = list(given.value)
            elif not given.unsure and column == "masks":
                self.drafts[given.by, row] = unroll(given.value).astype(np.int16)

    def _draft(self, line: Line) -> None:
        key = (line["by"], int(line["row"]))
        if "value" in line:
            self.drafts[key] = list(line["value"])
            return
        labels = self.drafts.get(key)
        if labels is None:
            labels = np.full(int(self.session.pixels[key[1]]), OPEN, dtype=np.int16)
        for label, runs in line["paint"]:
            for start, length in zip(runs[::2], runs[1::2], strict=True):
                labels[start : start + length] = label
        self.drafts[key] = labels

    def _settle(self, row: int) -> None:
        """Keep the columns of a row those of the first answer that stands."""
        live = self._live[row]
        before = bool(self.answered[row])
        self.answered[row] = bool(live)
        self._left[self._block_of[row]] += int(before) - int(bool(live))
        self._members[row] = False
        self._label[row] = VOID
        self._seconds[row] = np.nan
        self._unsure[row] = False
        if not live:
            return
        given = self.given[live[0]]
        self._unsure[row] = given.unsure
        self._seconds[row] = given.seconds + self._undone[row]
        column = self.session.column
        if given.unsure:
            self._members[row, -1] = True
        elif column == "sets":
            self._members[row, given.value] = True
        elif column == "label" and given.value is not None:
            self._label[row] = given.value

    # ------------------------------------------------------------------ cost

    def cost(self) -> Cost:
        """Cost of each answered row, in the order of the query."""
        rows = np.flatnonzero(self.answered)
        return self._cost_of(rows)

    def _cost_of(self, rows: NDArray[np.int64]) -> Cost:
        answers = self._table(rows, [_NOTHING] * len(rows))
        return self.session.budget.cost(answers, self.session.pixels[rows])

    def _table(self, rows: NDArray[np.int64], masks: Sequence[NDArray[np.uint8]]) -> Answers:
        query = self.session.query
        part = query.rows(rows)
        said: Any = {"label": self._label[rows], "sets": self._members[rows], "masks": masks}[
            self.session.column
        ]
        return Answers.of_rows(
            part, self.session.num_classes, said, self._seconds[rows], self._unsure[rows]
        )

    @property
    def prefix(self) -> int:
        """Rows in front of the first open one."""
        open_rows = np.flatnonzero(~self.answered)
        return int(open_rows[0]) if len(open_rows) else len(self.session)

    def done(self) -> bool:
        """Whether all that the budget buys is answered."""
        if self.certain:
            return bool(self.answered.all())
        front = np.arange(self.prefix)
        return not self._buys_more(front, self.prefix)

    def _buys_more(self, paid: NDArray[np.int64], row: int) -> bool:
        """Whether the budget pays for a row besides others, if it costs as little as it can."""
        if row >= len(self.session):
            return False
        budget, axis = self.session.budget, self.session.budget.axis
        costs = np.asarray(getattr(self._cost_of(paid), axis), dtype=np.float64)
        least = budget.least_cost(self.session.query.answer, self.session.pixels[row : row + 1])
        if axis == "seconds":  # measured: a person may be as quick as they like
            least = np.zeros(1)
        return budget.bought(np.append(costs, least)) > len(costs)

    def pace(self, by: str) -> float:
        """Median active seconds per row of an annotator's last answers, NaN without any."""
        last = [self.given[i].seconds for i in self._stack[by][-_PACE:]]
        return statistics.median(last) if last else float("nan")

    # ------------------------------------------------------------------ questions

    def upcoming(self, by: str, count: int, now: float) -> list[Asked]:
        """The rows to ask an annotator next.

        First what they took back, last one first; then what others answered and is to be asked
        twice; then the rows of blocks that are theirs. Where no block is free, the last rows of
        somebody else's: at the end of a round nobody waits. What one annotator alone is asked twice
        comes when all else is done.

        Args:
            by: The annotator.
            count: Rows at most.
            now: Seconds, on the clock of the lines.
        """
        if self.finished:
            return []
        self._seen[by] = now
        back = self._redo[by][::-1]
        asked = [Asked(row, bool(self._live[row])) for row in back if self._is_due(by, row)]
        over = self.done()
        if not over:
            asked += [Asked(row, True) for row in self._second(by) if row not in back]
            for row in self._open(by, now):
                if len(asked) >= count:
                    break
                if row not in back:
                    asked.append(Asked(row, False))
        if not asked:
            asked = [Asked(row, True) for row in self._second(by, own=True)]
        return asked[:count]

    def _is_due(self, by: str, row: int) -> bool:
        return not self._live[row] or (row in self.twice and len(self._live[row]) == 1)

    def _second(self, by: str, own: bool = False) -> list[int]:
        """Rows answered once that are to be asked twice, in order of asking."""
        due = [
            row
            for row in self.twice
            if len(self._live[row]) == 1 and (own or self.given[self._live[row][0]].by != by)
        ]
        return sorted(due, key=self._place.__getitem__)

    def _open(self, by: str, now: float) -> Iterator[int]:
        """Open rows for an annotator, blocks being leased as they are reached."""
        last = len(self.session)
        if not self.certain and not self._buys_more(np.flatnonzero(self.answered), 0):
            # paid for in sum, with holes: only what lies in front of the last answer is missing
            last = int(np.flatnonzero(self.answered)[-1])
        mine = [b for b in self._left_blocks() if self._owner.get(b) == by]
        free = [b for b in self._left_blocks() if self._is_free(b, now)]
        for block in [*mine, *free]:
            rows = [row for row in self.blocks[block] if not self.answered[row] and row < last]
            if rows:
                self._owner[block] = by
            yield from rows
        for block in reversed(self._left_blocks()):
            if self._owner.get(block) != by:
                rows = [row for row in self.blocks[block] if not self.answered[row] and row < last]
                yield from reversed(rows)

    def _left_blocks(self) -> list[int]:
        return [block for block, left in enumerate(self._left) if left]

    def _is_free(self, block: int, now: float) -> bool:
        owner = self._owner.get(block)
        return owner is None or now - self._seen.get(owner, -np.inf) > LEASE

    def may_answer(self, by: str, row: int) -> bool:
        """Whether an answer of an annotator to a row is wanted."""
        live = self._live[row]
        if self.finished:
            return False
        if not live:
            return self.certain or row in self._redo[by] or not self.done()
        if row not in self.twice or len(live) != 1:
            return False
        return self.given[live[0]].by != by or row in self._redo[by] or self.done()

    def last_of(self, by: str) -> Given | None:
        """The answer that an annotator would take back."""
        return self.given[self._stack[by][-1]] if self._stack[by] else None

    def free_rows(self, by: str, now: float) -> list[int]:
        """Open rows that are leased to nobody else, in order of asking."""
        return [
            row
            for block in self._left_blocks()
            if self._owner.get(block) == by or self._is_free(block, now)
            for row in self.blocks[block]
            if not self.answered[row]
        ]

    # ------------------------------------------------------------------ results

    def answers(self) -> Answers:
        """What was answered, as far as it is a prefix of the query."""
        return self._answers(np.arange(self.prefix))

    def all_answers(self) -> Answers:
        """Everything that was answered, whatever is open before it."""
        return self._answers(np.flatnonzero(self.answered))

    def _answers(self, rows: NDArray[np.int64]) -> Answers:
        masks: list[NDArray[np.uint8]] = []
        if self.session.column == "masks":
            for row in rows.tolist():
                given = self.given[self._live[row][0]]
                pixels = int(self.session.pixels[row])
                void = np.full(pixels, VOID, dtype=np.uint8)
                masks.append(void if given.unsure else unroll(given.value).astype(np.uint8))
        return self._table(rows, masks)

    def pairs(self) -> list[tuple[int, Given, Given]]:
        """Rows that were answered twice, with both answers."""
        return [
            (row, self.given[live[0]], self.given[live[1]])
            for row, live in sorted(self._live.items())
            if len(live) > 1
        ]


def by_image(image: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows grouped by image, images in the order in which they first appear, rows in their order.

    >>> by_image(np.array([7, 3, 7, 5])).tolist()
    [0, 2, 1, 3]
    """
    _, first, group = np.unique(image, return_index=True, return_inverse=True)
    return np.argsort(first[group], kind="stable")


def unroll(runs: Sequence[int]) -> NDArray[np.int64]:
    """Labels from runs of equal ones: label, length, label, length, ...

    >>> unroll([3, 2, 255, 1]).tolist()
    [3, 3, 255]
    """
    pairs = np.asarray(runs, dtype=np.int64).reshape(-1, 2)
    return np.repeat(pairs[:, 0], pairs[:, 1])


def rolled(labels: Iterable[int] | NDArray[Any]) -> list[int]:
    """Runs of equal labels, the inverse of `unroll`.

    >>> rolled([3, 3, 255])
    [3, 2, 255, 1]
    """
    values = np.asarray(labels)
    if not values.size:
        return []
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1])
    lengths = np.diff(np.append(starts, values.size))
    return np.stack([values[starts].astype(np.int64), lengths], axis=1).ravel().tolist()
