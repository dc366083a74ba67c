"""The scores of patches on a device with kernels beside those of plain torch."""

import pytest
import torch

from alseg.methods.equal import module as equal
from alseg.methods.equal.module import TwoViews
from alseg.nn.recipe import Recipe
from alseg.nn.segmenter import build_segmenter
from tests.kernels import as_on_a_gpu, interpreted_kernels, no_logits_at_full_size, sharp


@pytest.fixture(scope="module", autouse=True)
def interpreted():
    with interpreted_kernels() as kernels:
        yield kernels


@pytest.mark.parametrize("consistency", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_patches(consistency, scale, monkeypatch):
    torch.manual_seed(0)
    network = sharp(build_segmenter("FPN", "resnet18", None, 4, options={"encoder_depth": 3}))
    shared = {"network": network, "num_classes": 3, "steps": 1, "recipe": Recipe(1e-2)}
    views = TwoViews(consistency, True, (2, 3), scale, **shared).eval()
    batch = {"image": torch.randn(2, 3, 12, 18), "index": torch.tensor([3, 5])}
    with torch.inference_mode():
        plain = views.predict_step(batch, 0)["patches"]
        no_logits_at_full_size(network, monkeypatch)
        with as_on_a_gpu(equal) as ran:
            found = views.predict_step(batch, 0)["patches"]
    assert ran == ["score_maps"]
    assert plain["score"].std() > 1e-3
    assert plain.keys() == found.keys()
    for name in ("image", "unit"):
        assert torch.equal(found[name], plain[name])
    torch.testing.assert_close(found["score"], plain["score"], rtol=0, atol=1e-5)
