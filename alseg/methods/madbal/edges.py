"""Pixels on edges in an image (F7), which the detector of hard pixels judges by themselves.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

#: The smallest and the largest gradient that counts as an edge, in grey levels.
WEAKEST, STRONGEST = 20, 200

# Shares of blue, green and red in grey (ITU-R BT.601), and the same as OpenCV has them for uint8.
_SHARES = (0.114, 0.587, 0.299)
_SHARES_15_BITS = (3735, 19235, 9798)


def edge_mask(images: Tensor, as_written: bool = True) -> Tensor:
    """Pixels whose smoothed grey level changes by 20 to 200 levels (F7).

    A Gaussian of 3 x 3 pixels, grey, the mean of the sizes of the two Sobel derivatives. Borders
    are mirrored without their own row.

    Args:
        images: RGB in 0..255, (B, 3, H, W) with sides of at least 2 pixels. uint8 images are
            rounded after every step, as by OpenCV; floating point ones only at the derivatives,
            which may move the mask by a few pixels.
        as_written: As the reference: red is weighted as blue and blue as red, and gradients above
            200 levels are no edge. Else neither.

    Returns:
        (B, H, W), bool.
    """
    rounds = not images.is_floating_point()
    values = images.to(torch.float64 if images.dtype == torch.float64 else torch.float32)
    # every integer that occurs in the rounded case is exact in float32
    blurred = _along(_along(values, 3, (1, 2, 1)), 2, (1, 2, 1)) / 16
    if rounds:
        blurred = torch.floor(blurred + 0.5)
    shares: tuple[float, ...] = _SHARES_15_BITS if rounds else _SHARES
    first, second, third = shares if as_written else shares[::-1]
    grey = blurred[:, 0] * first + blurred[:, 1] * second + blurred[:, 2] * third
    if rounds:
        grey = torch.floor(grey / (1 << 15) + 0.5)
    grey = grey[:, None]
    across = _along(_along(grey, 2, (1, 2, 1)), 3, (-1, 0, 1)).round().abs().clamp(max=255)
    down = _along(_along(grey, 3, (1, 2, 1)), 2, (-1, 0, 1)).round().abs().clamp(max=255)
    gradient = (0.5 * across + 0.5 * down).round()[:, 0]  # half to even, as OpenCV
    mask = gradient >= WEAKEST
    return mask & (gradient <= STRONGEST) if as_written else mask


def _along(maps: Tensor, dim: int, kernel: tuple[int, int, int]) -> Tensor:
    """Correlate (B, C, H, W) with three numbers along one dimension, mirrored at the border."""
    padded = F.pad(maps, (1, 1, 0, 0) if dim == 3 else (0, 0, 1, 1), mode="reflect")
    n = maps.shape[dim]
    before, here, after = (padded.narrow(dim, start, n) for start in range(3))
    if kernel[1] == 0:
        return after * kernel[2] + before * kernel[0]
    return before * kernel[0] + here * kernel[1] + after * kernel[2]
