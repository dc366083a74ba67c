import math

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from alseg.core.errors import UserError
from alseg.methods.madbal.disagreement import READINGS, depth_disagreements, pixel_scores
from alseg.methods.madbal.edges import edge_mask
from alseg.methods.madbal.grid import enlarged_to_grid, sampled_on_grid, to_grid
from alseg.methods.madbal.network import (
    Detector,
    ResidualBlock,
    SqueezeExcitation,
    SupportModules,
    initialise,
)
from alseg.methods.madbal.superpixels import superpixel_scores
from alseg.nn.segmenter import upsample

B, C, H, W = 2, 5, 7, 9


def outputs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)

    def rand(channels):
        return torch.rand(B, channels, H, W, generator=generator, dtype=dtype)

    logits, *auxiliary = (6 * rand(C) for _ in range(4))
    return logits, auxiliary, rand(3).softmax(1), rand(2), rand(1)[:, 0] < 0.3


def slow_apart(p, q, reading):
    m = (p + q) / 2

    def kl(a, b):
        return sum(x * math.log(x / y) for x, y in zip(a.tolist(), b.tolist(), strict=True))

    if reading == "pixel_js":
        return (kl(p, m) + kl(q, m)) / 2
    return (kl(m, p) + kl(m, q)) / 2


@pytest.mark.parametrize("reading", READINGS)
def test_scores_against_a_loop(reading):
    logits, auxiliary, weights, hard, edges = outputs()
    p, depths = logits.softmax(1), [maps.softmax(1) for maps in auxiliary]
    apart = np.zeros((B, 3, H, W))
    for b, k, y, x in np.ndindex(*apart.shape):
        apart[b, k, y, x] = slow_apart(p[b, :, y, x], depths[k][b, :, y, x], reading)
    if reading == "image_mean":
        apart[:] = apart.mean(axis=(2, 3), keepdims=True) / C
    found = depth_disagreements(logits, auxiliary, reading)
    assert found.shape == ((B, 3, 1, 1) if reading == "image_mean" else (B, 3, H, W))
    np.testing.assert_allclose(found.expand(B, 3, H, W), apart, rtol=1e-9)

    score = pixel_scores(logits, auxiliary, weights, hard, edges, reading)
    for b, y, x in np.ndindex(B, H, W):
        entropy = -sum(v * math.log(v) for v in p[b, :, y, x].tolist())
        unsure = entropy + float(weights[b, :, y, x] @ torch.from_numpy(apart[b, :, y, x]))
        channel = 0 if edges[b, y, x] else 1
        wanted = unsure * math.exp(hard[b, channel, y, x])
        assert float(score[b, y, x]) == pytest.approx(wanted)


def test_blocks_do_not_change_the_scores(monkeypatch):
    maps = outputs(torch.float32)
    whole = [pixel_scores(*maps, reading) for reading in READINGS]
    monkeypatch.setattr("alseg.methods.madbal.disagreement._BLOCK", 10)
    for reading, expected in zip(READINGS, whole, strict=True):
        torch.testing.assert_close(pixel_scores(*maps, reading), expected)


@pytest.mark.parametrize("reading", READINGS)
def test_extreme_logits(reading):
    """The reference divides by the probability 0: infinite, or not a number."""
    sure = torch.tensor([500.0, -500.0, -500.0]).reshape(1, 3, 1, 1)
    other = sure.roll(1, dims=1)
    apart = depth_disagreements(sure, [sure, other, torch.zeros_like(sure)], reading)
    assert apart.isfinite().all()
    assert apart[0, 0] == 0
    if reading == "pixel_js":
        assert float(apart[0, 1]) == pytest.approx(math.log(2))
    ones = torch.ones(1, 3, 1, 1), torch.ones(1, 2, 1, 1), torch.ones(1, 1, 1)
    assert pixel_scores(sure, [other] * 3, *ones, reading).isfinite().all()


def test_images_of_a_batch_do_not_mix():
    logits, auxiliary, weights, hard, edges = outputs()
    both = pixel_scores(logits, auxiliary, weights, hard, edges)
    alone = [maps[1:] for maps in (logits, weights, hard, edges)]
    found = pixel_scores(alone[0], [maps[1:] for maps in auxiliary], *alone[1:])
    torch.testing.assert_close(found, both[1:])


def test_unknown_reading():
    with pytest.raises(UserError, match="did you mean 'pixel_js'"):
        depth_disagreements(torch.zeros(1, 2, 1, 1), [], "pixel_jsd")


@pytest.mark.parametrize("seed", range(3))
def test_superpixels_against_a_loop(seed):
    random = np.random.default_rng(seed)
    regions = torch.from_numpy(random.integers(-1, 12, (H, W)).astype(np.int16))
    regions[regions == 5] = -1
    scores = torch.from_numpy(random.integers(0, 6, (H, W)) / 4)  # ties
    labels = torch.from_numpy(random.integers(0, 3, (H, W)))
    table = superpixel_scores(scores, labels, regions, 14, 3)
    expected = [r for r in range(14) if (regions == r).any()]
    assert table.unit.tolist() == expected
    for row, region in enumerate(expected):
        inside = (regions == region).flatten()
        pixels = inside.nonzero().flatten().tolist()
        values = scores.flatten()[inside].tolist()
        votes = labels.flatten()[inside].tolist()
        assert float(table.score[row]) == pytest.approx(sum(values) / len(values))
        assert table.pixels[row] == len(values)
        assert table.label[row] == max(range(3), key=lambda c: (votes.count(c), -c))
        assert table.top[row] == pixels[values.index(max(values))]


# Edges


def by_opencv(image, as_written):
    blurred = cv2.GaussianBlur(image, (3, 3), 0)
    grey = cv2.cvtColor(blurred, cv2.COLOR_BGR2GRAY if as_written else cv2.COLOR_RGB2GRAY)
    across, down = (cv2.convertScaleAbs(cv2.Sobel(grey, cv2.CV_16S, *d)) for d in ((1, 0), (0, 1)))
    gradient = cv2.addWeighted(across, 0.5, down, 0.5, 0)
    return (gradient >= 20) & ((gradient <= 200) | (not as_written))


@pytest.mark.parametrize("as_written", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("blur", [1, 3, 7])
def test_edges_are_those_of_opencv(blur, dtype, as_written):
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (3, 41, 57, 3)).astype(np.uint8)
    pictures = np.stack([cv2.blur(image, (blur, blur)) for image in noise]).astype(dtype)
    expected = np.stack([by_opencv(image, as_written) for image in pictures])
    batch = torch.from_numpy(pictures.transpose(0, 3, 1, 2))
    assert np.array_equal(edge_mask(batch, as_written).numpy(), expected)
    assert 0.05 < expected.mean() < 0.95


def test_steps_by_hand():
    """Two columns see a weak step; a strong slanting one is seen by none as written."""
    image = torch.zeros(1, 3, 4, 6, dtype=torch.uint8)
    image[..., 3:] = 36  # 9 and 27 after smoothing: half of four times 9, 27, 27, 9
    assert edge_mask(image)[0].int().tolist() == [[0, 0, 1, 1, 0, 0]] * 4
    corner = torch.ones(8, 8).tril(-1).mul(255).expand(1, 3, 8, 8).to(torch.uint8)
    middle = [2, 3, 4, 5]
    assert not edge_mask(corner)[0, middle, middle].any()
    assert edge_mask(corner, as_written=False)[0, middle, middle].all()


# Grid


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("size", [(5, 7), (1, 4), (1, 1)])
def test_outputs_on_the_grid_without_enlarging_them(size, sigmoid):
    maps = 3 * torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    large = upsample(maps, (4 * size[0], 4 * size[1]))
    expected = to_grid(large.sigmoid() if sigmoid else large, size)
    torch.testing.assert_close(enlarged_to_grid(maps, sigmoid), expected, rtol=1e-12, atol=1e-12)


def test_the_grid_reads_the_four_central_pixels():
    maps = torch.randn(1, 2, 8, 12, generator=torch.Generator().manual_seed(0))
    cells = maps.unflatten(3, (3, 4)).unflatten(2, (2, 4))
    expected = cells[:, :, :, 1:3, :, 1:3].mean(dim=(3, 5))
    torch.testing.assert_close(to_grid(maps, (2, 3)), expected)
    assert to_grid(maps, (8, 12)) is maps


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("full", "canvas", "cell"),
    [((64, 96), (64, 96), 4), ((61, 90), (64, 96), 4), ((64, 96), (64, 96), 2)],
)
def test_outputs_on_any_grid_are_sampled_without_enlarging_them(full, canvas, cell, align_corners):
    maps = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    size = (-(-full[0] // cell), -(-full[1] // cell))
    enlarged = upsample(maps, canvas, align_corners)[..., : full[0], : full[1]]
    found = sampled_on_grid(maps, canvas, full, size, align_corners)
    assert torch.allclose(found, to_grid(enlarged, size), atol=1e-12)


# Network


@pytest.mark.parametrize("strides", [(1, 2, 2), (1, 4, 4), (1, 2, 4)])
def test_support_modules_on_any_strides(strides):
    torch.manual_seed(0)
    modules = SupportModules(
        num_classes=C,
        channels=(4, 6, 8),
        strides=strides,
        depth_head=nn.Conv2d(8, 3, 1),
        reduce=nn.Identity(),
        reduced_channels=8,
        hidden=(12, 16),
    ).eval()
    depths = [torch.randn(2, n, 8 // s, 16 // s) for n, s in zip((4, 6, 8), strides, strict=True)]
    last, size = torch.randn(2, 8, 2, 4), (33, 66)
    found = modules(depths, last, last, size)
    assert [maps.shape for maps in found.auxiliary] == [(2, C, *size)] * 3
    assert found.hard_logits.shape == (2, 2, *size)
    torch.testing.assert_close(found.depth_weights.sum(1), torch.ones(2, *size))
    # no loss of its own, but a gradient through the detector
    found.hard_logits.sum().backward()
    assert modules.depth_head.weight.grad.any()


def test_depths_are_fused_by_their_weights():
    torch.manual_seed(0)
    kinds = {"num_classes": C, "channels": (4, 4, 4), "strides": (1, 1, 1), "hidden": (4, 16)}
    head = nn.Conv2d(4, 3, 1)
    modules = SupportModules(
        depth_head=head, reduce=nn.Identity(), reduced_channels=4, **kinds
    ).eval()
    depths, last = [torch.randn(1, 4, 6, 6) for _ in range(3)], torch.randn(1, 4, 3, 3)
    found = modules(depths, last, last, (6, 6))
    weights = head(last).repeat_interleave(2, 2).repeat_interleave(2, 3).softmax(1)
    torch.testing.assert_close(found.depth_weights, weights)
    fused = sum(weights[:, k : k + 1] * maps for k, maps in enumerate(found.auxiliary))
    context = upsample(last, (6, 6))
    torch.testing.assert_close(found.hard_logits, modules.detector(torch.cat([fused, context], 1)))


def test_blocks_of_the_detector():
    block, gate = ResidualBlock(2), SqueezeExcitation(32)
    nn.init.zeros_(block.conv2.weight)
    maps = torch.randn(1, 2, 3, 3)
    assert torch.equal(block(maps), maps)
    nn.init.zeros_(gate.fc[2].weight)
    maps = torch.randn(1, 32, 3, 3)
    torch.testing.assert_close(gate(maps), maps / 2)  # sigmoid of 0
    assert gate.fc[0].weight.shape == (2, 32)
    assert sum(p.numel() for p in Detector(5, (8, 16)).parameters()) == (
        (5 * 9 + 1) * 8 + (8 * 9 + 1) * 16 + 2 * 16 * 16 * 9 + 2 * 16 + (16 * 9 + 1) * 2
    )


def test_initial_weights():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(64, 96, 3), nn.BatchNorm2d(8), nn.Linear(200, 200), nn.ConvTranspose2d(4, 4, 5)
    )
    before = layers[3].weight.clone()
    nn.init.zeros_(layers[1].weight)
    layers.apply(initialise)
    assert float(layers[0].weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert layers[1].weight.tolist() == [1] * 8
    assert layers[1].bias.tolist() == pytest.approx([1e-4] * 8)
    assert float(layers[2].weight.detach().std()) == pytest.approx(1e-4, rel=0.02)
    assert torch.equal(layers[3].weight, before)


@pytest.mark.parametrize(
    ("channels", "strides", "message"),
    [((4, 4, 4), (1, 2, 8), "1, 2 or 4, not 8"), ((4, 4), (1, 2), "three depths")],
)
def test_depths_that_make_no_sense(channels, strides, message):
    with pytest.raises(ValueError, match=message):
        SupportModules(C, channels, strides, nn.Conv2d(4, 3, 1), nn.Identity(), 4)
