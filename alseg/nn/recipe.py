"""The optimiser of a fit, and the learning rate it has at each step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from alseg.core.errors import UserError, unknown_name
from alseg.nn.schedules import poly_lr, step_lr

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("poly", "step", "constant")


class Grouped(Protocol):
    """Whatever has parameters, such as `alseg.nn.segmenter.Segmenter`."""

    def parameter_groups(self, lr: float, head_factor: float) -> list[dict[str, Any]]:
        """Optimiser groups: what was learnt before at ``lr``, the rest at ``head_factor`` x."""
        ...


@dataclass(frozen=True)
class Recipe:
    """Optimiser and schedule of one fit.

    Attributes:
        lr: Learning rate of the encoder at step 0.
        head_factor: Learning rate of decoder and classifier, as a multiple of `lr`.
        optimizer: ``adamw`` (weight decay apart from the gradient), ``adam`` or ``sgd`` with
            momentum 0.9 (both with the decay added to the gradient).
        weight_decay: Of the optimiser.
        schedule: ``poly`` falls to `floor` at the last step with exponent 0.9; ``step`` multiplies
            the rate by 0.1 every `drop_every` steps; ``constant``.
        drop_every: Steps between two drops.
        floor: Smallest rate of ``poly``.

    Raises:
        UserError: For an unknown name, a rate that is not positive, or drops without a distance.
    """

    lr: float
    head_factor: float = 10.0
    optimizer: str = "adamw"
    weight_decay: float = 1e-5
    schedule: str = "poly"
    drop_every: int | None = None
    floor: float = 1e-6

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        for name in ("lr", "head_factor"):
            if not getattr(self, name) > 0:
                raise UserError(f"method.{name} is {getattr(self, name)}; it must be > 0.")
        if self.weight_decay < 0:
            raise UserError(f"method.weight_decay is {self.weight_decay}; it must be >= 0.")
        if self.schedule == "step" and not (self.drop_every and self.drop_every > 0):
            raise UserError(
                "method.schedule=step lowers the learning rate every method.drop_every steps; "
                "give that number."
            )

    def rate(self, step: int, total: int, base: float) -> float:
        """Learning rate of a step.

        Args:
            step: Optimiser steps done so far, 0-based.
            total: Steps of the fit.
            base: Rate at step 0.
        """
        if self.schedule == "poly":
            return poly_lr(step, total, base, floor=self.floor)
        if self.schedule == "step" and self.drop_every:
            return step_lr(step, base, every=self.drop_every)
        return base

    def build(
        self,
        network: Grouped,
        total: int,
        rate: Callable[[int, float], float] | None = None,
    ) -> dict[str, Any]:
        """What ``configure_optimizers`` of a Lightning module returns.

        Args:
            network: Encoder and head get rates of their own.
            total: Steps of the fit.
            rate: A schedule of the method's own, from the steps done and the rate at step 0.
        """
        import torch

        groups = network.parameter_groups(self.lr, self.head_factor)
        shared: dict[str, Any] = {"lr": self.lr, "weight_decay": self.weight_decay}
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, momentum=0.9, **shared)
        else:
            kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
            optimizer = kinds[self.optimizer](groups, **shared)

        def factor(base: float) -> Any:
            if rate is not None:
                return lambda step: rate(step, base) / base
            return lambda step: self.rate(step, total, base) / base

        factors = [factor(float(group["lr"])) for group in groups]
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
