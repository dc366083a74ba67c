"""Time two ways of computing the same thing, side by side in one process."""

import gc
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """What was measured of one task.

    Attributes:
        task: What both ways compute, and how large it is.
        obvious: What the other way is.
        obvious_s: Median time of the obvious way in seconds, None where only ours was run.
        ours_s: Median time of our way in seconds.
        obvious_mib: Peak of resident memory above the start in MiB, None where not measurable.
        ours_mib: The same for our way.
        agreement: How closely the outputs agreed.
        repeats: Timed runs of each.
        limit: What no way can be faster than, such as the bare forward pass; "" for nothing.
        limit_s: Median time of that in seconds.
    """

    task: str
    obvious: str
    obvious_s: float | None
    ours_s: float
    obvious_mib: float | None
    ours_mib: float | None
    agreement: str
    repeats: int
    limit: str = ""
    limit_s: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster our way is."""
        return None if self.obvious_s is None else self.obvious_s / self.ours_s

    @property
    def above_limit(self) -> float | None:
        """How many times the limit our way takes."""
        return None if self.limit_s is None else self.ours_s / self.limit_s


def compare(
    task: str,
    obvious_name: str,
    obvious: Callable[[], Any],
    ours: Callable[[], Any],
    agree: Callable[[Any, Any], str],
    repeats: int = 7,
    limit: tuple[str, Callable[[], Any]] | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Comparison:
    """Run both ways in turn and compare their times, their peak memory and their outputs.

    The first run of each is not timed, unless it is the only one: it warms up, gives the outputs
    and the memory. The timed runs alternate, and swap who goes first, so that a busy machine slows
    both alike.

    Args:
        task: What both ways compute, and how large it is.
        obvious_name: What the obvious way is.
        obvious: The obvious way.
        ours: Our way.
        agree: Called with both outputs; raises AssertionError if they differ by more than it
            allows, else says in a few words how they agree.
        repeats: Timed runs of each; 0 for what takes minutes: the first run is timed.
        limit: What no way can be faster than, timed in the same turns: its name, and itself.
        clock: Of the wall, or `time.process_time` for that of the processor, on which other
            programs do not count and all threads of this one add up.
    """
    times: dict[Callable[[], Any], list[float]] = {obvious: [], ours: []}
    start = clock()
    expected, obvious_mib = peak(obvious)
    middle = clock()
    got, ours_mib = peak(ours)
    if not repeats:
        times = {obvious: [middle - start], ours: [clock() - middle]}
    agreement = agree(expected, got)
    del expected, got
    gc.collect()
    gc.freeze()  # a collection then looks at what came since, not at all that was imported
    ways = [obvious, ours]
    if limit is not None:
        times[limit[1]] = []
        ways.append(limit[1])
        if repeats:
            limit[1]()
    for turn in range(repeats):
        for way in ways if turn % 2 == 0 else ways[::-1]:
            gc.collect()
            start = clock()
            result = way()
            times[way].append(clock() - start)
            del result  # freed before the other way starts, and outside its time
    gc.unfreeze()
    return Comparison(
        task=task,
        obvious=obvious_name,
        obvious_s=median(times[obvious]),
        ours_s=median(times[ours]),
        obvious_mib=obvious_mib,
        ours_mib=ours_mib,
        agreement=agreement,
        repeats=max(1, repeats),
        limit="" if limit is None else limit[0],
        limit_s=None if limit is None or not repeats else median(times[limit[1]]),
    )


def alone(task: str, obvious_name: str, ours: Callable[[], Any], repeats: int = 3) -> Comparison:
    """Run our way only, at a size that the obvious way does not reach.

    Args:
        task: What it computes, and how large it is.
        obvious_name: What the obvious way is, and why it was not run.
        ours: Our way. Its first run is not timed: it warms up and gives the memory.
        repeats: Timed runs.
    """
    _, ours_mib = peak(ours)
    times = []
    for _ in range(repeats):
        gc.collect()
        start = perf_counter()
        ours()
        times.append(perf_counter() - start)
    return Comparison(
        task=task,
        obvious=obvious_name,
        obvious_s=None,
        ours_s=median(times),
        obvious_mib=None,
        ours_mib=ours_mib,
        agreement="not compared",
        repeats=repeats,
    )


def equal(expected: Any, got: Any) -> str:
    """Demand equal arrays (or equal tuples of arrays)."""
    for a, b in _pairs(expected, got):
        np.testing.assert_array_equal(a, b)
    return "equal"


def within(tolerance: float) -> Callable[[Any, Any], str]:
    """Demand that no number of the arrays (or tuples of them) differs by more than a tolerance."""

    def agree(expected: Any, got: Any) -> str:
        worst = 0.0
        for a, b in _pairs(expected, got):
            assert a.shape == b.shape, f"shapes {a.shape} and {b.shape}"
            gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
            assert np.isfinite(gap).all(), "not finite"
            worst = max(worst, float(gap.max(initial=0)))
        assert worst <= tolerance, f"outputs differ by {worst:.1e}, more than {tolerance:.0e}"
        return f"max diff {worst:.1e} (allowed {tolerance:.0e})"

    return agree


#: What was measured so far, by every benchmark of this process.
MEASURED: list[Comparison] = []


def table(rows: Iterable[Comparison]) -> str:
    """The measurements as a Markdown table; they are kept in `MEASURED`."""
    rows = list(rows)
    MEASURED.extend(row for row in rows if row not in MEASURED)
    lines = [
        "| task | obvious way | obvious | alseg | faster | limit | alseg / limit | peak memory "
        "| outputs | runs |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | ---: | --- | ---: |",
    ]
    for row in rows:
        memory = f"{_mib(row.obvious_mib)} / {_mib(row.ours_mib)}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.1f}x"
        limit = "-" if row.limit_s is None else f"{row.limit}, {_seconds(row.limit_s)}"
        above = "-" if row.above_limit is None else f"{row.above_limit:.2f}x"
        lines.append(
            f"| {row.task} | {row.obvious} | {_seconds(row.obvious_s)} | {_seconds(row.ours_s)} "
            f"| {ratio} | {limit} | {above} | {memory} | {row.agreement} | {row.repeats} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """What the numbers were measured on."""
    import torch

    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}. "
        "Times are medians; memory is the peak above the start, obvious way / alseg."
    )


def _pairs(expected: Any, got: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    left, right = (x if isinstance(x, tuple) else (x,) for x in (expected, got))
    return [(np.asarray(a), np.asarray(b)) for a, b in zip(left, right, strict=True)]


def peak(way: Callable[[], Any]) -> tuple[Any, float | None]:
    """Run once and read from Linux how far resident memory rose above the start, in MiB."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    except OSError:
        return way(), None
    start = _resident("VmRSS")
    result = way()
    return result, (_resident("VmHWM") - start) / 1024


def _resident(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return next(
        float(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:")
    )


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.01 else f"{seconds * 1e3:.0f} ms"


def _mib(mib: float | None) -> str:
    return "-" if mib is None else f"{mib:.0f} MiB"
