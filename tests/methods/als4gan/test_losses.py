import math

import numpy as np
import pytest
import torch

from alseg.core.images import VOID
from alseg.methods.als4gan import inputs
from alseg.methods.als4gan.losses import (
    adversarial_loss,
    cross_entropy,
    discriminator_loss,
    feature_matching,
    passes_gate,
    pseudo_labels,
    self_training,
)


def batch(seed=0, images=3, classes=4, size=(5, 7), dtype=torch.float64):
    """Logits and labels, a third of them void; the last image has none."""
    random = np.random.default_rng(seed)
    logits = torch.from_numpy(random.normal(0, 2, (images, classes, *size))).to(dtype)
    labels = random.integers(0, classes, (images, *size)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.3] = VOID
    labels[-1] = VOID
    return logits.requires_grad_(), torch.from_numpy(labels)


def slow_cross_entropy(logits, labels):
    terms = []
    for b, y, x in np.ndindex(labels.shape):
        if labels[b, y, x] != VOID:
            z = logits[b, :, y, x].tolist()
            terms.append(math.log(sum(map(math.exp, z))) - z[labels[b, y, x]])
    return sum(terms) / len(terms)


@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_against_loops(seed):
    logits, labels = batch(seed)
    slow = slow_cross_entropy(logits.detach(), labels)
    assert float(cross_entropy(logits, labels).detach()) == pytest.approx(slow, rel=1e-12)
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, labels), (logits,))


def test_no_labelled_pixel():
    logits, labels = batch()
    nothing = torch.full_like(labels, VOID)
    for flag in (False, True):
        loss = cross_entropy(logits, nothing, nan_without_labels=flag)
        loss.backward()
        assert loss.isnan() if flag else loss == 0
        assert not logits.grad.any(), "not NaN either"
    both = [cross_entropy(logits, labels, nan_without_labels=flag) for flag in (False, True)]
    assert torch.equal(*both), "the flag is about batches without labels alone"


@pytest.mark.parametrize("seed", range(3))
def test_self_training_against_loops(seed):
    logits, _ = batch(seed)
    passed = torch.tensor([True, False, True])
    inside = torch.zeros(3, 5, 7, dtype=torch.bool)
    inside[:, :4, :5] = True
    z = logits.detach()
    best = torch.from_numpy(z.numpy().argmax(axis=1))
    assert torch.equal(pseudo_labels(logits), best)
    everywhere = slow_cross_entropy(z[passed], best[passed])
    cut = slow_cross_entropy(z[passed, :, :4, :5], best[passed][:, :4, :5])
    assert float(self_training(logits, passed).detach()) == pytest.approx(everywhere, rel=1e-12)
    loss = self_training(logits, passed, inside)
    assert float(loss.detach()) == pytest.approx(cut, rel=1e-12)
    loss.backward()
    learned = logits.grad.abs().sum(1) > 0
    assert torch.equal(learned, inside & passed[:, None, None])


def test_gate_rejects_all():
    logits, _ = batch()
    passed = passes_gate(torch.full((3,), 0.6), 0.6)
    assert not passed.any()
    loss = self_training(logits, passed)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_the_gate_compares_in_single_precision():
    """0.6 in float32 is a little more than in float64, and must not pass."""
    score = torch.tensor([0.6], dtype=torch.float32)
    assert float(score) > 0.6
    assert not passes_gate(score, 0.6)
    assert passes_gate(torch.nextafter(score, torch.ones(1)), 0.6)


def test_feature_matching():
    torch.manual_seed(0)
    real = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    fake = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    loss = feature_matching(real, fake)
    slow = sum(abs(sum(real[:, c].tolist()) / 3 - sum(fake[:, c].tolist()) / 4) for c in range(5))
    assert float(loss.detach()) == pytest.approx(slow / 5, rel=1e-12)
    loss.backward()
    assert real.grad is None
    assert torch.allclose(fake.grad.abs(), torch.tensor(1 / 20, dtype=torch.float64))
    same = torch.ones(2, 3, requires_grad=True)
    feature_matching(torch.ones(1, 3), same).backward()
    assert not same.grad.any()


def test_discriminator_loss():
    fake, real = torch.tensor([0.25, 0.5]), torch.tensor([0.8])
    total, on_fake, on_real = discriminator_loss(fake, real)
    assert float(on_fake) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    assert float(on_real) == pytest.approx(-math.log(0.8))
    assert float(total) == pytest.approx((float(on_fake) + float(on_real)) / 2)
    assert adversarial_loss(torch.ones(1), real=False) == 100, "not infinite"


def test_half_precision_is_widened():
    logits, labels = batch(dtype=torch.float32)
    half = logits.detach().bfloat16()
    assert torch.equal(cross_entropy(half, labels), cross_entropy(half.float(), labels))
    passed = torch.tensor([True, True, False])
    assert torch.equal(self_training(half, passed), self_training(half.float(), passed))
    images = torch.randn(3, 3, 5, 7)
    assert inputs.fake_input(half, images).dtype == torch.float32
    assert feature_matching(half[0, 0], half[1, 0]).dtype == torch.float32


# What the discriminator sees


def test_range_of_a_batch():
    images = torch.tensor([[1.0, 3.0], [-1.0, 2.0]])
    assert inputs.unit_range(images).tolist() == [[0.5, 1.0], [0.0, 0.75]]
    other = torch.tensor([0.0, 8.0])
    assert inputs.unit_range(images, other).tolist() == [[0.25, 0.5], [0.0, 0.375]]
    assert inputs.unit_range(torch.full((2, 3), 7.0)).tolist() == [[0.0] * 3] * 2


def test_padding_does_not_give_predictions_away():
    logits, labels = batch()
    logits, images = logits.detach(), torch.randn(3, 3, 5, 7)
    inside = torch.zeros(3, 5, 7, dtype=torch.bool)
    inside[:, :4] = True
    fake = inputs.fake_input(logits, images, inside)[:, :4]
    real = inputs.real_input(labels.masked_fill(~inside, VOID), images, 4)[:, :4]
    assert torch.equal(fake[..., 4, :], real[..., 4, :].double())
    torch.testing.assert_close(fake[..., :4, :], logits.softmax(1)[..., :4, :])
    shown = inputs.fake_input(logits, images)[:, :4]
    torch.testing.assert_close(shown.sum(1), torch.ones(3, 5, 7, dtype=torch.float64))


def test_real_maps():
    _, labels = batch()
    maps = inputs.one_hot(labels, 4)
    for b, y, x in np.ndindex(labels.shape):
        wanted = [float(c == labels[b, y, x]) for c in range(4)]
        assert maps[b, :, y, x].tolist() == wanted
    images = torch.randn(3, 3, 5, 7)
    shown = inputs.real_input(labels, images, 4)
    assert torch.equal(shown[:, :4], maps)
    assert torch.equal(shown[:, 4:], inputs.unit_range(images))
