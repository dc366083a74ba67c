import numpy as np
import pytest
import torch

from alseg.data.rotation import random_degrees, rotated
from alseg.data.transforms import TrainTransform


def picture(height=9, width=9):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_quarter_turns_are_exact(quarters):
    image = picture()
    index = np.arange(81).reshape(9, 9) + (1 << 40)
    turned, maps = rotated(image, {"index": index}, 90 * quarters)
    assert np.array_equal(turned, np.rot90(image, quarters))
    assert np.array_equal(maps["index"], np.rot90(index, quarters))
    assert maps["index"].dtype == index.dtype


def test_ten_degrees_by_hand():
    """A pixel 24 right of the centre moves up by 24 sin, and left by 24 - 24 cos."""
    marks = np.zeros((61, 61), np.uint8)
    marks[30, 54] = 1
    turned = rotated(picture(61, 61), {"marks": marks}, 10)[1]["marks"]
    assert np.argwhere(turned).tolist() == [[26, 54]]  # 30 - 4.17 and 30 + 23.64


def test_borders_are_mirrored():
    maps = rotated(picture(8, 8), {"one": np.full((8, 8), 7)}, 45)[1]
    assert (maps["one"] == 7).all()
    left = np.repeat([[1, 0, 0, 0, 0, 0, 0, 2]], 8, axis=0)  # the corner shows what is beside it
    assert rotated(picture(8, 8), {"x": left}, 45)[1]["x"][0, 0] in (0, 1)


def test_images_of_one_channel_keep_it():
    assert rotated(picture()[..., :1], {}, 33)[0].shape == (9, 9, 1)


def test_degrees_are_even_handed():
    drawn = [random_degrees(10, seed) for seed in range(2000)]
    assert set(drawn) == set(range(-10, 11))
    assert abs(np.mean(drawn)) < 0.5


def test_the_picture_and_its_maps_turn_together():
    row, column = np.indices((40, 40))
    image = np.stack([row * 6, column * 6, row * 0], axis=-1).astype(np.uint8)
    options = {"scale": (1.0, 1.0), "rotate": 10, "pad_maps": {"where": -1}}
    transform = TrainTransform((24, 24), mean=(0, 0, 0), std=(1 / 255,) * 3, **options)
    turned = 0
    for seed in range(10):
        shown, maps = transform(image, {"where": row * 40 + column}, seed)
        found = torch.stack([maps["where"] // 40, maps["where"] % 40]) * 6
        assert (shown[:2] - found).abs().max() <= 6, "half a pixel each way, and rounding"
        turned += not bool((maps["where"].diff(dim=1).abs() == 1).all())
        again, _ = transform(image, {"where": row * 40 + column}, seed)
        assert torch.equal(shown, again)
    assert turned >= 7
