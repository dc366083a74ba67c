import pytest
import torch

from alseg.acquisition.units import region_scores, top_pixels


def scene(seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(9, 11, generator=generator)
    regions = torch.randint(-1, 7, (9, 11), generator=generator)
    regions[regions == 4] = 2  # id 4 has no pixel
    return scores, regions


@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
def test_regions_against_a_loop(reduce):
    scores, regions = scene()
    found = region_scores(scores, regions, reduce)
    expected = [r for r in range(7) if (regions == r).any()]
    assert found.unit.tolist() == expected
    assert 4 not in expected
    for row, region in enumerate(expected):
        values = scores[regions == region]
        assert found.pixels[row] == len(values)
        want = {"mean": values.mean(), "sum": values.sum(), "max": values.max()}[reduce]
        assert float(found.score[row]) == pytest.approx(float(want), rel=1e-6)


def test_the_best_pixels_are_those_of_a_stable_sort():
    scores, _ = scene()
    scores = (scores * 4).round() / 4  # many ties
    order = sorted(range(scores.numel()), key=lambda p: (-float(scores.view(-1)[p]), p))
    for n in (0, 1, 5, 40, 99, 200):
        found = top_pixels(scores, n)
        assert found.unit.tolist() == sorted(order[:n])
        assert torch.equal(found.score, scores.view(-1)[found.unit])
        assert (found.pixels == 1).all()


def test_pixels_that_may_not_be_asked_come_last():
    scores = torch.tensor([[0.5, -torch.inf, 0.1]])
    assert top_pixels(scores, 2).unit.tolist() == [0, 2]
