"""Learning rates of the two phases.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

from alseg.nn.schedules import poly_lr


def phase_one_epochs(epochs: int) -> int:
    """Passes over the images that phase I makes of those it is given: the reference's last is none.

    >>> phase_one_epochs(150)
    149
    """
    return epochs - 1


def phase_one_lr(
    step: int, epochs: int, epoch_steps: int, base: float = 0.01, as_written: bool = True
) -> float:
    """Learning rate of phase I (F16).

    As written, the reference counts epochs from 1: its first step has the base rate, and from the
    second on the rates are those of an epoch later, which end at 0 after `phase_one_epochs`.

    Args:
        step: Optimiser steps done so far, 0-based.
        epochs: Of the schedule.
        epoch_steps: Steps per epoch.
        base: Rate of the first step.
        as_written: False for the polynomial decay from the first step on.

    >>> round(phase_one_lr(1, 6, 7), 6), round(phase_one_lr(1, 6, 7, as_written=False), 6)
    (0.008268, 0.009785)
    """
    late = epoch_steps if as_written and step > 0 else 0
    return poly_lr(step + late, epochs * epoch_steps, base)


def phase_two_lr(
    step: int, epochs: int, epoch_steps: int, base: float = 0.01, as_written: bool = True
) -> float:
    """Learning rate of phase II (F16).

    As written it is constant: the reference makes its optimiser anew after the scheduler, which
    then drives the old one.

    Args:
        step: Optimiser steps done so far, 0-based.
        epochs: Of the schedule.
        epoch_steps: Steps per epoch.
        base: Rate of the first step.
        as_written: False for the polynomial decay.
    """
    return base if as_written else poly_lr(step, epochs * epoch_steps, base)
