"""The folder ``owned`` of a run: answers of other runs, in its own numbers.

Images, classes and regions are numbered as in this run, so that a run that is started again needs
no other folder.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alseg.active.ledger import Ledger
from alseg.core.errors import UserError
from alseg.core.files import read_json, write_atomic
from alseg.labels.pool import LabelPool
from alseg.labels.tables import Answers
from alseg.regions.base import Maps, runs_of
from alseg.regions.kept import KeptMaps, keep_map

#: Folder of a run with what it owns of other runs.
OWNED = "owned"
#: File of it with what it is, written last.
ABOUT = "owned.json"


def write_owned(
    ledger: Ledger,
    tables: Sequence[Answers],
    maps: Mapping[str, Maps],
    about: Mapping[str, Any],
) -> None:
    """Copy what is owned into a run folder; what it is, is written last.

    Args:
        ledger: Of the folder.
        tables: The answers.
        maps: Maps they are about that the run does not make itself, by version.
        about: What else `ABOUT` holds.
    """
    folder = ledger.root / OWNED
    drop_owned(ledger.root)
    counts: dict[str, dict[str, int]] = {}
    for version, other in maps.items():
        images = np.unique(np.concatenate([t.image for t in tables if t.regions == version]))
        counts[version] = {str(i): int(other.num_regions[i]) for i in images.tolist()}
        for index in images.tolist():
            keep_map(folder / version, index, runs_of(other, index), int(other.num_regions[index]))
    for number, table in enumerate(tables):
        table.save(folder / f"{number:03d}.npz")
    content = {**about, "tables": len(tables), "maps": counts}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_atomic(folder / ABOUT, text)


def drop_owned(root: Path) -> None:
    """Forget what a run folder owns."""
    (root / OWNED / ABOUT).unlink(missing_ok=True)  # first: without it there is nothing
    if (root / OWNED).exists():
        shutil.rmtree(root / OWNED)


def about_owned(root: Path) -> dict[str, Any] | None:
    """What `write_owned` wrote of it; None if a run folder owns nothing, or not yet.

    Raises:
        UserError: If the file is damaged.
    """
    path = root / OWNED / ABOUT
    if not path.exists():
        return None
    about: dict[str, Any] = read_json(path)
    fits = isinstance(about.get("tables"), int) and isinstance(about.get("maps"), dict)
    if not fits or not isinstance(about.get("account"), list):
        raise UserError(f"{path} does not say what the run owns; restore it from a copy.")
    return about


def own(root: Path, pool: LabelPool) -> None:
    """Give a pool what its run folder owns.

    Raises:
        UserError: If a file is gone or damaged.
    """
    about = about_owned(root)
    if about is None or pool.owned:
        return
    folder = root / OWNED
    for version, counts in about["maps"].items():
        known = {int(index): int(count) for index, count in counts.items()}
        if version not in pool.maps:
            pool.add_maps(KeptMaps(folder / version, version, known, pool.sizes))
    paths = [folder / f"{number:03d}.npz" for number in range(about["tables"])]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise UserError(
            f"{missing[0]}, answers that the run owns, is gone; restore it from a copy."
        )
    tables = [Answers.load(path) for path in paths]
    try:
        pool.own(tables)
    except ValueError as error:
        raise UserError(
            f"the answers in {folder} do not fit the images ({error}); restore the folder from a "
            f"copy, or give another run_dir."
        ) from error
