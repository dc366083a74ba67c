"""Region maps that another tool has written."""

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.core.labelfiles import check_labels, read_labels
from alseg.core.rasters import ENDINGS
from alseg.regions.base import Unit, listed

_MAP_ENDINGS = (".npy", ".png", ".tif", ".tiff")


@dataclass(frozen=True)
class Files:
    """Maps of another tool, such as merged SAM masks: one file per image, of the image's size.

    The map of image ``street/0001.jpg`` is ``street/0001.npy`` (integers, (H, W)),
    ``street/0001.png`` or ``street/0001.tif`` (one channel of whole numbers, or a palette) in the
    folder. Ids are used as they are and may have holes; negative ids, `void` and the value a file
    declares to be no data are pixels in no region.

    What the files contain decides the version of the maps, wherever the folder lies. So changing,
    adding or removing any file of the folder makes new maps, and the folder is read once per run.

    Attributes:
        folder: Folder of the maps.
        void: Id of pixels in no region; null = only negative ids.
    """

    unit: ClassVar[Unit] = "region"

    folder: str
    void: int | None = None

    def parameters(self) -> dict[str, Any]:
        """See `RegionSource.parameters`.

        Raises:
            UserError: If the folder is missing or a file in it cannot be read.
        """
        root = self._root()
        digest = hashlib.sha256()
        for path in sorted(p for p in root.rglob("*") if p.suffix in _MAP_ENDINGS and p.is_file()):
            try:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                raise UserError(f"cannot read the region map {path} ({error.strerror}).") from error
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + content)
        return {"name": "files", "void": self.void, "content": digest.hexdigest()[:32]}

    def check(self, images: ImageSet) -> None:
        """See `RegionSource.check`. Reads what the files say of their size and type, not the ids.

        Raises:
            UserError: If maps are missing, unreadable, of another size than their image, or hold
                anything but integers.
        """
        self._root()
        problems = []
        for index, name in enumerate(images.names):
            try:
                path = self._find(name)
                shape = _header(path)
                if shape != images.size(index):
                    raise UserError(_wrong_size(path, shape, images.size(index)))
            except UserError as error:
                problems.append(str(error).rstrip("."))
        if problems:
            raise UserError(
                f"{len(problems)} of {len(images)} images have no usable region map in "
                f"{self.folder}: {listed(problems)}"
            )

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        """See `RegionSource.__call__`.

        Raises:
            UserError: If the map cannot be used, or holds an id that is not below the number of its
                pixels.
        """
        path = self._find(name)
        _header(path)
        ids, nodata = _load(path)
        if ids.shape != image.shape[:2]:
            raise UserError(_wrong_size(path, ids.shape, image.shape[:2]))
        inside = ids >= 0
        for void in (self.void, nodata):
            if void is not None:
                inside &= ids != void
        largest = int(ids[inside].max(initial=0))
        if largest >= ids.size:
            raise UserError(
                f"{path} holds id {largest}, more than its {ids.size} pixels can need; number the "
                f"regions from 0, or set regions.void if that id marks pixels in no region"
            )
        regions = np.full(ids.shape, -1, dtype=np.int32)
        regions[inside] = ids[inside]
        return regions

    def _root(self) -> Path:
        root = Path(self.folder).expanduser()
        if not root.is_dir():
            raise UserError(
                f"regions.folder is {self.folder!r}, which is not a folder; give the folder that "
                f"holds one region map per image."
            )
        return root

    def _find(self, name: str) -> Path:
        pure = PurePosixPath(name)
        stem = str(pure.with_suffix("") if pure.suffix.lower() in ENDINGS else pure)
        # The disk may spell accents in another way than the names of images.
        stems = dict.fromkeys([stem, normalize("NFC", stem), normalize("NFD", stem)])
        root = Path(self.folder).expanduser()
        paths = [root / f"{spelling}{ending}" for spelling in stems for ending in _MAP_ENDINGS]
        found = [path for path in paths if path.is_file()]
        # TIFFs beside maps of another kind may be the images.
        found = [path for path in found if path.suffix in (".npy", ".png")] or found
        if len(found) > 1:
            raise UserError(f"{stem} has two maps, {found[0].name} and {found[1].name}; remove one")
        if not found:
            raise UserError(f"{stem}.npy or {stem}.png is missing")
        return found[0]


def _header(path: Path) -> tuple[int, int]:
    """Height and width of a map, from the head of its file."""
    if path.suffix != ".npy":
        header = check_labels(path)
        if header.kind == "rgb":
            raise UserError(f"{path} holds colours (RGB); a map has one channel of ids")
        return header.height, header.width
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        shape, kind = array.shape, array.dtype
    except Exception as error:  # a header is parsed as Python, and fails in as many ways
        raise UserError(f"{path} cannot be read ({error})") from error
    if len(shape) == 2 and kind.kind in "iu":
        return int(shape[0]), int(shape[1])
    raise UserError(f"{path} holds {kind} of shape {shape}; a map has integers (H, W)")


def _load(path: Path) -> tuple[NDArray[Any], int | None]:
    """Ids, and the one of them that the file declares to be no data."""
    if path.suffix != ".npy":
        file = read_labels(path)
        return file.values, file.nodata
    try:
        return np.asarray(np.load(path, allow_pickle=False)), None
    except Exception as error:
        raise UserError(f"{path} cannot be read ({error})") from error


def _wrong_size(path: Path, found: tuple[int, ...], image: tuple[int, ...]) -> str:
    return (
        f"{path} has {found[0]} x {found[1]} pixels (height x width), "
        f"its image {image[0]} x {image[1]}"
    )
