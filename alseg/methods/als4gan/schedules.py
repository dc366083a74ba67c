"""Learning rates. The discriminator's (E20) is `alseg.nn.schedules.poly_lr`."""

from alseg.nn.schedules import poly_lr


def stepped_poly_lr(
    iteration: int, base: float, total: int = 20_000, every: int = 10, power: float = 0.9
) -> float:
    """Polynomial decay of the generator, renewed every few iterations (E19 of ALS4GAN).

    After an iteration ``i > 0`` that `every` divides, the rate becomes that of ``i``; nothing
    changes after `total`.

    Args:
        iteration: 0-based.
        base: Rate at iteration 0.
        total: Iterations at which the decay ends. The reference has 20000 however long it trains.
        every: Iterations between two changes.
        power: Exponent of the decay.

    Returns:
        The rate to use for the iteration (arXiv 2110.07782, as its reference implementation).

    >>> [stepped_poly_lr(i, 1.0, total=40, power=1.0) for i in (0, 10, 11, 20, 21, 41, 99)]
    [1.0, 1.0, 0.75, 0.75, 0.5, 0.0, 0.0]
    """
    changed = min(max(iteration - 1, 0), total) // every * every
    return poly_lr(changed, total, base, power)
