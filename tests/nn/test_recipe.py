"""Optimisers and schedules against torch's own."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from alseg.core.errors import UserError
from alseg.nn.recipe import Recipe
from alseg.nn.schedules import poly_lr, step_lr


class Network(nn.Module):
    """Groups as those of a segmenter."""

    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.encoder(x).relu())

    def parameter_groups(self, lr, head_factor):
        return [
            {"params": list(self.encoder.parameters()), "lr": lr},
            {"params": list(self.head.parameters()), "lr": lr * head_factor},
        ]


def network():
    torch.manual_seed(0)
    return Network()


def train(learner, optimizer, schedule, steps, every=1):
    """Weights at the end, and the rates of every step."""
    rates = []
    for step in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        learner(torch.randn(6, 3, generator=generator)).square().mean().backward()
        optimizer.step()
        if (step + 1) % every == 0:
            schedule.step()
    return rates


def check(recipe, optimizer_of, schedule_of, steps=12, every=1):
    """The recipe does what torch's own optimiser and schedule do."""
    one, two = network(), network()
    built = recipe.build(one, steps)
    assert built["lr_scheduler"]["interval"] == "step"
    rates = train(one, built["optimizer"], built["lr_scheduler"]["scheduler"], steps)
    optimizer = optimizer_of(two.parameter_groups(recipe.lr, recipe.head_factor))
    expected = train(two, optimizer, schedule_of(optimizer), steps, every)
    for got, wanted in zip(rates, expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-9)
    start = network()
    for a, b, c in zip(one.parameters(), two.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(a, c, atol=1e-4)


def constant(optimizer):
    return lr_scheduler.ConstantLR(optimizer, factor=1.0)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("adam", lambda groups: torch.optim.Adam(groups, weight_decay=0.3)),
        ("adamw", lambda groups: torch.optim.AdamW(groups, weight_decay=0.3)),
        ("sgd", lambda groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=0.3)),
    ],
)
def test_optimizers(name, optimizer):
    recipe = Recipe(lr=0.01, head_factor=3.0, optimizer=name, weight_decay=0.3, schedule="constant")
    check(recipe, optimizer, constant)


def test_adam_puts_the_decay_into_the_gradient():
    """A first step of Adam has the length of the rate, whatever the decay is; AdamW's has not."""
    moved = {}
    for name in ("adam", "adamw"):
        learner = network()
        recipe = Recipe(lr=0.01, head_factor=1.0, optimizer=name, weight_decay=50.0)
        optimizer = recipe.build(learner, 10)["optimizer"]
        before = learner.encoder.weight.detach().clone()
        learner(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        moved[name] = (learner.encoder.weight.detach() - before).abs()
    assert moved["adam"].max() <= 0.01 + 1e-6
    assert moved["adamw"].max() > 0.05


def test_poly():
    recipe = Recipe(lr=0.01, optimizer="adam", weight_decay=0.0, floor=1e-9)
    check(
        recipe,
        lambda groups: torch.optim.Adam(groups),
        lambda optimizer: lr_scheduler.PolynomialLR(optimizer, total_iters=12, power=0.9),
    )


@pytest.mark.parametrize("every", [1, 4, 5])
def test_step(every):
    recipe = Recipe(lr=0.01, optimizer="adam", weight_decay=0.0, schedule="step", drop_every=every)
    check(
        recipe,
        lambda groups: torch.optim.Adam(groups),
        lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=every, gamma=0.1),
    )


def test_rates_by_hand():
    poly = Recipe(lr=0.1, floor=0.02)
    assert poly.rate(0, 10, 0.1) == 0.1
    assert poly.rate(5, 10, 0.1) == pytest.approx(0.1 * 0.5**0.9)
    assert poly.rate(10, 10, 0.1) == poly.rate(11, 10, 0.1) == 0.02
    step = Recipe(lr=0.1, schedule="step", drop_every=20)
    rates = [step.rate(n, 60, 0.5) for n in (0, 19, 20, 39, 40, 59)]
    assert rates == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005, 0.005])
    fixed = Recipe(lr=0.1, schedule="constant")
    assert {fixed.rate(n, 60, 0.5) for n in (0, 30, 60)} == {0.5}
    assert step_lr(7, 8.0, every=3, factor=0.5) == 2.0
    assert poly_lr(3, 4, 2.0, power=2.0) == 0.125


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"optimizer": "adma"}, "unknown optimizer 'adma'; did you mean 'adam'"),
        ({"schedule": "steps"}, "unknown schedule 'steps'; did you mean 'step'"),
        ({"lr": 0.0}, r"method\.lr is 0\.0; it must be > 0"),
        ({"lr": float("nan")}, r"method\.lr is nan; it must be > 0"),
        ({"head_factor": -1.0}, r"method\.head_factor is -1\.0; it must be > 0"),
        ({"weight_decay": -0.1}, r"method\.weight_decay is -0\.1; it must be >= 0"),
        ({"schedule": "step"}, r"method\.drop_every steps; give that number"),
        ({"schedule": "step", "drop_every": 0}, r"method\.drop_every steps; give that number"),
    ],
)
def test_nonsense_is_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Recipe(**{"lr": 0.1, **options})


def test_two_builds_share_nothing():
    recipe, one = Recipe(lr=0.1, schedule="constant"), network()
    two = copy.deepcopy(one)
    first, second = (recipe.build(n, 10)["optimizer"] for n in (one, two))
    first.param_groups[0]["lr"] = 5.0
    assert second.param_groups[0]["lr"] == 0.1


class Small(nn.Module):
    """A network whose parameters are of every kind."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8)
        )
        self.classifier = nn.Sequential(nn.Conv2d(8, 2, 1))

    def parameter_groups(self, lr, head_factor):
        return [
            {"params": list(self.encoder.parameters()), "lr": lr},
            {"params": list(self.classifier.parameters()), "lr": lr * head_factor},
        ]


def sizes(groups):
    return [(sum(p.numel() for p in g["params"]), g["lr"], g["weight_decay"]) for g in groups]


def test_what_is_not_decayed_and_what_learns_faster():
    recipe = Recipe(
        0.1, 10.0, "sgd", 4e-5, decay_kernels_only=True, bias_factor=2.0, schedule="constant"
    )
    built = recipe.build(Small(), 10)
    assert sizes(built["optimizer"].param_groups) == [
        (3 * 8 * 9, 0.1, 4e-5),  # the full convolution
        (8 + 16 + 8 * 9 + 8, 0.1, 0.0),  # biases, norm, depthwise kernels
        (16, 1.0, 4e-5),
        (2, 2.0, 0.0),  # the classifier's bias
    ]
    only = Recipe(0.1, 1.0, "sgd", 4e-5, bias_factor=2.0).build(Small(), 10)
    assert sizes(only["optimizer"].param_groups) == [
        (3 * 8 * 9 + 8 + 16 + 8 * 9 + 8, 0.1, 4e-5),
        (16, 0.1, 4e-5),
        (2, 0.2, 4e-5),
    ]
    rates = [group(5) for group in only["lr_scheduler"]["scheduler"].lr_lambdas]
    assert rates == pytest.approx([0.5**0.9] * 3)


def test_a_step_without_decay_by_hand():
    """SGD on a gradient of 1: a kernel loses lr (1 + decay w), the rest lr, the bias twice that."""
    network = Small()
    nn.init.ones_(network.encoder[0].weight)
    nn.init.ones_(network.encoder[2].weight)
    nn.init.ones_(network.classifier[0].bias)
    recipe = Recipe(0.1, 1.0, "sgd", 0.5, "constant", decay_kernels_only=True, bias_factor=2.0)
    optimizer = recipe.build(network, 1)["optimizer"]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for value, left in [
        (network.encoder[0].weight, 1 - 0.1 * 1.5),
        (network.encoder[2].weight, 0.9),
        (network.encoder[1].weight, 0.9),
        (network.classifier[0].bias, 0.8),
    ]:
        torch.testing.assert_close(value.detach(), torch.full_like(value, left))


def test_networks_have_all_their_parameters_in_one_group():
    from alseg.nn.segmenter import build_segmenter

    with torch.device("meta"):
        network = build_segmenter("DeepLabV3Plus", "mobilenet_v2", None, 3)
    recipe = Recipe(0.1, decay_kernels_only=True, bias_factor=2.0)
    groups = recipe.build(network, 1)["optimizer"].param_groups
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters())
