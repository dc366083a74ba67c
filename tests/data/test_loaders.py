import os

import pytest
import torch
from torch.utils.data import Dataset

from alseg.active.stage import Fit
from alseg.data.loaders import FitLoader
from alseg.data.samplers import OnePlace, TrainStream, batches

FIT = Fit(steps=12, batch_size=2, epoch_steps=4)


class Echo(Dataset):
    """Says which items it was asked for, and in which process."""

    def __getitem__(self, items):
        return {"items": torch.tensor(items), "process": torch.tensor(os.getpid())}


class At:
    """A process at an epoch that is told."""

    rank, world, epoch = 0, 1, 0


def loader(place, workers, fit=FIT):
    stream = TrainStream(5, fit, (0, "s"), place)
    return FitLoader(Echo(), batch_size=None, sampler=stream, num_workers=workers)


def epoch_of(loader):
    return [[tuple(item) for item in batch["items"].tolist()] for batch in loader]


def expected(epoch, fit=FIT):
    first = epoch * fit.epoch_batches
    return list(batches(5, 2, range(first, first + fit.epoch_batches), (0, "s")))


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_are_those_of_the_stream(workers):
    found = loader(OnePlace(), workers)
    assert len(found) == 4
    # beyond the end of the fit, too, where nobody reads ahead
    assert [epoch_of(found) for _ in range(4)] == [expected(epoch) for epoch in range(4)]


def test_processes_live_as_long_as_the_fit():
    found = loader(OnePlace(), 1)
    processes = {int(batch["process"]) for _ in range(3) for batch in found}
    assert len(processes) == 1
    assert os.getpid() not in processes


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_that_is_not_the_next_is_begun_anew(workers):
    place = At()
    found = loader(place, workers)
    assert epoch_of(found) == expected(0)
    place.epoch = 2
    assert epoch_of(found) == expected(2)
    place.epoch = 1
    for _ in zip(found, range(2), strict=False):  # left early
        pass
    place.epoch = 2
    assert epoch_of(found) == expected(2)


def test_a_resumed_fit_begins_at_its_epoch():
    place = At()
    place.epoch = 2
    assert epoch_of(loader(place, 0)) == expected(2)
