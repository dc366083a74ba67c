import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from alseg.core.windows import window_starts
from alseg.inference import views
from alseg.inference.views import (
    class_probabilities,
    enlarged_bands,
    mean_of_views,
    predict_scores,
    score_tiles,
    view_sizes,
)
from alseg.nn.segmenter import build_segmenter


def network(outputs=3, seed=0):
    """Scores that depend on a pixel's surroundings and on left and right."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, 3, 3, 5, generator=generator)
    return lambda images: F.conv2d(images, weight, padding=(1, 2))


def picture(height, width, seed=1):
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def cut(images):
    return lambda top, left, high, wide: images[..., top : top + high, left : left + wide]


def dense(net, images, window, overlap):
    """All scores of all windows in memory, pixel counts by hand."""
    height, width = images.shape[-2:]
    tall, wide = min(window[0], height), min(window[1], width)
    steps = [max(1, round(side * (1 - overlap))) for side in (tall, wide)]
    total = count = None
    top = 0
    while True:
        left = 0
        while True:
            y, x = min(top, height - tall), min(left, width - wide)
            scores = net(images[..., y : y + tall, x : x + wide])
            if total is None:
                total = scores.new_zeros((*scores.shape[:2], height, width))
                count = torch.zeros(height, width)
            total[..., y : y + tall, x : x + wide] += scores
            count[y : y + tall, x : x + wide] += 1
            if x == width - wide:
                break
            left += steps[1]
        if y == height - tall:
            return total / count
        top += steps[0]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("window", [1, 4, 7])
def test_windows_cover_an_axis_and_stay_on_it(window, overlap):
    for length in range(1, 30):
        starts = window_starts(length, window, overlap)
        covered = {s + i for s in starts for i in range(min(window, length))}
        assert covered == set(range(length))
        assert starts == sorted(set(starts))
        gaps = np.diff(starts).tolist()
        assert all(gap <= max(1, round(window * (1 - overlap))) for gap in gaps)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
@pytest.mark.parametrize("size", [(17, 23), (5, 40), (40, 5), (6, 8), (3, 2)])
def test_tiles_are_exactly_what_dense_accumulation_gives(size, overlap):
    images, window = picture(*size), (6, 8)
    expected, seen = dense(network(), images, window, overlap), torch.zeros(size)
    for top, left, scores in score_tiles(network(), cut(images), size, window, overlap):
        height, width = scores.shape[-2:]
        assert 0 < height <= 6
        assert 0 < width <= 8
        here = np.s_[..., top : top + height, left : left + width]
        assert torch.equal(scores, expected[here])
        seen[here] += 1
    assert (seen == 1).all()
    assert torch.equal(
        predict_scores(network(), images, window, overlap),
        dense(network(), images, window, overlap),
    )


def test_windows_that_see_less_give_other_scores_at_their_borders_only():
    """Shows that the window reaches the network at all."""
    images, net = picture(12, 16), network()
    whole, windowed = net(images), predict_scores(net, images, (6, 8), overlap=0)
    inner = np.s_[..., 1:5, 2:6]
    assert torch.allclose(windowed[inner], whole[inner], atol=1e-5)
    assert not torch.allclose(windowed[..., 5, :], whole[..., 5, :], atol=1e-2)
    assert torch.equal(predict_scores(net, images), whole)


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor any operation returned."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.untyped_storage().nbytes() // 4)
        return result


@pytest.mark.parametrize(("width", "most"), [(200, 4 * 200), (14, 8 * 8)])
def test_memory_is_bounded_by_windows_and_the_rows_they_share(width, most):
    height, window, outputs = 90, (8, 8), 7
    net, pixels = network(outputs), np.zeros((height, width, 3), np.uint8)

    def crop(top, left, high, wide):
        part = torch.from_numpy(pixels[top : top + high, left : left + wide])
        return part.permute(2, 0, 1)[None].float()

    with Largest() as largest:
        tiles = score_tiles(net, crop, (height, width), window)
        count = sum(tile.scores[0, 0].numel() for tile in tiles)
    assert count == height * width
    assert largest.numbers == outputs * most
    with Largest() as largest:
        dense(net, crop(0, 0, height, width), window, 0.25)
    assert largest.numbers == outputs * height * width


@pytest.mark.parametrize("size", [(7, 5), (40, 31), (8, 90), (1, 1)])
def test_bands_are_the_enlarged_scores(size, monkeypatch):
    scores = picture(min(7, size[0]), min(5, size[1]))
    monkeypatch.setattr(views, "_BAND", 6 * 3 * size[1])
    bands = list(enlarged_bands(scores, size))
    assert [band.shape[2] for band in bands[:-1]] == [3] * (len(bands) - 1)
    expected = F.interpolate(scores, size=size, mode="bilinear")
    torch.testing.assert_close(torch.cat(bands, dim=2), expected, atol=1e-6, rtol=1e-5)


def test_views_are_resized_mirrored_and_averaged():
    images, net = picture(20, 30), network()
    sizes = view_sizes((20, 30), [0.5, 1, 1.5])
    assert sizes == [(10, 15), (20, 30), (30, 45)]
    total = torch.zeros(2, 3, 20, 30)
    for size in sizes:
        view = F.interpolate(images, size=size, mode="bilinear", antialias=size[0] < 20)
        for back in (lambda maps: maps, lambda maps: torch.flip(maps, [-1])):
            total += F.interpolate(back(net(back(view))), size=(20, 30), mode="bilinear")
    assert torch.allclose(mean_of_views(net, images, sizes, flip=True), total / 6, atol=1e-5)
    assert torch.equal(mean_of_views(net, images, [(20, 30)]), net(images))
    once, both = (mean_of_views(net, images, [(20, 30)], flip) for flip in (False, True))
    assert not torch.allclose(once, both, atol=1e-2)
    mirrored = mean_of_views(net, images.flip(-1), [(20, 30)], flip=True).flip(-1)
    assert torch.allclose(both, mirrored, atol=1e-6)
    with pytest.raises(ValueError, match="sizes is empty"):
        mean_of_views(net, images, [])


def test_views_within_windows():
    images, net = picture(14, 18), network()

    def both(part):
        return (net(part) + net(part.flip(-1)).flip(-1)) / 2

    assert torch.equal(
        predict_scores(net, images, (6, 8), 0.5, flip=True), dense(both, images, (6, 8), 0.5)
    )


def test_views_are_at_least_a_pixel():
    assert view_sizes((3, 100), [0.1], factor=(0.5, 2.0)) == [(1, 20)]
    assert view_sizes((360, 480), [1.0], factor=(0.5, 0.25)) == [(180, 120)]


def test_probabilities_leave_out_what_is_no_class():
    scores = torch.tensor([0.1, 0.3, 9.0])[None, :, None, None]
    got = class_probabilities(scores, 2, temperature=0.1).flatten().tolist()
    expected = np.exp(np.array([1.0, 3.0])) / np.exp(np.array([1.0, 3.0])).sum()
    assert got == pytest.approx(expected.tolist(), abs=1e-6)
    assert class_probabilities(scores.bfloat16(), 3).dtype == torch.float32
    assert class_probabilities(scores.double(), 3).dtype == torch.float64


@pytest.mark.parametrize("temperature", [1.0, 0.1])
@pytest.mark.parametrize("size", [(1, 1), (13, 37), (64, 128), (300, 257)])
def test_probabilities_in_place_are_the_same_bits_in_the_same_memory(temperature, size):
    scores = torch.randn(2, 19, *size, generator=torch.Generator().manual_seed(0))
    plain = class_probabilities(scores, 19, temperature)
    got = class_probabilities(scores, 19, temperature, inplace=True)
    assert torch.equal(got, plain)
    assert got.data_ptr() == scores.data_ptr()


def test_probabilities_in_place_without_what_is_no_class():
    scores = torch.randn(2, 4, 13, 37, generator=torch.Generator().manual_seed(0))
    plain = class_probabilities(scores, 3)
    assert torch.equal(class_probabilities(scores, 3, inplace=True), plain)


def test_scores_of_a_network_that_returns_its_images_leave_them_as_they_are():
    images = picture(12, 16)
    before = images.clone()
    predict_scores(lambda part: part[:, :2], images, (6, 8), 0.5)
    assert torch.equal(images, before)


@pytest.mark.parametrize("size", [(1, 1), (33, 47)])
def test_a_segmenter_is_such_a_network(size):
    small = {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}
    segmenter = build_segmenter("Unet", "resnet18", None, 4, True, small).eval()
    with torch.inference_mode():
        scores = predict_scores(segmenter, picture(*size), (16, 16), scales=[0.5, 2], flip=True)
        assert scores.shape == (2, 4, *size)
        assert float(scores.abs().max()) <= 1 + 1e-6
