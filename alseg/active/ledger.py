"""The run folder: append-only, and the only truth about a run."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.active.contents import WORDS, Contents, refuse_changes
from alseg.core.errors import UserError
from alseg.core.files import read_json, write_atomic
from alseg.labels.tables import Answers, Query, load_arrays

#: File of a run folder with a digest of every image and mask.
CONTENTS = "images.json"


class Ledger:
    """Reads and writes the files of a run. Every file is whole or absent.

    Args:
        root: The run folder.
        writes: Whether this process writes; in a distributed run rank 0 alone does.
    """

    def __init__(self, root: Path, writes: bool = True) -> None:
        self.root = Path(root)
        self.writes = writes

    def round(self, round: int) -> Path:
        """Folder of a round."""
        return self.root / f"round_{round:03d}"

    def stage(self, round: int, stage: str) -> Path:
        """Folder of a stage."""
        return self.round(round) / stage

    def query(self, round: int) -> Query | None:
        """The query of a round, or None if it has not been chosen."""
        path = self.round(round) / "query.npz"
        return Query.load(path) if path.exists() else None

    def answers(self, round: int) -> Answers | None:
        """The answers of a round, or None if they have not been bought."""
        path = self.round(round) / "answers.npz"
        return Answers.load(path) if path.exists() else None

    def metrics(self, round: int) -> dict[str, Any] | None:
        """What was measured in a round, or None if it has not been evaluated."""
        path = self.round(round) / "metrics.json"
        found = self.read_json(path)
        if found is None:
            return None
        iou, stages = found.get("iou"), found.get("stages")
        measures = found.get("measures", {})  # earlier releases wrote none
        fits = (
            isinstance(iou, list)
            and isinstance(stages, dict)
            and isinstance(measures, dict)
            and _numbers(found.get("miou"), found.get("train_s"), *iou, *stages.values())
            and _numbers(*measures.values())
        )
        if not fits:
            raise UserError(
                f"{path} does not hold what a round measured; restore it from a copy, or delete "
                f"it: it is then made again."
            )
        return found

    def times(self, round: int) -> dict[str, float]:
        """Seconds that the choice after a round took, by name; empty if it is not known."""
        path = self.round(round) / "scoring.json"
        found = self.read_json(path) or {}
        if not _numbers(*found.values()):
            raise UserError(
                f"{path} holds something else than seconds; restore it from a copy, or delete it."
            )
        return found

    def scores(self, round: int) -> dict[str, dict[str, NDArray[Any]]] | None:
        """The tables the query of a round was chosen from, if its method keeps them.

        Raises:
            UserError: If the file is damaged.
        """
        path = self.round(round) / "scores.npz"
        if not path.exists():
            return None
        tables: dict[str, dict[str, NDArray[Any]]] = {}
        for name, values in load_arrays(path).items():
            table, _, column = name.partition("/")
            tables.setdefault(table, {})[column] = values
        return tables

    def write_scores(self, round: int, tables: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        """Record the tables a query is chosen from."""
        if not self.writes:
            return
        buffer = io.BytesIO()
        columns: dict[str, Any] = {
            f"{name}/{column}": np.asarray(values)
            for name, table in tables.items()
            for column, values in table.items()
        }
        np.savez_compressed(buffer, **columns)
        write_atomic(self.round(round) / "scores.npz", buffer.getvalue())

    def write_query(self, query: Query) -> None:
        """Record what is asked."""
        if self.writes:
            query.save(self.round(query.round) / "query.npz")

    def write_answers(self, answers: Answers) -> None:
        """Record what was answered."""
        if self.writes:
            answers.save(self.round(answers.round) / "answers.npz")

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Record measurements."""
        if self.writes:
            write_atomic(path, json.dumps(content, indent=1) + "\n")

    def read_json(self, path: Path) -> dict[str, Any] | None:
        """Read what `write_json` wrote, None if it is not there.

        Raises:
            UserError: If the file is damaged.
        """
        if not path.exists():
            return None
        mend = "restore it from a copy"
        if path.parent != self.root:  # made again from what the round has trained
            mend += ", or delete it: it is then made again"
        content: dict[str, Any] = read_json(path, mend=mend)
        return content

    def write_rounds(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write ``rounds.csv``; columns in the order of their first appearance."""
        if not self.writes or not rows:
            return
        columns = list(dict.fromkeys(name for row in rows for name in row))
        # per-class columns last, whatever the rounds before them measured
        columns.sort(key=lambda name: name.startswith("iou_"))
        buffer = io.StringIO()
        table = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({name: _cell(value) for name, value in row.items()})
        write_atomic(self.root / "rounds.csv", buffer.getvalue())

    def check_contents(self, contents: Contents) -> None:
        """Check that images and masks are those the run began with.

        Raises:
            UserError: Naming those that changed, were added or are gone.
        """
        stored = self.read_json(self.root / CONTENTS)
        if stored is not None and any(self.root.glob("round_*/answers.*")):
            refuse_changes(str(self.root), stored, contents)

    def claim_contents(self, contents: Contents) -> None:
        """Remember the images and masks of this run, see `check_contents`."""
        self.check_contents(contents)
        if self.writes and self.read_json(self.root / CONTENTS) != contents:
            write_atomic(self.root / CONTENTS, json.dumps(contents, ensure_ascii=False) + "\n")

    def check_owner(
        self, identity: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> None:
        """Check that the folder is free, or belongs to this configuration.

        Until something is bought, or answered by hand, a folder belongs to nobody.

        Args:
            identity: What decides the run's result, flat, with JSON values.
            defaults: Values of options that the folder of an older release may not know.

        Raises:
            UserError: Naming what differs.
        """
        stored = self.read_json(self.root / "run.json")
        if not any(self.root.glob("round_*/answers.*")):
            return
        if stored is None:
            raise UserError(
                f"{self.root} holds answers but no run.json; give another run_dir, or restore the "
                f"file."
            )
        now = json.loads(json.dumps(identity))
        unsaid = json.loads(json.dumps(dict(defaults or {})))
        entries = {  # of dictionaries
            name
            for name in stored
            if name.count(".") > 1 or unsaid.get(name.partition(".")[0]) == {}
        }
        for name in unsaid:
            if any(entry.startswith(f"{name}.") for entry in entries):
                unsaid[name] = "absent"  # the option is there, with other entries
        differing = [
            f"other {WORDS[name]}"
            if name in WORDS
            else f"{name}: {stored.get(name, unsaid.get(name, 'absent'))!r} there, "
            f"{now.get(name, 'absent')!r} now"
            for name in sorted({*now, *entries})
            if stored.get(name, unsaid.get(name, "absent")) != now.get(name, "absent")
        ]
        if differing:
            shown = "; ".join(differing[:6]) + ("; ..." if len(differing) > 6 else "")
            raise UserError(
                f"{self.root} belongs to a run with another configuration ({shown}); give another "
                f"run_dir, or the configuration the run was started with."
            )

    def claim(
        self,
        identity: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        """Make the folder this run's own, see `check_owner`.

        Args:
            identity: See `check_owner`.
            defaults: See `check_owner`.
            forget: Is called where the folder was another configuration's.
        """
        self.check_owner(identity, defaults)
        path = self.root / "run.json"
        if self.writes and self.read_json(path) != json.loads(json.dumps(identity)):
            if not any(self.root.glob("round_*/answers.*")):
                for stale in self.root.glob("round_*/query.npz"):
                    stale.unlink()  # chosen under another configuration, and never answered
                forget()
            self.write_json(path, identity)

    def is_claimed(self, identity: Mapping[str, Any], contents: Contents) -> bool:
        """Whether the folder is this very run's already, with these images and masks."""
        same = self.read_json(self.root / "run.json") == json.loads(json.dumps(identity))
        return same and self.read_json(self.root / CONTENTS) == contents


def _numbers(*values: Any) -> bool:
    """Whether all are numbers, or null."""
    return all(v is None or (isinstance(v, int | float) and abs(v) < 1e300) for v in values)


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return int(value) if value.is_integer() else f"{value:.6g}"
