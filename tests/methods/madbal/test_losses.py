import math

import pytest
import torch

from alseg.core.images import VOID
from alseg.methods.madbal.losses import (
    class_losses,
    class_thresholds,
    class_weights,
    detector_loss,
    hard_labels,
    phase_two_loss,
    pixel_cross_entropy,
    weighted_cross_entropy,
)
from alseg.methods.madbal.schedule import phase_one_lr

C = 4


def batch(seed=0, dtype=torch.float64, size=(2, 5, 6)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size[0], C, *size[1:], generator=generator, dtype=dtype)
    labels = torch.randint(0, C, size, generator=generator)
    labels[torch.rand(size, generator=generator) < 0.4] = VOID
    return logits, labels


def slow_cross_entropy(logits, labels, weights):
    total = weight = 0.0
    for image, y, x in (labels != VOID).nonzero().tolist():
        scores, label = logits[image, :, y, x].tolist(), int(labels[image, y, x])
        loss = math.log(sum(math.exp(s) for s in scores)) - scores[label]
        total += weights[label] * loss
        weight += weights[label]
    return total / weight


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_weighted_cross_entropy_against_a_loop(dtype):
    logits, labels = batch()
    weights = torch.tensor([0.2, 1.0, 0.5, 0.9], dtype=torch.float64)
    loss = weighted_cross_entropy(logits, labels.to(dtype), weights)
    assert float(loss) == pytest.approx(slow_cross_entropy(logits, labels, weights.tolist()))


def test_weighted_cross_entropy_by_hand():
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 0, 0, 1] = math.log(3)  # probabilities 1/2, 1/2 and 3/4, 1/4
    labels = torch.tensor([[[0, 1]]])
    loss = weighted_cross_entropy(logits, labels, torch.tensor([0.25, 0.75]))
    assert float(loss) == pytest.approx(0.25 * math.log(2) + 0.75 * math.log(4))


def test_gradients():
    logits, labels = batch(size=(1, 2, 3))
    weights = torch.tensor([0.2, 1.0, 0.5, 0.9], dtype=torch.float64)
    logits.requires_grad_()
    torch.autograd.gradcheck(lambda x: weighted_cross_entropy(x, labels, weights), logits)
    hard, edges = torch.tensor([[[0, 1, VOID], [1, 0, 1]]]), torch.tensor([[[1, 0, 1], [1, 0, 0]]])
    outputs = torch.randn(1, 2, 2, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: sum(detector_loss(x, hard, edges)), outputs)


@pytest.mark.parametrize("case", ["no label", "weight 0"])
def test_nothing_to_learn_from(case):
    logits, labels = batch()
    labels = torch.full_like(labels, VOID) if case == "no label" else torch.zeros_like(labels)
    weights = class_weights(torch.bincount(labels[labels != VOID], minlength=C))
    assert weights.tolist() == ([1, 1, 1, 1] if case == "no label" else [0, 1, 1, 1])
    logits.requires_grad_()
    loss = weighted_cross_entropy(logits, labels, weights)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_weights_of_classes():
    assert class_weights(torch.tensor([3, 0, 1])).tolist() == [0.25, 1.0, 0.75]


def test_thresholds_are_means_over_the_pool():
    batches = [batch(seed) for seed in range(3)]
    for _, labels in batches:
        labels[labels == 2] = VOID
    parts = [class_losses(*pair) for pair in batches]
    thresholds = class_thresholds(*(sum(column) for column in zip(*parts, strict=True)))
    losses = torch.cat([pixel_cross_entropy(*pair) for pair in batches])
    labels = torch.cat([labels for _, labels in batches])
    for label in (0, 1, 3):
        assert float(thresholds[label]) == pytest.approx(float(losses[labels == label].mean()))
    assert thresholds[2].isnan()


def test_hard_labels_by_hand():
    losses = torch.tensor([[[1.0, 1.5, 2.0, 9.0, 9.0, 9.0]]])
    labels = torch.tensor([[[0, 0, 0, 1, 2, VOID]]], dtype=torch.uint8)
    found = hard_labels(losses, labels, torch.tensor([1.5, 20.0, torch.nan]))
    assert found.tolist() == [[[0, 0, 1, 0, 0, VOID]]]
    assert found.dtype == torch.uint8


def test_losses_of_void_pixels_are_zero():
    logits, labels = batch()
    losses = pixel_cross_entropy(logits, labels)
    assert not losses[labels == VOID].any()
    assert (losses[labels != VOID] > 0).all()


def slow_detector(probabilities, hard, edges):
    terms = {True: [], False: []}
    for image, y, x in (hard != VOID).nonzero().tolist():
        edge = bool(edges[image, y, x])
        p = float(probabilities[image, 0 if edge else 1, y, x])
        terms[edge].append(-math.log(p if hard[image, y, x] else 1 - p))
    return [sum(terms[kind]) / len(terms[kind]) for kind in (True, False)]


def detector_batch():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 2, 4, 5, generator=generator, dtype=torch.float64)
    hard = torch.randint(0, 3, (2, 4, 5), generator=generator)
    hard[hard == 2] = VOID
    return logits, hard.to(torch.uint8), torch.rand(2, 4, 5, generator=generator) < 0.5


def test_detector_against_a_loop():
    logits, hard, edges = detector_batch()
    found = detector_loss(logits, hard, edges)
    expected = slow_detector(logits.sigmoid(), hard, edges)
    assert [float(term) for term in found] == pytest.approx(expected)
    assert [float(t) for t in detector_loss(logits, hard, edges.int())] == pytest.approx(expected)


@pytest.mark.parametrize("edge", [True, False])
def test_a_kind_of_pixel_that_is_not_there(edge):
    logits, hard, _ = detector_batch()
    logits.requires_grad_()
    edges = torch.full(hard.shape, edge)
    found = detector_loss(logits, hard, edges)
    sum(found).backward()
    assert found[edge] == 0  # interior is missing where all is edge, and the other way round
    assert found[not edge] > 0
    assert not logits.grad[:, int(edge)].any()
    assert logits.grad[:, int(not edge)].any()
    nothing = detector_loss(logits, torch.full_like(hard, VOID), edges)
    assert nothing.edge == nothing.interior == 0


def test_sure_and_wrong_outputs_have_a_finite_loss():
    logits = torch.tensor([200.0, -200.0]).reshape(1, 2, 1, 1).requires_grad_()
    found = detector_loss(logits, torch.tensor([[[0]]]), torch.tensor([[[True]]]))
    assert found.edge == 200


def test_phase_two_is_the_sum_of_its_terms():
    logits, hard, edges = detector_batch()
    labels = torch.where(hard == VOID, VOID, torch.arange(5) % C)
    generator = torch.Generator().manual_seed(2)
    auxiliary = [torch.randn(2, C, 4, 5, generator=generator, dtype=torch.float64) for _ in "abc"]
    weights = torch.tensor([0.2, 1.0, 0.5, 0.9], dtype=torch.float64)
    found = phase_two_loss(logits, auxiliary, labels, hard, edges, weights)
    edge, interior = slow_detector(logits.sigmoid(), hard, edges)
    depths = [slow_cross_entropy(maps, labels, weights.tolist()) for maps in auxiliary]
    assert found.auxiliary.tolist() == pytest.approx(depths)
    wanted = edge + interior + 0.05 * depths[0] + 0.1 * depths[1] + 0.15 * depths[2]
    assert float(found.total) == pytest.approx(wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    logits, labels = batch(dtype=torch.float32)
    weights = torch.ones(C)
    narrow = weighted_cross_entropy(logits.to(dtype), labels, weights)
    assert narrow.dtype == torch.float32
    wide = weighted_cross_entropy(logits.to(dtype).float(), labels, weights)
    assert narrow == wide
    outputs, hard, edges = detector_batch()
    assert detector_loss(outputs.to(dtype), hard, edges).edge.dtype == torch.float32


def test_rates():
    late = [phase_one_lr(step, epochs=3, epoch_steps=2, base=1.0) for step in range(7)]
    powers = [(1 - n / 6) ** 0.9 for n in (3, 4, 5, 6, 6, 6)]
    assert late == pytest.approx([1.0, *powers])
    assert late[4] == 0, "after two of the three epochs"
