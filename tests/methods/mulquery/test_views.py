import numpy as np
import pytest
import torch
from PIL import Image

from alseg.methods.mulquery.module import resized


@pytest.mark.parametrize("scale", [0.5, 0.75, 1.0, 1.25, 1.5])
def test_images_are_resized_as_pillow_does(scale):
    images = torch.rand(2, 3, 40, 57, generator=torch.Generator().manual_seed(0))
    size = int(scale * 40), int(scale * 57)
    bands = [Image.fromarray(band.numpy()) for band in images.flatten(0, 1)]
    small = np.stack([band.resize(size[::-1], Image.Resampling.BILINEAR) for band in bands])
    expected = torch.from_numpy(small).reshape(2, 3, *size)
    torch.testing.assert_close(resized(images, size), expected, atol=1e-5, rtol=0)


def test_stripes_of_two_pixels_are_grey_at_half_size():
    stripes = torch.arange(16).remainder(2).float().expand(1, 1, 16, 16)
    assert (resized(stripes, (8, 8))[..., 1:-1] - 0.5).abs().max() < 0.01
