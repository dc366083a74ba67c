"""Tables of a pass of which the newest may be promised: the host makes it beside the next batch.

A ``predict_step`` may return a `concurrent.futures.Future` of its tables in place of the tables.
Work that needs no device, such as merging regions, then leaves no device idle.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, Future
from typing import Any

from torch import Tensor

from alseg.active.shards import ShardWriter
from alseg.active.transfer import on_host
from alseg.core.errors import PeerDiedError

Tables = Mapping[str, Mapping[str, Tensor]]


class TableQueue:
    """Appends the tables of a pass in the order of its batches, however late they are made.

    One batch is promised at a time: the next is appended only once that one is on disk. So memory
    holds two batches at most, and what is wrong with one is raised no later than the next batch
    ends. Nothing is promised to other processes, so none of them waits.

    Args:
        shard: Takes the tables.
        read: The tables by name, from what was promised; raises `UserError` for anything else.
    """

    def __init__(self, shard: ShardWriter, read: Callable[[Any], Tables]) -> None:
        self._shard = shard
        self._read = read
        self._promise: Future[Any] | None = None
        self._beside: Tables = {}

    def append(self, tables: "Tables | Future[Any]", beside: Tables) -> None:
        """Append the tables of one batch once those before are on disk.

        Args:
            tables: By name, then by column, or the promise of them.
            beside: Tables of the batch that are known at once, with names of their own, or such as
                those in `tables` take the place of.

        Raises:
            ValueError: See `ShardWriter.append`, also for a batch before.
            PeerDiedError: If a process that worked on a batch died.
            Exception: Whatever ended the work on a batch before.
        """
        self.settle()
        if isinstance(tables, Future):
            self._promise, self._beside = tables, on_host(beside)
        else:
            self._shard.append({**beside, **tables})

    def look(self) -> None:
        """Append what was promised if it is finished, so that an error is heard at once."""
        if self._promise is not None and self._promise.done():
            self.settle()

    def settle(self) -> None:
        """Wait for what was promised, and append it; raises what `append` does."""
        promise, self._promise = self._promise, None
        if promise is None:
            return
        try:
            tables = self._read(promise.result())
        except BrokenExecutor as error:
            raise PeerDiedError(
                "a process that worked on a scoring batch died, as where memory runs out; give the "
                "command again, with smaller batches or fewer jobs beside: the pass begins anew, "
                "and all that was bought stays."
            ) from error
        self._shard.append({**self._beside, **tables})

    def drop(self) -> None:
        """Forget what was promised."""
        if self._promise is not None:
            self._promise.cancel()
            self._promise = None

    def close(self) -> None:
        """Append what was promised, and finish the files."""
        self.settle()
        self._shard.close()
