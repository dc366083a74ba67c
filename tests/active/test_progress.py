"""Lines about stages and passes."""

import logging
from types import SimpleNamespace

import pytest
import torch

from alseg.active import progress
from alseg.active.progress import Lines
from alseg.core.progress import LINES


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand: ``clock.now``."""
    hand = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: hand.now)
    return hand


def trainer(**values):
    """As much of a trainer as the lines read."""
    whole = {"current_epoch": 0, "max_epochs": 4, "num_training_batches": 10}
    return SimpleNamespace(**{**whole, "callback_metrics": {}, **values})


def test_a_line_every_half_minute_tells_step_loss_rate_and_rest(clock, caplog):
    caplog.set_level(logging.INFO, LINES.name)
    lines, at_work = Lines("round 0 train"), trainer()
    lines.on_train_start(at_work, None)
    for batch in range(10):  # 6 s a step
        clock.now += 6
        lines.on_train_batch_end(at_work, None, {"loss": torch.tensor(0.5)}, None, batch)
    assert caplog.messages == [
        "round 0 train: step 5/40, loss 0.5, 0.167 steps/s, 210 s left",
        "round 0 train: step 10/40, loss 0.5, 0.167 steps/s, 180 s left",
    ]
    caplog.clear()
    lines.on_train_end(trainer(callback_metrics={"train_loss": torch.tensor(0.25)}), None)
    assert caplog.messages == ["round 0 train: 40 steps in 60 s, loss 0.25"]


def test_a_resumed_stage_counts_from_where_it_stands(clock, caplog):
    caplog.set_level(logging.INFO, LINES.name)
    lines, at_work = Lines("round 1 train"), trainer(current_epoch=3)
    lines.on_train_start(at_work, None)
    clock.now += 30
    lines.on_train_batch_end(at_work, None, None, None, 5)
    assert caplog.messages == ["round 1 train: step 36/40, 0.2 steps/s, 20 s left"]
    caplog.clear()
    lines.on_train_end(at_work, None)
    assert caplog.messages == ["round 1 train: 10 steps in 30 s"]


@pytest.mark.parametrize("kind", ["predict", "test"])
def test_passes_over_images_tell_it_too(kind, clock, caplog):
    caplog.set_level(logging.INFO, LINES.name)
    lines, at_work = Lines("scoring"), trainer(**{f"num_{kind}_batches": [12]})
    getattr(lines, f"on_{kind}_start")(at_work, None)
    for batch in range(3):
        clock.now += 20
        getattr(lines, f"on_{kind}_batch_end")(at_work, None, None, None, batch)
    assert caplog.messages == ["scoring: step 2/12, 0.05 steps/s, 200 s left"]
