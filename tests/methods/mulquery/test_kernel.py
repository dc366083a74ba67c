"""The table of a pass on a device with kernels beside that of plain torch."""

import pytest
import torch

from alseg.methods.mulquery import module as mulquery
from alseg.methods.mulquery.module import StageOne
from alseg.nn.recipe import Recipe
from alseg.nn.segmenter import build_segmenter
from tests.kernels import as_on_a_gpu, interpreted_kernels, no_logits_at_full_size


@pytest.fixture(scope="module", autouse=True)
def interpreted():
    with interpreted_kernels() as kernels:
        yield kernels


@pytest.mark.parametrize(("num_regions", "centre"), [(None, None), (7, 10)])
def test_the_table_and_the_prior(num_regions, centre, monkeypatch):
    """Cosines divided by 0.1: three classes and one that stands for none of them."""
    torch.manual_seed(0)
    small = {"encoder_depth": 3}
    network = build_segmenter("FPN", "resnet18", None, 4, cosine=True, options=small)
    shared = {"network": network, "num_classes": 3, "steps": 1, "recipe": Recipe(1e-2)}
    stage = StageOne(0.1, (16.0, 8.0, 1.0), num_regions, centre, **shared).eval()
    ids = torch.arange(11)[:, None] // 4 * 2 + torch.arange(14) // 7
    batch = {
        "image": 3 * torch.randn(2, 3, 11, 14),
        "regions": torch.stack([ids - 1, ids.clamp(max=3)]),
        "index": torch.tensor([3, 5]),
    }
    with torch.inference_mode():
        plain = stage.predict_step(batch, 0)
        no_logits_at_full_size(network, monkeypatch)
        with as_on_a_gpu(mulquery) as ran:
            found = stage.predict_step(batch, 0)
    assert ran == ["score_sums"]
    assert plain["regions"]["label"].unique().numel() > 1
    assert {3, 5} == set(plain["regions"]["image"].tolist())
    for table in ("regions", "images"):
        assert plain[table].keys() == found[table].keys()
        for name, column in plain[table].items():
            assert found[table][name].dtype == column.dtype, name
            torch.testing.assert_close(
                found[table][name], column, rtol=0, atol=2e-5 * column.is_floating_point(), msg=name
            )
