import copy
import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.methods.als4gan.discriminator import Discriminator
from alseg.methods.als4gan.step import FIXED, REFERENCE, Batches, Rules, s4gan_step
from alseg.nn.deeplabv2 import SummedClassifier, deeplab_groups
from alseg.nn.segmenter import Segmenter

CLASSES, SIZE = 4, (37, 26)
NOW = {"self_training_start": -1}


def networks(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    trunk = nn.Sequential(nn.Conv2d(3, 5, 3, stride=4, padding=1, bias=False), nn.ReLU())
    head = SummedClassifier(5, CLASSES, rates=(1, 2))
    generator = Segmenter(trunk, nn.Identity(), head, 1, align_corners=True)
    for conv in head.children():
        nn.init.normal_(conv.weight, std=0.5)
    discriminator = Discriminator(CLASSES, width=3)
    return generator.to(dtype).train(), discriminator.to(dtype).train()


def batches(seed=0, dtype=torch.float64):
    """Five unlabelled images, the last columns of which are padding; some labels are void."""
    random = torch.Generator().manual_seed(seed)
    images = [torch.randn(n, 3, *SIZE, generator=random).to(dtype) for n in (3, 5, 2)]
    labels = [torch.randint(0, CLASSES, (n, *SIZE), generator=random) for n in (3, 2)]
    for values in labels:
        values[torch.rand(values.shape, generator=random) < 0.2] = VOID
    inside = torch.ones(5, *SIZE, dtype=torch.bool)
    inside[..., 20:] = False
    return Batches(images[0], labels[0], images[1], images[2], labels[1], inside)


def optimizers(generator, discriminator):
    return (
        torch.optim.SGD(deeplab_groups(generator, 0.01), lr=0.0, momentum=0.9),
        torch.optim.Adam(discriminator.parameters(), lr=0.01, betas=(0.9, 0.99)),
    )


def run(rules, given=None, iteration=0, nets=None, steps=1, **more):
    generator, discriminator = nets or networks()
    updates = optimizers(generator, discriminator)
    torch.manual_seed(7)
    for _ in range(steps):
        result = s4gan_step(
            generator, discriminator, *updates, given or batches(), iteration, rules, **more
        )
    return generator, discriminator, result


def judge(discriminator, maps):
    """The discriminator's layers one by one, with dropout."""
    for conv in (discriminator.conv1, discriminator.conv2, discriminator.conv3):
        maps = F.dropout2d(F.leaky_relu(conv(maps), 0.2), 0.5)
    pooled = F.adaptive_avg_pool2d(F.leaky_relu(discriminator.conv4(maps), 0.2), 1)[..., 0, 0]
    return torch.sigmoid(discriminator.fc(pooled))[:, 0], pooled


def ce(logits, labels):
    """Mean over labelled pixels, which need not exist."""
    known = labels != VOID
    log_p = logits.log_softmax(1).movedim(1, -1)[known]
    return -log_p[torch.arange(len(log_p)), labels[known]].mean()


def slow_step(generator, discriminator, updates, given, rules, gate_open):
    """The formulas written out, with gradients taken per network instead of by freezing."""
    labelled = generator(given.images)
    z = generator(given.unlabelled)
    supervised = ce(labelled, given.labels)
    softmax = z.exp() / z.exp().sum(1, keepdim=True)
    inside = given.inside if rules.hide_padding else torch.ones_like(given.inside)

    def scaled(images, width_of):
        return (images - images.min()) / (width_of.max() - width_of.min())

    fake = torch.cat([softmax * inside[:, None], scaled(given.unlabelled, given.unlabelled)], 1)
    shown = torch.stack([(given.real_labels == c) for c in range(CLASSES)], 1).to(z.dtype)
    width_of = given.real_images if rules.own_range else given.images
    real = torch.cat([shown, scaled(given.real_images, width_of)], 1)
    scores, features = judge(discriminator, fake)
    _, real_features = judge(discriminator, real)
    matching = (real_features.detach().mean(0) - features.mean(0)).abs().mean()
    passed = scores.detach() > rules.gate
    own = torch.zeros((), dtype=z.dtype)
    if passed.any() and gate_open:
        own = ce(z[passed], z[passed].argmax(1).masked_fill(~inside[passed], VOID))
    total = supervised + rules.matching_weight * matching + rules.self_training_weight * own
    ours = [p for p in generator.parameters() if p.requires_grad]
    for parameter, gradient in zip(ours, torch.autograd.grad(total, ours), strict=True):
        parameter.grad = gradient
    on_fake, _ = judge(discriminator, fake.detach())
    on_real, _ = judge(discriminator, real)
    verdict = -((1 - on_fake).log().mean() + on_real.log().mean()) / 2
    theirs = list(discriminator.parameters())
    for parameter, gradient in zip(theirs, torch.autograd.grad(verdict, theirs), strict=True):
        parameter.grad = gradient
    for update in updates:
        update.step()
    return total, supervised, matching, own, verdict, scores, passed


@pytest.mark.parametrize("own_range", [True, False])
@pytest.mark.parametrize("hide_padding", [True, False])
@pytest.mark.parametrize("iteration", [3, 4])
def test_against_the_formulas(own_range, hide_padding, iteration):
    given = batches()
    # The scores of a first try decide where a gate parts them.
    scores = run(Rules(own_range=own_range, hide_padding=hide_padding), given)[2].scores
    gate = float(scores.sort().values[1:3].mean())
    rules = Rules(gate, 0.7, 0.9, 3, own_range, hide_padding)
    generator, discriminator, result = run(rules, given, iteration)
    assert int(result.passed.sum()) == 3

    slow = networks()
    updates = optimizers(*slow)
    torch.manual_seed(7)
    expected = slow_step(*slow, updates, given, rules, gate_open=iteration > 3)
    names = ("generator", "cross_entropy", "feature_matching", "self_training", "discriminator")
    for name, value in zip((*names, "scores", "passed"), expected, strict=True):
        actual = getattr(result, name)
        torch.testing.assert_close(actual, value.detach(), rtol=1e-9, atol=1e-12)
    assert (result.self_training > 0) == (iteration > 3)
    for net, other in zip((generator, discriminator), slow, strict=True):
        for own, wanted in zip(net.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(own, wanted, rtol=1e-7, atol=1e-10)
            assert own.requires_grad == wanted.requires_grad


def test_gate_rejects_all():
    given = batches()
    generator, _, result = run(Rules(gate=1.0, **NOW), given)
    assert not result.passed.any()
    assert result.self_training == 0
    without, _, _ = run(Rules(gate=1.0, self_training_weight=0.0, **NOW), given)
    for own, other in zip(generator.parameters(), without.parameters(), strict=True):
        assert torch.equal(own, other)
    _, _, passing = run(Rules(gate=0.0, **NOW), given)
    assert passing.passed.all()
    assert passing.self_training > 0


def test_no_labelled_pixel():
    given = batches()._replace(labels=torch.full((3, *SIZE), VOID))
    generator, discriminator, result = run(FIXED, given)
    assert result.cross_entropy == 0
    assert result.generator > 0, "the features are still matched"
    assert all(p.isfinite().all() for p in [*generator.parameters(), *discriminator.parameters()])
    other, _, result = run(replace(FIXED, nan_without_labels=True), given)
    assert result.cross_entropy.isnan()
    assert result.generator.isnan()
    for own, wanted in zip(other.parameters(), generator.parameters(), strict=True):
        assert torch.equal(own, wanted), "what is reported is NaN, the gradient is not"


def test_real_maps_without_labels():
    _, _, result = run(FIXED, batches()._replace(real_labels=torch.full((2, *SIZE), VOID)))
    assert all(term.isfinite().all() for term in result)


def test_without_padding_it_need_not_be_told():
    given = batches()
    everywhere = given._replace(inside=torch.ones_like(given.inside))
    told, untold = (run(FIXED, g)[2] for g in (everywhere, given._replace(inside=None)))
    for own, other in zip(told, untold, strict=True):
        assert torch.equal(own, other)
    assert not torch.equal(run(FIXED, given)[2].scores, told.scores)
    assert torch.equal(run(REFERENCE, given)[2].scores, run(REFERENCE, everywhere)[2].scores)


def test_gradients_go_where_they_belong():
    """The generator's loss leaves no gradient in the discriminator, nor the other way round."""
    nets, seen = networks(), []

    def backward(loss):
        loss.backward()
        seen.append(
            [[None if p.grad is None else p.grad.clone() for p in n.parameters()] for n in nets]
        )

    run(FIXED, nets=nets, backward=backward)
    (first, untouched), (again, second) = seen
    assert all(gradient is None for gradient in untouched)
    assert all(gradient is not None for gradient in (*first, *second))
    for before, after in zip(first, again, strict=True):
        assert torch.equal(before, after)


def test_gradients_do_not_pile_up():
    nets = networks()
    frozen = copy.deepcopy(nets)
    for net in nets:
        for parameter in net.parameters():
            parameter.grad = torch.full_like(parameter, 1e3)
    run(FIXED, nets=nets)
    run(FIXED, nets=frozen)
    for net, other in zip(nets, frozen, strict=True):
        for own, wanted in zip(net.parameters(), other.parameters(), strict=True):
            assert torch.equal(own, wanted)


def test_autocast_is_for_the_generator_alone():
    nets = networks(dtype=torch.float32)
    types = []
    nets[0].register_forward_hook(lambda module, given, out: types.append(out.dtype))
    nets[1].register_forward_hook(lambda module, given, out: types.append(out.scores.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        _, _, result = run(FIXED, batches(dtype=torch.float32), nets=nets)
    assert types == [torch.bfloat16] * 2 + [torch.float32] * 4
    assert all(term.dtype == torch.float32 for term in result[:-1])


def test_it_learns():
    given, nets = batches(), networks()
    nets[1].dropout.p = 0.0
    first = run(FIXED, given, nets=nets)[2]
    last = run(FIXED, given, nets=nets, steps=60)[2]
    assert last.cross_entropy < 0.9 * first.cross_entropy
    nets[0].requires_grad_(False)  # against a generator that stands still
    last = run(FIXED, given, nets=nets, steps=60, backward=learn_if_possible)[2]
    assert last.discriminator < 0.5 * first.discriminator


def learn_if_possible(loss):
    if loss.requires_grad:
        loss.backward()


@pytest.mark.parametrize(
    "option",
    [{"gate": 1.5}, {"gate": math.nan}, {"matching_weight": -1.0}, {"matching_weight": math.inf}],
)
def test_rules_that_cannot_work(option):
    with pytest.raises(UserError, match=f"{next(iter(option))} is "):
        Rules(**option)
