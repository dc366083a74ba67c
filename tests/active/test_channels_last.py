"""``trainer.channels_last``: networks whose maps keep the channels of a pixel side by side."""

import pytest
import torch

from alseg.active.driver import drive
from alseg.active.fits import made
from alseg.methods.mulquery.module import StageOne
from tests.active.test_driver import bought, same_weights
from tests.kills import Killed, at_call
from tests.toys import toy_run


def laid_out(root):
    run = toy_run(root, rounds=2)
    run.channels_last = True
    return run


def test_a_stage_is_laid_out_as_the_run_wants_it(tmp_path):
    def outputs(run):
        network = made(run, run.method.stages(run.context(0))[0]).network.eval()
        with torch.inference_mode():
            return network.encoder(torch.linspace(-1, 1, 3 * 32 * 48).view(1, 3, 32, 48))[2]

    torch.manual_seed(0)
    plain = outputs(toy_run(tmp_path))
    torch.manual_seed(0)
    other = outputs(laid_out(tmp_path))
    last = torch.channels_last
    assert other.is_contiguous(memory_format=last)
    assert not plain.is_contiguous(memory_format=last)
    torch.testing.assert_close(other, plain, rtol=0, atol=1e-4)


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    drive(laid_out(tmp_path / "whole"))
    with monkeypatch.context() as patch:  # in the second epoch of the second round
        at_call(patch, StageOne, "loss", 8)
        with pytest.raises(Killed):
            drive(laid_out(tmp_path / "cut"))
    drive(laid_out(tmp_path / "cut"))
    assert bought(tmp_path / "cut") == bought(tmp_path / "whole")
    assert same_weights(tmp_path / "cut", tmp_path / "whole")
