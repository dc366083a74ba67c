"""PASCAL VOC: photographs of everyday objects, 20 classes and background."""

from dataclasses import dataclass, field
from pathlib import Path

from alseg.core.errors import UserError
from alseg.core.images import DataSplits
from alseg.core.options import FREE
from alseg.data.checks import Problems
from alseg.data.crops import CentreCrops
from alseg.data.files import ImageFile, Resize
from alseg.data.find import find_files, find_folder, read_list
from alseg.data.masks import default_colors, read_masks_by_id
from alseg.data.splits import file_splits

#: Classes in the order of their ids.
NAMES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat"),
    *("chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)
#: Folder of the masks VOC itself offers.
OFFICIAL = "SegmentationClass"


@dataclass(frozen=True)
class VOC:
    """PASCAL VOC segmentation: 1464 training and 1449 validation images in the year 2012.

    Folders ``VOCdevkit/VOC<year>/{JPEGImages,SegmentationClass,ImageSets/Segmentation}``, as they
    are distributed and as torchvision unpacks them. Palette masks with ids 0..20, 255 for void.

    Attributes:
        root: The folder that holds `VOCdevkit`.
        year: The year of the challenge.
        train: List of training images, a file of ``ImageSets/Segmentation`` without its ending;
            a list of your own may stand there too.
        val: List of validation images.
        masks: Folder of the training images' masks: with ``SegmentationClassAug`` and a list of
            10582 images, those of SBD (Hariharan et al., ICCV 2011). Masks of validation images are
            VOC's own in any case: those of SBD have no void along borders.
        size: Height and width at which images are loaded; the aspect ratio is not kept.
        scale: Factor on height and width at which images are loaded.
        centre: Score on central squares of so many pixels, to which the shorter side of every
            validation image is resized, as mulquery (arXiv 2309.09319, section 7); borders are then
            not scored. null for whole images.
        cache: Folder that keeps decoded images, of which a training crop reads only its own rows;
            null for none. An image takes height x width x channels bytes. The log says what they
            take together; where the disk is short of that, nothing is kept.
    """

    root: str = field(metadata=FREE)
    year: int = 2012
    train: str = "train"
    val: str = "val"
    masks: str = OFFICIAL
    size: tuple[int, int] | None = None
    scale: float = 1.0
    centre: int | None = None
    cache: str | None = field(default=None, metadata=FREE)

    def __post_init__(self) -> None:
        Resize.from_options(self.size, self.scale)
        if self.centre is not None and self.centre < 1:
            raise UserError(f"data.centre is {self.centre}; give pixels, such as 513, or null.")
        if self.train == self.val:
            raise UserError(
                f"data.train and data.val are both {self.val!r}; scores on training images mean "
                f"little, so name two lists."
            )

    def splits(self, progress: bool = True, cache: Path | None = None) -> DataSplits:
        """Find and check the images.

        Args:
            progress: Show a progress bar while images are checked.
            cache: Folder that remembers checked files; see `alseg.data.checks.check_images`.

        Raises:
            UserError: If anything is wrong with the files; all of it is listed.
        """
        folder = Path("VOCdevkit", f"VOC{self.year}")
        root = find_folder(str(Path(self.root, folder)), f"the folder that holds {folder}")
        problems = Problems(f"PASCAL VOC in {root}")
        images = find_files(root, "JPEGImages", problems)
        folders = {name: find_files(root, name, problems) for name in {self.masks, OFFICIAL}}
        train, val = (
            self._listed(root, part, images, folders[masks], problems)
            for part, masks in ((self.train, self.masks), (self.val, OFFICIAL))
        )
        for name in sorted({file.name for file in train} & {file.name for file in val}):
            problems.add("images in both splits", name)
        table = read_masks_by_id(dict(enumerate(NAMES)), ignore=["255"])
        resize = Resize.from_options(self.size, self.scale)
        splits = file_splits(
            *(train, val, table, problems),
            colors=default_colors(len(NAMES)),
            resize=resize,
            progress=progress,
            cache=cache,
            decoded=self.cache,
        )
        if self.centre is None:
            return splits
        return DataSplits(splits.train, CentreCrops(splits.val, self.centre))

    def _listed(
        self,
        root: Path,
        part: str,
        images: dict[str, Path],
        masks: dict[str, Path],
        problems: Problems,
    ) -> list[ImageFile]:
        names = read_list(root / "ImageSets" / "Segmentation" / f"{part}.txt", images, problems)
        # Most photographs of VOC have no mask: only those of the lists are asked for one.
        for name in names:
            if name not in masks:
                problems.add("images without a mask", str(images[name]))
        return [ImageFile(name, images[name], masks[name]) for name in names if name in masks]
