"""A user's own images and masks."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from alseg.core.errors import UserError
from alseg.core.images import DataSplits
from alseg.core.masks import MaskTable, parse_color
from alseg.core.options import FREE
from alseg.data.checks import Problems, pair_files
from alseg.data.files import ImageFile, Resize
from alseg.data.find import find_files, find_folder, fits, read_list
from alseg.data.masks import (
    read_class_file,
    read_masks_by_color,
    read_masks_by_id,
)
from alseg.data.reading.images import Reading
from alseg.data.splits import file_splits
from alseg.data.windows import window_from_option, window_splits

#: What helps those whose training images have no masks.
WITHOUT_MASKS = (
    "if nobody has labelled the training images: oracle=human data.train_masks=false asks you, and "
    "only the validation images need masks."
)


@dataclass(frozen=True)
class Folder:
    """Images and masks in folders of your own. A mask has the name of its image.

    Attributes:
        root: The folder that holds everything.
        images: Pattern of the images below `root`; see `alseg.data.find.find_files`.
        masks: Pattern of the masks; None if there are none and a human answers.
        classes: Class names in the order of their ids, for masks that hold ids 0, 1, 2, ...
        colors: Colour of each class, ``{name: [red, green, blue]}``, for masks that hold colours.
        class_file: JSON or YAML file with one of the two instead: a list of names, or a mapping
            from names to ``[red, green, blue]`` or ``"#rrggbb"``, or from ids to names. Its path,
            and those of the lists, are from the working folder, not from `root`.
        ignore: What is void: names of the table, ids such as ``"200"``, or colours such as
            ``"#000000"``. The remaining classes are numbered through. Id 255 is always void.
        train: Names of the training images, with ``*`` for any text, or a list of such; those of
            `val` are left out.
        val: Names of the validation images, such as ``tile_6/*`` or ``[tile_3/*, tile_6/*]``.
        train_list: File with one training name per line, instead of `train`.
        val_list: File with one validation name per line, instead of `val`.
        val_fraction: Share of the images taken for validation at random, instead of `val`; 0 for
            none.
        seed: Seed of that choice.
        train_masks: Whether the training images have masks. False: a human answers, and only the
            validation images need masks.
        size: Height and width at which images are loaded; the aspect ratio is not kept.
        scale: Factor on height and width at which images are loaded.
        window: Height and width of the windows that loaded images are cut into, for big ones. Each
            is an image of the pool, called ``name@y0x160`` by its first row and column. They lie
            side by side, the last ones of a row and column shifted inwards. `train`, `val` and the
            lists choose files: no file has windows in both splits. Windows that are scored on
            count every pixel of the files once.
        bands: Bands of the image files in the order of the network's channels, counted from 1, any
            number of them, such as ``[4,3,2]``; null for red, green and blue.
        range: Values that become black and white, ``[low,high]`` or one pair per band; or
            percentiles of the training images, such as ``[p2,p98]``, each band its own. Needed for
            files of more than 8 bits.
        cache: Folder that keeps decoded images, of which a training crop reads only its own rows;
            null for none. An image takes height x width x channels bytes. The log says what they
            take together; where the disk is short of that, nothing is kept.
    """

    root: str = field(metadata=FREE)
    images: str = "images"
    masks: str | None = "masks"
    classes: list[str] = field(default_factory=list)
    colors: dict[str, list[int]] = field(default_factory=dict)
    class_file: str | None = None
    ignore: list[str] = field(default_factory=list)
    train: str | list[str] = "*"
    val: str | list[str] | None = None
    train_list: str | None = None
    val_list: str | None = None
    val_fraction: float | None = None
    seed: int = 0
    train_masks: bool = True
    size: tuple[int, int] | None = None
    scale: float = 1.0
    window: tuple[int, int] | None = None
    bands: list[int] | None = None
    range: list[float | str | list[float]] | None = None
    cache: str | None = field(default=None, metadata=FREE)

    def __post_init__(self) -> None:
        Resize.from_options(self.size, self.scale)
        window_from_option(self.window)
        Reading.from_options(self.bands, self.range)
        tables = [self.classes, self.colors, self.class_file]
        if sum(bool(table) for table in tables) != 1:
            raise UserError(
                "the classes must be given in exactly one way: data.classes (names, for masks that "
                "hold ids), data.colors (name: [red, green, blue], for masks that hold colours), "
                "or data.class_file (a JSON or YAML file with either)."
            )
        choices = {f"data.{n}": getattr(self, n) for n in ("val", "val_list", "val_fraction")}
        given = [name for name, value in choices.items() if value is not None]
        if len(given) != 1:
            raise UserError(
                f"the validation images must be chosen in exactly one way, not "
                f"{' and '.join(given) or 'none'}: data.val (a pattern of names, such as "
                f"'tile_6/*'), data.val_list (a file of names), or data.val_fraction (such as "
                f"0.2; 0 for no validation)."
            )
        fraction = self.val_fraction
        if fraction is not None and not (math.isfinite(fraction) and 0 <= fraction < 1):
            raise UserError(
                f"data.val_fraction is {fraction}; write a share from 0 up to, not with, 1."
            )
        if self.train_list is not None and self.train != "*":
            raise UserError("data.train and data.train_list are both given; keep one of them.")
        self._table()

    def splits(self, progress: bool = True, cache: Path | None = None) -> DataSplits:
        """Find, check and split the images.

        Args:
            progress: Show a progress bar while images are checked.
            cache: Folder that remembers checked files; see `alseg.data.checks.check_images`.

        Raises:
            UserError: If anything is wrong with the files; all of it is listed.
        """
        root = find_folder(self.root, "the folder of your images and masks")
        problems = Problems(f"the data set in {root}")
        images = find_files(root, self.images, problems)
        masks = {} if self.masks is None else find_files(root, self.masks, problems)
        train, val = self._split(list(images), problems)
        with_mask = {*val, *(train if self.has_train_masks else ())}
        if self.masks is None:
            if val:
                problems.add("images without a mask", self._no_val_masks(len(val)))
            with_mask = set()
        # Images left out of both splits need no mask, and masks that nobody reads do no harm.
        used = {name: path for name, path in masks.items() if name in with_mask}
        orphans = {name: path for name, path in masks.items() if name not in images}
        pairs = pair_files({n: images[n] for n in sorted(with_mask)}, used | orphans, problems)
        files = {file.name: file for file in pairs}
        files |= {n: ImageFile(n, images[n], None) for n in [*train, *val] if n not in with_mask}
        if self.has_train_masks and any(name not in masks for name in train):
            problems.note([WITHOUT_MASKS])
        splits = file_splits(
            [files[name] for name in train if name in files],
            [files[name] for name in val if name in files],
            self._table(),
            problems,
            resize=Resize.from_options(self.size, self.scale),
            reading=Reading.from_options(self.bands, self.range),
            progress=progress,
            cache=cache,
            decoded=self.cache,
        )
        window = window_from_option(self.window)
        return splits if window is None else window_splits(splits, window, problems)

    @property
    def has_train_masks(self) -> bool:
        """Whether the training images come with masks."""
        return self.train_masks and self.masks is not None

    def _split(self, names: list[str], problems: Problems) -> tuple[list[str], list[str]]:
        """Names of the training and of the validation images, sorted."""
        if self.val_fraction is not None:
            train = self._listed("train_list", self.train, names, problems)
            order = np.random.default_rng(self.seed).permutation(len(train))
            count = math.floor(self.val_fraction * len(train) + 0.5)
            val = [train[i] for i in order[:count]]
        else:
            val = self._listed("val_list", self.val or "", names, problems)
            train = self._listed("train_list", self.train, names, problems)
            if self.train_list is not None:
                for name in sorted({*train} & {*val}):
                    problems.add("images in both splits", name)
        if names and self.val_fraction != 0 and not val:
            problems.add(
                "no images", f"no name fits the choice of validation images; {_some(names)}"
            )
        train = sorted({*train} - {*val})
        if names and not train:
            problems.add("no images", f"no name is left for training; {_some(names)}")
        return train, sorted(val)

    def _listed(
        self, option: str, patterns: str | list[str], names: list[str], problems: Problems
    ) -> list[str]:
        if getattr(self, option) is None:
            several = [patterns] if isinstance(patterns, str) else patterns
            return [name for name in names if any(fits(name, pattern) for pattern in several)]
        return read_list(self._file(option), names, problems)

    def _file(self, option: str) -> Path:
        """The file an option names, from the working folder on.

        Raises:
            UserError: If there is none, with the folder it was looked for in.
        """
        given = getattr(self, option)
        path = Path(given).expanduser()
        if path.exists():
            return path
        beside = Path(self.root).expanduser() / given
        way = f"data.{option}={beside}" if beside.exists() else f"data.{option}=PATH"
        looked = "" if path.is_absolute() else f" in {Path.cwd()}, where this command runs"
        there = "the file is in data.root: " if beside.exists() else ""
        raise UserError(f"data.{option}={given}: no such file{looked}; {there}write {way}.")

    def _no_val_masks(self, count: int) -> str:
        return (
            f"data.masks is null, but {count} validation images need one; or set "
            f"data.val_fraction=0"
        )

    def _table(self) -> MaskTable:
        table: Any = dict(self.colors) or list(self.classes)
        if self.class_file is not None:
            table = read_class_file(self._file("class_file"))
        ignore = [str(name) for name in self.ignore]
        if isinstance(table, dict) and all(isinstance(key, int) for key in table):
            return read_masks_by_id(table, ignore)
        if isinstance(table, dict):
            colors = {name: parse_color(_plain(value), name) for name, value in table.items()}
            return read_masks_by_color(colors, ignore)
        return read_masks_by_id(dict(enumerate(table)), ignore)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else list(value) if np.iterable(value) else value


def _some(names: list[str]) -> str:
    return f"names are such as {', '.join(names[:3])}"
