"""CamVid: driving scenes, 11 classes."""

from dataclasses import dataclass, field
from pathlib import Path

from alseg.core.errors import UserError
from alseg.core.images import DataSplits
from alseg.core.options import FREE
from alseg.data.checks import Problems, pair_files
from alseg.data.files import Resize
from alseg.data.find import find_files, find_folder
from alseg.data.masks import read_masks_by_id
from alseg.data.parts import check_choose_on
from alseg.data.splits import file_splits

#: Display colour of each class, in the order of the ids; the files hold ids. Id 11 is void.
COLORS = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}


@dataclass(frozen=True)
class CamVid:
    """CamVid in the layout of the SegNet tutorial: 367 training images of 360 x 480 pixels.

    Folders `train`, `trainannot`, `val`, `valannot`, `test`, `testannot`; images in any common
    format, annotations as 8-bit ids 0..10, 11 for void.

    Attributes:
        root: The folder that holds them.
        evaluate: Images scored on: ``val`` (101) or ``test`` (233). The papers report ``test``;
            ``val`` is one clip from a gap of the training drives.
        choose_on: Images that a stage with ``keep=best`` chooses its checkpoint on: ``val``, where
            the run is scored on ``test``; null = those it is scored on.
        size: Height and width at which images are loaded.
        scale: Factor on height and width at which images are loaded.
        cache: Folder that keeps decoded images, of which a training crop reads only its own rows;
            null for none. An image takes height x width x channels bytes. The log says what they
            take together; where the disk is short of that, nothing is kept.
    """

    root: str = field(metadata=FREE)
    evaluate: str = "val"
    choose_on: str | None = None
    size: tuple[int, int] | None = None
    scale: float = 1.0
    cache: str | None = field(default=None, metadata=FREE)

    def __post_init__(self) -> None:
        Resize.from_options(self.size, self.scale)
        if self.evaluate not in ("val", "test"):
            raise UserError(
                f"data.evaluate is {self.evaluate!r}; CamVid can be scored on val or test."
            )
        check_choose_on(self.choose_on)

    def splits(self, progress: bool = True, cache: Path | None = None) -> DataSplits:
        """Find and check the images.

        Args:
            progress: Show a progress bar while images are checked.
            cache: Folder that remembers checked files; see `alseg.data.checks.check_images`.

        Raises:
            UserError: If anything is wrong with the files; all of it is listed.
        """
        root = find_folder(self.root, "the folder that holds train and trainannot")
        problems = Problems(f"CamVid in {root}")
        apart = [self.choose_on] if self.choose_on and self.choose_on != self.evaluate else []
        train, val, *choice = (
            pair_files(
                find_files(root, part, problems),
                find_files(root, f"{part}annot", problems),
                problems,
            )
            for part in ("train", self.evaluate, *apart)
        )
        masks = read_masks_by_id(dict(enumerate([*COLORS, "void"])), ignore=["void", "255"])
        resize = Resize.from_options(self.size, self.scale)
        return file_splits(
            *(train, val, masks, problems),
            colors=COLORS,
            resize=resize,
            progress=progress,
            cache=cache,
            decoded=self.cache,
            choice=[file for part in choice for file in part],
        )
