"""Images in memory: the data set of a notebook."""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import VOID, ClassTable, ImageSet, Sceneless
from alseg.data.masks import default_colors

log = logging.getLogger(__name__)


class ArrayImages(Sceneless):
    """Images that are arrays, an `alseg.core.images.ImageSet`.

    It takes the place of the two splits of a data set as well: its ``train`` are the images
    themselves, its ``val`` are given, or none.

    Args:
        images: (H, W, 3), uint8, RGB, each; an array (N, H, W, 3) will do. Images of other sensors
            may have any number of channels, all the same.
        masks: (H, W) each, class ids 0..C-1 or `VOID` (255); None where nobody knows the truth.
        classes: Names of the classes in the order of their ids, or a table with colours.
        val: Images and masks to evaluate on, as another set of the same classes.
        names: One name per image; None = ``image_00000`` and so on.

    Raises:
        UserError: For arrays of another shape or type, masks that do not fit, or ids that are no
            class.
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
        masks: Sequence[NDArray[Any]] | NDArray[Any] | None,
        classes: Sequence[str] | ClassTable,
        val: "ArrayImages | None" = None,
        names: Sequence[str] | None = None,
    ) -> None:
        if isinstance(classes, int):
            raise UserError(f"classes={classes}: give their names, such as ['road', 'car'].")
        if not isinstance(classes, ClassTable):
            classes = ClassTable(tuple(classes), default_colors(len(classes)))
        if len(set(classes.names)) != len(classes):
            raise UserError(f"two classes have one name: {', '.join(classes.names)}.")
        self.classes = classes
        self.names: Sequence[str] = tuple(names or (f"image_{i:05d}" for i in range(len(images))))
        if len(self.names) != len(images) or len(set(self.names)) != len(images):
            raise UserError(f"{len(images)} images need as many different names.")
        self._images = [
            _checked_image(image, n) for image, n in zip(images, self.names, strict=True)
        ]
        self.channels = self._images[0].shape[2] if self._images else 3
        for image, name in zip(self._images, self.names, strict=True):
            if image.shape[2] != self.channels:
                raise UserError(
                    f"{name} has {image.shape[2]} channels, {self.names[0]} {self.channels}; give "
                    f"images of one kind."
                )
        self.has_truth = masks is not None
        self._masks: list[NDArray[np.uint8]] = []
        if masks is not None:
            if len(masks) != len(images):
                raise UserError(f"{len(images)} images cannot have {len(masks)} masks.")
            pairs = zip(masks, self._images, self.names, strict=True)
            self._masks = [_checked_mask(m, i, n, len(classes)) for m, i, n in pairs]
            _check_classes(self._masks, classes)
        self._val = val

    def __repr__(self) -> str:
        truth = "with masks" if self.has_truth else "without masks"
        return f"ArrayImages({len(self)} images {truth}, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def train(self) -> ImageSet:
        """The images themselves."""
        return self

    @property
    def val(self) -> ImageSet:
        """The images to evaluate on; none unless they were given."""
        return self._val if self._val is not None else ArrayImages([], [], self.classes)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self._images[index].shape[:2]
        return int(height), int(width)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image, (H, W, C), uint8, RGB where C = 3."""
        return self._images[index].copy()

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Ground truth, (H, W), uint8, class ids or VOID.

        Raises:
            UserError: Without masks.
        """
        if not self.has_truth:
            raise UserError("these images have no masks; give ArrayImages(images, masks, classes).")
        return self._masks[index].copy()

    def fingerprint(self, index: int) -> str:
        """Digest of the pixels, 32 hex digits."""
        image = self._images[index]
        digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(image).tobytes())
        return digest.hexdigest()


def _checked_image(image: NDArray[Any], name: str) -> NDArray[np.uint8]:
    image = np.asarray(image)
    if image.ndim != 3 or not image.shape[2] or image.dtype != np.uint8:
        raise UserError(
            f"{name} is {image.dtype} of shape {image.shape}; give images (H, W, 3), uint8, RGB."
        )
    return image


def _check_classes(masks: Sequence[NDArray[np.uint8]], classes: ClassTable) -> None:
    """Say which classes occur in no mask; refuse masks without any."""
    found = {value for mask in masks for value in np.unique(mask).tolist()}
    if found == {VOID}:
        raise UserError(
            f"the {len(masks)} masks hold nothing but void ({VOID}), so nothing can be learnt or "
            f"measured; give ids of classes."
        )
    absent = [name for number, name in enumerate(classes.names) if number not in found]
    if found and absent:
        void = f", and {VOID} is read as void" if VOID in found else ""
        log.warning("No mask of these arrays shows %s%s.", ", ".join(absent), void)


def _checked_mask(
    mask: NDArray[Any], image: NDArray[np.uint8], name: str, num_classes: int
) -> NDArray[np.uint8]:
    mask = np.asarray(mask)
    if mask.shape != image.shape[:2] or not np.issubdtype(mask.dtype, np.integer):
        raise UserError(
            f"the mask of {name} is {mask.dtype} of shape {mask.shape}; give class ids (integers) "
            f"of shape {image.shape[:2]}."
        )
    stray = np.setdiff1d(mask, [*range(num_classes), VOID])
    if len(stray):
        raise UserError(
            f"the mask of {name} holds the id {stray[0]}, and there are {num_classes} classes (ids "
            f"0..{num_classes - 1}, {VOID} = void); map the ids, or name all classes."
        )
    return mask.astype(np.uint8)
