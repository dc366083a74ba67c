"""Whether a run has nothing left to do, or but to wait, found out from its folder without torch."""

import json
from pathlib import Path

import numpy as np

from alseg.active.ledger import Ledger
from alseg.cli.compose import Options
from alseg.core.errors import UserError
from alseg.label.session import FOLDER as SESSION
from alseg.labels.human import ANSWERS, NAMES, told_changes
from alseg.labels.oracle import HumanOracle
from alseg.labels.owned import ASIDE
from alseg.labels.tables import Query

#: Files that tell a person what a round asks.
QUESTIONS = ("questions.csv", "HOW_TO_ANSWER.txt", NAMES)


def is_finished(options: Options, root: Path, rounds: int | None) -> bool:
    """Whether every round is closed and the report was written after the last one.

    Says no wherever the loop would do, tell or refuse anything, and leaves that to it. Whether the
    folder is this run's is another question, see `alseg.cli.identity.look`.

    Args:
        options: Those of the command.
        root: The run folder.
        rounds: How many the run has; None = as many as are in the folder.
    """
    if not _alone(options):
        return False
    ledger = Ledger(root, writes=False)
    if rounds is None:
        rounds = len(list(root.glob("round_*/metrics.json")))
    try:
        published = _published(root)
        closed = [_closed(ledger, round, rounds, published) for round in range(rounds)]
    except (OSError, UserError, ValueError):
        return False
    # a pool may be used up before the last round: a query without a row ends the run
    end = closed.index(None) if None in closed else rounds
    return end > 0 and all(closed[:end])


def waits_for(options: Options, root: Path, rounds: int | None) -> Query | None:
    """The questions a run waits for, all of whose files are there; None if the loop has to look.

    The rounds before are closed and published, as for `is_finished`.

    Args:
        options: Those of the command.
        root: The run folder.
        rounds: How many the run has; None = at least as many as are in the folder.
    """
    oracle = options.components["oracle"]
    if not _alone(options) or options.values["answers"] or not isinstance(oracle, HumanOracle):
        return None
    if (root / ASIDE).exists():  # some questions may be answered there
        return None
    ledger = Ledger(root, writes=False)
    try:
        before = len(list(root.glob("round_*/answers.npz")))
        query, folder = ledger.query(before), ledger.round(before)
        if query is None or not len(query) or (rounds is not None and before >= rounds):
            return None
        # the session is written last
        about = json.loads((folder / SESSION / "session.json").read_text("utf-8"))
        asked = (folder / "query.npz").stat().st_mtime_ns
        made = (folder / SESSION / "session.json").stat().st_mtime_ns
        there = all((folder / name).exists() for name in (*QUESTIONS, "questions"))
        answered = any((folder / name).exists() for name in (ANSWERS, "answers.npz"))
        same = about["accept_partial"] == oracle.accept_partial
        if not there or answered or not same or made < asked:
            return None
        published = _published(root) if before else 0
        closed = all(_closed(ledger, round, before + 1, published) for round in range(before))
    except (OSError, UserError, ValueError, KeyError):
        return None
    return query if closed else None


def _alone(options: Options) -> bool:
    """Whether nothing besides the folder decides what is left: no others, no other run, no more."""
    part, values = options.components, options.values
    alone = part["trainer"].world() == (1, 1)  # else every process must come to the same end
    if not alone or values["query"] or values["keep_rounds"] is not None:
        return False
    return options.choices["logger"] == "csv"  # others are told of the last round


def _published(root: Path) -> int:
    """When the report was written, in nanoseconds.

    Raises:
        OSError: If a file of it is missing.
    """
    written = [root / name for name in ("rounds.csv", "config.yaml", "report.json", "report.html")]
    return max(path.stat().st_mtime_ns for path in written)


def _closed(ledger: Ledger, round: int, rounds: int, published: int) -> bool | None:
    """Whether a round is closed and published; None if there was nothing to ask in it."""
    query, answers = ledger.query(round), ledger.answers(round)
    if query is not None and not len(query) and answers is None and round:
        return None  # and in round 0 everything is owned
    if query is None or answers is None or ledger.metrics(round) is None:
        return False
    if round < rounds - 1 and ledger.query(round + 1) is None:
        return False
    folder, head = ledger.round(round), query.head(len(answers))
    same = np.array_equal(head.image, answers.image) and np.array_equal(head.unit, answers.unit)
    files = [folder / name for name in ("metrics.json", "answers.npz", "pictures/index.json")]
    changed = max(path.stat().st_mtime_ns for path in files)
    return same and changed <= published and told_changes(folder) is None
