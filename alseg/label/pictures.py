"""Pictures of the questions: crops of the original files, overviews, superpixels to paint with."""

import io
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.images import shown
from alseg.data.reading.images import Reading, read_image
from alseg.label.outline import outline
from alseg.label.session import Session

#: Bytes of decoded files, and of encoded pictures, that are kept.
MEMORY = 1 << 28
#: Smallest side of a crop, in pixels of the file, where the file is as large.
LEAST_SIDE = 320
#: Longest side of a picture that is sent; larger crops are shrunk.
MOST_SIDE = 4096
#: Longest side of an overview.
OVERVIEW_SIDE = 240
#: Pixels up to which a picture is sent without loss.
_LOSSLESS = 1 << 19
#: Side of the cells the superpixel brush starts from, in loaded pixels.
_BRUSH_SIDE = 12

Kept = TypeVar("Kept")


class Crop(NamedTuple):
    """Part of a file, in its pixels."""

    top: int
    left: int
    height: int
    width: int


class Pictures:
    """Makes what the page shows of each row; safe to use from several threads.

    Args:
        session: What is asked.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._files = _Kept[NDArray[np.uint8]](lambda pixels: pixels.nbytes)
        self._sent = _Kept[tuple[bytes, str]](lambda sent: len(sent[0]))
        self._superpixels = _Kept[bytes](len)
        self._views: dict[int, dict[str, Any]] = {}

    def view(self, row: int) -> dict[str, Any]:
        """Where a unit lies in its crop.

        Returns:
            ``size``: height and width of the crop in pixels of the file; ``unit``: top, left,
            bottom and right of the unit's box in the crop; ``loops``: outlines, corners ``x, y`` in
            the crop; ``scale``: pixels of the file per loaded pixel, down and across; ``grid``:
            height and width of the box in loaded pixels; ``place``: the crop as shares of the
            image, ``unit_place`` the unit's; of masks ``runs``, pixels outside and inside the unit
            in turn, row by row of its box.
        """
        if row not in self._views:
            self._views[row] = self._view(row)
        return self._views[row]

    def _view(self, row: int) -> dict[str, Any]:
        session = self._session
        picture = session.pictures[int(session.query.image[row])]
        down, across = picture.scale
        top, left = session.boxes[row, :2].tolist()
        crop = self.crop(row)
        y0 = picture.box[0] + top * down - crop.top
        x0 = picture.box[1] + left * across - crop.left
        mask = session.mask(row)
        loops = [(loop * (across, down) + (x0, y0)).round(2) for loop in outline(mask)]
        box_height, box_width = mask.shape
        unit = [y0, x0, y0 + box_height * down, x0 + box_width * across]
        high, wide = picture.box[2] - picture.box[0], picture.box[3] - picture.box[1]

        def share(a: float, b: float, c: float, d: float) -> list[float]:
            y, x = crop.top - picture.box[0], crop.left - picture.box[1]
            ends = ((a + y) / high, (b + x) / wide, (c + y) / high, (d + x) / wide)
            return [round(min(max(end, 0.0), 1.0), 5) for end in ends]

        view: dict[str, Any] = {
            "size": [crop.height, crop.width],
            "unit": [round(side, 2) for side in unit],
            "loops": [loop.ravel().tolist() for loop in loops],
            "scale": [down, across],
            "grid": [box_height, box_width],
            "place": share(0, 0, crop.height, crop.width),
            "unit_place": share(*unit),
        }
        if session.column == "masks":
            view["runs"] = _runs(mask)
        return view

    def crop(self, row: int) -> Crop:
        """The part of the file to show: a square about the unit, twice as long as it."""
        session = self._session
        picture = session.pictures[int(session.query.image[row])]
        box = session.boxes[row].reshape(2, 2) * picture.scale + picture.box[:2]
        side = max(LEAST_SIDE, math.ceil(2 * (box[1] - box[0]).max()))
        sides = []
        for start, end, whole in zip(*box.tolist(), picture.file_size, strict=True):
            length = min(whole, side)
            first = round((start + end - length) / 2)
            sides.append((min(max(first, 0), whole - length), length))
        (top, height), (left, width) = sides
        return Crop(top, left, height, width)

    def _pixels(self, image: int) -> NDArray[np.uint8]:
        """A file as the run reads it, in all its channels, (H, W, C), uint8."""
        path = self._session.path(image)
        reading = Reading.from_description(self._session.pictures[image].reading)
        return self._files.get(str(path), lambda: read_image(path, reading))

    def part(self, image: int, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """Part of an image's file in pixels of the file, (h, w, C), uint8."""
        return self._pixels(image)[top:bottom, left:right]

    def crop_picture(self, row: int) -> tuple[bytes, str]:
        """The crop of a row, encoded, and its media type."""

        def make() -> tuple[bytes, str]:
            crop = self.crop(row)
            pixels = self._pixels(int(self._session.query.image[row]))
            part = pixels[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
            return encoded(shown(part))

        return self._sent.get(f"crop {row}", make)

    def overview(self, image: int) -> tuple[bytes, str]:
        """A whole image, small, encoded, and its media type."""

        def make() -> tuple[bytes, str]:
            top, left, bottom, right = (round(side) for side in self._session.pictures[image].box)
            part = Image.fromarray(shown(self._pixels(image)[top:bottom, left:right]))
            part.thumbnail((OVERVIEW_SIDE, OVERVIEW_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
            return encoded(np.asarray(part))

        return self._sent.get(f"overview {image}", make)

    def loaded(self, row: int) -> NDArray[np.uint8]:
        """The box of a unit at the size at which the run loads it, (h, w, C), uint8."""
        top, left, bottom, right = self._session.boxes[row].tolist()
        return self._loaded(int(self._session.query.image[row]), top, left, bottom, right)

    def whole(self, image: int) -> NDArray[np.uint8]:
        """An image at the size at which the run loads it, (H, W, C), uint8."""
        height, width = self._session.pictures[image].size
        return self._loaded(image, 0, 0, height, width)

    def _loaded(
        self, image: int, top: int, left: int, bottom: int, right: int
    ) -> NDArray[np.uint8]:
        picture = self._session.pictures[image]
        down, across = picture.scale
        y0, x0 = picture.box[0] + top * down, picture.box[1] + left * across
        y1, x1 = picture.box[0] + bottom * down, picture.box[1] + right * across
        # as the run shrinks: a filter over the very box, whose sides may lie inside of pixels
        size = (right - left, bottom - top)
        channels = [
            np.asarray(
                Image.fromarray(np.ascontiguousarray(channel)).resize(
                    size, Image.Resampling.BILINEAR, box=(x0, y0, x1, y1)
                )
            )
            for channel in np.moveaxis(self._pixels(image), 2, 0)
        ]
        return np.stack(channels, axis=2)

    def superpixels(self, row: int) -> bytes:
        """Superpixel ids of a unit's box, row by row, 16 bits each, low byte first."""

        def make() -> bytes:
            return brush_cells(shown(self.loaded(row))).astype("<u2").tobytes()

        return self._superpixels.get(str(row), make)


def brush_cells(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Superpixels for the brush: small, and made within a second also of large images.

    Args:
        pixels: (H, W, 3), uint8, RGB.

    Returns:
        Ids, (H, W).
    """
    import cv2

    height, width = pixels.shape[:2]
    side = max(_BRUSH_SIDE, math.ceil(math.sqrt(height * width / 60000)))
    if min(height, width) < 2 * side:
        side = max(2, min(height, width) // 4)
    if min(height, width) < 8:
        return np.arange(height * width).reshape(height, width)
    if not hasattr(cv2, "ximgproc"):  # squares are better than no brush
        y, x = np.mgrid[:height, :width] // side
        return np.asarray(y * (width // side + 1) + x)
    lab = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2LAB)
    slic = cv2.ximgproc.createSuperpixelSLIC(lab, cv2.ximgproc.SLIC, side, 12.0)
    slic.iterate(4)
    return np.asarray(slic.getLabels(), dtype=np.int64)


def encoded(pixels: NDArray[np.uint8]) -> tuple[bytes, str]:
    """A picture as it is sent, and its media type: PNG, or JPEG of high quality where it is large.

    Args:
        pixels: (H, W, 3), uint8, RGB.
    """
    image = Image.fromarray(pixels)
    if max(image.size) > MOST_SIDE:
        image.thumbnail((MOST_SIDE, MOST_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    buffer = io.BytesIO()
    if image.width * image.height <= _LOSSLESS:
        image.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue(), "image/png"
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue(), "image/jpeg"


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    """Lengths of runs outside and inside in turn, outside first."""
    flat = np.concatenate([[False], mask.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()


class _Kept(Generic[Kept]):
    """The things used last, as many as fit into `MEMORY`; each is made by one thread."""

    def __init__(self, size: Callable[[Kept], int]) -> None:
        self._size = size
        self._things: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}

    def get(self, key: str, make: Callable[[], Kept]) -> Kept:
        """What has a key, made if it is not there."""
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
                return self._things[key]
            own = self._making.setdefault(key, threading.Lock())
        with own:
            with self._lock:
                if key in self._things:
                    return self._things[key]
            thing = make()
            with self._lock:
                self._making.pop(key, None)
                self._things[key] = thing
                self._bytes += self._size(thing)
                while self._bytes > MEMORY and len(self._things) > 1:
                    _, old = self._things.popitem(last=False)
                    self._bytes -= self._size(old)
        return thing
