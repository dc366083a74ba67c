import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from alseg.active.launch import WatchedDDP, explained, leaves_parameters_out
from alseg.core.errors import UserError
from alseg.nn.segmenter import build_segmenter
from tests.torture.runs import words_of


def network(architecture):
    return build_segmenter(architecture, "resnet18", None, 3)


class Untried(nn.Module):
    def forward(self, x):
        return x * x.sum().item()


def test_a_network_with_layers_it_never_reads_needs_the_search():
    assert leaves_parameters_out(nn.ModuleList([network("FPN"), network("PSPNet")]))
    assert not leaves_parameters_out(nn.ModuleList([network("FPN"), nn.Linear(2, 2)]))
    odd = network("FPN")
    odd.decoder.dropout = Untried()  # its value is not to be had without computing
    assert leaves_parameters_out(odd)


@pytest.mark.parametrize(
    ("given", "architecture", "searches"),
    [(None, "FPN", False), (None, "PSPNet", True), (True, "FPN", True), (False, "PSPNet", False)],
)
def test_every_step_is_searched_only_where_it_must_be(monkeypatch, given, architecture, searches):
    monkeypatch.setattr(
        DDPStrategy, "_setup_model", lambda self, _: self._ddp_kwargs["find_unused_parameters"]
    )
    assert WatchedDDP(given)._setup_model(network(architecture)) is searches


def test_the_pages_of_ddp_are_one_sentence():
    pages = "Expected to ... your module has parameters that were not used in producing loss. ..."
    said = r"^round 1: .*strategy=ddp_find_unused_parameters_true"
    with pytest.raises(UserError, match=said), explained("round 1"):
        raise RuntimeError(pages)
    with pytest.raises(RuntimeError, match="other"), explained("round 1"):
        raise RuntimeError("other")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["als4gan", "equal", "madbal", "mulquery"])
def test_two_devices_have_nothing_to_say_about_parameters(tmp_path, method):
    words = [*words_of(method), f"run_dir={tmp_path}/run", "trainer.devices=2"]
    done = subprocess.run(
        [sys.executable, "-m", "alseg.run", *words, f"cache={tmp_path}/cache"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "find_unused_parameters" not in done.stderr
