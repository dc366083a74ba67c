"""Rank 0 decides, all ranks obey."""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from alseg.core.errors import UserError

T = TypeVar("T")

#: Where launchers say which process this is, in the order in which Lightning looks.
_WORDS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


class PeerDiedError(UserError):
    """Another process of the job died."""


def on_rank_zero(decide: Callable[[], T]) -> T:
    """Let rank 0 decide and all ranks obey: its result, or its exception, reaches every rank.

    Before the processes of a distributed run have met, every process decides for itself; what
    is decided then must be a function of the configuration and the run folder alone.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return decide()
    box: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            box = [None, decide()]
        except Exception as error:  # every rank has to hear of it, or the others wait for ever
            box = [error, None]
    dist.broadcast_object_list(box, src=0)
    if box[0] is not None:
        raise box[0]
    return box[1]


def global_rank() -> int:
    """Number of this process; known from the environment before any process group exists."""
    if "lightning.fabric.utilities.rank_zero" not in sys.modules:
        # what Lightning will say, which takes seconds to import
        return int(next((os.environ[word] for word in _WORDS if word in os.environ), 0))
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0) or 0)


def is_rank_zero() -> bool:
    """Whether this process writes."""
    return global_rank() == 0
