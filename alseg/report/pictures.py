"""Pictures of queries and answers: pure functions of arrays, drawn with numpy and Pillow.

All pictures of one image come out in the same size, so that they can stand side by side. Units are
named as in `alseg.labels.tables.Query`: by the ids of a region map or, when ``regions`` is None, as
pixels ``y * W + x``.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from alseg.core.files import write_atomic
from alseg.core.images import VOID
from alseg.report import canvas as draw
from alseg.report.canvas import Color, display_size

__all__ = [
    "ASKED_COLOR",
    "answered_picture",
    "asked_picture",
    "contact_sheet",
    "display_size",
    "encode_picture",
    "groups_picture",
    "heat_picture",
    "label_overlay",
    "save_picture",
    "with_legend",
]

#: Magenta: rare in photographs, and far from any grey.
ASKED_COLOR: Color = (255, 0, 170)

_WHITE: Color = (255, 255, 255)
_BLACK: Color = (0, 0, 0)
_LEGEND_FONT = 14
_JPEG_QUALITY = 88
_TILE, _TILE_GAP = 144, 8


def label_overlay(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    colors: NDArray[np.uint8],
    alpha: float = 0.6,
    *,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Lay the colours of the classes over an image.

    Args:
        image: The image, (H, W, 3), uint8, RGB.
        labels: Class per pixel, (H, W), uint8; `VOID` leaves the image as it is.
        colors: Display colour per class, (C, 3), uint8.
        alpha: Opacity of the colours, 0..1.
        size: Height and width of the picture; None means `display_size`.

    Returns:
        The picture, (*size, 3), uint8.
    """
    size = size or display_size(*labels.shape)
    canvas = draw.open_canvas(image, size)
    draw.lay_labels(canvas, draw.fit_map(labels, size), colors, alpha)
    return draw.close_canvas(canvas)


def asked_picture(
    image: NDArray[np.uint8],
    regions: NDArray[np.int32] | None,
    asked: NDArray[np.int64],
    *,
    color: Color = ASKED_COLOR,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Show where was asked: the image faded, the asked units in full colour and outlined.

    Args:
        image: The image, (H, W, 3), uint8, RGB.
        regions: Region id per pixel, (H, W), int32; None for pixels as units, which get rings.
        asked: Ids of the asked units of this image, (n,), int64.
        color: Colour of outlines and rings.
        size: Height and width of the picture; None means `display_size`.

    Returns:
        The picture, (*size, 3), uint8.
    """
    size = size or display_size(*image.shape[:2])
    bright = draw.open_canvas(image, size)
    canvas = draw.faded(bright)
    if regions is None:
        for y, x in draw.pixel_centers(asked, image.shape[:2], size):
            _ring(canvas, y, x, color, halo=_BLACK)
    else:
        ids = draw.fit_map(regions, size)
        inside = np.isin(ids, asked)
        canvas[inside] = bright[inside]
        canvas[draw.outlines(ids, inside, draw.line_width(size))] = color
    return draw.close_canvas(canvas)


def regions_picture(
    image: NDArray[np.uint8],
    regions: NDArray[np.integer[Any]],
    *,
    color: Color = ASKED_COLOR,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Outline every region of a map.

    Args:
        image: The image, (H, W, 3), uint8, RGB.
        regions: Region id per pixel, (H, W), -1 = in none.
        color: Colour of the outlines.
        size: Height and width of the picture; None means `display_size`.

    Returns:
        The picture, (*size, 3), uint8.
    """
    size = size or display_size(*image.shape[:2])
    canvas = draw.open_canvas(image, size)
    ids = draw.fit_map(np.asarray(regions, dtype=np.int32), size)
    edge = np.zeros(ids.shape, dtype=bool)  # one pixel wide: superpixels may be small
    edge[:, 1:] = ids[:, 1:] != ids[:, :-1]
    edge[1:] |= ids[1:] != ids[:-1]
    canvas[edge] = color
    return draw.close_canvas(canvas)


def groups_picture(
    image: NDArray[np.uint8],
    groups: NDArray[np.unsignedinteger[Any]],
    *,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Lay a colour per group over an image, such as clusters of regions.

    Args:
        image: The image, (H, W, 3), uint8, RGB.
        groups: Group of each pixel, (H, W); the largest number of its type = in none.
        size: Height and width of the picture; None means `display_size`.

    Returns:
        The picture, (*size, 3), uint8. A group has one colour in all pictures.
    """
    none = np.iinfo(groups.dtype).max
    known = groups != none
    # more groups than labels have numbers share colours
    labels = np.where(known, groups % VOID, VOID).astype(np.uint8)
    return label_overlay(image, labels, draw.group_colors(VOID), size=size)


def heat_picture(
    image: NDArray[np.uint8],
    values: NDArray[np.floating[Any]],
    *,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Lay numbers over an image as heat, dark for low and bright for high ones.

    Args:
        image: The image, (H, W, 3), uint8, RGB.
        values: 0..1, (H, W); NaN leaves the image as it is.
        size: Height and width of the picture; None means `display_size`.

    Returns:
        The picture, (*size, 3), uint8.
    """
    size = size or display_size(*image.shape[:2])
    canvas = draw.open_canvas(image, size)
    draw.lay_heat(canvas, draw.fit_map(values, size))
    return draw.close_canvas(canvas)


def answered_picture(
    image: NDArray[np.uint8],
    regions: NDArray[np.int32] | None,
    asked: NDArray[np.int64],
    answers: NDArray[np.bool_] | Sequence[NDArray[np.uint8]],
    colors: NDArray[np.uint8],
    *,
    size: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Show what was answered, in the colours of the classes, over the faded image.

    One class fills its region; several share it in diagonal stripes; void is hatched grey; a dense
    mask is laid over its region; a pixel becomes a dot in the colour of its (first) class, or a
    grey eye for void.

    Args:
        image: The image, (H, W, 3), uint8, RGB.
        regions: Region id per pixel, (H, W), int32; None for pixels as units.
        asked: Ids of the answered units of this image, (n,), int64.
        answers: Class sets, (n, C + 1), bool, the last column void (`Answers.members`); or per unit
            the labels of its pixels in raster order, uint8 each (`Answers.masks`).
        colors: Display colour per class, (C, 3), uint8.
        size: Height and width of the picture; None means `display_size`.

    Returns:
        The picture, (*size, 3), uint8.

    Raises:
        ValueError: If masks come without a region map.
    """
    size = size or display_size(*image.shape[:2])
    canvas = draw.faded(draw.open_canvas(image, size))
    if isinstance(answers, np.ndarray):
        palettes = [_palette(members, colors) for members in answers]
        if regions is None:
            centers = draw.pixel_centers(asked, image.shape[:2], size)
            for (y, x), palette in zip(centers, palettes, strict=True):
                _dot(canvas, y, x, palette)
            return draw.close_canvas(canvas)
        ids = draw.fit_map(regions, size)
        for unit, palette in zip(asked, palettes, strict=True):
            _fill(canvas, ids == unit, palette)
    elif regions is None:
        raise ValueError("mask answers need a region map")
    else:
        ids = draw.fit_map(regions, size)
        labels = np.full(regions.shape, VOID, dtype=np.uint8)
        for unit, mask in zip(asked, answers, strict=True):
            labels[regions == unit] = mask
        labels = draw.fit_map(labels, size)
        draw.lay_labels(canvas, labels, colors, alpha=0.8)
        draw.lay_hatching(canvas, np.isin(ids, asked) & (labels == VOID))
    canvas[draw.outlines(ids, np.isin(ids, asked), 2)] = _WHITE
    return draw.close_canvas(canvas)


def contact_sheet(
    images: Sequence[NDArray[np.uint8]], texts: Sequence[str], columns: int = 6
) -> NDArray[np.uint8]:
    """Small pictures in rows, each with a line below it.

    Args:
        images: The images, (H, W, 3) each, uint8, RGB, at least one; their sizes may differ.
        texts: One line per image; what is too long for it is cut off.
        columns: Pictures in a row, at most.

    Returns:
        (H', W', 3), uint8.
    """
    font = ImageFont.load_default(size=_LEGEND_FONT)
    tiles = [Image.fromarray(image) for image in images]
    for tile in tiles:
        tile.thumbnail((_TILE, _TILE), Image.Resampling.BICUBIC)
    columns = min(columns, len(tiles))
    tallest = max(tile.height for tile in tiles)
    width, height = _TILE + _TILE_GAP, tallest + 2 * _LEGEND_FONT
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * width - _TILE_GAP, rows * height), _WHITE)
    pen = ImageDraw.Draw(page)
    for number, (tile, text) in enumerate(zip(tiles, texts, strict=True)):
        x, y = number % columns * width, number // columns * height
        page.paste(tile, (x + (_TILE - tile.width) // 2, y + tallest - tile.height))
        while font.getlength(text) > _TILE:
            text = text.removesuffix("…")[:-1] + "…"
        pen.text((x + _TILE // 2, y + tallest + 4), text, font=font, fill=(20, 20, 20), anchor="ma")
    return np.asarray(page)


def with_legend(
    picture: NDArray[np.uint8], names: Sequence[str], colors: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Write below a picture which colour stands for which class.

    Args:
        picture: (H, W, 3), uint8, RGB.
        names: Names of the classes, in the order they are listed.
        colors: Their colours, (len(names), 3), uint8.

    Returns:
        (H', W', 3), uint8: the picture on top of as many lines as the names take, and wider only
        where a name is.
    """
    font = ImageFont.load_default(size=_LEGEND_FONT)
    line, gap = round(1.6 * _LEGEND_FONT), _LEGEND_FONT
    widths = [line + round(font.getlength(name)) + gap for name in names]
    places, x, y = [], gap, 0
    for width in widths:
        if x > gap and x + width > picture.shape[1]:
            x, y = gap, y + line
        places.append((x, y))
        x += width
    size = (max([picture.shape[1], *(gap + w for w in widths)]), picture.shape[0] + y + line + gap)
    page = Image.new("RGB", size, _WHITE)
    page.paste(Image.fromarray(picture))
    pen = ImageDraw.Draw(page)
    for (x, y), name, color in zip(places, names, colors.tolist(), strict=True):
        top = picture.shape[0] + gap // 2 + y
        box = (x, top + line - _LEGEND_FONT, x + _LEGEND_FONT, top + line)
        pen.rectangle(box, fill=tuple(color), outline=(90, 90, 90))
        middle = (x + line, top + line - _LEGEND_FONT // 2)
        pen.text(middle, name, font=font, fill=(20, 20, 20), anchor="lm")
    return np.asarray(page)


def encode_picture(picture: NDArray[np.uint8], suffix: str = ".jpg") -> bytes:
    """Encode a picture for a file of the given suffix.

    Args:
        picture: (H, W, 3), uint8, RGB.
        suffix: ``.jpg`` for photographs; ``.png`` where every pixel matters.

    Returns:
        The content of the file.
    """
    buffer = io.BytesIO()
    shown = Image.fromarray(picture)
    if suffix == ".png":
        shown.save(buffer, "PNG", optimize=True)
    else:  # full chroma: thin coloured lines would bleed at the usual half resolution
        # not optimised: Pillow's buffer for that is too small for noise
        shown.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def save_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture, (H, W, 3), uint8, as the JPEG or PNG file that the suffix names."""
    write_atomic(path, encode_picture(picture, path.suffix))


def _palette(members: NDArray[np.bool_], colors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours of a class set, (k, 3); void comes last, as grey, unless it is alone: then k = 0."""
    if members[-1] and members.sum() == 1:
        return np.zeros((0, 3), np.uint8)
    return np.vstack([colors, np.array(draw.VOID_COLORS[:1], dtype=np.uint8)])[members]


def _fill(canvas: draw.Canvas, region: NDArray[np.bool_], palette: NDArray[np.uint8]) -> None:
    if region.any() and len(palette):
        draw.lay_stripes(canvas, region, palette)
    else:
        draw.lay_hatching(canvas, region)


def _dot(canvas: draw.Canvas, y: float, x: float, palette: NDArray[np.uint8]) -> None:
    radius = draw.marker_radius(canvas.shape[:2])
    red, green, blue = palette[0].tolist() if len(palette) else draw.VOID_COLORS[0]
    draw.stamp(canvas, y, x, radius + 1.5, _BLACK)
    draw.stamp(canvas, y, x, radius, _WHITE)
    draw.stamp(canvas, y, x, radius - 1.5, (red, green, blue))
    if not len(palette):
        draw.stamp(canvas, y, x, radius / 3, _BLACK)


def _ring(canvas: draw.Canvas, y: float, x: float, color: Color, halo: Color) -> None:
    radius = draw.marker_radius(canvas.shape[:2])
    draw.stamp(canvas, y, x, radius + 1.5, halo, hole=radius / 2 - 1.5)
    draw.stamp(canvas, y, x, radius, color, hole=radius / 2)
