"""UC Merced Land Use with the pixel labels of DLRSD: aerial photographs, 17 classes, 21 scenes."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alseg.core.errors import UserError, unknown_name
from alseg.core.images import DataSplits
from alseg.core.options import FREE
from alseg.data.checks import Problems, pair_files
from alseg.data.files import Resize, SceneTable
from alseg.data.find import find_files, find_folder, read_list
from alseg.data.masks import read_masks_by_id
from alseg.data.parts import Parts, check_choice, pool_and_scored
from alseg.data.splits import file_splits

#: Scenes in the order of their ids.
SCENES = (
    *("agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral"),
    *("denseresidential", "forest", "freeway", "golfcourse", "harbor", "intersection"),
    *("mediumresidential", "mobilehomepark", "overpass", "parkinglot", "river", "runway"),
    *("sparseresidential", "storagetanks", "tenniscourt"),
)

#: Display colour of each class, that of the published palette. Files hold 1 for the first class.
COLORS = {
    "airplane": (166, 202, 240),
    "bare soil": (128, 128, 0),
    "buildings": (0, 0, 128),
    "cars": (255, 0, 0),
    "chaparral": (0, 128, 0),
    "court": (128, 0, 0),
    "dock": (255, 233, 233),
    "field": (160, 160, 164),
    "grass": (0, 128, 128),
    "mobile home": (90, 87, 255),
    "pavement": (255, 255, 0),
    "sand": (255, 192, 0),
    "sea": (0, 0, 255),
    "ship": (255, 0, 192),
    "tanks": (128, 0, 128),
    "trees": (0, 255, 0),
    "water": (0, 255, 255),
}

#: Folders of images and of labels below the root; the first pair that is there is read.
LAYOUTS = (
    ("UCMerced_Images", "UCMerced_Labels"),
    ("UCMerced_LandUse/Images", "DLRSD/Labels"),
    ("DLRSD/Images", "DLRSD/Labels"),
)


@dataclass(frozen=True)
class UCMerced:
    """UC Merced Land Use and DLRSD: 2100 aerial photographs of 256 x 256 pixels, 100 per scene.

    Folders, the first two that are there: ``UCMerced_Images/beach07.tif`` and
    ``UCMerced_Labels/beach07.png``; ``UCMerced_LandUse/Images/beach/beach07.tif`` and
    ``DLRSD/Labels/beach/beach07.png``, as the two data sets are distributed; or `DLRSD/Images` and
    `DLRSD/Labels`. Folders below these do not matter: an image is called ``beach07``. Labels are
    8-bit ids or palette images with 1..17 for the classes. Here they are 0..16: 0 in the files, a
    background that no published label has, is void and no class that scores could count.

    44 published images have other sizes (242 to 257 pixels a side) and are resized. A mask has the
    size of its image, or that at which both are loaded.

    No paper published its lists, so these are ours, drawn once by `alseg.data.parts.split_by_name`
    within each scene: 72 images for the pool, 8 for validation, 20 for the test, 1512 / 168 / 420
    in all. The test part is not for choosing a checkpoint or an option; validation is.

    Attributes:
        root: The folder that holds the folders.
        evaluate: Images scored on: ``val`` or ``test``.
        choose_on: Images that a stage with ``keep=best`` chooses its checkpoint on: ``val``, where
            the run is scored on ``test``; null = those it is scored on.
        val_in_pool: Put the validation images into the pool: 1680 images, as ALS4GAN (arXiv
            2110.07782) has, for a last run with ``evaluate=test``.
        size: Height and width at which images are loaded; null keeps their sizes.
        cache: Folder that keeps decoded images, of which a training crop reads only its own rows;
            null for none. An image takes height x width x channels bytes. The log says what they
            take together; where the disk is short of that, nothing is kept.
    """

    root: str = field(metadata=FREE)
    evaluate: str = "val"
    choose_on: str | None = None
    val_in_pool: bool = False
    size: tuple[int, int] | None = (256, 256)
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
        root = find_folder(self.root, "the folder that holds the images and labels of UC Merced")
        problems = Problems(f"UC Merced in {root}")
        images, masks = (
            _by_file_name(find_files(root, folder, problems), problems) for folder in _layout(root)
        )
        files = {file.name: file for file in pair_files(images, masks, problems)}
        # Images without a mask are problems already; those that lists name and that are not there
        # are, too.
        parts = Parts(*(read_list(list_file(part), images, problems) for part in Parts._fields))
        chosen = pool_and_scored(parts, self.evaluate, self.val_in_pool, self.choose_on)
        train, val, choice = ([files[n] for n in part if n in files] for part in chosen)
        table = read_masks_by_id(dict(enumerate(["background", *COLORS])), ignore=["background"])
        scenes = {file.name: scene_of_name(file.name) for file in (*train, *val, *choice)}
        return file_splits(
            *(train, val, table, problems),
            colors=COLORS,
            resize=Resize.from_options(self.size, 1.0),
            any_loaded_size=True,
            scenes=SceneTable(SCENES, scenes),
            progress=progress,
            cache=cache,
            decoded=self.cache,
            choice=choice,
        )


def list_file(part: str) -> Path:
    """The list of the names of a part: ``train``, ``val`` or ``test``."""
    return Path(__file__).parent / "lists" / f"ucmerced_{part}.txt"


def scene_of_name(name: str, scenes: Sequence[str] = SCENES) -> int:
    """Scene of an image: the letters its file name starts with.

    Args:
        name: Name of an image; folders before it do not count.
        scenes: Names of the scenes, in the order of their ids.

    Raises:
        UserError: If the name starts with no scene.

    >>> scene_of_name("UCMerced_Images/beach07")
    3
    """
    letters = re.match("[a-z]*", name.rpartition("/")[2].lower())
    scene = letters[0] if letters else ""
    if scene not in scenes:
        raise unknown_name(f"scene of image {name!r}:", scene, scenes)
    return scenes.index(scene)


def _layout(root: Path) -> tuple[str, str]:
    for images, masks in LAYOUTS:
        if (root / images).is_dir() and (root / masks).is_dir():
            return images, masks
    pairs = "; ".join(f"{images} and {masks}" for images, masks in LAYOUTS)
    raise UserError(
        f"data.root={root} holds no folders of images and of labels, which are: {pairs}."
    )


def _by_file_name(found: Mapping[str, Path], problems: Problems) -> dict[str, Path]:
    """Files by their names without folders."""
    named: dict[str, Path] = {}
    for path in found.values():
        if path.stem in named:
            problems.add("names that occur twice", f"{path.stem}: {named[path.stem]} and {path}")
        else:
            named[path.stem] = path
    return named
