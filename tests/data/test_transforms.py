import multiprocessing
import pickle

import numpy as np
import pytest
import torch

from alseg.core.images import VOID
from alseg.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EvalTransform,
    TrainTransform,
    scale_factors,
)

PAD = {"regions": -1, "labels": VOID}


def sample(height=40, width=56, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    # beyond uint16 and beyond what float32 holds exactly
    regions = (rng.permutation(height * width).reshape(height, width) + (1 << 30)).astype(np.int32)
    labels = rng.integers(0, 5, (height, width), dtype=np.uint8)
    return image, {"regions": regions, "labels": labels}


def undo(tensor, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    channels = tensor.permute(1, 2, 0).numpy()
    return np.rint((channels * np.array(std) + np.array(mean)) * 255).astype(np.int64)


def position_image(height, width):
    """An image whose colours say where each pixel is."""
    row, column = np.indices((height, width))
    return np.stack([row, column, (row + column) % 256], axis=-1).astype(np.uint8)


def test_image_and_maps_stay_together_without_scaling():
    image = position_image(40, 56)
    index = (np.arange(40 * 56).reshape(40, 56) + (1 << 30)).astype(np.int32)
    transform = TrainTransform((32, 64), scale=(1.0, 1.0), pad_maps={"index": -1})
    for seed in range(20):
        tensor, maps = transform(image, {"index": index}, seed)
        shown, where = undo(tensor), maps["index"].numpy() - (1 << 30)
        inside = maps["index"].numpy() >= 0
        assert inside.sum() == 32 * 56
        np.testing.assert_array_equal(shown[inside][:, 0], where[inside] // 56)
        np.testing.assert_array_equal(shown[inside][:, 1], where[inside] % 56)


@pytest.mark.parametrize(("position", "row", "column"), [("top_left", 0, 0), ("center", 2, 3)])
def test_where_a_smaller_image_lies_and_what_is_around_it(position, row, column):
    image, maps = sample(8, 10)
    options = {"crop": (12, 16), "scale": (1.0, 1.0), "flip": 0.0, "pad_maps": PAD}
    transform = TrainTransform(**options, pad_position=position, pad_value=None)
    tensor, moved = transform(image, maps, 0)
    here = slice(row, row + 8), slice(column, column + 10)
    np.testing.assert_array_equal(undo(tensor)[here], image)
    np.testing.assert_array_equal(moved["labels"].numpy()[here], maps["labels"])
    outside = np.ones((12, 16), dtype=bool)
    outside[here] = False
    assert (tensor.numpy()[:, outside] == 0).all()
    assert (moved["regions"].numpy()[outside] == -1).all()


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.3, 2.0])
def test_image_and_maps_stay_together_when_scaled(scale):
    # On a ramp, averaging and interpolation give the position itself: what the image shows and
    # what the map says may differ by half a source pixel and rounding, not by a shift of more.
    image = position_image(80, 100)
    index = np.arange(80 * 100, dtype=np.int32).reshape(80, 100)
    transform = TrainTransform(None, scale=(scale, scale), flip=0.0)
    tensor, maps = transform(image, {"index": index}, 0)
    assert maps["index"].shape == (int(80 * scale), int(100 * scale))
    shown, where = undo(tensor)[3:-3, 3:-3], maps["index"].numpy()[3:-3, 3:-3]
    row_error, column_error = shown[..., 0] - where // 100, shown[..., 1] - where % 100
    assert np.abs(row_error).max() <= 1
    assert np.abs(column_error).max() <= 1
    # no systematic shift: the corner convention of plain nearest would give half a pixel
    assert abs(row_error.mean()) < 0.3
    assert abs(column_error.mean()) < 0.3


def test_shrinking_does_not_alias():
    checks = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(200)
    image = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    tensor, _ = TrainTransform(None, scale=(0.52, 0.52), flip=0.0)(image, {}, 0)
    shown = undo(tensor)
    assert 60 < shown.min() <= shown.max() < 140  # plain bilinear gives moiré from 0 to 200


def test_growing_is_bilinear():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, 2:] = 200
    tensor, _ = TrainTransform(None, scale=(2.0, 2.0), flip=0.0)(image, {}, 0)
    np.testing.assert_allclose(undo(tensor)[0, :, 0], [0, 0, 0, 50, 150, 200, 200, 200], atol=1)


def test_scaled_maps_take_the_centre_pixel():
    image, maps = sample(7, 5)
    for scale in (0.6, 1.0, 1.5, 2.0):
        _, moved = TrainTransform(None, scale=(scale, scale), flip=0.0)(image, maps, 0)
        height, width = int(7 * scale), int(5 * scale)
        rows = [int((y + 0.5) * 7 / height) for y in range(height)]
        columns = [int((x + 0.5) * 5 / width) for x in range(width)]
        expected = maps["regions"][np.ix_(rows, columns)]
        np.testing.assert_array_equal(moved["regions"].numpy(), expected)


def test_padding_is_centred_and_has_its_own_value_per_map():
    image, maps = sample(10, 12)
    transform = TrainTransform((14, 20), scale=(1.0, 1.0), flip=0.0, pad_maps=PAD)
    tensor, moved = transform(image, maps, 3)
    inner = np.s_[2:12, 4:16]
    np.testing.assert_array_equal(moved["regions"].numpy()[inner], maps["regions"])
    np.testing.assert_array_equal(moved["labels"].numpy()[inner], maps["labels"])
    np.testing.assert_array_equal(undo(tensor)[inner], image)
    outer = np.ones((14, 20), bool)
    outer[inner] = False
    assert (moved["regions"].numpy()[outer] == -1).all()
    assert (moved["labels"].numpy()[outer] == VOID).all()
    assert (undo(tensor)[outer] == (124, 116, 104)).all()


def test_types_and_normalisation():
    image, maps = sample()
    tensor, moved = EvalTransform()(image, maps)
    expected = (image / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(tensor.permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    for name, values in maps.items():
        assert moved[name].dtype == torch.int64
        np.testing.assert_array_equal(moved[name].numpy(), values)
    plain, _ = TrainTransform(None, scale=(1.0, 1.0), flip=0.0)(image, maps, 5)
    torch.testing.assert_close(plain, tensor)


def test_flip_mirrors_the_width():
    image, maps = sample()
    tensor, moved = TrainTransform(None, scale=(1.0, 1.0), flip=1.0)(image, maps, 0)
    np.testing.assert_array_equal(undo(tensor), image[:, ::-1])
    np.testing.assert_array_equal(moved["labels"].numpy(), maps["labels"][:, ::-1])


def test_everything_random_follows_from_the_seed_of_the_call():
    image, maps = sample()
    first = TrainTransform((24, 24), pad_maps=PAD)
    second = TrainTransform((24, 24), pad_maps=PAD)
    expected = [first(image, maps, seed) for seed in range(6)]
    np.random.seed(1)  # noqa: NPY002  # the global state must not matter
    torch.manual_seed(1)
    for seed in reversed(range(6)):
        tensor, moved = second(image, maps, seed)
        assert torch.equal(tensor, expected[seed][0])
        assert torch.equal(moved["regions"], expected[seed][1]["regions"])
    assert not torch.equal(expected[0][0], expected[1][0])


def _digest(transform, seed):
    image, maps = sample()
    tensor, moved = transform(image, maps, seed)
    return float(tensor.double().sum()), int(moved["regions"].sum())


def test_another_process_draws_the_same():
    transform = TrainTransform((24, 24), pad_maps=PAD)
    here = [_digest(transform, seed) for seed in range(3)]  # builds the pipeline before pickling
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.starmap(_digest, [(transform, seed) for seed in range(3)])
    assert there == here


def test_scale_position_and_flip_are_independent():
    # albumentations' own `set_random_seed` gives all three the same draw (correlation 0.9)
    image = position_image(60, 60)
    index = np.arange(3600, dtype=np.int32).reshape(60, 60)
    transform = TrainTransform((20, 20), scale=(0.5, 2.0), pad_maps={"index": -1})
    rows = []
    for seed in range(400):
        where = transform(image, {"index": index}, seed)[1]["index"].numpy()
        y, x = where // 60, where % 60
        span = np.ptp(y) + 1
        free = max(60 - span, 1)
        rows.append((span, y.min() / free, x.min() / free, float(x[0, 0] > x[0, -1])))
    correlation = np.corrcoef(np.array(rows).T)
    assert np.abs(correlation - np.eye(4)).max() < 0.2  # chance gives 0.05


def test_scale_is_uniform_and_flip_a_fair_coin():
    image = position_image(50, 50)
    index = np.arange(2500, dtype=np.int32).reshape(50, 50)
    transform = TrainTransform(None, scale=(0.5, 2.0))
    moved = [transform(image, {"index": index}, seed)[1]["index"].numpy() for seed in range(400)]
    factors = np.array([where.shape[0] / 50 for where in moved])
    assert factors.min() < 0.55
    assert factors.max() > 1.9
    np.testing.assert_allclose(
        np.quantile(factors, [0.25, 0.5, 0.75]), [0.87, 1.25, 1.62], atol=0.1
    )
    assert 0.4 < np.mean([where[0, 0] > where[0, -1] for where in moved]) < 0.6


def test_scales_a_step_apart_are_the_only_ones_and_as_likely():
    assert scale_factors((1.0, 1.0), 0.25) == [1.0]
    assert scale_factors((0.5, 1.1), 0.2) == pytest.approx([0.5, 0.7, 0.9, 1.1])
    image, _ = sample(8, 8)
    transform = TrainTransform(None, scale=(0.5, 2.0), scale_step=0.25)
    sides = [transform(image, {}, seed)[0].shape[1] for seed in range(700)]
    counts = dict(zip(*np.unique(sides, return_counts=True), strict=True))
    assert list(counts) == [4, 6, 8, 10, 12, 14, 16]
    assert all(60 <= count <= 140 for count in counts.values())


def test_a_blur_of_little_sigma_changes_less():
    image, _ = sample()
    change = []
    for sigma in ((0.3, 0.3), (2.0, 2.0)):
        plain = TrainTransform(None, scale=(1.0, 1.0), flip=0)
        blurred = TrainTransform(None, scale=(1.0, 1.0), flip=0, blur=1.0, blur_sigma=sigma)
        change.append(float((blurred(image, {}, 0)[0] - plain(image, {}, 0)[0]).abs().mean()))
    assert 0 < change[0] < change[1]


def test_the_transform_can_be_pickled_and_compared():
    transform = TrainTransform((24, 24), pad_maps=PAD)
    transform(*sample(), 0)
    assert pickle.loads(pickle.dumps(transform)) == transform


@pytest.mark.parametrize(
    "options",
    [{"crop": (0, 4)}, {"crop": None, "scale": (2.0, 1.0)}, {"crop": None, "flip": 1.5}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        TrainTransform(**options)


def test_a_map_without_pad_value_or_of_another_size_is_refused():
    image, maps = sample()
    with pytest.raises(ValueError, match="pad_maps has no value for labels"):
        TrainTransform((8, 8), pad_maps={"regions": -1})(image, maps, 0)
    with pytest.raises(ValueError, match="'labels' is"):
        EvalTransform()(image, {"labels": maps["labels"][1:]})


def test_colours_change_and_places_do_not():
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    regions = np.arange(24 * 32).reshape(24, 32)
    plain = {"crop": None, "scale": (1.0, 1.0), "flip": 0.0}
    untouched, _ = TrainTransform(**plain)(image, {"regions": regions}, 3)
    for option in ({"jitter": (0.8, 0.8, 0.8, 0.2)}, {"grayscale": 1.0}, {"blur": 1.0}):
        transform = TrainTransform(**plain, **option)
        made = [transform(image, {"regions": regions}, seed) for seed in range(8)]
        assert sum(not torch.equal(tensor, untouched) for tensor, _ in made) >= 4
        assert all(np.array_equal(maps["regions"], regions) for _, maps in made)
        assert torch.equal(made[5][0], transform(image, {"regions": regions}, 5)[0])
    gray = undo(TrainTransform(**plain, grayscale=1.0)(image, {}, 0)[0])
    assert (gray == gray[..., :1]).all()
    blurred, _ = TrainTransform(**plain, blur=1.0)(image, {}, 1)
    assert blurred.std() < untouched.std()
