from math import log

import numpy as np
import pytest
import torch

from alseg.acquisition import blocks, scores
from alseg.acquisition.scores import (
    best_vs_second_best,
    entropy,
    least_confidence,
    margin,
    pixel_scores,
)

FUNCTIONS = [entropy, least_confidence, margin, best_vs_second_best]


def reference(logits, temperature):
    """Scores of one pixel from its list of logits, in float64, by the definitions."""
    z = np.asarray(logits, np.float64) / temperature
    e = np.exp(z - z.max())
    p = e / e.sum()
    best, second = sorted(p, reverse=True)[:2]
    gain = -sum(q * log(q) for q in p if q > 0)
    return [gain, 1 - best, 1 - (best - second), second / best]


def random_logits(*shape):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("temperature", [1.0, 0.1, 2.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_match_the_definitions(temperature, dtype):
    logits = random_logits(2, 5, 3, 4).to(dtype)
    pixels = logits.double().movedim(1, -1).reshape(-1, 5)
    expected = torch.tensor([reference(z, temperature) for z in pixels], dtype=torch.float64)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for function, column in zip(FUNCTIONS, expected.T, strict=True):
        score = function(logits, temperature)
        assert score.shape == (2, 3, 4)
        assert score.dtype == (dtype if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(
            score.flatten().double(), column, atol=tolerance, rtol=10 * tolerance
        )


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_pass_equals_the_single_functions(temperature, dtype, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", 50)  # 2 x 5 x 7 x 11: blocks end inside an image
    monkeypatch.setattr(blocks, "_SHORT", 10)
    logits = random_logits(2, 5, 7, 11).to(dtype)
    fused = pixel_scores(logits, temperature)
    assert fused.top1.dtype == torch.uint8
    assert torch.equal(fused.top1.long(), logits.argmax(1))
    close = {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(fused.entropy, entropy(logits, temperature), **close)
    torch.testing.assert_close(fused.margin, margin(logits, temperature), **close)
    torch.testing.assert_close(fused.bvsb, best_vs_second_best(logits, temperature), **close)


@pytest.mark.parametrize("short", [1, 10**6])
@pytest.mark.parametrize("block", [7, 10**6])
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_one_pass_along_any_dimension(dim, block, short, monkeypatch):
    monkeypatch.setattr(blocks, "_BLOCK", block)
    monkeypatch.setattr(blocks, "_SHORT", short)
    logits = random_logits(4, 6, 5)
    fused = pixel_scores(logits, dim=dim)
    expected = torch.softmax(logits, dim).sort(dim, descending=True).values
    p1, p2 = expected.select(dim, 0), expected.select(dim, 1)
    torch.testing.assert_close(fused.margin, 1 - (p1 - p2))
    torch.testing.assert_close(fused.bvsb, p2 / p1)
    torch.testing.assert_close(fused.entropy, torch.special.entr(expected).sum(dim))
    assert torch.equal(fused.top1.long(), logits.argmax(dim))


def test_one_pass_takes_channels_last_and_leaves_its_input_alone():
    logits = random_logits(2, 5, 8, 9)
    before = logits.clone()
    expected = pixel_scores(logits, 0.5)
    strided = pixel_scores(logits.to(memory_format=torch.channels_last), 0.5)
    assert torch.equal(logits, before)
    for a, b in zip(expected, strided, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_the_kernel_equals_the_definitions(temperature):
    logits = random_logits(1, 5, 4, 10)
    logits[0, 1, 0] = logits[0, 3, 0]  # equals
    logits[0, 0, :, ::7] = -float("inf")
    for name, definition in scores._DEFINITIONS.items():
        found = scores._scores((name,), logits, temperature, 1)[name]  # on the CPU: by blocks
        torch.testing.assert_close(
            found, definition(logits / temperature, 1), atol=1e-6, rtol=1e-5, msg=name
        )


def test_a_score_that_is_learnt_from_has_its_gradient():
    logits = random_logits(1, 5, 2, 3).double().requires_grad_()
    for function in FUNCTIONS:
        assert torch.autograd.gradcheck(function, (logits,))
        assert not function(logits.detach()).requires_grad


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_the_two_best_and_the_mean_of_the_probabilities(temperature, monkeypatch):
    monkeypatch.setattr(blocks, "_VISITED", 10)  # 35 pixels an image: the last block is short
    logits = random_logits(2, 4, 5, 7)
    every = pixel_scores(logits, temperature)
    found = scores.best_two(logits, temperature, mean=True)
    assert torch.equal(found.bvsb, every.bvsb)
    assert torch.equal(found.top1, every.top1)
    expected = (logits.double() / temperature).softmax(1).mean((2, 3)).float()
    torch.testing.assert_close(found.mean, expected)
    without = scores.best_two(logits, temperature)
    assert torch.equal(without.bvsb, every.bvsb)
    assert without.mean.isnan().all()


@pytest.mark.parametrize("classes", [1, 2, 255])
def test_the_most_probable_class_is_argmax(classes):
    logits = random_logits(2, classes, 9, 4).round()  # many equals
    assert torch.equal(scores.most_probable(logits).long(), logits.argmax(1))
    crop = logits[:, : max(1, classes - 1), :5]  # not contiguous
    assert torch.equal(scores.most_probable(crop).long(), crop.argmax(1))
    assert torch.equal(scores.most_probable(logits[0], dim=0).long(), logits[0].argmax(0))


def test_one_pixel_and_no_pixel():
    assert pixel_scores(torch.tensor([0.0, 3.0]), dim=0).top1.item() == 1
    assert pixel_scores(torch.zeros(0, 3)).entropy.shape == (0,)
    assert pixel_scores(torch.zeros(2, 3, 0, 4)).margin.shape == (2, 0, 4)


def test_hand_values():
    logits = torch.tensor([[0.0, log(2.0), log(5.0)]])  # p = 1/8, 2/8, 5/8
    assert margin(logits).item() == pytest.approx(5 / 8)
    assert best_vs_second_best(logits).item() == pytest.approx(2 / 5)
    assert least_confidence(logits).item() == pytest.approx(3 / 8)
    assert entropy(logits).item() == pytest.approx(log(8) / 8 + 2 / 8 * log(4) + 5 / 8 * log(8 / 5))
    fused = pixel_scores(logits)
    assert fused.margin.item() == pytest.approx(5 / 8)
    assert fused.bvsb.item() == pytest.approx(2 / 5)
    assert fused.top1.item() == 2


def all_scores(logits):
    fused = pixel_scores(logits)
    return [f(logits) for f in FUNCTIONS], [fused.entropy, fused.margin, fused.bvsb]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rest", [-500.0, -float("inf")])
def test_saturated_pixels_are_certain_and_finite(dtype, rest):
    logits = torch.full((1, 4, 2, 2), rest, dtype=dtype)
    logits[:, 2] = 500
    single, fused = all_scores(logits)
    for score in single + fused:
        assert torch.equal(score, torch.zeros(1, 2, 2))
    assert (pixel_scores(logits).top1 == 2).all()


@pytest.mark.parametrize("level", [0.0, 500.0, -500.0])
def test_uniform_pixels_are_as_uncertain_as_can_be(level):
    logits = torch.full((1, 4, 2, 2), level)
    single, fused = all_scores(logits)
    for score, value in zip(single + fused, [log(4), 0.75, 1, 1, log(4), 1, 1], strict=True):
        torch.testing.assert_close(score, torch.full((1, 2, 2), float(value)))
    assert (pixel_scores(logits).top1 == 0).all(), "the lowest class among equals"


def test_ratio_survives_where_probabilities_underflow():
    logits = torch.tensor([[0.0, 60.0, 20.0]])
    assert best_vs_second_best(logits).item() == pytest.approx(np.exp(-40.0), rel=1e-5)
    assert pixel_scores(logits).bvsb.item() == pytest.approx(np.exp(-40.0), rel=1e-5)
    far = torch.tensor([[0.0, 500.0, 499.0]])  # p of the third, exp(-500), is no float32
    assert best_vs_second_best(far).item() == pytest.approx(np.exp(-1.0), rel=1e-5)


def test_ruled_out_classes_count_as_absent():
    logits = random_logits(3, 4, 5)
    logits[:, 1] = -float("inf")
    rest = logits[:, [0, 2, 3]]
    for scores_of_all, scores_of_rest in zip(all_scores(logits), all_scores(rest), strict=True):
        for a, b in zip(scores_of_all, scores_of_rest, strict=True):
            torch.testing.assert_close(a, b)


def test_nan_stays_visible():
    logits = random_logits(1, 4, 2)
    logits[0, 3, 1] = float("nan")
    single, fused = all_scores(logits)
    for score in single + fused:
        assert score.isnan().tolist() == [[False, True]]
    assert (pixel_scores(logits).top1 < 4).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients(function):
    logits = random_logits(2, 4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: function(z, 0.7), (logits,))


def test_gradient_of_entropy_with_a_ruled_out_class_is_finite():
    logits = torch.tensor([[1.0, 2.0, -float("inf")]], requires_grad=True)
    entropy(logits).sum().backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("function", [*FUNCTIONS, pixel_scores])
def test_bad_arguments(function):
    with pytest.raises(ValueError, match=r"temperature must be > 0, not 0"):
        function(torch.zeros(1, 3, 2), 0)
    if function not in (entropy, least_confidence):
        with pytest.raises(ValueError, match="at least 2 classes, not 1"):
            function(torch.zeros(1, 1, 2))


def test_class_ids_fit_uint8():
    assert pixel_scores(torch.arange(255.0)[None]).top1.item() == 254
    with pytest.raises(ValueError, match="at most 255 classes, not 256"):
        pixel_scores(torch.zeros(1, 256))
