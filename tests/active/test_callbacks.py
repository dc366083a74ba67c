from types import SimpleNamespace

import pytest
import torch
from torch import nn

from alseg.active.callbacks import CarriedOptimizers


def learner(lr, seed=0):
    torch.manual_seed(seed)
    layer = nn.Linear(3, 2)
    groups = [{"params": [layer.weight], "lr": lr}, {"params": [layer.bias], "lr": 10 * lr}]
    return layer, torch.optim.Adam(groups, weight_decay=0.01)


def step(layer, optimizer, seed):
    generator = torch.Generator().manual_seed(seed)
    optimizer.zero_grad()
    (layer(torch.randn(5, 3, generator=generator)) ** 2).mean().backward()
    optimizer.step()


def stored(path, *optimizers):
    states = [optimizer.state_dict() for optimizer in optimizers]
    torch.save({"optimizer_states": states, "state_dict": {}, "epoch": 0}, path)
    return path


def test_a_carried_optimizer_goes_on_at_the_new_rate(tmp_path):
    """Two steps, a drop of the rate, two steps: in one go, and by way of a file."""
    whole, one = learner(0.1)
    for seed in (1, 2):
        step(whole, one, seed)
    first = {name: value.clone() for name, value in whole.state_dict().items()}
    path = stored(tmp_path / "last.ckpt", one)
    for group, rate in zip(one.param_groups, (0.02, 0.2), strict=True):
        group["lr"] = rate
    for seed in (3, 4):
        step(whole, one, seed)

    again, two = learner(0.02, seed=9)
    again.load_state_dict(first)
    trainer = SimpleNamespace(optimizers=[two])
    CarriedOptimizers(path).on_train_start(trainer, again)
    assert [group["lr"] for group in two.param_groups] == [0.02, 0.2]
    for seed in (3, 4):
        step(again, two, seed)
    assert torch.equal(whole.weight, again.weight)
    assert torch.equal(whole.bias, again.bias)
    assert float(two.state[again.weight]["step"]) == 4

    cold, three = learner(0.02, seed=9)
    cold.load_state_dict(first)
    for seed in (3, 4):
        step(cold, three, seed)
    assert not torch.allclose(whole.weight, cold.weight, atol=1e-3), "the moments matter"


def test_schedules_see_the_new_stages_rate(tmp_path):
    """The stored optimiser's rate had fallen to a tenth; the new schedule starts from its own."""
    old, one = learner(0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(one, lambda step: 0.1**step)
    step(old, one, 1)
    schedule.step()
    path = stored(tmp_path / "last.ckpt", one)
    new, two = learner(0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(two, lambda step: 0.5**step)
    CarriedOptimizers(path).on_train_start(SimpleNamespace(optimizers=[two]), new)
    assert [group["lr"] for group in two.param_groups] == pytest.approx([0.1, 1.0])
    step(new, two, 2)
    schedule.step()
    assert [group["lr"] for group in two.param_groups] == pytest.approx([0.05, 0.5])


def test_an_optimizer_that_never_stepped_is_carried_too(tmp_path):
    _, one = learner(0.1)
    layer, two = learner(0.1)
    path = stored(tmp_path / "last.ckpt", one)
    CarriedOptimizers(path).on_train_start(SimpleNamespace(optimizers=[two]), layer)
    assert not two.state
    step(layer, two, 1)


def test_several_optimizers_keep_their_order(tmp_path):
    layers, optimizers = zip(*(learner(0.1, seed) for seed in (1, 2)), strict=True)
    for number, (layer, optimizer) in enumerate(zip(layers, optimizers, strict=True)):
        for seed in range(number + 1):
            step(layer, optimizer, seed)
    path = stored(tmp_path / "last.ckpt", *optimizers)
    fresh, new = zip(*(learner(0.1) for _ in range(2)), strict=True)
    CarriedOptimizers(path).on_train_start(SimpleNamespace(optimizers=new), None)
    steps = [float(o.state[layer.weight]["step"]) for layer, o in zip(fresh, new, strict=True)]
    assert steps == [1, 2]
    with pytest.raises(ValueError, match="zip"):
        CarriedOptimizers(path).on_train_start(SimpleNamespace(optimizers=new[:1]), None)
