"""Pictures of the questions, for a person who answers them through files."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from alseg.core.images import ImageSet, origin_of, original, shown
from alseg.labels.human import unit_boxes
from alseg.labels.kinds import KINDS
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.tables import PIXELS, Query
from alseg.regions.geometry import widened
from alseg.report import canvas as draw
from alseg.report.pictures import ASKED_COLOR, save_picture

#: Smallest side of a crop in pixels of the file, where the file is as large.
_LEAST_SIDE = 320
#: Smaller crops are enlarged by a whole factor to about this side, larger ones shrunk to the other.
_SMALL, _LARGE = 640, 2048
_FONT = 20
_WHITE: draw.Color = (255, 255, 255)


class Placed(NamedTuple):
    """The pixels of an image in its file, and how its loaded pixels lie on them."""

    pixels: NDArray[np.uint8]  #: (h, w, 3), uint8, RGB.
    corner: tuple[float, float]  #: Of the loaded image, in these pixels: y, x.
    scale: tuple[float, float]  #: Of these pixels per loaded pixel, down and across.


def save_questions(query: Query, pool: LabelPool, images: ImageSet, folder: Path) -> None:
    """Draw every question of a query that has no picture yet.

    ``<row>_<image>.jpg`` shows the unit with about twice its width of the image file around it.
    Where masks are asked for, ``clean/<image>.png`` is the image as the run loads it, to draw on.

    Args:
        query: What is asked.
        pool: Knows the region maps.
        images: The pool's images.
        folder: Of the pictures.
    """
    boxes = unit_boxes(query, pool)
    for image, rows in rows_by_image(query.image):
        name = images.names[image]
        file = name.replace("/", "_")
        paths = {row: folder / f"{row:05d}_{file}.jpg" for row in rows.tolist()}
        clean = folder / "clean" / f"{file}.png"
        if KINDS[query.answer].column == "masks" and not clean.exists():
            save_picture(clean, shown(images.image(image)))
        missing = [row for row, path in paths.items() if not path.exists()]
        if not missing:
            continue
        placed = _placed(images, image)
        regions = None if query.regions == PIXELS else pool.maps[query.regions][image]
        for row in missing:
            unit = None if regions is None else (regions, int(query.unit[row]))
            picture = question_picture(placed, boxes[row], unit, f"{row}", name)
            save_picture(paths[row], picture)


def _placed(images: ImageSet, image: int) -> Placed:
    pixels, origin = shown(original(images, image)), origin_of(images, image)
    if origin is None:
        return Placed(pixels, (0.0, 0.0), (1.0, 1.0))
    top, left, bottom, right = origin.box
    height, width = images.size(image)
    scale = (bottom - top) / height, (right - left) / width
    return Placed(pixels, (top - int(top), left - int(left)), scale)


def question_picture(
    placed: Placed,
    box: NDArray[np.int64],
    unit: tuple[NDArray[np.int32], int] | None,
    number: str,
    name: str,
) -> NDArray[np.uint8]:
    """One question: a unit with what is around it, below a line with its number.

    Args:
        placed: The image.
        box: Bounding box of the unit in loaded pixels: top, left, bottom, right.
        unit: Region map of the image, (H, W), and id of the unit, which is outlined on the outside;
            None for a pixel, which gets a ring.
        number: Of the question.
        name: Of the image.

    Returns:
        (h, w, 3), uint8, RGB.
    """
    scale, corner = np.array(placed.scale), np.array(placed.corner)
    ends = box.reshape(2, 2) * scale + corner
    side = max(_LEAST_SIDE, math.ceil(2 * (ends[1] - ends[0]).max()))
    sides = []
    for start, end, whole in zip(*ends.tolist(), placed.pixels.shape, strict=False):
        length = min(whole, side)
        first = min(max(round((start + end - length) / 2), 0), whole - length)
        sides.append((first, length))
    (top, high), (left, wide) = sides
    longer = max(high, wide)
    factor = max(1, round(_SMALL / longer)) if longer <= _LARGE else _LARGE / longer
    size = max(1, round(high * factor)), max(1, round(wide * factor))
    canvas = draw.open_canvas(placed.pixels[top : top + high, left : left + wide], size)
    # the loaded pixel under the centre of each pixel of the picture
    zoom = np.array(size) / (high, wide)
    places = [
        ((np.arange(n) + 0.5) / z + first - c) / s
        for n, z, first, c, s in zip(size, zoom, (top, left), corner, scale, strict=True)
    ]
    if unit is None:
        y, x = ((ends.mean(axis=0) - (top, left)) * zoom - 0.5).tolist()
        half = float(((ends[1] - ends[0]) * zoom).max()) / 2
        hole = max(half * 2**0.5 + 1, draw.marker_radius(size))
        draw.stamp(canvas, y, x, hole + 6, _WHITE, hole=hole)
        draw.stamp(canvas, y, x, hole + 4, ASKED_COLOR, hole=hole + 1.5)
    else:
        regions, unit_id = unit
        y_ids, x_ids = (
            np.clip(np.floor(p).astype(np.int64), 0, n - 1)
            for p, n in zip(places, regions.shape, strict=True)
        )
        inside = regions[y_ids[:, None], x_ids] == unit_id
        near = widened(inside, 3)
        canvas[widened(inside, 5) & ~near] = _WHITE
        canvas[near & ~inside] = ASKED_COLOR
    return _captioned(draw.close_canvas(canvas), number, name)


def _captioned(picture: NDArray[np.uint8], number: str, name: str) -> NDArray[np.uint8]:
    """A picture below a line with the number of the question and the name of its image."""
    font = ImageFont.load_default(size=_FONT)
    strip, gap = round(1.6 * _FONT), _FONT // 2
    chip = font.getlength(number) + 2 * gap
    width = max(picture.shape[1], round(chip) + 2 * gap)
    page = Image.new("RGB", (width, picture.shape[0] + strip), _WHITE)
    page.paste(Image.fromarray(picture), (0, strip))
    pen = ImageDraw.Draw(page)
    pen.rounded_rectangle((2, 2, 2 + chip, strip - 3), 5, fill=_WHITE, outline=ASKED_COLOR, width=2)
    pen.text((2 + chip / 2, strip / 2), number, font=font, fill=(20, 20, 20), anchor="mm")
    pen.text((2 + chip + gap, strip / 2), name, font=font, fill=(90, 90, 90), anchor="lm")
    return np.asarray(page)
