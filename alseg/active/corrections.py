"""Going back to a round whose answers were corrected; nothing that was bought is lost."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from alseg.active.ledger import Ledger
from alseg.labels.human import SEEN, masks_named, told_changes, waiting_answers
from alseg.labels.owned import ASIDE
from alseg.labels.tables import Answers

#: Folders of a round that its answers did not make.
_BEFORE = ("questions", "first_scoring")
#: Files of a round that its answers made; the answers themselves go last.
_MADE = ("metrics.json", "scoring.json", SEEN, "answers.npz")


def go_back(
    ledger: Ledger,
    read_again: Callable[[int], None],
    kept: Mapping[str, int],
    untaken: Callable[[Path], Answers | None] = waiting_answers,
) -> int | None:
    """Set aside everything that corrected answers decide: the round's training and later rounds.

    The answers of the round go last: after a kill at any instant what is left is a run that is
    whole up to some round and whose correction is still noticed. Where answers of later rounds have
    changed, too, they are set aside as they are now, and what was said of a round that still waits
    lies in a folder of its own.

    Args:
        ledger: Of the run folder.
        read_again: Takes the answers of a round as they are now.
        kept: What the method keeps in the run folder besides the rounds, by the round whose
            training makes it.
        untaken: Answers of the folder of a round that the run has not taken yet.

    Returns:
        The round that is read again; None if no answers have changed.

    Raises:
        UserError: If answers that have changed cannot be read.
    """
    rounds = sorted(ledger.root.glob("round_*"))
    changed = [f for f in rounds if (f / "answers.npz").exists() and told_changes(f)]
    if not changed:
        return None
    first = changed[0]
    if ledger.writes:
        later = rounds[rounds.index(first) + 1 :]
        waiting = [folder for folder in later if not (folder / "answers.npz").exists()]
        said = [(folder.name, untaken(folder)) for folder in waiting]
        for folder in changed[1:]:
            read_again(_number(folder))
        for name, answers in said:
            if answers is not None and len(answers):
                answers.save(_next_folder(ledger.root / ASIDE) / name / "answers.npz")
        aside = _next_folder(ledger.root / ASIDE)
        for name, round in kept.items():
            if (ledger.root / name).exists() and _number(first) <= round:
                os.replace(ledger.root / name, aside / name)
        for folder in reversed(later):
            os.replace(folder, aside / folder.name)
        _unmake(first, aside / f"before_{first.name}")
    return _number(first)


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("round_"))


def _next_folder(root: Path) -> Path:
    number = len(list(root.glob("*")))
    folder = root / f"{number:03d}"
    folder.mkdir(parents=True)
    return folder


def _unmake(folder: Path, target: Path) -> None:
    """Move what was made from the answers of a round to another folder."""
    target.mkdir()
    kept = {*_BEFORE, *(Path(name).parts[0] for name in masks_named(folder) if Path(name).parts)}
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in kept:
            os.replace(path, target / path.name)
    for name in _MADE:
        if (folder / name).exists():
            os.replace(folder / name, target / name)
