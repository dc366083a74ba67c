"""Images and masks that lie in files."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.files import uncollected
from alseg.core.images import VOID, ClassTable, Origin, Sceneless
from alseg.core.masks import UNKNOWN, MaskTable
from alseg.core.rasters import ENDINGS, read_header
from alseg.data.decoded import DecodedImages
from alseg.data.masks import stored_values
from alseg.data.reading.images import AS_RGB, Reading, read_image, read_void
from alseg.data.reading.known import KnownFiles

#: File name endings that are read as images or masks, in lower case.
EXTENSIONS = ENDINGS

#: Name of a remembered fact: height and width of a file.
SIZE = "size"


class ImageFile(NamedTuple):
    """One image on disk and, where there is one, its mask."""

    name: str
    image: Path
    mask: Path | None


class Resize(NamedTuple):
    """The size images get as they are loaded: a fixed one, or a share of their own.

    Images are resized by a triangle filter as wide as a target pixel, so that shrinking does not
    alias; masks take the nearest pixel. With a fixed `size` the aspect ratio is not kept.
    """

    size: tuple[int, int] | None = None
    """Height and width in pixels."""
    scale: float = 1.0

    @classmethod
    def from_options(cls, size: Iterable[int] | None, scale: float) -> "Resize":
        """Check the options `size` and `scale` of a data set.

        Raises:
            UserError: If the size is not two positive whole numbers, the scale is not positive,
                or both are given.
        """
        if size is not None:
            parts = [size] if isinstance(size, int | str) else list(size)
            if len(parts) != 2 or not all(isinstance(n, int) and 0 < n < 1 << 16 for n in parts):
                raise UserError(
                    f"data.size is {parts}; write height and width in pixels, such as [360, 480], "
                    f"or null to keep the size of the files."
                )
            if scale != 1.0:
                raise UserError(
                    f"data.size {parts} and data.scale {scale} are both given; keep one of them, "
                    f"since each decides the size images are loaded at."
                )
            size = (parts[0], parts[1])
        if not (isinstance(scale, int | float) and math.isfinite(scale) and 0 < scale <= 16):
            raise UserError(
                f"data.scale is {scale!r}; write a factor above 0 and up to 16, such as 0.5 for "
                f"half the height and width."
            )
        return cls(size, float(scale))

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """Target height and width of a file."""
        if self.size is not None:
            return self.size
        return (
            max(1, math.floor(height * self.scale + 0.5)),
            max(1, math.floor(width * self.scale + 0.5)),
        )


KEEP_SIZE = Resize()


class SceneTable(NamedTuple):
    """The classes of whole images."""

    names: tuple[str, ...] = ()
    """Names in the order of the ids."""
    of: Mapping[str, int] = MappingProxyType({})
    """Id of each image, by its name."""


NO_SCENES = SceneTable()


class FileImages(Sceneless):
    """An `alseg.core.images.ImageSet` over files, in the order of their names.

    Images may differ in size. See `alseg.data.reading.images.read_image` for what they become and
    what is refused.

    Attributes:
        files: The files in sorted order.
        classes: Names and display colours.
        names: Names in the order of `files`.
        scenes: Names of the classes of whole images; empty without them.
        masks: How masks are read.
        reading: How images are read.
        channels: C, channels of an image.
        decoded: Where decoded images are kept; None = nowhere.
    """

    def __init__(
        self,
        files: Iterable[ImageFile],
        classes: ClassTable,
        masks: MaskTable,
        resize: Resize = KEEP_SIZE,
        scenes: SceneTable = NO_SCENES,
        reading: Reading = AS_RGB,
        known: KnownFiles | None = None,
        decoded: DecodedImages | None = None,
    ) -> None:
        self.files = tuple(sorted(files, key=lambda file: file.name))
        self.classes = classes
        self.names: Sequence[str] = tuple(file.name for file in self.files)
        self.masks = masks
        self.resize = resize
        self.scenes = scenes.names
        self.reading = reading
        self.channels = reading.channels
        self.decoded = decoded
        self._known = KnownFiles() if known is None else known
        self._scene_of = {name: scenes.of[name] for name in self.names} if scenes.names else {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._fingerprints: dict[int, str] = {}
        self._truth_fingerprints: dict[int, str] = {}

    def __repr__(self) -> str:
        truth = "with masks" if self.has_truth else "without masks"
        return f"FileImages({len(self)} images {truth}, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def has_truth(self) -> bool:
        """Whether every image has a mask file."""
        return all(file.mask is not None for file in self.files)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width after resizing, from the header of the file."""
        if index not in self._sizes:
            self._sizes[index] = self.resize(*self._file_size(index))
        return self._sizes[index]

    def _file_size(self, index: int) -> tuple[int, int]:
        path = self.files[index].image
        size = self._known.get(path, SIZE)
        if size is None:
            header = read_header(path)
            size = f"{header.height} {header.width}"
            self._known.put(path, SIZE, size)
        height, _, width = size.partition(" ")
        return int(height), int(width)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, C), uint8, by default RGB.

        Raises:
            UserError: If the file cannot be read faithfully, with its path.
        """
        return self._decode(index) if self.decoded is None else self.pixels(index).copy()

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """What `image` returns, to be looked at only: it lies on the disk if `decoded` is given."""
        if self.decoded is None:
            return self._decode(index)
        return self.decoded.get(self.fingerprint(index), lambda: self._decode(index))

    def _decode(self, index: int) -> NDArray[np.uint8]:
        image = read_image(self.files[index].image, self.reading)
        height, width = self.resize(*image.shape[:2])
        return resize_smoothly(image, height, width)

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Ground truth, (H, W), uint8, class ids or VOID.

        Pixels for which the image has no data are VOID.

        Raises:
            UserError: If there is no mask, or it holds what the class table does not name.
        """
        path = self.files[index].mask
        if path is None:
            raise UserError(
                f"image {self.names[index]!r} has no mask; oracle=simulated and validation need "
                f"one for every image. With oracle=human, data.train_masks=false says that "
                f"training images have none."
            )
        stored = stored_values(path, self.masks)
        try:
            codes = self.masks.codes(*stored)
        except UserError as error:
            raise UserError(f"{path} {error}.") from error
        labels = self.masks.labels(resize_nearest(codes, *self.resize(*codes.shape)))
        if (labels == UNKNOWN).any():
            raise UserError(
                f"{path} holds values outside the class table; it has changed since it was "
                f"checked, so start again to see which."
            )
        without = read_void(self.files[index].image, self.reading)
        if without is not None:
            labels[resize_nearest(without, *labels.shape)] = VOID
        return labels.astype(np.uint8)

    def fit_mask(self, index: int, labels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """A map drawn on the file of an image, (h, w), at the size of the loaded image.

        Returns:
            (H, W); None if it has neither the size of the file nor that of the loaded image.
        """
        loaded, own = self.size(index), self._file_size(index)
        return resize_nearest(labels, *loaded) if labels.shape in (loaded, own) else None

    def origin(self, index: int) -> Origin:
        """Where the pixels of an image come from: all of its file."""
        height, width = self._file_size(index)
        box = (0.0, 0.0, float(height), float(width))
        return Origin(self.files[index].image, (height, width), box)

    def original(self, index: int) -> NDArray[np.uint8]:
        """The image at the size of its file, (H, W, C), uint8; see `image`."""
        return read_image(self.files[index].image, self.reading)

    def scene(self, index: int) -> int:
        """Class of a whole image; see `alseg.core.images.ImageSet.scene`."""
        return self._scene_of[self.names[index]] if self.scenes else super().scene(index)

    def fingerprint(self, index: int) -> str:
        """Digest of the file's bytes and of how they are read, 32 hex digits."""
        if index not in self._fingerprints:
            paths = [file.image for file in self.files]
            self._fingerprints |= self._digests(index, paths, self.reading.identity())
        return self._fingerprints[index]

    def truth_fingerprint(self, index: int) -> str:
        """Digest of the mask's bytes and of how it is read, 32 hex digits; empty without one."""
        if self.files[index].mask is None:
            return ""
        if index not in self._truth_fingerprints:
            paths = [file.mask for file in self.files]
            self._truth_fingerprints |= self._digests(index, paths, self.masks.digest())
        return self._truth_fingerprints[index]

    @uncollected()
    def _digests(self, index: int, paths: Sequence[Path | None], reading: str) -> dict[int, str]:
        """Digests of files: of all of them if they are remembered, else of one."""
        numbers = range(len(paths)) if self._known.kept else [index]
        found: dict[int, str] = {}
        todo: dict[int, str] = {}
        for number in numbers:
            path = paths[number]
            if path is None:
                continue
            size = self.size(number)
            about = repr((size, reading) if reading else size)
            digest = self._known.get(path, f"digest {about}")
            if digest is None:
                todo[number] = about
            else:
                found[number] = digest

        def hashed(number: int) -> str:
            path = paths[number]
            assert path is not None
            digest = blake2b(path.read_bytes(), digest_size=16)
            digest.update(todo[number].encode())
            return digest.hexdigest()

        # Hashing leaves the interpreter lock; more threads than this only wait for the disk.
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            new = dict(zip(todo, pool.map(hashed, todo), strict=True))
        for number, digest in new.items():
            path = paths[number]
            assert path is not None
            self._known.put(path, f"digest {todo[number]}", digest)
        self._known.save()
        return found | new


def resize_smoothly(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize an image by a triangle filter as wide as a target pixel, so that nothing aliases.

    Args:
        image: (H, W, C), uint8; channels do not mix.
        height: Target height in pixels.
        width: Target width in pixels.
    """
    if image.shape[:2] == (height, width):
        return image
    size = (width, height)
    if image.shape[2] == 3:
        return np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    channels = [
        Image.fromarray(np.ascontiguousarray(channel)) for channel in np.moveaxis(image, 2, 0)
    ]
    resized = [np.asarray(c.resize(size, Image.Resampling.BILINEAR)) for c in channels]
    return np.stack(resized, axis=2)


def resize_nearest(values: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Resize a map by nearest neighbours with aligned corners of the image, as Pillow does.

    Target pixel ``d`` of an axis of length ``n`` takes source pixel ``floor((d + 1/2) * m / n)``,
    in whole numbers, so that no platform rounds another way.

    Args:
        values: (H, W), any type.
        height: Target height in pixels.
        width: Target width in pixels.

    >>> resize_nearest(np.arange(6).reshape(2, 3), 1, 2).tolist()
    [[3, 5]]
    """
    if values.shape == (height, width):
        return values
    rows, columns = (
        (2 * np.arange(n) + 1) * m // (2 * n)
        for m, n in zip(values.shape, (height, width), strict=True)
    )
    return np.asarray(values[np.ix_(rows, columns)])
