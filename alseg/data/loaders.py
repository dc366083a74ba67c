"""The loader of a fit, which reads ahead over the borders of epochs."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from alseg.data.samplers import TrainStream


class FitLoader(DataLoader[dict[str, Tensor]]):
    """Batches of a `TrainStream`, epoch by epoch, from processes that live as long as the fit.

    What comes next follows from the stream alone, so the processes go on with the next epoch while
    a checkpoint is written or the network is evaluated. An epoch that is not the next one, or
    comes after one that was left early, is begun anew.
    """

    _at = -1
    """Number of the batch that the iterator gives next."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # type: ignore[override]
        stream: Any = self.sampler
        if not isinstance(stream, TrainStream):  # somebody put another one in its place
            return super().__iter__()
        epoch = stream.place.epoch
        first = epoch * len(stream)
        behind = epoch >= stream.fit.epochs  # the iterator ends where the fit does
        if self._iterator is None or self._at != first or behind:
            self._iterator = None  # its processes end with it
            stream.first_epoch = epoch
            self._iterator = self._get_iterator()
            self._at = first
        return self._epoch(self._iterator, len(stream))

    def _epoch(
        self, iterator: Iterator[dict[str, Tensor]], length: int
    ) -> Iterator[dict[str, Tensor]]:
        for batch in islice(iterator, length):
            self._at += 1
            yield batch
