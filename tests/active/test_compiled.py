"""``trainer.compile``: what learns is compiled while it is trained, and at no other time."""

import pytest
import torch
from torch import nn

from alseg.active import compiled
from alseg.active.compiled import require_compiler, trained_parts
from alseg.active.driver import drive
from alseg.active.module import CrossEntropyModule
from alseg.core.errors import UserError
from alseg.methods.baselines.uncertainty import Entropy
from alseg.nn.segmenter import Segmenter
from tests.active.test_driver import bought, same_weights
from tests.kills import Killed, at_call
from tests.methods.test_contract import rounds_of, short
from tests.toys import TINY, toy_run

SHORT = {"steps": 4, "batch_size": 2, "epoch_steps": 2, "lr": 1e-3, "head_factor": 1.0}
LAST = "round_000/train/last.ckpt"


def compiling(root, **options):
    run = toy_run(root, **options)
    run.compile = True
    return run


def parts(method, root):
    run = toy_run(root, rounds=rounds_of(method), method=method)
    contexts = map(run.context, range(run.rounds))
    stages = [stage for context in contexts for stage in run.method.stages(context)]
    return {stage.name: trained_parts(stage.module()) for stage in stages}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("entropy", {"train": ["Segmenter"]}),
        ("mulquery", {"stage_one": ["Segmenter"], "stage_two": ["Segmenter"]}),
        ("madbal", {"segment": ["Segmenter"], "support": ["SupportModules"]}),
        ("als4gan", {"classifier": ["Sequential"], "segment": ["Segmenter", "Discriminator"]}),
    ],
)
def test_what_learns_is_compiled(tmp_path, name, expected):
    found = parts(short(name), tmp_path)
    assert {stage: [type(p).__name__ for p in found[stage]] for stage in found} == expected


def test_a_segmenter_that_keeps_its_batch_norms_is_compiled_as_a_whole(tmp_path):
    module = nn.ModuleDict({"network": TINY.build(3), "other": nn.Linear(1, 1)})
    module["network"].decoder.requires_grad_(False)
    assert trained_parts(module) == [module["network"], module["other"]]
    module.requires_grad_(False)
    assert trained_parts(module) == []


def counted(monkeypatch, calls):
    """Stand in for the compiler: note in which mode what it made is called."""

    def stand_in(forward, dynamic):
        assert dynamic is False

        def run(*args):
            part = forward.__self__
            calls.append((type(part), part.training))
            return forward(*args)

        return run

    monkeypatch.setattr(compiled.torch, "compile", stand_in)


def test_training_steps_alone_are_compiled_and_nothing_of_it_is_kept(tmp_path, monkeypatch):
    calls = []
    counted(monkeypatch, calls)
    best = {**SHORT, "keep": "best"}  # validates between epochs
    drive(compiling(tmp_path / "compiled", rounds=2, method=Entropy(**best)))
    assert set(calls) == {(Segmenter, True)}
    assert len(calls) == 2 * SHORT["steps"]
    drive(toy_run(tmp_path / "plain", rounds=2, method=Entropy(**best)))
    assert bought(tmp_path / "compiled") == bought(tmp_path / "plain")
    assert same_weights(tmp_path / "compiled", tmp_path / "plain"), "names and bits of checkpoints"


def test_no_compiler(monkeypatch):
    def none(function):
        def fail(numbers):
            raise RuntimeError("\nNo working C++ compiler found\nin many places")

        return fail

    monkeypatch.setattr(compiled.torch, "compile", none)
    with pytest.raises(
        UserError, match=r"on this machine \(cpu: No working C\+\+ compiler found\)"
    ):
        require_compiler("cpu")


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, monkeypatch):
    def run(name):
        return compiling(tmp_path / name, rounds=1, method=Entropy(**SHORT))

    drive(run("whole"))
    with monkeypatch.context() as patch:  # in the second epoch
        at_call(patch, CrossEntropyModule, "loss", 3)
        with pytest.raises(Killed):
            drive(run("cut"))
    drive(run("cut"))
    assert same_weights(tmp_path / "cut", tmp_path / "whole")
    drive(toy_run(tmp_path / "plain", rounds=1, method=Entropy(**SHORT)))
    compiled, plain = (
        torch.load(tmp_path / name / LAST)["state_dict"] for name in ("cut", "plain")
    )
    assert list(compiled) == list(plain)
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, atol=2e-2, rtol=0.1)
    assert any(not torch.equal(compiled[name], value) for name, value in plain.items())


@pytest.mark.slow
def test_support_modules_of_a_frozen_network(tmp_path):
    rows = drive(compiling(tmp_path, rounds=2, method=short("madbal")))
    assert rows[-1]["miou"] is not None
