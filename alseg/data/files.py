"""Images and masks that lie in files."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.images import ClassTable, Sceneless
from alseg.core.masks import UNKNOWN, MaskTable
from alseg.data.masks import stored_values

#: File name endings that are read as images or masks, in lower case.
EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})

_ORIENTATION = 0x0112  # the EXIF tag
_BAND = 1024  # rows


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

    Images may differ in size. Grey images become RGB with equal channels and palette images their
    colours; an alpha channel is dropped; of 16-bit RGB the high byte is kept. See `read_rgb` for
    what is refused.

    Attributes:
        files: The files in sorted order.
        classes: Names and display colours.
        names: Names in the order of `files`.
        scenes: Names of the classes of whole images; empty without them.
        masks: How masks are read.
    """

    def __init__(
        self,
        files: Iterable[ImageFile],
        classes: ClassTable,
        masks: MaskTable,
        resize: Resize = KEEP_SIZE,
        scenes: SceneTable = NO_SCENES,
    ) -> None:
        self.files = tuple(sorted(files, key=lambda file: file.name))
        self.classes = classes
        self.names: Sequence[str] = tuple(file.name for file in self.files)
        self.masks = masks
        self.resize = resize
        self.scenes = scenes.names
        self._scene_of = {name: scenes.of[name] for name in self.names} if scenes.names else {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._fingerprints: dict[int, str] = {}
        self._truth_fingerprints: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def has_truth(self) -> bool:
        """Whether every image has a mask file."""
        return all(file.mask is not None for file in self.files)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width after resizing, from the header of the file."""
        if index not in self._sizes:
            with Image.open(self.files[index].image) as image:
                self._sizes[index] = self.resize(image.height, image.width)
        return self._sizes[index]

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, 3), uint8, RGB.

        Raises:
            UserError: If the file cannot be read faithfully, with its path.
        """
        path = self.files[index].image
        try:
            with Image.open(path) as file:
                rgb = read_rgb(file)
        except UserError as error:
            raise UserError(f"{path} {error}.") from error
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error}); restore or remove it.") from error
        height, width = self.resize(rgb.height, rgb.width)
        if (height, width) != (rgb.height, rgb.width):
            rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
        return _array(rgb)

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Ground truth, (H, W), uint8, class ids or VOID.

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
        try:
            with Image.open(path) as file:
                codes = self.masks.codes(*stored_values(file))
        except UserError as error:
            raise UserError(f"{path} {error}.") from error
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error}); restore or remove it.") from error
        labels = self.masks.labels(resize_nearest(codes, *self.resize(*codes.shape)))
        if (labels == UNKNOWN).any():
            raise UserError(
                f"{path} holds values outside the class table; it has changed since it was "
                f"checked, so start again to see which."
            )
        return labels.astype(np.uint8)

    def scene(self, index: int) -> int:
        """Class of a whole image; see `alseg.core.images.ImageSet.scene`."""
        return self._scene_of[self.names[index]] if self.scenes else super().scene(index)

    def fingerprint(self, index: int) -> str:
        """Digest of the file's bytes and of the target size, 32 hex digits."""
        if index not in self._fingerprints:
            digest = blake2b(self.files[index].image.read_bytes(), digest_size=16)
            digest.update(repr(self.size(index)).encode())
            self._fingerprints[index] = digest.hexdigest()
        return self._fingerprints[index]

    def truth_fingerprint(self, index: int) -> str:
        """Digest of the mask's bytes and of how it is read, 32 hex digits; empty without one."""
        path = self.files[index].mask
        if path is None:
            return ""
        if index not in self._truth_fingerprints:
            digest = blake2b(path.read_bytes(), digest_size=16)
            digest.update(repr((self.size(index), self.masks.digest())).encode())
            self._truth_fingerprints[index] = digest.hexdigest()
        return self._truth_fingerprints[index]


def _array(rgb: Image.Image) -> NDArray[np.uint8]:
    """The pixels, band by band: Pillow copies twice what numpy asks it for."""
    pixels = np.empty((rgb.height, rgb.width, 3), dtype=np.uint8)
    for top in range(0, rgb.height, _BAND):
        bottom = min(top + _BAND, rgb.height)
        pixels[top:bottom] = np.asarray(rgb.crop((0, top, rgb.width, bottom)))
    return pixels


def read_rgb(image: Image.Image) -> Image.Image:
    """Decode an open image file as 8-bit RGB.

    Args:
        image: The file as Pillow opened it, before its pixels are loaded.

    Raises:
        UserError: If the file cannot be shown faithfully in 8-bit RGB (one channel of 16 or 32
            bits, CMYK), is turned by an EXIF tag, or holds several pictures. The sentence lacks
            the path.
        OSError: If the file is damaged.
    """
    refuse_turned(image)
    if image.mode[0] in "IF":
        raise UserError(
            "has one channel of more than 8 bits; which values are black and white is not in the "
            "file, so convert it to 8 bits with the range you want"
        )
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        raise UserError(f"has colours in {image.mode}; convert it to RGB")
    # Phones save a second picture for their own use behind the first (MPO); that is no reason.
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise UserError("holds several pictures; save each as its own file")
    image.load()  # all of it: a truncated JPEG has a sound header
    return image if image.mode == "RGB" else image.convert("RGB")


def refuse_turned(image: Image.Image) -> None:
    """Refuse a file that viewers turn or mirror on display.

    Labelling tools differ on whether masks are drawn on the turned picture, and for half turns and
    square images the sizes do not tell.

    Raises:
        UserError: If the EXIF orientation is another than upright. The sentence lacks the path.
    """
    turn = image.getexif().get(_ORIENTATION, 1)
    if turn not in (0, 1):
        raise UserError(
            f"has EXIF orientation {turn}, which some tools apply and others ignore; rewrite it "
            f"upright (mogrify -auto-orient) and see that its mask fits"
        )


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
