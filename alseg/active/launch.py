"""Processes that Lightning starts, without its habit of killing rank 0 in silence."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from alseg.core.errors import UserError
from alseg.nn.interface import Segmenter
from alseg.nn.unread import unread_parameters

#: The processes this one has started, in order of their ranks, of which the first is 1.
started: list[subprocess.Popen[Any]] = []


def statuses() -> dict[int, int | None]:
    """Exit statuses of `started` by rank, negative for a signal, None while they work."""
    return {rank: process.poll() for rank, process in enumerate(started, start=1)}


class _Launcher(_SubprocessScriptLauncher):
    """Lightning's, whose thread that kills this process when another one dies sees none."""

    def _call_children_scripts(self) -> None:
        super()._call_children_scripts()
        started[:] = self.procs
        self.procs = []

    def kill(self, signum: Any) -> None:
        """Send a signal to the processes."""
        for process in started:
            process.send_signal(signum)


class WatchedDDP(DDPStrategy):
    """DDP for a job whose processes watch each other, see `alseg.cli.peers`.

    Args:
        find_unused_parameters: Search every step for parameters without a gradient, which DDP waits
            for otherwise; None = where a network of the module holds some that it never reads.
        **options: See `lightning.pytorch.strategies.DDPStrategy`.
    """

    def __init__(self, find_unused_parameters: bool | None = None, **options: Any) -> None:
        super().__init__(find_unused_parameters=find_unused_parameters, **options)

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)

    def _setup_model(self, model: nn.Module) -> DistributedDataParallel:
        if self._ddp_kwargs["find_unused_parameters"] is None:
            self._ddp_kwargs["find_unused_parameters"] = leaves_parameters_out(model)
        return super()._setup_model(model)


def leaves_parameters_out(module: nn.Module) -> bool:
    """Whether a module holds a network with learning parameters that it never reads.

    True as well where a network cannot be tried without computing.
    """
    networks = [part for part in module.modules() if isinstance(part, Segmenter)]
    try:
        return any(unread_parameters(network) for network in networks)
    except (RuntimeError, TypeError, ValueError):
        return True


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Within this, DDP's pages about parameters without a gradient are one sentence.

    Args:
        where: What is at work, e.g. ``round 1, stage train of Entropy``.

    Raises:
        UserError: If a parameter had no gradient in some step.
    """
    try:
        yield
    except RuntimeError as error:
        if "parameters that were not used in producing loss" not in str(error):
            raise
        raise UserError(
            f"{where}: some parameters had no gradient in a step, and the devices wait for them; "
            f"give trainer.strategy=ddp_find_unused_parameters_true, or let the stage say so "
            f"(its `trainer`)."
        ) from error
