"""Learning-rate schedules as functions of the step."""


def poly_lr(step: int, total: int, base: float, power: float = 0.9, floor: float = 0.0) -> float:
    """Polynomial decay, ``max(base * (1 - step / total) ** power, floor)``.

    Args:
        step: Optimiser steps done so far, 0-based.
        total: Steps at which the decay ends; later steps keep the last value.
        base: Rate at step 0.
        power: Exponent of the decay.
        floor: Smallest rate returned.

    Returns:
        The rate to use for the step. mulquery (L5), arXiv 2309.09319, uses ``floor=1e-6``.

    >>> poly_lr(0, 100, 0.1), poly_lr(100, 100, 0.1, floor=1e-6)
    (0.1, 1e-06)
    """
    remaining = 1.0 - min(step, total) / total
    return float(max(base * remaining**power, floor))


def step_lr(step: int, base: float, every: int, factor: float = 0.1) -> float:
    """Rate that is cut after every so many steps, or epochs.

    Args:
        step: Steps done so far, 0-based.
        base: Rate of the first steps.
        every: Steps between two cuts.
        factor: What a cut multiplies the rate by.

    Returns:
        ``base * factor ** (step // every)`` (EquAL F9, arXiv 2008.01860, with epochs).

    >>> step_lr(19, 0.5, every=20), step_lr(20, 0.5, every=20)
    (0.5, 0.05)
    """
    return float(base * factor ** (step // every))
