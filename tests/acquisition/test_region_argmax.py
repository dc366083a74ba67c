import numpy as np
import pytest
import torch

from alseg.acquisition.statistics import region_argmax


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_against_a_loop(seed, dtype):
    random = np.random.default_rng(seed)
    values = torch.from_numpy(random.integers(-3, 3, (9, 13)) / 2).to(dtype)  # many ties
    regions = torch.from_numpy(random.integers(-1, 20, (9, 13)))
    regions[regions == 7] = 6
    found = region_argmax(values, regions, 22)
    for region in range(22):
        pixels = (regions.flatten() == region).nonzero().flatten().tolist()
        best = max(pixels, key=lambda p: (values.flatten()[p], -p), default=-1)
        assert found[region] == best
    assert found[7] == found[21] == -1


def test_lowest_values():
    values = torch.tensor([-torch.inf, -torch.inf, torch.nan, 1.0])
    regions = torch.tensor([0, 0, 1, 1])
    assert region_argmax(values, regions, 2).tolist() == [0, -1]


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_types_of_ids(dtype):
    found = region_argmax(torch.tensor([0.5, 2.0]), torch.tensor([3, 3], dtype=dtype), 4)
    assert found.tolist() == [-1, -1, -1, 1]


def test_errors_name_the_numbers():
    with pytest.raises(ValueError, match=r"found -1..4"):
        region_argmax(torch.zeros(2), torch.tensor([-1, 4]), 4)
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\) do not match"):
        region_argmax(torch.zeros(2), torch.zeros(3, dtype=torch.long), 4)
