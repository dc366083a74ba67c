import math

import numpy as np
import pytest
import torch
from torch import nn

from alseg.core.images import VOID
from alseg.methods.equal.losses import consistency, cross_entropy, two_view_loss
from alseg.methods.equal.views import paired_views, two_views
from alseg.nn.network import Network


def batch(seed=0, images=3, classes=5, size=(4, 6), dtype=torch.float64):
    """Two views and labels; half of the pixels have none, and the last image has none at all."""
    random = np.random.default_rng(seed)
    views = [
        torch.from_numpy(random.normal(0, 2, (images, classes, *size))).to(dtype).requires_grad_()
        for _ in range(2)
    ]
    labels = random.integers(0, classes, (images, *size)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.5] = VOID
    labels[-1] = VOID
    return *views, torch.from_numpy(labels)


def slow_cross_entropy(logits, labels):
    terms = []
    for b, y, x in np.ndindex(labels.shape):
        if labels[b, y, x] != VOID:
            z = [float(value) for value in logits[b, :, y, x]]
            terms.append(math.log(sum(map(math.exp, z))) - z[labels[b, y, x]])
    return sum(terms) / len(terms)


def slow_square(a, b):
    pairs = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    return sum((p - q) ** 2 for p, q in pairs) / a.numel()


@pytest.mark.parametrize("seed", range(3))
def test_against_loops(seed):
    a, b, labels = batch(seed)
    loss = two_view_loss(a, b, labels)
    a, b = a.detach(), b.detach()
    square = slow_square(a, b)
    expected = [slow_cross_entropy(a, labels), slow_cross_entropy(b, labels), square, square]
    assert [float(term.detach()) for term in loss] == pytest.approx(
        [sum(expected), *expected], rel=1e-9
    )


def test_the_gradient_counts_the_difference_once():
    a, b, labels = batch()
    two_view_loss(a, b, labels).total.backward()
    views = [view.detach().clone().requires_grad_() for view in (a, b)]
    once = ((views[0] - views[1]) ** 2).mean()
    (cross_entropy(views[0], labels) + cross_entropy(views[1], labels) + once).backward()
    for view, other in zip((a, b), views, strict=True):
        torch.testing.assert_close(view.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_gradient_of_the_cross_entropy():
    a, _, labels = batch()
    assert torch.autograd.gradcheck(lambda z: cross_entropy(z, labels), (a,))
    cross_entropy(a, labels).backward()
    assert (a.grad.movedim(1, -1)[labels == VOID] == 0).all()
    assert (a.grad.movedim(1, -1)[labels != VOID] != 0).all(), "every channel, void's included"


def test_the_target_gets_no_gradient():
    a, b, _ = batch()
    consistency(a, b).backward()
    assert a.grad is not None
    assert b.grad is None


def test_no_labelled_pixel():
    a, b, labels = batch()
    loss = two_view_loss(a, b, torch.full_like(labels, VOID))
    assert all(math.isnan(float(term.detach())) for term in loss[:3])
    assert float(loss.plain_to_mirrored.detach()) > 0


def test_half_precision_is_widened():
    a, b, labels = batch(dtype=torch.float32)
    wide = two_view_loss(a.bfloat16().float(), b.bfloat16().float(), labels)
    half = two_view_loss(a.bfloat16(), b.bfloat16(), labels)
    assert half.total.dtype == torch.float32
    assert torch.equal(torch.stack(half), torch.stack(wide))


def test_views():
    conv = nn.Conv2d(3, 2, 3, padding=1)
    network = nn.Sequential(conv, nn.BatchNorm2d(2))
    images = torch.rand(2, 3, 5, 7)
    plain, mirrored = two_views(network, images)
    assert network[1].num_batches_tracked == 2, "each view is a batch of its own"
    network.eval()
    plain, mirrored = two_views(network, images)
    assert torch.equal(plain, network(images))
    again, back = two_views(network, images.flip(-1))
    torch.testing.assert_close(mirrored, again.flip(-1))
    torch.testing.assert_close(plain, back.flip(-1))
    assert not torch.allclose(plain, mirrored)
    with torch.no_grad():
        conv.weight.copy_(conv.weight + conv.weight.flip(-1))  # a network that cannot tell
    torch.testing.assert_close(*two_views(network, images))


def test_both_views_in_one_call():
    """The same in eval mode; in train mode both views are one batch."""
    torch.manual_seed(0)
    network = Network("FPN", "tu-test_resnet", None).build(4)
    images = torch.randn(2, 3, 32, 48)
    norm = next(m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    network.eval()
    with torch.no_grad():
        for one, two in zip(two_views(network, images), paired_views(network, images), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
        network.train()
        two_views(network, images)
        assert norm.num_batches_tracked == 2
        paired_views(network, images)
        assert norm.num_batches_tracked == 3
