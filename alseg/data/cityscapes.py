"""Cityscapes: street scenes from 50 cities, 19 classes."""

from dataclasses import dataclass, field
from pathlib import Path

from alseg.core.images import VOID, DataSplits
from alseg.core.masks import Entry, MaskTable
from alseg.core.options import FREE
from alseg.data.checks import Problems, pair_files
from alseg.data.files import Resize
from alseg.data.find import find_files, find_folder
from alseg.data.splits import file_splits


@dataclass(frozen=True)
class Cityscapes:
    """Cityscapes with fine annotations: 2975 training and 500 validation images of 1024 x 2048.

    Files ``leftImg8bit/{train,val}/<city>/*_leftImg8bit.png`` and
    ``gtFine/{train,val}/<city>/*_gtFine_labelIds.png``, as they are distributed. Label ids become
    the 19 training ids; the other ids are void.

    Attributes:
        root: The folder that holds `leftImg8bit` and `gtFine`.
        size: Height and width at which images are loaded.
        scale: Factor on height and width at which images are loaded.
        cache: Folder that keeps decoded images, of which a training crop reads only its own rows;
            null for none. An image takes height x width x channels bytes. The log says what they
            take together; where the disk is short of that, nothing is kept.
    """

    root: str = field(metadata=FREE)
    size: tuple[int, int] | None = None
    scale: float = 1.0
    cache: str | None = field(default=None, metadata=FREE)

    def __post_init__(self) -> None:
        Resize.from_options(self.size, self.scale)

    def splits(self, progress: bool = True, cache: Path | None = None) -> DataSplits:
        """Find and check the images.

        Args:
            progress: Show a progress bar while images are checked.
            cache: Folder that remembers checked files; see `alseg.data.checks.check_images`.

        Raises:
            UserError: If anything is wrong with the files; all of it is listed.
        """
        from torchvision.datasets import Cityscapes as Torchvision

        root = find_folder(self.root, "the folder that holds leftImg8bit and gtFine")
        problems = Problems(f"Cityscapes in {root}")
        train, val = (
            pair_files(
                find_files(root, f"leftImg8bit/{part}/*/*_leftImg8bit.png", problems),
                find_files(root, f"gtFine/{part}/*/*_gtFine_labelIds.png", problems),
                problems,
            )
            for part in ("train", "val")
        )
        official = [c for c in Torchvision.classes if c.id >= 0]  # -1 is in no file
        counted = sorted((c for c in official if not c.ignore_in_eval), key=lambda c: c.train_id)
        entries = [Entry(c.id, c.name, VOID if c.ignore_in_eval else c.train_id) for c in official]
        # label ids end at 33: where 255 occurs, a file holds training ids instead
        masks = MaskTable(tuple(entries), by_color=False, unlisted_void=False)
        resize = Resize.from_options(self.size, self.scale)
        return file_splits(
            *(train, val, masks, problems),
            colors={c.name: c.color for c in counted},
            resize=resize,
            progress=progress,
            cache=cache,
            decoded=self.cache,
        )
