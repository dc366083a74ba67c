"""Big images as windows of one size, each an image of its own."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import VOID, DataSplits, Origin, Sceneless
from alseg.core.windows import window_parts, window_starts
from alseg.data.checks import Problems
from alseg.data.files import FileImages

#: Bytes of decoded files that one process keeps in memory.
MEMORY = 1 << 28


class Window(NamedTuple):
    """Where a window lies."""

    image: int
    """Index of the file it is cut from."""
    top: int
    left: int


def window_from_option(window: Iterable[int] | None) -> tuple[int, int] | None:
    """Check the option `window` of a data set.

    Raises:
        UserError: If it is not two positive whole numbers.
    """
    if window is None:
        return None
    parts = [window] if isinstance(window, int | str) else list(window)
    if len(parts) != 2 or not all(isinstance(n, int) and n > 0 for n in parts):
        raise UserError(
            f"data.window is {parts}; write height and width in pixels, such as [256, 256], or "
            f"null for whole images."
        )
    return parts[0], parts[1]


class WindowImages(Sceneless):
    """An `alseg.core.images.ImageSet` of the windows of files, file by file and row by row.

    A window is called by its file and its first row and column, such as ``tile_1/part_2@y160x320``.
    Windows of the last row and column reach back over their neighbours where the size does not
    divide the file's. They are cut from the resized file.

    Args:
        files: The files.
        window: Height and width.
        once: Let every pixel of the files count in one window only, for measures: windows are void
            beyond the middle of what they share with a neighbour.

    Attributes:
        files: The files.
        windows: Where each window lies.
        classes: Names and display colours.
        names: Names in the order of `windows`.
        has_truth: Whether every file has a mask.
        resize: What happens to a file before it is cut.
        masks: How masks are read.
        sources: The files, as an image set of their own.
    """

    def __init__(self, files: FileImages, window: tuple[int, int], once: bool = False) -> None:
        self.files = files
        self.once = once
        self.windows = [
            Window(index, top, left)
            for index in range(len(files))
            for top in window_starts(files.size(index)[0], window[0])
            for left in window_starts(files.size(index)[1], window[1])
        ]
        self.classes = files.classes
        self.names: Sequence[str] = tuple(
            f"{files.names[index]}@y{top}x{left}" for index, top, left in self.windows
        )
        self.has_truth = files.has_truth
        self.resize = files.resize
        self.masks = files.masks
        self.sources = files
        self.reading = files.reading
        self.channels = files.channels
        self._window = window
        self._images = _Decoded(files.pixels)
        self._truths = _Decoded(files.truth)
        self._originals = _Decoded(files.original)

    def __repr__(self) -> str:
        truth = "with masks" if self.has_truth else "without masks"
        return f"WindowImages({len(self)} windows {truth}, {len(self.classes)} classes)"

    def __len__(self) -> int:
        return len(self.windows)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width, the same for all windows."""
        self.windows[index]  # an index out of range is an error here as everywhere
        return self._window

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image, (h, w, C), uint8; see `alseg.data.files.FileImages.image`."""
        return self._cut(self._images, index)

    def truth(self, index: int) -> NDArray[np.uint8]:
        """Ground truth, (h, w), uint8; see `alseg.data.files.FileImages.truth`."""
        truth = self._cut(self._truths, index)
        if not self.once:
            return truth
        image, *corner = self.windows[index]
        sides = zip(corner, self._window, self.files.size(image), strict=True)
        own = tuple(_own_part(*side) for side in sides)
        counted = np.full_like(truth, VOID)
        counted[own] = truth[own]
        return counted

    def fingerprint(self, index: int) -> str:
        """Digest of the file's fingerprint and of the window's place and size, 32 hex digits."""
        image, top, left = self.windows[index]
        place = (self.files.fingerprint(image), top, left, self._window)
        return blake2b(repr(place).encode(), digest_size=16).hexdigest()

    def truth_fingerprint(self, index: int) -> str:
        """The same of the ground truth; empty without a mask."""
        image, top, left = self.windows[index]
        truth = self.files.truth_fingerprint(image)
        place = (truth, top, left, self._window, self.once)
        return truth and blake2b(repr(place).encode(), digest_size=16).hexdigest()

    def fit_mask(self, index: int, labels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """A map of a window, or of the file it is cut from, at the size of the window.

        Returns:
            (h, w); None if it has the size of neither.
        """
        if labels.shape == self._window:
            return labels
        image, top, left = self.windows[index]
        whole = self.files.fit_mask(image, labels)
        height, width = self._window
        return None if whole is None else whole[top : top + height, left : left + width]

    def origin(self, index: int) -> Origin:
        """Where the pixels of a window come from."""
        image, top, left = self.windows[index]
        path, size, _ = self.files.origin(image)
        loaded, (height, width) = self.files.size(image), self._window
        down, across = size[0] / loaded[0], size[1] / loaded[1]
        box = (top * down, left * across, (top + height) * down, (left + width) * across)
        return Origin(path, size, box)

    def original(self, index: int) -> NDArray[np.uint8]:
        """The window in pixels of its file, (h, w, C), uint8; its sides are rounded outwards."""
        top, left, bottom, right = self.origin(index).box
        pixels = self._originals[self.windows[index].image]
        return pixels[int(top) : math.ceil(bottom), int(left) : math.ceil(right)]

    def _cut(self, decoded: "_Decoded", index: int) -> NDArray[np.uint8]:
        image, top, left = self.windows[index]
        height, width = self._window
        return decoded[image][top : top + height, left : left + width].copy()


def _own_part(start: int, window: int, length: int) -> slice:
    """The pixels of a window along an axis that count in no other, from its first pixel on."""
    starts = window_starts(length, window)
    first, behind = window_parts(starts, window, length)[starts.index(start)]
    return slice(first - start, behind - start)


class _Decoded:
    """Decoded files, those used last; at least one, or one would be decoded for every window."""

    def __init__(self, decode: Callable[[int], NDArray[np.uint8]]) -> None:
        self._decode = decode
        self._kept: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        self._kept[index] = decoded = self._decode(index)
        self._bytes += decoded.nbytes
        while self._bytes > MEMORY and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return decoded

    def __getstate__(self) -> dict[str, Any]:
        return {"_decode": self._decode, "_kept": OrderedDict(), "_bytes": 0}


def window_splits(splits: DataSplits, window: tuple[int, int], problems: Problems) -> DataSplits:
    """Cut the files of both splits into windows; those that are scored on count no pixel twice.

    Raises:
        UserError: If a file is smaller than a window.
    """
    train, val = splits.train, splits.val
    assert isinstance(train, FileImages)
    assert isinstance(val, FileImages)
    for part in (train, val):
        check_windows(part, window, problems)
    problems.raise_any()
    return DataSplits(WindowImages(train, window), WindowImages(val, window, once=True))


def check_windows(files: FileImages, window: tuple[int, int], problems: Problems) -> None:
    """Look for files that a window does not fit into.

    Args:
        files: The files.
        window: Height and width of the windows.
        problems: Receives them.
    """
    for index, file in enumerate(files.files):
        height, width = files.size(index)
        if height < window[0] or width < window[1]:
            text = f"{file.image}: {height} x {width} (height x width) as it is loaded"
            problems.add("images smaller than a window", text)
