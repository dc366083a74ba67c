"""One round on the table: takes what the page sends, writes it down, and says what comes next."""

import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.files import write_atomic
from alseg.core.images import VOID
from alseg.label.board import Board, Given, rolled, unroll
from alseg.label.colors import safe_colors
from alseg.label.journal import Journal, Line
from alseg.label.pictures import Pictures
from alseg.label.session import Session
from alseg.label.suggestions import Suggestions, of_query
from alseg.label.values import Refused, class_or_void, class_set, is_id, mask, number, paint
from alseg.labels.agreement import Agreement, agreement
from alseg.labels.owned import with_owned
from alseg.labels.tables import Answers, plural

#: Questions sent at once: the one that is asked, and those whose pictures are fetched meanwhile.
AHEAD = 4
#: Crops of the grid.
GRID = 24
#: More seconds than that nobody spends on one answer.
_MOST_SECONDS = 86400.0


class Desk:
    """Asks the questions of a round.

    Args:
        session: What is asked.
        overlap: Share of the questions that are asked twice, 0..1.
        suggestions: Suggested answers, or None to show none. What the query itself suggests is
            shown in any case.
        clock: Seconds since some instant in the past.

    Attributes:
        board: The state.
        pictures: What is shown.
        finished: Set when the round is declared finished.

    Raises:
        UserError: See `alseg.label.journal.Journal`.
    """

    def __init__(
        self,
        session: Session,
        overlap: float = 0.0,
        suggestions: Suggestions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.session = session
        self.board = Board(session, overlap)
        self.pictures = Pictures(session)
        self.finished = threading.Event()
        self._suggestions = of_query(session) or suggestions
        self._clock = clock
        self._lock = threading.RLock()
        self._journal = Journal(session.folder.parent / "answers.jsonl", session.digest)
        for line in self._journal.lines:
            self.board.apply(line)
        if self.board.finished:
            self.finished.set()

    @property
    def round(self) -> int:
        """Number of the round."""
        return self.session.query.round

    def close(self) -> None:
        """Let go of the journal."""
        with self._lock:
            self._journal.close()

    # ------------------------------------------------------------------ what the page is told

    def about(self) -> dict[str, Any]:
        """What does not change while the round is answered."""
        session = self.session
        query, budget = session.query, session.budget
        return {
            "round": query.round,
            "kind": query.kind,
            "kinds": plural(query.kind),
            "ask": session.kind.ask(query.kind),
            "takes": session.column,
            "names": list(session.names),
            "colors": session.colors.tolist(),
            "safe_colors": safe_colors(session.num_classes).tolist(),
            "axis": budget.axis,
            "amount": budget.amount if math.isfinite(budget.amount) else None,
            "rows": len(session),
            "certain": self.board.certain,
            "grid": self._can_grid(),
            "suggestions": self._suggestions is not None,
            "accept_partial": session.accept_partial,
        }

    def state(self, by: str) -> dict[str, Any]:
        """What stands, and the next questions of an annotator."""
        with self._lock:
            board, now = self.board, self._clock()
            cost = board.cost().total()
            pace = board.pace(by)
            asked = board.upcoming(by, AHEAD, now)
            return {
                "round": self.round,
                "annotator": by,
                "finished": board.finished,
                "done": board.done(),
                "answered": int(board.answered.sum()),
                "prefix": board.prefix,
                "spent": round(float(getattr(cost, self.session.budget.axis)), 2),
                "clicks": float(cost.clicks),
                "seconds": round(float(cost.seconds), 1),
                "pace": None if math.isnan(pace) else round(pace, 2),
                "hour": round(3600 / pace) if pace > 0 else None,
                "can_undo": board.last_of(by) is not None,
                "questions": [self._question(by, row, second) for row, second in asked],
            }

    def _question(self, by: str, row: int, second: bool) -> dict[str, Any]:
        image = int(self.session.query.image[row])
        draft = self.board.drafts.get((by, row))
        if isinstance(draft, np.ndarray):
            draft = rolled(draft)
        # a second opinion is asked for without a hint, unless the question is about the hint
        suggests = self._suggestions is not None and (self.session.kind.suggests or not second)
        question = {
            "row": row,
            "second": second,
            "image": image,
            "name": self.session.pictures[image].name,
            "crop": f"/crop/{self.round}/{row}",
            "overview": f"/overview/{self.round}/{image}",
            "draft": draft,
            "suggests": suggests,
            "suggestion": self._hint(row) if suggests else None,
            "view": self.pictures.view(row),
        }
        if self.session.column == "masks":
            question["superpixels"] = f"/superpixels/{self.round}/{row}"
        return question

    def _hint(self, row: int) -> Any:
        """The suggestion for a row, as the page takes it."""
        hint: Any = None if self._suggestions is None else self._suggestions[row]
        return rolled(hint) if self.session.column == "masks" else hint

    def _can_grid(self) -> bool:
        return (
            self._suggestions is not None and self.board.certain and self.session.column == "label"
        )

    def grid(self, by: str) -> dict[str, Any]:
        """Open rows of the class that is suggested most often.

        Returns:
            ``label`` and ``questions``, at most `GRID`; no questions where none is open.
        """
        if not self._can_grid() or self._suggestions is None:
            raise Refused("the grid needs suggestions, and prices that are known beforehand.")
        with self._lock:
            free = self.board.free_rows(by, self._clock())
            hints = self._suggestions
            rows = [r for r in free if r not in self.board.rejected and hints[r] is not None]
            labels = np.array([hints[row] for row in rows], dtype=np.int64)
            if not rows:
                return {"round": self.round, "label": None, "questions": []}
            label = int(np.bincount(labels).argmax())
            chosen = [row for row, own in zip(rows, labels, strict=True) if own == label][:GRID]
            questions = [self._question(by, row, False) for row in chosen]
            return {"round": self.round, "label": label, "questions": questions}

    # ------------------------------------------------------------------ what the page sends

    def answer(self, by: str, body: Mapping[str, Any]) -> None:
        """Write down an answer.

        Args:
            by: Annotator.
            body: ``round``, ``rows``, ``value``, ``unsure``, ``seconds`` (active, for all rows
                together), ``clicks``, ``nonce``, ``suggested`` where a suggestion was shown, and
                ``rejected``: rows taken out of a grid because the suggestion is wrong.

        Raises:
            Refused: If it is malformed, or not wanted.
        """
        with self._lock:
            if self._is_repeated(body):
                return
            rows = body.get("rows")
            n = len(self.session)
            rejected = body.get("rejected", [])
            for given in (rows, rejected):
                if not isinstance(given, list) or not all(is_id(row, n) for row in given):
                    raise Refused("rows must be numbers of questions.", 422)
            if rejected:
                self._reject(by, rejected, body, alone=not rows)
                if not rows:
                    return
            if not isinstance(rows, list) or not rows:
                raise Refused("rows must be numbers of questions.", 422)
            if len(set(rows)) < len(rows):
                raise Refused("a question is answered twice.", 422)
            unsure = body.get("unsure") is True
            value = None if unsure else self._checked(body.get("value"), rows)
            seconds = number(body.get("seconds"), _MOST_SECONDS * len(rows))
            if not all(self.board.may_answer(by, row) for row in rows):
                what = "finished" if self.board.finished else "answered meanwhile, or not wanted"
                raise Refused(f"question {rows[0]} is {what}.")
            line: Line = {
                "do": "answer",
                "id": self.board.next_id,
                "rows": rows,
                "by": by,
                "value": value,
                "seconds": round(seconds / len(rows), 3),
                "clicks": int(number(body.get("clicks"), 1e9)),
            }
            if unsure:
                line["unsure"] = True
            if self._suggestions is not None and body.get("suggested") is True:
                hint = self._hint(rows[0])
                line["suggested"] = None if self.session.column == "masks" else hint
                line["taken"] = not unsure and hint == value
            self._write(line, body)

    def _reject(self, by: str, rows: list[int], body: Mapping[str, Any], alone: bool) -> None:
        """Write down that suggestions are wrong; the rows are asked one by one."""
        if not self._can_grid():
            raise Refused("nothing was suggested.", 422)
        line: Line = {"do": "reject", "rows": rows, "by": by}
        if alone:
            self._write(line, body)
        else:  # the answer to the others carries the mark of the request
            self._append(line)

    def undo(self, by: str, body: Mapping[str, Any]) -> None:
        """Take back an annotator's last answer that stands; nothing where there is none."""
        with self._lock:
            if self._is_repeated(body):
                return
            last = self.board.last_of(by)
            if self.board.finished:
                raise Refused("the round is finished.")
            if last is not None:
                self._write({"do": "undo", "of": last.id, "by": by}, body)

    def draft(self, by: str, body: Mapping[str, Any]) -> None:
        """Write down a step of an unfinished answer.

        Args:
            by: Annotator.
            body: ``round``, ``row``, ``nonce``, and of sets ``value``; of masks ``paint``: pairs of
                a label and runs (start, length, start, length, ...) over the unit's pixels.
        """
        with self._lock:
            if self._is_repeated(body):
                return
            row: Any = body.get("row")
            if self.board.finished:
                raise Refused("the round is finished.")
            if not is_id(row, len(self.session)):
                raise Refused("row must be the number of a question.", 422)
            line: Line = {"do": "draft", "row": row, "by": by}
            if self.session.column == "sets":
                value = body.get("value")
                line["value"] = class_set(value, self.session.num_classes) if value else []
            elif self.session.column == "masks":
                pixels = int(self.session.pixels[row])
                line["paint"] = paint(body.get("paint"), self.session.num_classes, pixels)
            else:
                raise Refused("answers of one class have no steps.", 422)
            self._write(line, body)

    def finish(self, by: str, body: Mapping[str, Any]) -> None:
        """Declare the round finished.

        Raises:
            Refused: If the budget pays for more, unless ``partial`` is true and the run takes that.
        """
        with self._lock:
            if self._is_repeated(body) or self.board.finished:
                return
            if not self.board.done():
                if body.get("partial") is not True or not self.session.accept_partial:
                    raise Refused(
                        "the round is not answered yet; with oracle.accept_partial=true it can end "
                        "earlier."
                    )
                if not self.board.prefix:
                    raise Refused("the first question is still open.")
            self._write({"do": "finish", "by": by}, body)
            self.finished.set()

    def _write(self, line: Line, body: Mapping[str, Any]) -> None:
        nonce = body.get("nonce")
        if not isinstance(nonce, str) or not 8 <= len(nonce) <= 64:
            raise Refused("nonce must be a text of 8 to 64 characters.", 422)
        self._append(line | {"nonce": nonce})

    def _append(self, line: Line) -> None:
        line = line | {"at": round(self._clock(), 3)}
        self._journal.append(line)
        self.board.apply(line)

    def _is_repeated(self, body: Mapping[str, Any]) -> bool:
        """Whether a request was carried out before and only its reply was lost."""
        if body.get("round") != self.round:
            raise Refused(f"round {self.round} is asked now.")
        return body.get("nonce") in self.board.nonces

    def _checked(self, value: Any, rows: list[int]) -> Any:
        """A value as it is written down."""
        column, num_classes = self.session.column, self.session.num_classes
        if column == "sets":
            return class_set(value, num_classes)
        if column == "masks":
            return mask(value, num_classes, {int(self.session.pixels[row]) for row in rows})
        return class_or_void(value, num_classes)

    # ------------------------------------------------------------------ results

    def answers(self) -> Answers:
        """The answers of the round, to be given to the run."""
        with self._lock:
            return self.board.answers()

    def agreement(self) -> Agreement:
        """How well those agree who were asked the same."""
        pairs = self.board.pairs()
        first = [self._said(row, given) for row, given, _ in pairs]
        second = [self._said(row, given) for row, _, given in pairs]
        return agreement(self.session.column, first, second, self.session.num_classes)

    def _said(self, row: int, given: Given) -> NDArray[Any]:
        column, num_classes = self.session.column, self.session.num_classes
        if column == "sets":
            members = np.zeros(num_classes + 1, dtype=bool)
            members[num_classes if given.unsure else given.value] = True
            return members
        if column == "masks":
            pixels = int(self.session.pixels[row])
            return np.full(pixels, VOID) if given.unsure else unroll(given.value)
        return np.array(VOID if given.value is None else given.value)

    def hand_in(self, folder: Path) -> Answers:
        """Write ``answers.npz``, unless it is there, and what the report tells of the work.

        Args:
            folder: Folder of the round.
        """
        answers = self.answers()
        self.write_work()
        if not (folder / "answers.npz").exists():
            with_owned(folder, answers).save(folder / "answers.npz")
        return answers

    def write_work(self) -> None:
        """Write what the report tells of the work: ``label/times.json``, ``label/agreement.json``.

        The former holds active seconds, question and annotator of every answer that stands, in the
        order in which they were given; the latter is there where questions were asked twice.
        """
        given = [(row, one) for one in self.board.given.values() for row in one.rows]
        times = {
            "seconds": [one.seconds for _, one in given],
            "rows": [row for row, _ in given],
            "by": [one.by for _, one in given],
        }
        self._write_json("times.json", times)
        found = self.agreement()
        if found.questions:
            names = [*self.session.names, "void"]
            self._write_json("agreement.json", found.described(names, self.session.query.answer))

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, ensure_ascii=False) + "\n"
        write_atomic(self.session.folder / name, text)


def new_token() -> str:
    """A text nobody can guess."""
    return secrets.token_urlsafe(32)
