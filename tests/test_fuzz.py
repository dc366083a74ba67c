"""No input is left unanswered; ``python -m tests.fuzz`` gives thousands of them."""

import logging
from dataclasses import replace
from itertools import count

import pytest

from tests.fuzz import rig
from tests.fuzz.doors import DOORS
from tests.fuzz.rig import enter, limited, table

NAMES = [door.name for door in DOORS]
#: A door of these takes a second for each of its inputs.
SLOW = {"checkpoints", "run.json in comparisons"}


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("door", DOORS, ids=NAMES)
def test_a_few_inputs_are_answered(door):
    few = 1 if door.name in SLOW else 4
    outcome = enter(door, few, crafted=4 if door.name in SLOW else 12)
    assert outcome.unanswered == []
    assert outcome.refused
    assert outcome.inputs >= few


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS, ids=NAMES)
def test_every_crafted_input_is_answered(door):
    outcome = enter(door, 20)
    assert outcome.unanswered == []


def test_what_is_not_answered_is_told(tmp_path):
    broken = replace(DOORS[0], enter=lambda folder, given: {}[given], crafted=["one", "two"])
    outcome = enter(broken, 0)
    assert [text.partition(" -> ")[2] for text in outcome.unanswered] == [
        "KeyError: 'one'",
        "KeyError: 'two'",
    ]
    assert "| all | 2 | 0 | 0 | 2 |" in table([outcome])


def test_what_takes_too_long_is_stopped(monkeypatch):
    monkeypatch.setattr(rig, "LIMIT", 0.05)
    with pytest.raises(rig.TooSlowError), limited():
        sum(1 for _ in count())
