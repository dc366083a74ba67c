import math

import numpy as np
import pytest
import torch

from alseg.core.images import VOID
from alseg.methods.mulquery.losses import counts_of, pseudo_label_loss, stage_one_loss
from tests.golden.reference.mulquery import (
    merged_positive_loss,
    prototypical_pixel_loss,
    single_class_loss,
)

TAU = 0.1
TERMS = [single_class_loss, merged_positive_loss, prototypical_pixel_loss]
terms = pytest.mark.parametrize("loss", TERMS)


def batch(seed=0, images=2, classes=4, regions=6, size=(7, 9), dtype=torch.float64):
    """Random cosines, region maps, selected regions and class sets of 1, 2, 0, 3, 1, 2... classes.

    The first four regions are always selected.
    """
    random = np.random.default_rng(seed)
    ids = torch.from_numpy(random.integers(0, regions, (images, *size)))
    asked = torch.from_numpy(random.random((images, regions)) < 0.5)
    asked[:, :4] = True
    sets = torch.zeros(images, regions, classes, dtype=torch.uint8)
    for image in range(images):
        for region in range(regions):
            chosen = random.permutation(classes)[: (1, 2, 0, 3)[region % 4]]
            sets[image, region, chosen] = 1
    cosines = torch.from_numpy(random.uniform(-1, 1, (images, classes, *size))).to(dtype)
    return cosines.requires_grad_(), ids, asked.gather(1, ids.flatten(1)).view(ids.shape), sets


def slow_losses(cosines, regions, selected, targets):
    """The three formulas pixel by pixel, and the set of pairs whose maximum was taken."""
    sums, counts = [0.0, 0.0, 0.0], [1, 1, 1]
    best = {}
    for b, y, x in np.ndindex(regions.shape):
        if not selected[b, y, x]:
            continue
        powers = [math.exp(float(s) / TAU) for s in cosines[b, :, y, x]]
        p = [power / sum(powers) for power in powers]
        members = [c for c, there in enumerate(targets[b, regions[b, y, x]]) if there]
        if not members:
            continue
        term = 0 if len(members) == 1 else 1
        sums[term] -= math.log(sum(p[c] for c in members) + 1e-8)
        counts[term] += 1
        if term:
            for c in members:
                key = b, int(regions[b, y, x]), c
                best[key] = max(best.get(key, 0.0), p[c])
    sums[2] = -sum(math.log(p + 1e-8) for p in best.values())
    counts[2] += len(best)
    return [total / count for total, count in zip(sums, counts, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_against_loops(seed):
    inputs = batch(seed)
    expected = slow_losses(*(tensor.detach() for tensor in inputs))
    assert all(value > 0 for value in expected)
    actual = [float(loss(*inputs, tau=TAU).detach()) for loss in TERMS]
    assert actual == pytest.approx(expected, rel=1e-9)


def test_150_classes_against_loops():
    inputs = batch(classes=150, regions=5)
    expected = slow_losses(*(tensor.detach() for tensor in inputs))
    actual = [float(loss(*inputs, tau=TAU).detach()) for loss in TERMS]
    assert actual == pytest.approx(expected, rel=1e-9)


@terms
def test_gradient(loss):
    cosines, *rest = batch(size=(4, 5))
    assert torch.autograd.gradcheck(lambda s: loss(s, *rest, tau=TAU), (cosines,))


def test_hand_values():
    # Two classes with cosines tau and 0: p = 1 / (1 + 1/e) and its complement.
    cosines = torch.tensor([TAU, 0.0], dtype=torch.float64).view(1, 2, 1, 1)
    region = torch.zeros(1, 1, 1, dtype=torch.int64)
    everywhere = torch.ones_like(region, dtype=torch.bool)
    one, both = torch.tensor([[[1, 0]]]), torch.tensor([[[1, 1]]])
    near = {"abs": 1e-6}
    assert single_class_loss(cosines, region, everywhere, one, tau=TAU) == pytest.approx(
        0.3132617 / 2, **near
    )
    assert merged_positive_loss(cosines, region, everywhere, both, tau=TAU) == pytest.approx(
        0, **near
    )
    assert prototypical_pixel_loss(cosines, region, everywhere, both, tau=TAU) == pytest.approx(
        (0.3132617 + 1.3132617) / 3, **near
    )


def test_weighted_sum():
    """The terms are those before weighting: other weights leave them as they are."""
    inputs = batch(3)
    total, *parts = stage_one_loss(
        *inputs, tau=TAU, single_weight=16.0, merged_weight=8.0, prototype_weight=0.5
    )
    for part, loss in zip(parts, TERMS, strict=True):
        assert torch.equal(part, loss(*inputs, tau=TAU))
    assert torch.allclose(total, 16 * parts[0] + 8 * parts[1] + 0.5 * parts[2])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_is_counted_before_is_what_is_found(seed):
    cosines, regions, selected, targets = batch(seed)
    regions = regions.where(selected, -1)
    counts = counts_of(regions.to(torch.int16), targets)
    known = [one[(one >= 0) & targets[b].any(1)[one]] for b, one in enumerate(regions)]
    size = torch.cat([targets[b].sum(1)[ids] for b, ids in enumerate(known)])
    assert counts == (len(size), int(size[size > 1].sum()))
    found = []
    for told in (counts, None):
        given = cosines.detach().clone().requires_grad_()
        terms = stage_one_loss(
            given, regions, selected, targets, tau=TAU, counts=told,
            single_weight=16.0, merged_weight=8.0, prototype_weight=0.5,
        )  # fmt: skip
        terms.total.backward()
        found.append((*terms, given.grad))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@terms
def test_compact_ids(loss):
    """Only asked regions get a row; others are -1, and short images are padded with zero rows."""
    cosines, regions, selected, targets = batch(1)
    compact, rows = torch.full_like(regions, -1), []
    for image in range(len(regions)):
        ids = regions[image][selected[image]].unique()
        for row, region in enumerate(ids):
            compact[image][regions[image] == region] = row
        rows.append(targets[image, ids])
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    assert len(rows[0]) != len(rows[1])
    full = loss(cosines, regions, selected, targets, tau=TAU)
    small = loss(cosines, compact, compact >= 0, padded, tau=TAU)
    assert small == full
    gradients = [torch.autograd.grad(value, cosines)[0] for value in (full, small)]
    assert torch.equal(*gradients)


@terms
def test_without_an_element_the_loss_is_zero(loss):
    cosines, regions, selected, targets = batch()
    for mask, sets in (
        (torch.zeros_like(selected), targets),
        (selected, torch.zeros_like(targets)),
    ):
        value = loss(cosines, regions, mask, sets, tau=TAU)
        value.backward()
        assert value == 0
        assert not cosines.grad.any()


@terms
def test_empty_batch(loss):
    cosines, regions, selected, targets = (tensor[:0] for tensor in batch())
    assert loss(cosines, regions, selected, targets, tau=TAU) == 0


def test_terms_do_not_interact():
    """One region: with one class only (L1) is left, with several only (L2) and (L3)."""
    cosines, regions, *_ = batch(regions=1)
    everywhere = torch.ones_like(regions, dtype=torch.bool)
    for members, positive in (([1, 0, 0, 0], [1, 0, 0]), ([0, 1, 1, 0], [0, 1, 1])):
        sets = torch.tensor([[members], [members]])
        values = [loss(cosines, regions, everywhere, sets, tau=TAU) for loss in TERMS]
        assert [int(value > 0) for value in values] == positive


def test_the_gradient_of_a_tie_goes_to_one_pixel():
    cosines = torch.zeros(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    regions = torch.zeros(1, 2, 3, dtype=torch.int64)
    selected = torch.ones_like(regions, dtype=torch.bool)
    selected[0, 0, 0] = False  # so the first candidate is the second pixel
    sets = torch.tensor([[[1, 1, 0]]])
    prototypical_pixel_loss(cosines, regions, selected, sets, tau=TAU).backward()
    touched = cosines.grad.abs().sum(dim=1)[0] > 0
    assert touched.tolist() == [[False, True, False], [False, False, False]]


def test_a_vanished_probability_is_not_counted():
    """In float32 the second class has probability exactly 0: one pair is left."""
    cosines = torch.tensor([0.0, -20.0, -1e-3]).view(1, 3, 1, 1)
    region = torch.zeros(1, 1, 1, dtype=torch.int64)
    everywhere = torch.ones_like(region, dtype=torch.bool)
    loss = prototypical_pixel_loss(
        cosines, region, everywhere, torch.tensor([[[1, 1, 0]]]), tau=TAU
    )
    p = 1 / (1 + math.exp(-1e-2))
    assert float(loss) == pytest.approx(-math.log(p) / 2, rel=1e-5)


@terms
def test_half_precision_is_widened(loss):
    cosines, *rest = batch(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(cosines, *rest, tau=TAU)
    assert value.dtype == torch.float32
    assert value == loss(cosines.float(), *rest, tau=TAU)
    value.backward()
    assert cosines.grad.dtype == torch.bfloat16


def test_nan_is_not_hidden():
    cosines, *rest = batch()
    broken = torch.full_like(cosines, torch.nan)
    total = stage_one_loss(
        broken, *rest, tau=TAU, single_weight=1.0, merged_weight=1.0, prototype_weight=1.0
    ).total
    assert total.isnan()


def test_pseudo_labels_by_hand():
    cosines = torch.tensor([TAU, 0.0], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 1, 3)
    labels = torch.tensor([[[0, 1, VOID]]], dtype=torch.uint8)
    loss = pseudo_label_loss(cosines, labels, tau=TAU)
    assert float(loss) == pytest.approx((0.3132617 + 1.3132617) / 2, abs=1e-6)


def test_pseudo_labels_without_a_label_give_nan():
    loss = pseudo_label_loss(torch.zeros(1, 2, 1, 1), torch.full((1, 1, 1), VOID), tau=TAU)
    assert loss.isnan()


def test_pseudo_labels_gradient_and_precision():
    cosines, regions, *_ = batch(size=(3, 4))
    labels = (regions % 5).masked_fill(regions % 5 == 4, VOID)
    assert torch.autograd.gradcheck(lambda s: pseudo_label_loss(s, labels, tau=TAU), (cosines,))
    half = pseudo_label_loss(cosines.detach().bfloat16(), labels, tau=TAU)
    assert half.dtype == torch.float32
