"""Tables of units on a device with kernels beside those of plain torch."""

import pytest
import torch
from torch import nn

from alseg.active import dropout, scoring, voids
from alseg.active.scoring import SCORES, ScoringModule, UnitScorer
from alseg.active.voids import VoidScoringModule
from alseg.core.errors import UserError
from alseg.nn.recipe import Recipe
from alseg.nn.segmenter import build_segmenter
from tests.kernels import as_on_a_gpu, interpreted_kernels, no_logits_at_full_size, sharp

SMALL = {"decoder_dropout": 0.5, "encoder_depth": 3}
#: Not a multiple of what the network pads to.
SIZE = (10, 15)


@pytest.fixture(scope="module", autouse=True)
def interpreted():
    with interpreted_kernels() as kernels:
        yield kernels


def module(score, outputs=3, kind=ScoringModule, **options):
    torch.manual_seed(0)
    network = sharp(build_segmenter("FPN", "resnet18", None, outputs, options=SMALL))
    scorer = UnitScorer(4, **{"num_regions": 6, "seed": 3, **options.pop("scorer", {})})
    shared = {"network": network, "num_classes": 3, "steps": 1, "recipe": Recipe(1e-2)}
    return kind(score=score, scorer=scorer, **options, **shared).eval()


def batch():
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(SIZE[0])[:, None] // 4 * 2 + torch.arange(SIZE[1]) // 8
    regions = torch.stack([ids - 1, ids.clamp(max=3)])
    image = torch.randn(2, 3, *SIZE, generator=generator)
    target = torch.randint(0, 3, (2, *SIZE), generator=generator)
    return {
        "image": image, "regions": regions, "index": torch.tensor([3, 5]), "target": target
    }  # fmt: skip


def both(module, batch, monkeypatch):
    """The tables of both ways, and the kernels that ran."""
    with torch.inference_mode():
        plain = module.predict_step(batch, 0)["units"]
        no_logits_at_full_size(module.network, monkeypatch)
        with as_on_a_gpu(scoring, dropout, voids) as ran:
            found = module.predict_step(batch, 0)["units"]
    return plain, found, ran


def same(plain, found):
    assert plain.keys() == found.keys()
    for name, column in plain.items():
        assert found[name].dtype == column.dtype, name
        if column.is_floating_point():
            torch.testing.assert_close(found[name], column, rtol=1e-6, atol=1e-5)
            assert column.std() > 1e-3  # of equal scores it would say nothing
        else:
            assert torch.equal(found[name], column), name


@pytest.mark.parametrize(
    ("score", "options"),
    [
        *((score, {}) for score in SCORES),
        ("entropy", {"reduce": "sum"}),
        ("entropy", {"reduce": "max"}),
        ("bvsb", {"num_regions": None, "power": 0.5}),
    ],
)
def test_regions(score, options, monkeypatch):
    plain, found, ran = both(module(score, scorer=options), batch(), monkeypatch)
    same(plain, found)
    assert plain["image"].tolist() == [3] * 5 + [5] * 4
    assert ran == ["score_maps" if options.get("reduce") == "max" else "score_sums"]


@pytest.mark.parametrize("score", ["class", "bvsb_and_class", "error"])
def test_classes_of_regions(score, monkeypatch):
    plain, found, ran = both(module(score), batch(), monkeypatch)
    same(plain, found)
    assert ran == ["score_maps" if score == "error" else "score_sums"]


def test_classes_at_half_size(monkeypatch):
    plain, found, _ = both(module("bvsb_and_class", scale=0.5), batch(), monkeypatch)
    same(plain, found)
    assert set(found) == {"image", "unit", "pixels", "score", "label"}


@pytest.mark.parametrize("score", ["margin", "class"])
def test_pixels(score, monkeypatch):
    pixels = {name: value for name, value in batch().items() if name != "regions"}
    plain, found, ran = both(module(score), pixels, monkeypatch)
    assert torch.equal(plain["image"], found["image"])
    assert torch.equal(plain["unit"], found["unit"])
    assert ran == ["score_maps"]


@pytest.mark.parametrize("score", ["bald", "entropy"])
def test_committees_of_regions_and_pixels(score, monkeypatch):
    both_images, one = batch(), module(score, passes=3)
    plain, found, ran = both(one, both_images, monkeypatch)
    same(plain, found)
    assert ran == ["committee"] * 2  # image by image
    assert not any(m.training for m in one.network.modules() if isinstance(m, nn.Dropout2d))
    monkeypatch.undo()
    del both_images["regions"]
    plain, found, ran = both(one, both_images, monkeypatch)
    assert torch.equal(plain["unit"], found["unit"])
    torch.testing.assert_close(found["score"], plain["score"], rtol=0, atol=1e-5)
    assert ran == ["committee"] * 2


def test_a_committee_whose_grids_do_not_fit_is_summed_as_it_speaks(monkeypatch):
    monkeypatch.setattr(dropout, "fits_together", lambda grid, opinions: False)
    plain, found, ran = both(module("bald", passes=3), batch(), monkeypatch)
    same(plain, found)
    assert not ran


def test_scores_of_somebodys_own_have_no_kernel():
    own = module(lambda logits: logits.amax(1))
    with torch.inference_mode():
        plain = own.predict_step(batch(), 0)["units"]
        with as_on_a_gpu(scoring, dropout) as ran:
            found = own.predict_step(batch(), 0)["units"]
    assert torch.equal(plain["score"], found["score"])
    assert not ran


@pytest.mark.parametrize("units", ["pixels", "regions"])
def test_a_network_with_an_output_for_void(units, monkeypatch):
    own = module("entropy", outputs=4, kind=VoidScoringModule, max_void=0.5)
    asked = batch()
    if units == "pixels":
        del asked["regions"]
    plain, found, ran = both(own, asked, monkeypatch)
    assert torch.equal(plain["unit"], found["unit"])
    torch.testing.assert_close(found["score"], plain["score"], rtol=1e-6, atol=1e-4)
    assert ran == ["score_maps"]  # whatever is made of them


def test_what_fails_leaves_dropout_off():
    one = module("bald", passes=2)
    one.network.forward = None
    with pytest.raises(TypeError):
        one.predict_step(batch(), 0)
    assert not any(m.training for m in one.network.modules())


def test_a_network_without_dropout_is_no_committee():
    with pytest.raises(UserError, match="the network has no dropout"):
        dropout.DropoutCommittee(build_segmenter("Unet", "resnet18", None, 3), 2, "bald")
