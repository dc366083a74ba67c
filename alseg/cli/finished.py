"""Whether a run has nothing left to do, found out from its folder without torch."""

from pathlib import Path

import numpy as np

from alseg.active.ledger import Ledger
from alseg.cli.compose import Options
from alseg.core.errors import UserError
from alseg.labels.human import told_changes


def is_finished(options: Options, root: Path, rounds: int | None) -> bool:
    """Whether every round is closed and the report was written after the last one.

    Says no wherever the loop would do, tell or refuse anything, and leaves that to it. Whether the
    folder is this run's is another question, see `alseg.cli.identity.look`.

    Args:
        options: Those of the command.
        root: The run folder.
        rounds: How many the run has; None = as many as are in the folder.
    """
    part, values = options.components, options.values
    alone = part["trainer"].world() == (1, 1)  # else every process must come to the same end
    if not alone or values["query"] or values["keep_rounds"] is not None:
        return False
    if options.choices["logger"] != "csv":  # others are told of the last round
        return False
    ledger = Ledger(root, writes=False)
    if rounds is None:
        rounds = len(list(root.glob("round_*/metrics.json")))
    written = [root / name for name in ("rounds.csv", "config.yaml", "report.json", "report.html")]
    try:
        published = max(path.stat().st_mtime_ns for path in written)
        closed = [_closed(ledger, round, rounds, published) for round in range(rounds)]
    except (OSError, UserError, ValueError):
        return False
    # a pool may be used up before the last round: a query without a row ends the run
    end = closed.index(None) if None in closed else rounds
    return end > 0 and all(closed[:end])


def _closed(ledger: Ledger, round: int, rounds: int, published: int) -> bool | None:
    """Whether a round is closed and published; None if there was nothing to ask in it."""
    query, answers = ledger.query(round), ledger.answers(round)
    if query is not None and not len(query) and round:
        return None  # in round 0 everything is owned
    if query is None or answers is None or ledger.metrics(round) is None:
        return False
    if round < rounds - 1 and ledger.query(round + 1) is None:
        return False
    folder, head = ledger.round(round), query.head(len(answers))
    same = np.array_equal(head.image, answers.image) and np.array_equal(head.unit, answers.unit)
    files = [folder / name for name in ("metrics.json", "answers.npz", "pictures/index.json")]
    changed = max(path.stat().st_mtime_ns for path in files)
    return same and changed <= published and told_changes(folder) is None
