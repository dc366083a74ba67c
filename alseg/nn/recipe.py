"""The optimiser of a fit, and the learning rate it has at each step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from alseg.core.errors import UserError, unknown_name
from alseg.nn.schedules import poly_lr, step_lr

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import nn

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
        decay_kernels_only: Weight decay leaves out what batch norms learn, biases, and depthwise
            convolutions, see `split_groups`.
        bias_factor: Learning rate of the classifier's biases, as a multiple of the rest of it.

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
    decay_kernels_only: bool = False
    bias_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise unknown_name("optimizer", self.optimizer, OPTIMIZERS)
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule", self.schedule, SCHEDULES)
        for name in ("lr", "head_factor", "bias_factor"):
            if not getattr(self, name) > 0:
                raise UserError(f"method.{name} is {getattr(self, name)}; it must be > 0.")
        for name in ("weight_decay", "floor"):
            if getattr(self, name) < 0:
                raise UserError(f"method.{name} is {getattr(self, name)}; it must be >= 0.")
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
        if self.decay_kernels_only or self.bias_factor != 1:
            groups = split_groups(network, groups, self.decay_kernels_only, self.bias_factor)
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


def split_groups(
    network: Any, groups: list[dict[str, Any]], decay_kernels_only: bool, bias_factor: float
) -> list[dict[str, Any]]:
    """Take parameters that are not decayed, or learn at another rate, out of optimiser groups.

    DeepLab's recipe (Chen et al., ECCV 2018, as used in arXiv 2303.16817): weights of depthwise
    convolutions, scales and shifts of batch norms and biases are not decayed, and the biases of the
    classifier learn twice as fast.

    Args:
        network: With its last layer as ``classifier``, if biases learn at another rate.
        groups: Its parameters, each with its ``lr``.
        decay_kernels_only: Whether these are left out of the weight decay.
        bias_factor: Of the rate of the classifier's biases.

    Returns:
        For each group that which is left of it, what of it is not decayed, and its biases of the
        classifier, as far as there are any.
    """
    spared = {id(p) for p in _spared(network)} if decay_kernels_only else set()
    last = getattr(network, "classifier", None)
    named = [] if last is None or bias_factor == 1 else last.named_parameters()
    biases = {id(p) for name, p in named if name.split(".")[-1] == "bias"}
    split: list[dict[str, Any]] = []
    for group in groups:
        own = list(group["params"])
        rest = [p for p in own if id(p) not in spared | biases]
        plain = [p for p in own if id(p) in spared - biases]
        fast = [p for p in own if id(p) in biases]
        undecayed = {"weight_decay": 0.0} if decay_kernels_only else {}
        split.append({**group, "params": rest})
        split.append({**group, **undecayed, "params": plain})
        split.append({**group, **undecayed, "params": fast, "lr": bias_factor * group["lr"]})
    return [group for group in split if group["params"]]


def _spared(network: "nn.Module") -> list[Any]:
    """Scales, shifts and biases, and the kernels of depthwise convolutions."""
    spared: list[Any] = [p for p in network.parameters() if p.ndim < 2]
    for layer in network.modules():
        groups = getattr(layer, "groups", 1)
        if groups > 1 and groups == getattr(layer, "in_channels", 0):
            spared.append(layer.weight)
    return spared
