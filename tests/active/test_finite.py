"""Numbers that are none end every method with a sentence, before anything is measured with them."""

from contextlib import nullcontext

import pytest
import torch

from alseg.active import fits
from alseg.active.driver import ask, buy, drive, evaluate
from alseg.active.finite import FiniteNumbers, require_finite, require_finite_weights
from alseg.core.errors import UserError
from alseg.methods import METHODS
from tests.methods.test_contract import rounds_of, short
from tests.toys import toy_run

NAMES = sorted(METHODS)
#: Their choices look at no network.
UNSCORED = ("random", "spread", "supervised")


def poison(module):
    """One weight of a layer that every method's numbers depend on."""
    with torch.no_grad():
        next(p for p in module.parameters() if p.requires_grad).view(-1)[0] = float("nan")


def of(name):
    """How a message names a method's stage in a round."""
    return rf"round \d+, stage \w+ of {METHODS.resolve(name).__name__}"


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_that_is_no_number(name, tmp_path, monkeypatch):
    method, train = short(name), fits._fit

    def poisoned(run, stage, module, **options):
        poison(module)
        train(run, stage, module, **options)

    monkeypatch.setattr(fits, "_fit", poisoned)
    sentence = rf"^{of(name)}: the loss[ a-z]* is nan at step \d+ \(images \[[\d, .]+\]\); lower "
    with pytest.raises(UserError, match=sentence):
        drive(toy_run(tmp_path, rounds=rounds_of(method), method=method))
    assert not [*tmp_path.glob("*/metrics.json"), *tmp_path.glob("*/*/last.ckpt")]


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_are_no_numbers_are_neither_measured_nor_asked(name, tmp_path):
    method = short(name)
    run = toy_run(tmp_path, rounds=rounds_of(method), method=method)
    buy(run, 0)
    context = run.context(0)
    modules = fits.train(run, context)
    for module in modules.values():
        poison(module)
    sentence = rf"^{of(name)}.*: 1 of the \d+ values of the tensor '[\w.]+' are not finite"
    if any(stage.evaluate for stage in method.stages(context)):
        with pytest.raises(UserError, match=sentence):
            evaluate(run, context, modules)
    sentence = sentence.replace(".*:", ", scoring for round 1:", 1)
    refused = pytest.raises(UserError, match=sentence)
    with nullcontext() if name in UNSCORED else refused:
        ask(run, context, modules)


def test_a_checkpoint_whose_weights_are_no_numbers_is_refused_before_it_is_used(tmp_path):
    run = toy_run(tmp_path, rounds=2, method=short("entropy"))
    buy(run, 0)
    (stage,) = run.method.stages(run.context(0))
    fits.train(run, run.context(0))
    content = torch.load(stage.checkpoint, weights_only=True)
    next(iter(content["state_dict"].values()))[0] = float("inf")
    torch.save(content, stage.checkpoint)
    with pytest.raises(UserError, match=r"round 0, stage train of Entropy: .* after step 2"):
        drive(toy_run(tmp_path, rounds=2, method=short("entropy")))


def test_outputs_that_overflow_name_their_images(tmp_path):
    run = toy_run(tmp_path, rounds=2, method=short("entropy"))
    buy(run, 0)
    context = run.context(0)
    modules = fits.train(run, context)
    with torch.no_grad():
        for weight in modules["train"].network.classifier.parameters():
            weight.fill_(3e38)
    with pytest.raises(UserError, match=r"output of 'network\.classifier' is .*\(images \[0, 1\]"):
        evaluate(run, context, modules)


def test_a_loss_is_its_number():
    assert require_finite("here", "loss", torch.tensor(2.5), 3) == 2.5
    require_finite_weights("here", torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="here: the loss is -inf at step 3; lower"):
        require_finite("here", "loss", torch.tensor(-torch.inf), 3)


def test_weights_are_looked_at_before_an_epoch_is_kept():
    layer = torch.nn.BatchNorm2d(2)
    layer.running_var[1] = torch.nan
    trainer = type("Trainer", (), {"global_step": 7})()
    with pytest.raises(UserError, match=r"1 of the 2 values of the tensor 'running_var' .* step 7"):
        FiniteNumbers("here").on_train_epoch_end(trainer, layer)
