import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alseg.core.images import VOID
from alseg.methods.als4gan.mlmt import (
    consistency,
    consistency_weight,
    fuse,
    mlmt_loss,
    teacher_decay,
    update_teacher,
)
from tests.golden.reference.als4gan import (
    background_first,
    confusion,
    fuse_with_zeros,
    metrics,
    predict,
)


def blocks(size, cell, classes=5):
    cells = np.random.default_rng(0).integers(0, classes, (-(-size // cell),) * 2)
    return torch.from_numpy(cells.repeat(cell, 0).repeat(cell, 1)[:size, :size].copy())


def test_padding_is_cut_off():
    truth = blocks(32, 4)
    padded = F.pad(truth, (0, 8, 0, 8), value=4)
    logits = F.one_hot(padded, 5).movedim(-1, 0)[None].float()
    guess = predict(logits, (40, 40), (32, 32))[0]
    assert torch.equal(guess, truth), "a perfect network is perfect"
    wrong = predict(logits, (40, 40), (32, 32), stretched=True)[0]
    assert (wrong == truth).float().mean() < 0.6


def slow_metrics(guess, truth, num_classes):
    iou, accuracy, hits = {}, {}, 0
    known = [(g, t) for g, t in zip(guess, truth, strict=True) if 0 <= t < num_classes]
    for c in range(num_classes):
        hit = sum(g == t == c for g, t in known)
        present, said = sum(t == c for _, t in known), sum(g == c for g, _ in known)
        hits += hit
        iou[c] = hit / (present + said - hit) if present + said else math.nan
        accuracy[c] = (hit / present, present) if present else None
    there = [c for c in iou if accuracy[c]]
    return (
        hits / len(known),
        sum(accuracy[c][0] for c in there) / len(there),
        sum(iou[c] for c in there) / len(there),
        sum(iou[c] * accuracy[c][1] for c in there) / len(known),
        list(iou.values()),
        sum(iou[c] for c in iou if iou[c] > 0) / num_classes,
    )


@pytest.mark.parametrize("seed", range(3))
def test_metrics_against_loops(seed):
    random = np.random.default_rng(seed)
    # Class 4 is only predicted, class 5 is nowhere.
    guess, truth = random.integers(0, 5, 60), random.integers(0, 4, 60)
    truth[random.random(60) < 0.2] = VOID
    result = metrics(confusion(guess, truth, 6))
    for own, wanted in zip(result, slow_metrics(guess, truth, 6), strict=True):
        np.testing.assert_allclose(own, wanted, rtol=1e-12)
    assert math.isnan(result.iou[5])
    assert result.iou[4] == 0
    half = [confusion(guess[part], truth[part], 6) for part in (slice(30), slice(30, 60))]
    np.testing.assert_array_equal(confusion(guess, truth, 6), half[0] + half[1])


def test_nothing_to_count():
    result = metrics(confusion(np.zeros(3, int), np.full(3, VOID), 2))
    assert all(math.isnan(value) for value in (*result[:4], *result.iou))
    assert result.s4gan_mean_iou == 0


# Mean teacher


def test_consistency_against_loops():
    torch.manual_seed(0)
    student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    cosines = [
        sum(a * b for a, b in zip(s, t, strict=True)) / math.hypot(*s) / math.hypot(*t)
        for s, t in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    loss = consistency(student, teacher)
    assert float(loss.detach()) == pytest.approx(1 - sum(cosines) / 4, rel=1e-9)
    assert torch.autograd.gradcheck(lambda s: consistency(s, teacher), (student,))
    loss.backward()
    assert teacher.grad is None
    zeros = torch.zeros(1, 3, requires_grad=True)
    consistency(zeros, torch.ones(1, 3)).backward()
    assert zeros.grad.isfinite().all()


def test_mean_teacher_loss():
    logits, present = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1, 0]])
    supervised = -(math.log(0.5) + math.log(0.25)) / 2
    strong, weak = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    for weight in (0.0, 0.3):
        loss = mlmt_loss(logits, present, strong, weak, weight)
        assert float(loss) == pytest.approx(supervised + weight)


def test_weights_of_the_mean_teacher():
    weights = [consistency_weight(epoch, 20, burn_in=3) for epoch in range(20)]
    assert weights[:5] == pytest.approx([0, 0, 0, 0, 0.1])
    assert weights[13:] == [1.0] * 7
    decays = [teacher_decay(step) for step in (1, 2, 998, 999, 5000)]
    assert decays == pytest.approx([1 / 2, 2 / 3, 998 / 999, 0.999, 0.999])


def test_teacher_follows_in_its_parameters_alone():
    student, teacher = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    student(torch.randn(8, 2))
    before = teacher[0].weight.detach().clone()
    update_teacher(teacher, student, 0.75)
    torch.testing.assert_close(teacher[0].weight, 0.75 * before + 0.25 * student[0].weight)
    assert not teacher[1].running_mean.any()
    assert student[1].running_mean.any()


def test_absent_classes_cannot_win():
    logits = torch.tensor([-3.0, -1.0, -2.0]).view(1, 3, 1, 1)
    present = torch.tensor([[0.2, 0.199, 0.9]])
    assert fuse(logits, present).argmax(1).item() == 2
    assert fuse_with_zeros(logits, present).argmax(1).item() == 1
    none = torch.zeros(1, 3)
    assert torch.equal(fuse(logits, none), logits)


def test_moved_columns():
    values = torch.arange(6).view(2, 3)
    assert background_first(values).tolist() == [[2, 0, 1], [5, 3, 4]]
    assert background_first(values, across_images=True).tolist() == [[5, 0, 1], [2, 3, 4]]
