"""Feeds inputs to a door and writes down what became of each."""

import gc
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from alseg.cli.faults import sentence_of
from alseg.core.errors import UserError
from benchmarks.harness import peak
from tests.fuzz.doors import Door
from tests.fuzz.inputs import SENTINEL

#: Seconds of the processor after which an input counts as unanswered.
LIMIT = 5
#: Seconds after which it counts as waiting for ever, also on a busy machine.
PATIENCE = 30


class TooSlowError(BaseException):
    """An input took too long; no handler of errors may take it for one of its own."""


@dataclass
class Outcome:
    """What became of the inputs of a door.

    Attributes:
        name: Of the door.
        refused: Inputs answered by a sentence.
        taken: Inputs that were in order.
        unanswered: The others: what was given, and how it ended.
        slowest: Seconds of the processor that the slowest input took.
        peak_mib: How far memory rose above what it was before the door, in MiB.
    """

    name: str
    refused: int = 0
    taken: int = 0
    unanswered: list[str] = field(default_factory=list)
    slowest: float = 0.0
    peak_mib: float = 0.0

    @property
    def inputs(self) -> int:
        return self.refused + self.taken + len(self.unanswered)


@contextmanager
def limited() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TooSlowError

    clocks = {
        signal.SIGALRM: (signal.ITIMER_REAL, PATIENCE),
        signal.SIGPROF: (signal.ITIMER_PROF, LIMIT),
    }
    before = {number: signal.signal(number, ring) for number in clocks}
    for clock, seconds in clocks.values():
        signal.setitimer(clock, seconds)
    try:
        yield
    finally:
        for number, (clock, _) in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, before[number])


def attempt(door: Door, given: Any, folder: Path, outcome: Outcome) -> None:
    """One input."""
    folder.mkdir()
    since, ending = time.process_time(), None
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            door.enter(folder, given)
        outcome.taken += 1
    except UserError as error:
        sentence = str(error).strip()
        outcome.refused += 1
        if not sentence or len(sentence) > 20_000:
            outcome.refused -= 1
            ending = f"a sentence of {len(sentence)} characters"
    except OSError as error:
        if sentence_of(error) is not None:  # the commands make a sentence of it
            outcome.refused += 1
        else:
            ending = repr(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        ending = f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    outcome.slowest = max(outcome.slowest, time.process_time() - since)
    if SENTINEL.exists():
        SENTINEL.unlink()
        ending = "code of the input was executed"
    if ending is not None:
        outcome.unanswered.append(f"{_said(given)} -> {ending}")


def _said(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 160 else f"{text[:100]}...{text[-40:]} ({len(text)} characters)"


def enter(door: Door, count: int, start: int = 0, crafted: int | None = None) -> Outcome:
    """Give a door its crafted inputs, and others at random.

    Args:
        door: The door.
        count: Inputs at random.
        start: Seed of these.
        crafted: Crafted inputs, spread over the list; None for all.
    """
    outcome = Outcome(door.name)
    root = Path(tempfile.mkdtemp(prefix="alseg-fuzz-"))
    os.environ["ALSEG_FUZZ"] = str(root)

    @seed(start)
    @settings(
        max_examples=max(1, count),
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(door.given)
    def at_random(one: Any) -> None:
        attempt(door, one, root / "here", outcome)

    def all_of_them() -> None:
        step = 1 if crafted is None else -(-len(door.crafted) // crafted)
        for one in door.crafted[::step]:
            attempt(door, one, root / "here", outcome)
        if count:
            at_random()

    try:
        gc.collect()
        _, outcome.peak_mib = peak(all_of_them)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown."""
    lines = [
        "| what | inputs | answered by a sentence | in order | unanswered | slowest (processor) | "
        "peak memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    total = Outcome(
        "all",
        sum(one.refused for one in outcomes),
        sum(one.taken for one in outcomes),
        [text for one in outcomes for text in one.unanswered],
        max(one.slowest for one in outcomes),
        max(one.peak_mib or 0.0 for one in outcomes),
    )
    for one in (*outcomes, total):
        lines.append(
            f"| {one.name} | {one.inputs} | {one.refused} | {one.taken} | {len(one.unanswered)} | "
            f"{one.slowest:.2f} s | {one.peak_mib or 0:.0f} MiB |"
        )
    return "\n".join(lines)
