"""The choices of every method under bfloat16 beside those in float32, from the same weights.

    python -m benchmarks.precision [METHOD ...] [--write]

Every method trains a round on the embedded scenes in float32. The next query is then chosen from
those weights three times: in float32, in a run with ``trainer.precision=bf16-mixed``, and with the
scoring pass itself under autocast to bfloat16, as it is not done. ``--write`` puts the table into
``docs/precision.md``.
"""

import argparse
import json
import logging
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from alseg.active import fits, loop
from alseg.active.driver import ask, buy, evaluate
from alseg.active.one_fit import Scored
from alseg.active.run import Run
from alseg.cli.compose import options
from alseg.cli.run import build
from alseg.labels.tables import Query
from alseg.methods import METHODS
from benchmarks.harness import machine

PAGE = Path(__file__).parents[1] / "docs" / "precision.md"
#: The table stands between these in the page.
MARKS = ("<!-- begin: python -m benchmarks.precision -->", "<!-- end -->")

WORDS = (
    "data=synthetic",
    "data.train=30",
    "data.val=10",
    "data.size=[64,96]",
    "seed=0",
    "workers=0",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
    "network.encoder=tu-test_resnet",
    "network.options={decoder_pyramid_channels:32,decoder_segmentation_channels:32,decoder_dropout:0.2}",
)
#: Superpixels of some 64 pixels, of which a round asks about a few hundred of 2900.
REGIONS = ("regions.region_size=64", "budget.amount=400", "method.steps=240")
#: Other words of single methods, and ways to ask that show what a difference is due to.
CASES = {
    "als4gan": (
        "method.classifier=tu-resnet10t",
        "method.classifier_weights=null",
        "method.discriminator_width=8",
    ),
    "equal": ("budget.amount=190",),
    "madbal": ("budget.amount=300", "method.steps=240", "method.support_steps=90"),
    "mulquery": (*REGIONS, "method.stage_two_steps=200"),
    "pixelpick": ("method.steps=240",),
    "pixelpick, method.top_share=0": ("method.top_share=0", "method.steps=240"),
}
#: Methods that score nothing.
UNSCORED = ("random", "spread", "supervised")


@dataclass(frozen=True)
class Row:
    """One method.

    Attributes:
        method: Its name.
        miou: Of the trained weights, in float32; None where the round evaluates none.
        units: Units of the query in float32.
        ours: Those that the run under bf16-mixed chose as well.
        autocast: Those that scoring under autocast chose as well.
        gap: Largest difference of the scores of units that only one of these two chose; None where
            there are none, or where the choice is no ranking by one score.
        moved: Largest change of a score by autocast, over the units both scored; None without.
        spread: Standard deviation of the scores in float32; None without.
    """

    method: str
    miou: float | None
    units: int
    ours: int
    autocast: int
    gap: float | None
    moved: float | None
    spread: float | None


@dataclass(frozen=True)
class Choice:
    """A query and what was measured for it: score by (image, unit)."""

    query: Query
    scores: dict[tuple[int, int], float]

    @property
    def asked(self) -> dict[tuple[int, int], float]:
        units = zip(self.query.image.tolist(), self.query.unit.tolist(), strict=True)
        return dict(zip(units, self.query.score.tolist(), strict=True))

    @property
    def units(self) -> set[tuple[int, int]]:
        return set(self.asked)


def made(words: Sequence[str], root: Path) -> Run:
    """A run in an empty folder."""
    return build(options(*words, f"run_dir={root}", f"cache={root.parent / 'cache'}"))


def choose(
    words: Sequence[str], root: Path, trained: Path, precision: str, autocast: bool = False
) -> Choice:
    """The second query of a run whose first round is trained elsewhere."""
    run = made(words, root)
    shutil.copytree(trained / "round_000", root / "round_000", dirs_exist_ok=True)
    for name in run.method.kept:  # made when the round was trained
        if (trained / name).is_dir():
            shutil.copytree(trained / name, root / name, dirs_exist_ok=True)
        elif (trained / name).exists():
            shutil.copyfile(trained / name, root / name)
    keywords = run.trainer
    run.trainer = lambda needs=None: {**keywords(needs or {}), "precision": precision}
    buy(run, 0)
    context = run.context(0)
    modules = fits.train(run, context)
    found: dict[tuple[int, int], float] = {}
    joined, trainer = loop.joined, fits.make_trainer

    def seen(*arguments: Any) -> dict[str, Any]:
        tables = joined(*arguments)
        for table in tables.values():
            if "score" in table:
                unit = table.get("unit", np.zeros(len(table["image"]), np.int64))
                keys = zip(table["image"].tolist(), np.asarray(unit).tolist(), strict=True)
                found.update(zip(keys, table["score"].tolist(), strict=True))
        return tables

    def halved(*arguments: Any, whole: bool = False, **settings: Any) -> Any:
        return trainer(*arguments, **settings)

    how = patch.object(fits, "make_trainer", halved) if autocast else nullcontext()
    with patch.object(loop, "joined", seen), how:
        query = ask(run, context, modules)
    assert query is not None
    return Choice(query, found)


def measure(case: str, folder: Path) -> Row:
    """Choose three times from the weights of a trained round.

    Args:
        case: A method, or a key of `CASES`.
        folder: Shared by all cases: methods that train alike share a training.
    """
    given = CASES.get(case, REGIONS)
    words = (f"method={case.partition(',')[0]}", *WORDS, *given)
    shared = isinstance(options(*words).components["method"], Scored) and given == REGIONS
    alike = "superpixels alike" if shared else f"{words[0]} alike"
    trained = folder / alike
    if not trained.exists():
        run = made(words, trained)
        buy(run, 0)
        evaluate(run, run.context(0), fits.train(run, run.context(0)))
    ways = {"whole": ("32-true",), "ours": ("bf16-mixed",), "cast": ("bf16-mixed", True)}
    chosen = [choose(words, folder / f"{case}-{n}", trained, *way) for n, way in ways.items()]
    miou = json.loads((trained / "round_000" / "metrics.json").read_text("utf-8"))["miou"]
    method = options(*words).components["method"]
    return compared(case, miou, *chosen, ranks=method.ranks or "pixelpick" in case)


def compared(
    method: str, miou: float | None, whole: Choice, ours: Choice, cast: Choice, ranks: bool
) -> Row:
    gap = moved = spread = None
    both = whole.scores.keys() & cast.scores.keys()
    if both and ranks:
        moved = max(abs(whole.scores[key] - cast.scores[key]) for key in both)
        spread = float(np.std([*whole.scores.values()]))
    if ranks:
        ones, others = whole.asked, cast.asked
        differ = [ones[key] for key in ones.keys() - others.keys()]
        differ += [others[key] for key in others.keys() - ones.keys()]
        gap = max(differ) - min(differ) if differ else None
    return Row(
        method, miou, len(whole.units), len(whole.units & ours.units),
        len(whole.units & cast.units), gap, moved, spread,
    )  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| method | mIoU of the weights | units | same in alseg | same under autocast | "
        "gap of those that differ | largest change of a score | deviation of the scores |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2g}"

    for row in rows:
        shares = " | ".join(f"{n} ({n / max(row.units, 1):.0%})" for n in (row.ours, row.autocast))
        lines.append(
            f"| {row.method} | {number(row.miou)} | {row.units} | {shares} | {number(row.gap)} | "
            f"{number(row.moved)} | {number(row.spread)} |"
        )
    return "\n".join(lines)


def written(page: str, text: str) -> str:
    """A page with a text between its marks."""
    begin, end = map(re.escape, MARKS)
    pattern = re.compile(f"(?<={begin}\n).*?(?={end})", re.DOTALL)
    return pattern.sub(lambda _: f"\n{text}\n\n", page)


def main(
    arguments: Sequence[str] | None = None, measured: Callable[[str, Path], Row] = measure
) -> None:
    """Print the table, and write it where that is asked for."""
    scored = sorted({*METHODS, *CASES} - set(UNSCORED))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"of {', '.join(scored)}")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    given = parser.parse_args(arguments)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    rows, since = [], time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="alseg-precision-") as folder:
        for case in given.methods or scored:
            rows.append(measured(case, Path(folder)))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    minutes = (time.perf_counter() - since) / 60
    words = " ".join(WORDS[:5])
    about = f"`{words}`, the rest as `alseg.run` sets it for small data; {minutes:.0f} minutes."
    text = f"{table(rows)}\n\n{about} {machine()}"
    print(f"\n{text}")
    if given.write:
        PAGE.write_text(written(PAGE.read_text("utf-8"), text), "utf-8")


if __name__ == "__main__":
    main()
