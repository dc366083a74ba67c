"""What a data set is to the rest of the library: named images, and what is true of their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError

#: Label of pixels that have no class: not asked, or void in the ground truth. Label maps are uint8,
#: so a task has at most 255 classes, with ids 0..254.
VOID = 255


@dataclass(frozen=True)
class ClassTable:
    """The classes of a task, in the order of their ids.

    Attributes:
        names: One name per class; class ``c`` is ``names[c]``.
        colors: Display colour per class, (C, 3), uint8, RGB.
    """

    names: tuple[str, ...]
    colors: NDArray[np.uint8]

    def __repr__(self) -> str:
        return f"ClassTable({len(self)}: {', '.join(self.names)})"

    def __len__(self) -> int:
        return len(self.names)


class ImageSet(Protocol):
    """Images of one split. Indices are positions 0..N-1 in a fixed, sorted order."""

    @property
    def classes(self) -> ClassTable:
        """The classes of the task."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """One unique name per image, stable between runs and machines (no absolute path)."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    @property
    def has_truth(self) -> bool:
        """Whether `truth` can answer for every image."""
        ...

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the classes of whole images, in the order of their ids; empty without them."""
        ...

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of an image in pixels, without decoding it where the format allows."""
        ...

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, C), uint8: RGB, or the channels that `channels_of` counts."""
        ...

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Ground truth, (H, W), uint8, class ids 0..C-1 or `VOID`.

        Only oracles and evaluation may call this.

        Raises:
            UserError: Without truth.
        """
        ...

    def scene(self, index: int) -> int:
        """Class of a whole image, an id in `scenes`.

        Only oracles may call this. Raises `alseg.core.errors.UserError` without scenes.
        """
        ...

    def fingerprint(self, index: int) -> str:
        """Hex digest of everything that decides the pixels `image` returns."""
        ...


class Origin(NamedTuple):
    """Where the pixels of an image come from.

    Attributes:
        path: The file.
        size: Height and width of the picture in it.
        box: The part of the picture that the image shows: top, left, bottom, right, in pixels of
            the file. Whole numbers, unless a file is cut into windows after it is resized.
    """

    path: Path
    size: tuple[int, int]
    box: tuple[float, float, float, float]


def origin_of(images: ImageSet, index: int) -> Origin | None:
    """Where the pixels of an image come from; None where it is of no file.

    Sets of files have a method ``origin(index)``; sets that look at another one have it as
    ``images``.
    """
    own = attribute_of(images, "origin")
    return None if own is None else own(index)


def attribute_of(images: ImageSet, name: str) -> Any:
    """An attribute of a set, or of the one it looks at as ``images``; None where none has it."""
    while not hasattr(images, name) and hasattr(images, "images"):
        images = images.images
    return getattr(images, name, None)


def original(images: ImageSet, index: int) -> NDArray[np.uint8]:
    """An image in pixels of its file, (h, w, C), uint8; as it is loaded where it is of none."""
    own = attribute_of(images, "original")
    pixels: NDArray[np.uint8] = images.image(index) if own is None else own(index)
    return pixels


def pixels_of(images: ImageSet, index: int) -> NDArray[np.uint8]:
    """An image, (H, W, C), uint8, that is only looked at: it may lie on the disk.

    Sets that keep decoded images have a method ``pixels(index)``.
    """
    own = getattr(images, "pixels", None)
    pixels: NDArray[np.uint8] = images.image(index) if own is None else own(index)
    return pixels


def truth_fingerprint(images: ImageSet, index: int) -> str:
    """Hex digest of everything that decides the ground truth of an image; empty without truth.

    Sets that can tell without reading pixels have a method ``truth_fingerprint(index)``.
    """
    own = getattr(images, "truth_fingerprint", None)
    if own is not None:
        return str(own(index))
    if not images.has_truth:
        return ""
    return blake2b(images.truth(index).tobytes(), digest_size=16).hexdigest()


def channels_of(images: ImageSet) -> int:
    """Channels of the images of a set: 3, unless it has an attribute ``channels``."""
    return int(getattr(images, "channels", 3))


def require_rgb(images: ImageSet, what: str) -> None:
    """Refuse images of other than three channels.

    Args:
        images: The images.
        what: What needs three, for the message.

    Raises:
        UserError: If there are more or fewer.
    """
    channels = channels_of(images)
    if channels != 3:
        raise UserError(
            f"{what} reads red, green and blue, and these images have {channels} channels; give "
            f"three with data.bands, such as data.bands=[1,2,3]."
        )


def shown(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The three channels that a person, or a tool for photographs, is shown of an image.

    Args:
        image: (H, W, C), uint8.

    Returns:
        (H, W, 3): the first three channels; of fewer, the first one as grey.
    """
    channels = image.shape[2]
    if channels == 3:
        return image
    return np.ascontiguousarray(image[..., :3] if channels > 3 else image[..., [0, 0, 0]])


class Sceneless:
    """The part of an `ImageSet` that says that whole images have no classes."""

    scenes: tuple[str, ...] = ()

    def scene(self, index: int) -> int:
        """Refused; see `ImageSet.scene`."""
        raise UserError(
            "this data set has no classes of whole images (scenes); choose one that has, or a way "
            "to ask that does without."
        )


@dataclass(frozen=True)
class WithoutTruth:
    """The images of a set, without their ground truth: what a method gets to see.

    Attributes:
        images: The set.
    """

    images: ImageSet

    @property
    def classes(self) -> ClassTable:
        """See `ImageSet`."""
        return self.images.classes

    @property
    def names(self) -> Sequence[str]:
        """See `ImageSet`."""
        return self.images.names

    @property
    def channels(self) -> int:
        """See `channels_of`."""
        return channels_of(self.images)

    @property
    def has_truth(self) -> bool:
        """Never."""
        return False

    @property
    def scenes(self) -> tuple[str, ...]:
        """See `ImageSet`."""
        return self.images.scenes

    def __len__(self) -> int:
        return len(self.images)

    def size(self, index: int) -> tuple[int, int]:
        """See `ImageSet.size`."""
        return self.images.size(index)

    def image(self, index: int) -> NDArray[np.uint8]:
        """See `ImageSet.image`."""
        return self.images.image(index)

    def fingerprint(self, index: int) -> str:
        """See `ImageSet.fingerprint`."""
        return self.images.fingerprint(index)

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Refused: ground truth must not choose what is asked."""
        raise PermissionError("a method may not see the ground truth")

    def scene(self, index: int) -> int:
        """Refused: the class of a whole image is an answer, too."""
        raise PermissionError("a method may not see the scene class of an image")


class Splits(Protocol):
    """A pool that is asked about, and images that are evaluated on, such as `DataSplits`."""

    @property
    def train(self) -> ImageSet:
        """The pool."""
        ...

    @property
    def val(self) -> ImageSet:
        """The images evaluated on."""
        ...


def choice_of(splits: Splits) -> ImageSet:
    """The images of splits that a checkpoint is chosen on: `DataSplits.choice`, or ``val``."""
    own: ImageSet | None = getattr(splits, "choice", None)
    return splits.val if own is None else own


@dataclass(frozen=True)
class DataSplits:
    """What a data configuration builds: the pool that is asked about and the images scored on.

    Attributes:
        train: The pool.
        val: The images scored on.
        choice: Images that a stage chooses its best checkpoint on; None = those scored on.
    """

    train: ImageSet
    val: ImageSet
    choice: ImageSet | None = None

    def __repr__(self) -> str:
        return f"DataSplits({len(self.train)} training images, {len(self.val)} validation images)"
