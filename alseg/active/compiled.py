"""``trainer.compile``: what learns is compiled by ``torch.compile`` while it is trained."""

import logging
from typing import Any

import lightning as L
import torch
from torch import nn

from alseg.core.errors import UserError
from alseg.nn.interface import Segmenter

log = logging.getLogger(__name__)


def trained_parts(module: nn.Module) -> list[nn.Module]:
    """The networks of a module that learn: segmenters, and the outermost parts that learn whole.

    What is frozen is left as it is, such as the network that MADBAL's support modules look into.

    >>> both = nn.ModuleDict({"frozen": nn.Linear(1, 1).requires_grad_(False), "head": nn.ReLU()})
    >>> both["head"] = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    >>> trained_parts(both) == [both["head"]]
    True
    """
    parts = []
    for part in module.children():
        learns = [parameter.requires_grad for parameter in part.parameters()]
        # a segmenter may keep its batch norms as they are
        if any(learns) and (all(learns) or isinstance(part, Segmenter)):
            parts.append(part)
        elif any(learns):
            parts += trained_parts(part)
    return parts


class Compiled(L.Callback):
    """Compiles the forward and backward pass of what a fit trains, and takes it back afterwards.

    Weights, their names and checkpoints are those of the plain network; whatever evaluates, scores
    or predicts, also between two epochs, runs the plain code.

    Every size of a batch is compiled by itself, and every fit begins without what another one left:
    what a step computes follows from the step, and a fit that was cut off goes on with the same
    code.
    """

    def __init__(self) -> None:
        self._forward: list[tuple[nn.Module, Any]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compile; the first batch of each size is when it is done."""
        torch.compiler.reset()
        self._forward = [
            (part, torch.compile(part.forward, dynamic=False)) for part in trained_parts(pl_module)
        ]

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Train by the compiled code."""
        for part, forward in self._forward:
            setattr(part, "forward", forward)  # noqa: B010 - an attribute in front of the method

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What follows is no training."""
        self._take()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate by the plain code."""
        self._take()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget it."""
        self._take()
        self._forward = []

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Forget it."""
        self.on_train_end(trainer, pl_module)

    def _take(self) -> None:
        for part, _ in self._forward:
            part.__dict__.pop("forward", None)


def require_compiler(device: str) -> None:
    """Find out whether anything can be compiled here.

    Args:
        device: ``cpu``, ``cuda`` and so on.

    Raises:
        UserError: With the compiler's own reason.
    """
    log.info("trying torch.compile")
    try:
        torch.compile(lambda numbers: (numbers * numbers).sin())(torch.ones(8, device=device))
    except Exception as error:  # the compiler's and those of what it calls
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise UserError(
            f"trainer.compile=true, but torch.compile fails on this machine ({device}: {reason}); "
            f"it needs a C++ compiler such as g++ (CXX names one), on a GPU also Triton. Install "
            f"it, or leave trainer.compile out."
        ) from error
