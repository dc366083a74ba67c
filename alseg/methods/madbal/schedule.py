"""Learning rate of phase I as the paper's code has it.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

from alseg.nn.schedules import poly_lr


def phase_one_lr(step: int, epochs: int, epoch_steps: int, base: float) -> float:
    """Learning rate of phase I (F16).

    The reference counts epochs from 1: its first step has the base rate, and from the second on the
    rates are those of an epoch later. They reach 0 an epoch before the schedule ends, which is
    where the reference stops.

    Args:
        step: Optimiser steps done so far, 0-based.
        epochs: Of the schedule: one more than phase I makes.
        epoch_steps: Steps per epoch.
        base: Rate of the first step.

    >>> [round(phase_one_lr(step, 6, 7, 0.01), 6) for step in (0, 1, 35)]
    [0.01, 0.008268, 0.0]
    """
    late = epoch_steps if step > 0 else 0
    return poly_lr(step + late, epochs * epoch_steps, base)
