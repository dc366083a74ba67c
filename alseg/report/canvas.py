"""The tools pictures are drawn with: sizes, fading, outlines, markers."""

import colorsys
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.images import VOID

Color = tuple[int, int, int]
#: Pixels in the making, (H, W, 3), float32, 0..255.
Canvas = NDArray[np.float32]
Scalar = TypeVar("Scalar", bound=np.generic)

#: The two greys of the hatching that stands for "this unit is void".
VOID_COLORS: tuple[Color, Color] = ((168, 168, 168), (96, 96, 96))

_NOMINAL_SIDE = 512
_LARGEST_SIDE = 1024


def display_size(height: int, width: int) -> tuple[int, int]:
    """Size at which an image is shown: tiny ones enlarged, huge ones reduced, by whole factors.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        Height and width of its pictures in pixels; the longer side is about 340 to 1024.

    >>> display_size(96, 128), display_size(360, 480), display_size(1024, 2048)
    ((384, 512), (360, 480), (512, 1024))
    """
    longer = max(height, width)
    if longer <= _LARGEST_SIDE:
        factor = max(1, round(_NOMINAL_SIDE / longer))
        return height * factor, width * factor
    factor = -(-longer // _LARGEST_SIDE)
    return max(1, height // factor), max(1, width // factor)


def line_width(size: tuple[int, ...]) -> int:
    """Width of outlines that stay visible when a picture of this size becomes a thumbnail."""
    return max(2, round(max(size) / 170))


def marker_radius(size: tuple[int, ...]) -> float:
    """Radius of markers that stay visible when a picture of this size becomes a thumbnail."""
    return max(4.0, max(size) / 80)


def open_canvas(image: NDArray[np.uint8], size: tuple[int, int]) -> Canvas:
    """An image, (H, W, 3), uint8, brought to a size and ready to be drawn on."""
    if image.shape[:2] != size:
        # of huge images some pixels are enough: Pillow holds four bytes of each that it is given
        step = max(1, min(image.shape[0] // size[0], image.shape[1] // size[1]) // 4)
        image = np.ascontiguousarray(image[step // 2 :: step, step // 2 :: step])
        image = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))
    return image.astype(np.float32)


def close_canvas(canvas: Canvas) -> NDArray[np.uint8]:
    """The picture that was drawn, (H, W, 3), uint8."""
    return np.rint(canvas).clip(0, 255).astype(np.uint8)


def fit_map(ids: NDArray[Scalar], size: tuple[int, int]) -> NDArray[Scalar]:
    """Bring a map of ids, (H, W), to a size: the id under the centre of each new pixel.

    >>> fit_map(np.array([[1, 2], [3, 4]]), (2, 4))
    array([[1, 1, 2, 2],
           [3, 3, 4, 4]])
    """
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(size, ids.shape, strict=True)
    )
    return ids[rows[:, None], columns]


def pixel_centers(
    pixels: NDArray[np.int64], shape: tuple[int, ...], size: tuple[int, int]
) -> list[tuple[float, float]]:
    """Where pixels ``y * W + x`` of an image of a shape lie in a picture of a size: (y, x) each."""
    y, x = np.divmod(pixels, shape[1])
    rows = (y + 0.5) * size[0] / shape[0] - 0.5
    columns = (x + 0.5) * size[1] / shape[1] - 0.5
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def faded(canvas: Canvas) -> Canvas:
    """A copy of little colour and contrast, on which both dark and bright pixels stand out."""
    grey = canvas.mean(axis=2, keepdims=True)
    return np.asarray(0.1 * canvas + 0.3 * grey + 65, dtype=np.float32)


def group_colors(count: int) -> NDArray[np.uint8]:
    """Colours to tell groups apart that have none of their own, (count, 3), uint8.

    >>> group_colors(2).tolist()
    [[184, 46, 46], [92, 128, 214]]
    """
    turns = np.arange(count) * 0.618034 % 1  # golden ratio: neighbours in number differ most
    colors = [colorsys.hls_to_rgb(turn, (0.45, 0.6)[i % 2], 0.6) for i, turn in enumerate(turns)]
    return np.round(255 * np.array(colors).reshape(-1, 3)).astype(np.uint8)


def lay_heat(canvas: Canvas, values: NDArray[np.floating[Any]]) -> None:
    """Blend in heat, dark for 0 and bright for 1; NaN leaves the image as it is.

    Args:
        canvas: Changed in place, (H, W, 3).
        values: 0..1, (H, W).
    """
    known = ~np.isnan(values)
    stops = np.array([[20, 11, 53], [126, 37, 83], [240, 112, 32], [252, 255, 164]], np.float32)
    place = np.clip(values[known], 0, 1) * (len(stops) - 1)
    heat = [np.interp(place, np.arange(len(stops)), channel) for channel in stops.T]
    canvas[known] = 0.25 * canvas[known] + 0.75 * np.stack(heat, axis=1)


def lay_labels(
    canvas: Canvas, labels: NDArray[np.uint8], colors: NDArray[np.uint8], alpha: float
) -> None:
    """Blend in the colours, (C, 3), of labels, (H, W), uint8; `VOID` is left as it is."""
    known = labels != VOID
    canvas[known] = (1 - alpha) * canvas[known] + alpha * colors[labels[known]]


def lay_stripes(canvas: Canvas, region: NDArray[np.bool_], palette: NDArray[Any]) -> None:
    """Fill a region, (H, W), bool, with diagonal stripes of the colours of a palette, (k, 3)."""
    y, x = np.nonzero(region)
    along = y + x - (y + x).min()
    # Narrow enough for every colour to appear twice, where the region has the pixels for it.
    width = int(np.clip(along.max() // (2 * len(palette)), 2, 4 * line_width(region.shape)))
    canvas[region] = 0.15 * canvas[region] + 0.85 * palette[along // width % len(palette)]


def lay_hatching(canvas: Canvas, region: NDArray[np.bool_]) -> None:
    """Fill a region, (H, W), bool, with the grey hatching that means void."""
    y, x = np.nonzero(region)
    canvas[region] = np.array(VOID_COLORS, dtype=np.float32)[((y - x) % 8 < 2).astype(np.intp)]


def outlines(ids: NDArray[np.int32], inside: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Lines around regions: one half of the width on them, the other on what is not outlined.

    Args:
        ids: Region id per pixel, (H, W), int32.
        inside: Pixels of the regions to outline, (H, W), bool.
        width: Width of the lines in pixels, at least 2.

    Returns:
        Pixels of the lines, (H, W), bool. The frame of the image counts as an edge.
    """
    from scipy import ndimage

    within, around = width // 2, width - width // 2
    window = {"size": 2 * within + 1, "mode": "constant", "cval": -1}
    edge = ndimage.maximum_filter(ids, **window) != ndimage.minimum_filter(ids, **window)
    offsets = np.arange(-around, around + 1)
    disc = offsets**2 + offsets[:, None] ** 2 <= around**2
    near = ndimage.binary_dilation(inside, disc)
    return np.asarray((inside & edge) | (~inside & near))


def stamp(
    canvas: Canvas, y: float, x: float, radius: float, color: Color, hole: float = -1.0
) -> None:
    """Blend in a disc, or a ring where ``hole`` is its inner radius, with smooth edges."""
    top, left = (max(0, int(np.floor(c - radius - 1))) for c in (y, x))
    window = canvas[top : int(y + radius + 2), left : int(x + radius + 2)]
    rows, columns = np.ogrid[top : top + window.shape[0], left : left + window.shape[1]]
    distance = np.hypot(rows - y, columns - x)
    cover = np.clip(radius - distance + 0.5, 0, 1) * np.clip(distance - hole + 0.5, 0, 1)
    window += cover[..., None] * (np.array(color, dtype=np.float32) - window)
