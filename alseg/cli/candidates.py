"""The checkpoints of a folder or of a run, in the order of their training."""

import re
from pathlib import Path
from typing import NamedTuple

from alseg.core.errors import UserError, unknown_name
from alseg.inference.trained import Checkpoint, read_checkpoint


class Candidate(NamedTuple):
    """A checkpoint to be measured."""

    name: str
    """Path below the folder that was given."""
    path: Path
    at: int
    """Batches trained on, or the round in a run folder."""


def find_checkpoints(
    folder: Path, stage: str | None = None
) -> tuple[str, list[Candidate], Checkpoint]:
    """Checkpoints in the order of their training.

    Args:
        folder: A folder of .ckpt files, or a run folder.
        stage: Of a run folder: which one, if there are several.

    Returns:
        ``step`` or ``round``, what they are ordered by; the checkpoints; what the first one says.
        All know the same classes and read masks alike.

    Raises:
        UserError: If there are none, or they belong to different class tables.
    """
    if not folder.is_dir():
        raise UserError(
            f"checkpoints={folder} is not a folder; give the folder of the checkpoints."
        )
    files = sorted(folder.glob("*.ckpt"))
    found: list[tuple[Candidate, Checkpoint]] = []
    for path in files:
        read = read_checkpoint(path)
        found.append((Candidate(path.name, path, _step(read)), read))
    for number, path in [] if files else _of_rounds(folder, stage):
        name = path.relative_to(folder).as_posix()
        found.append((Candidate(name, path, number), read_checkpoint(path)))
    if not found:
        deeper = sorted(folder.rglob("*.ckpt"))
        hint = f", such as {deeper[0].parent}" if deeper else ""
        raise UserError(
            f"{folder} holds no .ckpt file and is no run folder; give one that does{hint}."
        )
    if files and stage is not None:
        raise UserError(f"stage={stage} is for run folders; leave it out for {folder}.")
    found.sort(key=lambda pair: (pair[0].at, pair[0].name))
    first = found[0][1]
    for _, read in found:
        if (read.num_classes, read.class_names) != (first.num_classes, first.class_names):
            raise UserError(
                f"{read.path} knows {read.num_classes} classes "
                f"({', '.join(read.class_names) or 'without names'}), {first.path} "
                f"{first.num_classes} ({', '.join(first.class_names) or 'without names'}); "
                f"measure checkpoints of one data set at a time."
            )
        if (read.masks and read.masks.digest()) != (first.masks and first.masks.digest()):
            raise UserError(
                f"{read.path} and {first.path} were trained with masks that are read in different "
                f"ways; measure checkpoints of one data set at a time."
            )
    unit = "step" if files else "round"
    return unit, [candidate for candidate, _ in found], first


def _step(read: Checkpoint) -> int:
    if read.batches is not None:
        return read.batches
    if number := re.search(r"(\d+)$", read.path.stem):
        return int(number[1])
    raise UserError(
        f"{read.path} does not say how long it was trained; let its name end in the number of "
        f"steps, such as step_000100.ckpt, or take it out of the folder."
    )


def _of_rounds(folder: Path, stage: str | None) -> list[tuple[int, Path]]:
    """Round and checkpoint of every round of a run that has one."""
    stages: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob("round_*/*/*.ckpt")):  # best before last
        number = path.parts[-3].removeprefix("round_")
        if number.isdecimal() and path.stem in ("best", "last"):
            stages.setdefault(path.parts[-2], {}).setdefault(int(number), path)
    if stage is None and len(stages) > 1:
        raise UserError(
            f"the rounds of {folder} have several stages; give stage={' or stage='.join(stages)}."
        )
    if stage is not None and stage not in stages:
        raise unknown_name("stage", stage, stages)
    return list(stages[stage or next(iter(stages))].items()) if stages else []
