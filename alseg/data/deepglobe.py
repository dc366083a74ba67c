"""DeepGlobe Land Cover: satellite photographs, 6 classes."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import DataSplits
from alseg.core.masks import Color, MaskTable
from alseg.core.options import FREE
from alseg.data.checks import Problems, pair_files
from alseg.data.files import NO_SCENES, Resize, SceneTable, resize_nearest
from alseg.data.find import find_files, find_folder
from alseg.data.masks import read_masks_by_color
from alseg.data.parts import check_choice, pool_and_scored, split_by_name
from alseg.data.splits import file_splits

#: Colour of each class, RGB, in the order of their ids. Everything else, black for unknown
#: included, has no class.
COLORS: dict[str, Color] = {
    "urban": (0, 255, 255),
    "agriculture": (255, 255, 0),
    "rangeland": (255, 0, 255),
    "forest": (0, 255, 0),
    "water": (0, 0, 255),
    "barren": (255, 255, 255),
}

#: Folders of images and of masks below the root; the first pair that is there is read.
LAYOUTS = (("DeepGlobe_Images", "DeepGlobe_Labels"), ("train", "train"))


@dataclass(frozen=True)
class DeepGlobe:
    """DeepGlobe Land Cover: 803 satellite photographs of 2448 x 2448 pixels that have masks.

    Files ``DeepGlobe_Images/<id>_sat.jpg`` and ``DeepGlobe_Labels/<id>_mask.png``, or
    ``train/<id>_sat.jpg`` and ``train/<id>_mask.png``, as they are distributed. A colour of a mask
    counts if it is exactly that of a class; black and all others are void.

    No paper published its lists, so the split is ours: `alseg.data.parts.split_by_name` gives 578
    images for the pool, 64 for validation and 161 for the test, if all 803 are there. The test part
    is not for choosing a checkpoint or an option; validation is.

    Images are resized as everywhere in this library, by a triangle filter as wide as a target pixel
    (ALS4GAN, arXiv 2110.07782, has bicubic interpolation), masks by nearest neighbours.

    Attributes:
        root: The folder that holds the folders.
        evaluate: Images scored on: ``val`` or ``test``.
        choose_on: Images that a stage with ``keep=best`` chooses its checkpoint on: ``val``, where
            the run is scored on ``test``; null = those it is scored on.
        val_in_pool: Put the validation images into the pool: 642 images, as ALS4GAN has, for a last
            run with ``evaluate=test``.
        class_map: JSON file with the class of each whole image, by the image's id or file name: a
            name or an id 0..5 of the six, ``{"119": "agriculture", "606_sat.jpg": 3}``. The authors
            of ALS4GAN link theirs in issue 3 of their repository, immuno121/ALS4GAN. Without it,
            images have no classes (scenes).
        size: Height and width at which images are loaded; null keeps their size.
        cache: Folder that keeps decoded images, of which a training crop reads only its own rows;
            null for none. An image takes height x width x channels bytes. The log says what they
            take together; where the disk is short of that, nothing is kept.
    """

    root: str = field(metadata=FREE)
    evaluate: str = "val"
    choose_on: str | None = None
    val_in_pool: bool = False
    class_map: str | None = None
    size: tuple[int, int] | None = (320, 320)
    cache: str | None = field(default=None, metadata=FREE)

    def __post_init__(self) -> None:
        Resize.from_options(self.size, 1.0)
        check_choice(self.evaluate, self.val_in_pool, self.choose_on)

    def splits(self, progress: bool = True, cache: Path | None = None) -> DataSplits:
        """Find and check the images.

        Args:
            progress: Show a progress bar while images are checked.
            cache: Folder that remembers checked files; see `alseg.data.checks.check_images`.

        Raises:
            UserError: If anything is wrong with the files; all of it is listed.
        """
        root = find_folder(self.root, "the folder that holds train, with images and masks")
        problems = Problems(f"DeepGlobe in {root}")
        images, masks = _layout(root)
        pairs = pair_files(
            find_files(root, f"{images}/*_sat.jpg", problems),
            find_files(root, f"{masks}/*_mask.png", problems),
            problems,
        )
        files = {file.name: file for file in pairs}
        parts = split_by_name(files)
        names = pool_and_scored(parts, self.evaluate, self.val_in_pool, self.choose_on)
        train, val, choice = ([files[name] for name in part] for part in names)
        scenes = NO_SCENES
        if self.class_map is not None:
            path = Path(self.class_map).expanduser()
            scenes = read_class_map(path, [f.name for f in (*train, *val, *choice)])
        return file_splits(
            *(train, val, mask_table(), problems),
            resize=Resize.from_options(self.size, 1.0),
            scenes=scenes,
            progress=progress,
            cache=cache,
            decoded=self.cache,
            choice=choice,
        )


def mask_table() -> MaskTable:
    """How the masks are to be read: six classes, anything else void."""
    return read_masks_by_color(COLORS, others_void=True)


def labels_of_colors(
    mask: NDArray[np.uint8], size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Labels of a mask: ids of `COLORS`, `alseg.core.images.VOID` elsewhere.

    Args:
        mask: (H, W, 3), uint8, RGB.
        size: Height and width of the result, by nearest neighbours; None keeps the mask's.

    Returns:
        (h, w), uint8.

    >>> labels_of_colors(np.array([[[255, 255, 255], [0, 0, 0]]], np.uint8)).tolist()
    [[5, 255]]
    """
    labels = mask_table().read(mask)
    return labels if size is None else resize_nearest(labels, *size)


def read_class_map(path: Path, names: Iterable[str]) -> SceneTable:
    """Read the classes of whole images.

    Args:
        path: JSON, one object: a class by its name in `COLORS` or its id for each image. An image
            is ``7``, ``7_sat`` or ``7_sat.jpg``.
        names: Images that need a class, such as ``7``.

    Raises:
        UserError: If the file cannot be read, holds something else, or lacks an image.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"data.class_map={path} cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise UserError(f'data.class_map={path} is not an object such as {{"7_sat.jpg": "urban"}}.')
    known = tuple(COLORS)
    found: dict[str, int] = {}
    for key, value in content.items():
        name = Path(key).stem.removesuffix("_sat")
        if value in known:
            found[name] = known.index(value)
        elif isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(known):
            found[name] = value
        else:
            raise UserError(
                f"data.class_map={path} gives {key} the class {value!r}; the classes are "
                f"{', '.join(known)}, or their ids 0..{len(known) - 1}."
            )
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"data.class_map={path} has no class for {len(missing)} images, such as {missing[0]}; "
            f"add them."
        )
    return SceneTable(known, found)


def _layout(root: Path) -> tuple[str, str]:
    for images, masks in LAYOUTS:
        if (root / images).is_dir() and (root / masks).is_dir():
            return images, masks
    raise UserError(
        f"data.root={root} holds neither DeepGlobe_Images and DeepGlobe_Labels nor train, the "
        f"folders that images and masks are in."
    )
