"""What is asked next follows from the weights, not from the precision they were trained in."""

import shutil

import numpy as np
import pytest
import torch

from alseg.active import fits
from alseg.active.driver import ask, buy, drive
from tests.methods.test_contract import short
from tests.toys import toy_run

METHODS = ("badge", "entropy", "equal", "madbal", "mulquery", "pixelpick")


def chosen(root, method, precision):
    """The second query from the weights that lie in the folder, or are trained now."""
    run = toy_run(root, rounds=2, method=method, precision=precision)
    buy(run, 0)
    return ask(run, run.context(0), fits.train(run, run.context(0)))


@pytest.mark.parametrize("name", METHODS)
def test_the_choice_is_that_of_float32(name, tmp_path):
    method = short(name)
    whole = chosen(tmp_path / "whole", method, "32-true")
    shutil.copytree(
        tmp_path / "whole", tmp_path / "half", ignore=shutil.ignore_patterns("round_001", "scores*")
    )
    half = chosen(tmp_path / "half", method, "bf16-mixed")
    for column in ("image", "unit", "score"):
        assert np.array_equal(getattr(whole, column), getattr(half, column))


def test_weights_in_half_precision_are_widened_to_score(tmp_path, monkeypatch):
    kinds, trainer = [], fits.make_trainer

    def seen(run, *arguments, whole=False, **settings):
        made = trainer(run, *arguments, whole=whole, **settings)
        kinds.append((whole, made.precision))
        return made

    monkeypatch.setattr(fits, "make_trainer", seen)
    rows = drive(toy_run(tmp_path, rounds=2, method=short("entropy"), precision="bf16-true"))
    assert len(rows) == 2
    assert (True, "32-true") in kinds
    assert (False, "bf16-true") in kinds
    content = torch.load(tmp_path / "round_000" / "train" / "last.ckpt", weights_only=True)
    assert {v.dtype for v in content["state_dict"].values() if v.is_floating_point()} == {
        torch.bfloat16
    }
