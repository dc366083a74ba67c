import math

import numpy as np
import pytest
import torch

from alseg.acquisition import blocks, committee
from alseg.acquisition.committee import CommitteeSums


def committee_of(logits, temperature=1.0):
    sums = CommitteeSums.of(logits[0], temperature)
    for opinion in logits[1:]:
        sums.add(opinion, temperature)
    return sums


def random_logits(*shape, dtype=torch.float64):
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def entropy(p):
    return -sum(q * math.log(q) for q in p if q > 0)


def slow_scores(logits, temperature):
    """All scores of one pixel from its table of logits, (T, C)."""
    powers = np.exp(logits / temperature)
    p = powers / powers.sum(axis=1, keepdims=True)
    mean = p.mean(axis=0)
    votes = np.bincount(p.argmax(axis=1), minlength=p.shape[1]) / len(p)
    best, second = sorted(mean, reverse=True)[:2]
    return {
        "predictive": entropy(mean),
        "bald": entropy(mean) - np.mean([entropy(row) for row in p]),
        "votes": entropy(votes),
        "margin": 1 - (best - second),
        "least_confidence": 1 - best,
    }


@pytest.mark.parametrize("block", [blocks._VISITED, 5])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_against_the_definitions(temperature, dtype, block, monkeypatch):
    monkeypatch.setattr(blocks, "_VISITED", block)
    logits = random_logits(6, 2, 5, 3, 4, dtype=dtype)
    sums = committee_of(logits, temperature)
    actual = {
        "predictive": committee.predictive_entropy(sums),
        "bald": committee.bald(sums),
        "votes": committee.vote_entropy(sums),
        "margin": committee.margin(sums),
        "least_confidence": committee.least_confidence(sums),
    }
    pixels = logits.double().movedim(2, -1).reshape(6, -1, 5).numpy()
    expected = [slow_scores(pixels[:, i], temperature) for i in range(pixels.shape[1])]
    for name, score in actual.items():
        assert score.shape == (2, 3, 4)
        assert score.dtype == (
            torch.float32 if dtype != torch.float64 or name == "votes" else dtype
        )
        wanted = [pixel[name] for pixel in expected]
        np.testing.assert_allclose(score.flatten(), wanted, atol=2e-6, err_msg=name)


def test_bits():
    sums = committee_of(random_logits(4, 1, 5, 3, 3))
    for soft in (False, True):
        nats, bits = (committee.vote_entropy(sums, soft, flag) for flag in (False, True))
        torch.testing.assert_close(bits * math.log(2), nats)
    torch.testing.assert_close(
        committee.vote_entropy(sums, soft=True), committee.predictive_entropy(sums)
    )


def test_one_mind():
    logits = random_logits(1, 2, 4, 3, 3, dtype=torch.float32)
    sums = committee_of(logits.expand(7, -1, -1, -1, -1))
    assert committee.bald(sums).min() >= 0, "rounding does not make it negative"
    assert committee.bald(sums).max() < 1e-6
    assert committee.vote_entropy(sums).max() == 0


def test_any_layout_in_memory():
    logits = random_logits(3, 2, 4, 3, 5, dtype=torch.float32)
    sums = committee_of(logits)
    again = committee_of([opinion.to(memory_format=torch.channels_last) for opinion in logits])
    for name in ("probabilities", "entropy", "votes"):
        torch.testing.assert_close(getattr(again, name), getattr(sums, name))


def test_shares_rounded_to_above_one():
    sums = CommitteeSums.of(torch.tensor([20.0, 0.0]).view(1, 2, 1, 1))
    sums.probabilities = torch.tensor([1.0000001, 0.0]).view(1, 2, 1, 1)
    assert committee.predictive_entropy(sums).item() == 0


def test_saturated_opinions():
    logits = torch.tensor([[500.0, -500.0], [-500.0, 500.0]]).view(2, 1, 2, 1, 1)
    sums = committee_of(logits)
    for score in (committee.bald(sums), committee.vote_entropy(sums)):
        assert score.item() == pytest.approx(math.log(2), rel=1e-6)


def test_a_tied_vote_goes_to_the_lowest_class():
    sums = committee_of(torch.zeros(3, 1, 4, 1, 1))
    assert sums.votes.flatten().tolist() == [3, 0, 0, 0]


def test_sums_keep_their_size_and_leave_the_logits_alone():
    logits = random_logits(3, 2, 4, 3, 3)
    before = logits.clone()
    sums = committee_of(logits)
    assert torch.equal(logits, before)
    assert sums.size == 3
    assert sums.probabilities.shape == sums.votes.shape == logits.shape[1:]
    torch.testing.assert_close(sums.probabilities, logits.softmax(2).sum(0))


def test_refusals():
    sums = CommitteeSums.of(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="does not fit"):
        sums.add(torch.zeros(1, 3, 2, 1))
    sums.size = 255
    with pytest.raises(ValueError, match="255"):
        sums.add(torch.zeros(1, 3, 2, 2))
