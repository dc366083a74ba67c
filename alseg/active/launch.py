"""Processes that Lightning starts, without its habit of killing rank 0 in silence."""

import subprocess
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

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
    """DDP for a job whose processes watch each other, see `alseg.cli.peers`."""

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = _Launcher(self.cluster_environment, self.num_processes, self.num_nodes)
