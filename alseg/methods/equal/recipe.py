"""Adam as EquAL uses it: constant through the rounds, in steps in the final training."""

from typing import Protocol

from alseg.nn.recipe import Recipe


class Options(Protocol):
    """The options of `alseg.methods.equal.method.Equal` that the recipe depends on."""

    @property
    def lr(self) -> float:
        """Learning rate."""
        ...

    @property
    def weight_decay(self) -> float:
        """Weight decay."""
        ...

    @property
    def final_drop(self) -> int:
        """Passes after which the final training lowers its learning rate tenfold."""
        ...


def recipe(options: Options, final: bool, batches: int) -> Recipe:
    """Optimiser and schedule of a round, or of the final training.

    Args:
        options: Of the method.
        final: Whether it is the final training.
        batches: Batches of one pass.
    """
    return Recipe(
        lr=options.lr,
        head_factor=1.0,
        optimizer="adam",
        weight_decay=options.weight_decay,
        schedule="step" if final else "constant",
        drop_every=options.final_drop * batches if final else None,
    )
