"""The pool scored on central squares (section 5.1, on VOC)."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from alseg.active.driver import drive
from alseg.core.errors import UserError
from alseg.labels.tables import Query
from alseg.methods.mulquery.method import MulQuery
from alseg.methods.mulquery.module import centred
from tests.toys import toy_run

SHORT = {
    **{"steps": 4, "batch_size": 2, "epoch_steps": 2, "lr": 1e-3, "head_factor": 1.0},
    **{"stage_two": False},
}


@pytest.mark.parametrize(("size", "side"), [((30, 47), 24), ((47, 30), 36), ((20, 20), 20)])
def test_squares_are_those_of_torchvision(size, side):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, *size, generator=generator)
    regions = torch.arange(2 * size[0] * size[1]).reshape(2, *size)
    found, near = centred(images, regions, side)
    cut, bilinear = v2.CenterCrop(side), v2.Resize(side, antialias=True)
    nearest = v2.Resize(side, interpolation=v2.InterpolationMode.NEAREST_EXACT)
    torch.testing.assert_close(found, cut(bilinear(images)), atol=1e-5, rtol=0)
    assert torch.equal(near, cut(nearest(regions)))
    assert found.shape == (2, 3, side, side)


def test_regions_outside_are_asked_in_the_first_round_alone(tmp_path):
    """Images of 32 x 48: the central square of 32 begins at column 8, a region of 8 x 8 in."""
    run = toy_run(tmp_path, rounds=3, method=MulQuery(**SHORT, score_centre=32), amount=40.0)
    drive(run)
    outside = []
    for round in range(3):
        query = Query.load(tmp_path / f"round_{round:03d}" / "query.npz")
        column = query.unit % 6  # of six regions side by side
        outside.append(int(np.isin(column, (0, 5)).sum()))
    assert outside[0] > 0
    assert outside[1:] == [0, 0]


def test_a_square_of_nothing_is_refused():
    with pytest.raises(UserError, match="score_centre is 0; give pixels, such as 513"):
        MulQuery(score_centre=0)
