import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alseg.acquisition import fused
from alseg.acquisition.blocks import SCANNED
from alseg.acquisition.fused import grid_scores, has_kernel
from alseg.active import scoring
from alseg.active.scoring import ScoringModule, UnitScorer
from alseg.nn.recipe import Recipe
from alseg.nn.segmenter import build_segmenter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def interpreted():
    """The kernel under Triton's interpreter, which needs no GPU."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        kernels = importlib.import_module("alseg.acquisition.kernels")
        kernels = importlib.reload(kernels)
        patch.setattr(fused, "_kernels", lambda: kernels)
        yield kernels
    importlib.reload(kernels)


def grid(classes=5, h=5, w=7, images=2):
    generator = torch.Generator().manual_seed(0)
    return 4 * torch.randn(images, classes, h, w, generator=generator)


def by_hand(logits, canvas, size, temperature, align_corners):
    full = F.interpolate(logits.double(), size=canvas, mode="bilinear", align_corners=align_corners)
    p = (full[..., : size[0], : size[1]] / temperature).softmax(1)
    best = p.topk(2, 1).values
    return {
        "entropy": torch.special.entr(p).sum(1),
        "least_confidence": 1 - best[:, 0],
        "margin": 1 - (best[:, 0] - best[:, 1]),
        "bvsb": best[:, 1] / best[:, 0],
        "top1": p.argmax(1),
    }


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_both_back_ends_are_the_definition(interpreted, kernel, align_corners, temperature):
    where = (20, 28), (18, 27)  # a canvas larger than the images
    found = grid_scores(grid(), *where, SCANNED, temperature, align_corners, fused=kernel)
    expected = by_hand(grid(), *where, temperature, align_corners)
    assert list(found.maps) == list(SCANNED)
    for name, values in expected.items():
        assert found.maps[name].dtype == (torch.uint8 if name == "top1" else torch.float32)
        torch.testing.assert_close(
            found.maps[name].double(), values.double(), rtol=0, atol=5e-5, msg=name
        )


@pytest.mark.parametrize("name", ["entropy", "least_confidence", "margin", "bvsb"])
def test_sums_of_regions(interpreted, name):
    size = (16, 24)
    rng = np.random.default_rng(0)
    regions = torch.from_numpy(rng.integers(-1, 6, (2, *size)))
    one, two = (
        grid_scores(grid(), size, size, [name], regions=regions, num_regions=7, fused=kernel)
        for kernel in (False, True)
    )
    assert torch.equal(one.pixels, two.pixels)
    assert one.pixels[:, 6].tolist() == [0, 0]
    torch.testing.assert_close(one.sums, two.sums, rtol=0, atol=1e-4)
    shifted = grid_scores(
        grid().flip(0), size, size, [name], regions=regions.flip(0), num_regions=7, fused=True
    )
    assert torch.equal(shifted.sums.flip(0), two.sums)
    # integers: the same in any order of the threads
    assert torch.equal((two.sums * interpreted.SCALE).round() / interpreted.SCALE, two.sums)


def test_half_precision_is_computed_in_float32(interpreted):
    half, size = grid().half(), (10, 14)
    one, two = (grid_scores(half, size, size, ["entropy"], fused=k).maps for k in (False, True))
    torch.testing.assert_close(one["entropy"], two["entropy"], rtol=0, atol=1e-5)


def test_an_unread_size_is_left_as_it_is(interpreted):
    where = (5, 7), (5, 7)
    one, two = (grid_scores(grid(), *where, ["bvsb", "top1"], fused=k).maps for k in (False, True))
    assert torch.equal(one["top1"], two["top1"])
    torch.testing.assert_close(one["bvsb"], two["bvsb"], rtol=0, atol=1e-6)


def test_without_triton_plain_torch_does_it(monkeypatch):
    monkeypatch.setattr(fused, "_kernels", lambda: None)
    size = (10, 14)
    one, two = (grid_scores(grid(), size, size, ["margin"], fused=k).maps for k in (None, True))
    assert torch.equal(one["margin"], two["margin"])
    assert not has_kernel(CPU)


def test_the_kernel_is_tried_before_it_is_used(interpreted, monkeypatch, caplog):
    caplog.set_level("INFO")
    assert fused._agrees(CPU)

    def launch(*args):
        maps, *rest = interpreted.launch(*args)
        return {**maps, "bvsb": maps["bvsb"] + 1e-3}, *rest

    wrong = SimpleNamespace(launch=launch, SCALE=1)
    monkeypatch.setattr(fused, "_kernels", lambda: wrong)
    assert not fused._agrees(CPU)
    assert "disagrees" in caplog.text
    wrong.launch = None
    assert not fused._agrees(CPU)
    assert "cannot be built" in caplog.text


def test_a_scoring_pass_on_a_gpu_reads_the_small_grid(interpreted, monkeypatch):
    torch.manual_seed(0)
    network = build_segmenter("FPN", "resnet18", None, 3)
    shared = {"network": network, "num_classes": 3, "steps": 1, "recipe": Recipe(1e-2)}
    module = ScoringModule("entropy", UnitScorer(4, num_regions=4), **shared).eval()
    regions = (torch.arange(32) // 8).expand(1, 32, 32)
    batch = {"image": torch.randn(1, 3, 32, 32), "regions": regions, "index": torch.tensor([3])}
    with torch.inference_mode():
        plain = module.predict_step(batch, 0)["units"]
        monkeypatch.setattr(scoring, "has_kernel", lambda device: True)
        monkeypatch.setattr(fused, "has_kernel", lambda device: True)
        monkeypatch.setattr(network, "forward", None)
        found = module.predict_step(batch, 0)["units"]
    assert found["unit"].tolist() == plain["unit"].tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(found["score"], plain["score"], rtol=0, atol=1e-5)


def test_nonsense_is_refused():
    size = (10, 14)
    with pytest.raises(ValueError, match="unknown scores among"):
        grid_scores(grid(), size, size, ["entropies"])
    regions = torch.zeros(2, *size, dtype=torch.int64)
    with pytest.raises(ValueError, match="one score is summed over regions, not entropy, bvsb"):
        grid_scores(grid(), size, size, ["bvsb", "entropy"], regions=regions, num_regions=1)
