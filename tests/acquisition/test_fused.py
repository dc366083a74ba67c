"""Both back ends beside the definitions in float64."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alseg.acquisition import fused
from alseg.acquisition.blocks import SCANNED
from alseg.acquisition.committee import COMMITTEE_SCORES
from alseg.acquisition.fused import (
    SUMMED,
    Grid,
    committee_map,
    committee_sums,
    fits_together,
    grid_scores,
    grid_sums,
    has_kernel,
)
from tests.kernels import as_on_a_gpu, interpreted_kernels

CPU = torch.device("cpu")
#: A canvas larger than the images.
PADDED = (8, 13), (6, 11)


@pytest.fixture(scope="module")
def interpreted():
    with interpreted_kernels() as kernels:
        yield kernels


def logits(classes=4, h=5, w=7, images=2):
    generator = torch.Generator().manual_seed(0)
    return 4 * torch.randn(images, classes, h, w, generator=generator)


def grid(canvas, size, align_corners=False, of=None):
    return Grid(logits() if of is None else of, canvas, size, align_corners)


def ids(size, images=2, highest=5, dtype=torch.int64):
    rng = np.random.default_rng(0)
    coarse = rng.integers(-1, highest + 1, (images, *size)).repeat(3, 1).repeat(3, 2)
    found = torch.from_numpy(coarse[:, : size[0], : size[1]].copy())
    return (found.clamp(min=0) if dtype == torch.uint8 else found).to(dtype)


def probabilities(found, temperature=1.0):
    """(B, C, H, W), float64."""
    full = found.logits.double()
    if full.shape[-2:] != found.canvas:
        how = {"mode": "bilinear", "align_corners": found.align_corners}
        # a class that is ruled out everywhere is nowhere between
        full = F.interpolate(full.clamp(min=-1e300), size=found.canvas, **how)
    height, width = found.size
    return (full[..., :height, :width] / temperature).softmax(1)


def by_hand(p):
    best = p.topk(2, 1).values
    return {
        "entropy": torch.special.entr(p).sum(1),
        "least_confidence": 1 - best[:, 0],
        "margin": 1 - (best[:, 0] - best[:, 1]),
        "bvsb": best[:, 1] / best[:, 0],
        "top1": p.argmax(1),
    }


def sums_by_hand(score, top1, regions, num_regions, classes):
    """Sums and counts, (B, R, C), pixel by pixel."""
    sums = np.zeros((len(regions), num_regions, classes))
    counts = np.zeros((len(regions), num_regions, classes), np.int64)
    for place in np.ndindex(*regions.shape):
        if (region := int(regions[place])) >= 0:
            sums[place[0], region, top1[place]] += float(score[place])
            counts[place[0], region, top1[place]] += 1
    return torch.from_numpy(sums), torch.from_numpy(counts)


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_maps_are_the_definition(interpreted, kernel, align_corners, temperature):
    pixels = grid(*PADDED, align_corners)
    found = grid_scores(pixels, SCANNED, temperature, fused=kernel)
    assert list(found) == list(SCANNED)
    for name, values in by_hand(probabilities(pixels, temperature)).items():
        assert found[name].dtype == (torch.uint8 if name == "top1" else torch.float32)
        torch.testing.assert_close(
            found[name].double(), values.double(), rtol=0, atol=5e-5, msg=name
        )


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("score", SUMMED)
def test_sums_are_the_definition(interpreted, kernel, align_corners, score):
    pixels, regions = grid(*PADDED, align_corners), ids(PADDED[1])
    values = by_hand(probabilities(pixels))
    sums, counts = sums_by_hand(values[score], values["top1"], regions, 7, 4)
    found = grid_sums(pixels, score, regions, 7, fused=kernel)
    assert torch.equal(found.pixels, counts.sum(2))
    assert found.pixels[:, 6].tolist() == [0, 0]
    torch.testing.assert_close(found.sums, sums.sum(2), rtol=0, atol=1e-4)
    assert found.mean.shape == (2, 0)


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize(
    ("align_corners", "temperature", "dtype"),
    [(False, 0.1, torch.int32), (True, 1.0, torch.int64), (False, 2.0, torch.uint8)],
)
def test_sums_of_classes_and_the_mean(interpreted, kernel, align_corners, temperature, dtype):
    pixels, regions = grid(*PADDED, align_corners), ids(PADDED[1], dtype=dtype)
    p = probabilities(pixels, temperature)
    values = by_hand(p)
    sums, counts = sums_by_hand(values["bvsb"], values["top1"], regions, 9, 4)
    found = grid_sums(pixels, "bvsb", regions, 9, temperature, True, True, fused=kernel)
    assert torch.equal(found.pixels, counts)
    torch.testing.assert_close(found.sums, sums, rtol=0, atol=1e-4)
    torch.testing.assert_close(found.mean.double(), p.mean((2, 3)), rtol=0, atol=1e-6)


def test_sums_do_not_depend_on_the_order_of_threads(interpreted):
    size = (5, 18)  # four programs
    pixels, regions = grid(size, size), ids(size)
    one = grid_sums(pixels, "entropy", regions, 7, by_class=True, mean=True, fused=True)
    turned = Grid(pixels.logits.flip(0), size, size)
    two = grid_sums(turned, "entropy", regions.flip(0), 7, by_class=True, mean=True, fused=True)
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.flip(0), b)
    # integers: the same in any order
    scale = interpreted.SCALE
    assert torch.equal((one.sums * scale).round() / scale, one.sums)


@pytest.mark.parametrize("score", COMMITTEE_SCORES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("kernel", [False, True])
def test_a_committee_is_the_definition(interpreted, score, align_corners, kernel):
    opinions = Grid(logits(images=3), (8, 12), (7, 11), align_corners)
    p = probabilities(opinions)
    votes = F.one_hot(p.argmax(1), 4).movedim(-1, 1).double().mean(0, keepdim=True)
    values = by_hand(p.mean(0, keepdim=True))
    values["bald"] = values["entropy"] - torch.special.entr(p).sum(1).mean(0, keepdim=True)
    values["vote_entropy"] = torch.special.entr(votes).sum(1)
    found = committee_map(opinions, score, fused=kernel)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), values[score][0], rtol=0, atol=5e-6)

    regions = ids((7, 11), images=1)
    sums, counts = sums_by_hand(values[score], values["top1"], regions, 8, 4)
    summed = committee_sums(opinions, score, regions[0], 8, fused=kernel)
    assert torch.equal(summed.pixels, counts.sum(2))
    torch.testing.assert_close(summed.sums, sums.sum(2), rtol=0, atol=1e-4)


@pytest.mark.parametrize("opinions", [1, 2, 5])
def test_committees_of_any_size(interpreted, opinions):
    one, two = (
        committee_map(Grid(logits(images=opinions), (6, 7), (6, 7)), "bald", fused=kernel)
        for kernel in (False, True)
    )
    torch.testing.assert_close(one, two, rtol=0, atol=2e-6)


@pytest.mark.filterwarnings("ignore:invalid value")  # what weighs nothing is read all the same
@pytest.mark.parametrize(
    ("canvas", "align_corners"), [((5, 7), False), ((9, 14), False), ((9, 13), True)]
)
def test_classes_that_are_ruled_out(interpreted, canvas, align_corners):
    """Logits of -inf, also where a pixel lies on a cell and its neighbours weigh nothing."""
    some = logits()
    some[:, 1] = -torch.inf
    pixels = grid(canvas, canvas, align_corners, some)
    p = probabilities(pixels)
    found = grid_scores(pixels, SCANNED, fused=True)
    for name, values in by_hand(p).items():
        torch.testing.assert_close(
            found[name].double(), values.double(), rtol=0, atol=5e-5, msg=name
        )
    regions = ids(canvas)
    summed = grid_sums(pixels, "margin", regions, 6, by_class=True, mean=True, fused=True)
    assert summed.pixels[:, :, 1].sum() == 0
    torch.testing.assert_close(summed.mean.double(), p.mean((2, 3)), rtol=0, atol=1e-6)
    bald = committee_map(pixels, "bald", fused=True)
    each = torch.special.entr(p).sum(1).mean(0)
    expected = torch.special.entr(p.mean(0)).sum(0) - each
    torch.testing.assert_close(bald.double(), expected, rtol=0, atol=5e-6)


def test_no_number_is_told(interpreted):
    """A NaN logit makes its own pixel, region and image NaN, and no other."""
    size = (5, 7)
    some = logits()
    some[1, 2, 3, 4] = torch.nan
    pixels, regions = grid(size, size, of=some), torch.arange(5)[:, None].expand(2, 5, 7)
    for name in ("entropy", "bvsb"):
        maps = grid_scores(pixels, [name], fused=True)[name]
        assert maps.isnan().nonzero().tolist() == [[1, 3, 4]], name
        found = grid_sums(pixels, name, regions, 6, mean=True, fused=True)
        assert found.sums.isnan().nonzero().tolist() == [[1, 3]], name
        assert found.pixels[:, :5].eq(7).all()
        assert found.mean.isnan().all(1).tolist() == [False, True]
    scored = committee_map(pixels, "entropy", fused=True)
    assert scored.isnan().nonzero().tolist() == [[3, 4]]
    summed = committee_sums(pixels, "entropy", regions[0], 6, fused=True)
    assert summed.sums.isnan().nonzero().tolist() == [[0, 3]]
    assert summed.mean.shape == (1, 0)


def test_a_count_holds_as_many_broken_pixels_as_a_sum_has_room_for(interpreted):
    """2^27 of them, as many as a region may have."""
    pixels = 2**27
    counts = torch.tensor([[pixels * (interpreted.BROKEN + 1), pixels]])
    found = SimpleNamespace(sums=torch.zeros_like(counts), counts=counts, stray=torch.tensor(0))
    told = fused._checked(interpreted, found)
    assert told.sums.isnan().tolist() == [[True, False]]
    assert told.pixels.tolist() == [[pixels, pixels]]


def test_half_precision_is_computed_in_float32(interpreted):
    size = (10, 14)
    half = grid(size, size, of=logits().half())
    one, two = (grid_scores(half, ["entropy"], fused=k)["entropy"] for k in (False, True))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    one, two = (committee_map(half, "bald", fused=k) for k in (False, True))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)


def test_double_precision_is_not_for_kernels(interpreted):
    size = (10, 14)
    double, regions = grid(size, size, of=logits().double()), ids(size)
    with as_on_a_gpu() as ran:
        maps = grid_scores(double, ["bvsb"])
        sums = grid_sums(double, "bvsb", regions, 6, mean=True)
        scores = committee_map(double, "bald")
    assert not ran
    assert maps["bvsb"].dtype == scores.dtype == torch.float64
    values = by_hand(probabilities(double))["bvsb"]
    torch.testing.assert_close(maps["bvsb"], values, rtol=0, atol=1e-12)
    places = regions[0] == 2
    torch.testing.assert_close(sums.sums[0, 2], values[0][places].sum(), rtol=0, atol=1e-10)


def test_an_unread_size_is_left_as_it_is(interpreted):
    pixels = grid((5, 7), (5, 7))
    one, two = (grid_scores(pixels, ["bvsb", "top1"], fused=k) for k in (False, True))
    assert torch.equal(one["top1"], two["top1"])
    torch.testing.assert_close(one["bvsb"], two["bvsb"], rtol=0, atol=1e-6)


def test_without_triton_plain_torch_does_it(monkeypatch):
    monkeypatch.setattr(fused, "_kernels", lambda: None)
    pixels = grid((10, 14), (10, 14))
    one, two = (grid_scores(pixels, ["margin"], fused=k)["margin"] for k in (None, True))
    assert torch.equal(one, two)
    assert not has_kernel(CPU)


@pytest.mark.parametrize(
    ("kernel", "name"),
    [("maps", "score_maps"), ("sums", "score_sums"), ("committee", "committee")],
)
def test_each_kernel_is_tried_before_it_is_used(interpreted, monkeypatch, caplog, kernel, name):
    caplog.set_level("INFO")
    said = []

    def heard(*args):
        said.append(getattr(interpreted, name)(*args))
        return said[-1]

    def changed(*args):
        found = said.pop(0)
        if name == "score_maps":
            return {**found, "bvsb": found["bvsb"] + 1e-3}
        if name == "score_sums":  # the last has the means
            return found._replace(shares=found.shares + interpreted.SCALE // 100)
        return found[0] + 1e-3, found[1]

    ours = SimpleNamespace(SCALE=interpreted.SCALE, BROKEN=interpreted.BROKEN)
    setattr(ours, name, heard)
    monkeypatch.setattr(fused, "_kernels", lambda: ours)
    assert fused._agrees(CPU, kernel)
    setattr(ours, name, changed)
    assert not fused._agrees(CPU, kernel)
    assert f"kernel of {kernel} disagrees" in caplog.text
    setattr(ours, name, None)
    assert not fused._agrees(CPU, kernel)
    assert "cannot be built" in caplog.text


def test_how_many_grids_wait_together():
    large = Grid(torch.empty(1, 19, 1024, 2048, device="meta"), (1024, 2048), (1024, 2048))
    assert fits_together(large, 10)
    assert not fits_together(large, 20)


@pytest.mark.parametrize(("kernel", "stray"), [(False, 7), (True, 7), (True, -2)])
def test_nonsense_is_refused(interpreted, kernel, stray):
    size = (10, 14)
    pixels, regions = grid(size, size), torch.zeros(2, *size, dtype=torch.int64)
    with pytest.raises(ValueError, match="unknown scores among"):
        grid_scores(pixels, ["entropies"], fused=kernel)
    with pytest.raises(ValueError, match="unknown score 'top1'"):
        grid_sums(pixels, "top1", regions, 1, fused=kernel)
    for score in ("bvsb", "<function mine>"):
        with pytest.raises(ValueError, match="unknown score"):
            committee_map(pixels, score, fused=kernel)
        with pytest.raises(ValueError, match="unknown score"):
            committee_sums(pixels, score, regions[0], 7, fused=kernel)
    for other in (regions[:, 1:], regions.repeat_interleave(2, 1), regions[:1]):
        with pytest.raises(ValueError, match=r"regions of shape .* are not of \(2, 10, 14\)"):
            grid_sums(pixels, "bvsb", other, 7, fused=kernel)
    with pytest.raises(ValueError, match=r"regions of shape .* are not of \(10, 14\)"):
        committee_sums(pixels, "bald", regions[0, 1:], 7, fused=kernel)
    regions[1, 9, 13] = stray
    with pytest.raises((ValueError, RuntimeError), match="region ids must lie in -1"):
        grid_sums(pixels, "bvsb", regions, 7, by_class=True, fused=kernel)
    with pytest.raises((ValueError, RuntimeError), match="region ids must lie in -1"):
        committee_sums(pixels, "bald", regions[1], 7, fused=kernel)
