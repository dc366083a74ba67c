"""How masks are read: a table from stored values to classes, the same for everyone who reads one.

A decoder gives the values a file stores: ids in one channel, with or without a palette, or colours.
What they mean is in no file; a `MaskTable` says it. It belongs to a data set, travels in every
checkpoint, and reads the ground truth of a run, the masks that predictions are compared with, and
the answers that a person gives as masks.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import VOID, ClassTable

Color = tuple[int, int, int]

#: Code of a colour that no entry names.
UNKNOWN_COLOR = 255

#: What `MaskTable.labels` finds where a file holds something that no entry names.
UNKNOWN = -1


class Entry(NamedTuple):
    """One line of a mask table: what a mask file holds, and what it means."""

    key: int | Color
    """The id (0..255) or the colour in the file."""
    name: str
    label: int
    """Class id 0..254, or `alseg.core.images.VOID`."""


class MaskTable(NamedTuple):
    """Turns what mask files store into labels by a table of ids or of colours.

    A file is read in two steps, each one look-up per pixel: first its *codes* (the ids themselves,
    or the position of the pixel's colour in the table), then the labels of the codes.
    """

    entries: tuple[Entry, ...]
    by_color: bool
    others: int = UNKNOWN
    """Label of what no entry names."""
    unlisted_void: bool = True
    """Whether id 255 is void even if no entry names it; of tables of ids."""

    def codes(
        self, values: NDArray[Any], palette: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Codes of what a file stores.

        Args:
            values: (H, W), whole numbers: ids, positions in the palette, or grey values, which are
                colours of three equal parts; (H, W), bool: ids 0 and 1, or black and white; or
                (H, W, 3), uint8: colours, RGB.
            palette: Colours of the positions, (n, 3), uint8, if the file has a palette.

        Returns:
            (H, W), uint8: ids, or positions in `entries` with `UNKNOWN_COLOR` elsewhere.

        Raises:
            UserError: If such values cannot be read by this table; the sentence lacks the path.
        """
        if values.ndim == 3 and not self.by_color:
            raise UserError(
                "is a mask of colours (RGB) where class ids in one 8-bit channel are expected; "
                "save ids, or give the colour of every class"
            )
        if values.ndim == 3:
            return np.asarray(_codes_of_colors(self.entries)[pack_rgb(values)])
        if values.dtype == np.bool_:
            values = values.astype(np.uint8) * np.uint8(255 if self.by_color else 1)
        if values.dtype != np.uint8:
            if values.size and not 0 <= int(values.min()) <= int(values.max()) <= 255:
                raise UserError(
                    f"holds the values {values.min()} to {values.max()}; masks hold ids from 0 to "
                    f"255, or colours of 8 bits"
                )
            values = values.astype(np.uint8)
        if not self.by_color:
            return values
        shown = shown_colors(np.arange(256 if palette is None else len(palette)), palette)
        table = np.full(256, UNKNOWN_COLOR, dtype=np.uint8)
        table[: len(shown)] = _codes_of_colors(self.entries)[pack_rgb(shown)]
        return np.asarray(table[values])

    def labels(self, codes: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Labels of codes, (H, W), int16: class ids, `VOID`, or `others`."""
        return np.asarray(_labels_of_codes(self)[codes])

    def read(
        self, values: NDArray[Any], palette: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Labels of what a file stores.

        Args:
            values: See `codes`.
            palette: See `codes`.

        Returns:
            (H, W), uint8: class ids or `VOID`.

        Raises:
            UserError: If it holds what the table does not name; the sentence lacks the path.
        """
        labels = self.labels(self.codes(values, palette))
        unknown = labels == UNKNOWN
        if unknown.any():
            first = values[unknown][:1]
            key = show_color(shown_colors(first, palette)[0]) if self.by_color else str(first[0])
            share = 100 * unknown.mean()
            raise UserError(
                f"holds {'the colour' if self.by_color else 'the id'} {key} ({share:.3g} % of its "
                f"pixels are not in the table); it may hold {self.summary()}"
            )
        return labels.astype(np.uint8)

    def present(self, counts: NDArray[Any]) -> tuple[list[int], bool]:
        """What occurs in a mask.

        Args:
            counts: Pixels of each code, (256,).

        Returns:
            Positions of the entries that occur, and whether id 255 does, is void, and no entry
            lists it.
        """
        if self.by_color:
            return np.flatnonzero(counts[: len(self.entries)]).tolist(), False
        keys = [entry.key for entry in self.entries]
        unlisted = self.unlisted_void and VOID not in keys and bool(counts[VOID])
        return [code for code, key in enumerate(keys) if counts[key]], unlisted

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their ids; of several for one, the first."""
        names = {entry.label: entry.name for entry in reversed(self.entries)}
        return [names[label] for label in sorted(names) if label != VOID]

    def describe(self) -> list[str]:
        """The table, one line per entry, as a person would write it."""
        width = max(len(entry.name) for entry in self.entries)
        lines = []
        for entry in self.entries:
            meaning = "void" if entry.label == VOID else f"class {entry.label}"
            lines.append(f"{entry.name:{width}}  {_show_key(entry.key)}  {meaning}")
        return lines

    def summary(self) -> str:
        """The table in one line, for a person who makes a mask.

        >>> read_ids = MaskTable((Entry(0, "sky", 255), Entry(1, "road", 0)), by_color=False)
        >>> read_ids.summary()
        '1 road, 0 void, 255 void'
        """
        parts = [f"{_show_key(e.key)} {e.name}" for e in self.entries if e.label != VOID]
        parts += [f"{_show_key(e.key)} void" for e in self.entries if e.label == VOID]
        if not self.by_color and self.unlisted_void and all(e.key != VOID for e in self.entries):
            parts.append(f"{VOID} void")
        if self.others == VOID:
            parts.append("anything else void")
        return ", ".join(parts)

    def digest(self) -> str:
        """Digest of what every value means; the same for tables that read all files alike."""
        keys = [entry.key for entry in self.entries] if self.by_color else None
        plain = repr((self.class_names, keys, self.others))
        digest = blake2b(_labels_of_codes(self).tobytes(), digest_size=16)
        digest.update(plain.encode())
        return digest.hexdigest()

    def listing_void(self) -> "MaskTable":
        """This table with id 255 among its entries, as void: one that was seen to mean that."""
        if self.by_color or any(entry.key == VOID for entry in self.entries):
            return self
        return self._replace(entries=(*self.entries, Entry(VOID, "void", VOID)))

    def ignoring(self, keys: Iterable[str], option: str = "ignore") -> "MaskTable":
        """This table with more that is void.

        Args:
            keys: Ids, or colours such as ``"#9b9b9b"``, as text.
            option: What the user calls them.

        Raises:
            UserError: If one is neither, or stands for a class.
        """
        entries = list(self.entries)
        for text in map(str, keys):
            key: int | Color
            if self.by_color:
                key = parse_color(text, option)
            elif text.isdecimal() and int(text) <= VOID:
                key = int(text)
            else:
                raise UserError(
                    f"{option} holds {text!r}; masks are read as ids here ({self.summary()}), so "
                    f"write ids from 0 to 255."
                )
            known = [entry for entry in entries if entry.key == key]
            if known and known[0].label != VOID:
                raise UserError(
                    f"{option} holds {text}, which stands for the class {known[0].name!r}; give "
                    f"only ids or colours that stand for no class."
                )
            if not known:
                entries.append(Entry(key, text, VOID))
        return self._replace(entries=tuple(entries))

    def to_plain(self) -> dict[str, Any]:
        """The table as plain values, for a file or a checkpoint; see `from_plain`."""
        entries = [
            [list(e.key) if isinstance(e.key, tuple) else int(e.key), e.name, int(e.label)]
            for e in self.entries
        ]
        return {
            "by": "color" if self.by_color else "id",
            "entries": entries,
            "others": self.others,
            "unlisted_void": self.unlisted_void,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "MaskTable":
        """The table that `to_plain` wrote."""
        entries = tuple(
            Entry(tuple(key) if isinstance(key, Sequence) else key, name, label)
            for key, name, label in plain["entries"]
        )
        return cls(entries, plain["by"] == "color", plain["others"], plain["unlisted_void"])


def table_of_ids(names: Sequence[str]) -> MaskTable:
    """Table of masks that hold class ids, 255 for void: those that alseg itself writes."""
    return MaskTable(tuple(Entry(i, name, i) for i, name in enumerate(names)), by_color=False)


def table_of_colors(classes: ClassTable) -> MaskTable:
    """Table of masks that hold the display colours of the classes."""
    colors = np.asarray(classes.colors).tolist()
    entries = (
        Entry((r, g, b), name, i)
        for i, (name, (r, g, b)) in enumerate(zip(classes.names, colors, strict=True))
    )
    return MaskTable(tuple(entries), by_color=True)


def table_of(images: Any) -> MaskTable:
    """How masks of an image set are read: by its own table, else as class ids.

    Args:
        images: An `alseg.core.images.ImageSet`; its attribute ``masks``, if it has one, is its
            table.
    """
    own = getattr(images, "masks", None)
    return own if isinstance(own, MaskTable) else table_of_ids(images.classes.names)


def parse_color(value: object, name: str) -> Color:
    """Read a colour: ``"#rrggbb"`` or three whole numbers 0..255.

    Raises:
        UserError: If it is neither; the sentence says whose colour it is.

    >>> parse_color("#e2a929", "Water")
    (226, 169, 41)
    """
    if isinstance(value, str) and len(value) == 7 and value.startswith("#"):
        try:
            red, green, blue = bytes.fromhex(value[1:])
            return red, green, blue
        except ValueError:
            pass
    elif isinstance(value, list | tuple) and len(value) == 3:
        red, green, blue = value
        if all(isinstance(part, int) and 0 <= part <= 255 for part in value):
            return red, green, blue
    raise UserError(
        f"the colour of {name!r} is {value!r}; write three whole numbers from 0 to 255 such as "
        f'[226, 169, 41], or "#e2a929".'
    )


def show_color(color: Iterable[int]) -> str:
    """A colour as it is written in an option.

    >>> show_color((226, 169, 41))
    '[226, 169, 41]'
    """
    return f"[{', '.join(str(int(part)) for part in color)}]"


def shown_colors(
    values: NDArray[Any], palette: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Colours that stored values show.

    Args:
        values: Positions in the palette, or grey values without one, (n,); or colours, (n, 3).
        palette: (m, 3), uint8.

    Returns:
        (n, 3), uint8, RGB.
    """
    if values.ndim == 2:
        return values.astype(np.uint8)
    if values.dtype == np.bool_:
        values = values * np.uint8(255)
    if palette is not None:
        return palette[values]
    return np.repeat(values.astype(np.uint8)[:, None], 3, axis=1)


def pack_rgb(colors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Colours, (..., 3), uint8, each as one number ``red << 16 | green << 8 | blue``, uint32."""
    packed = colors[..., 0].astype(np.uint32)
    for channel in (1, 2):
        packed <<= 8
        packed |= colors[..., channel]
    return packed


def unpack_rgb(packed: int) -> Color:
    """The colour behind a number of `pack_rgb`.

    >>> unpack_rgb(0xE2A929)
    (226, 169, 41)
    """
    return packed >> 16, packed >> 8 & 255, packed & 255


def _show_key(key: int | Color) -> str:
    return str(key) if isinstance(key, int) else show_color(key)


@lru_cache(maxsize=4)
def _codes_of_colors(entries: tuple[Entry, ...]) -> NDArray[np.uint8]:
    """Code of each of the 2^24 colours: 16 MB, of which a mask touches a few cache lines."""
    table = np.full(1 << 24, UNKNOWN_COLOR, dtype=np.uint8)
    for code, entry in enumerate(entries):
        red, green, blue = entry.key  # type: ignore[misc]  # colour tables hold colours
        table[red << 16 | green << 8 | blue] = code
    return table


@lru_cache(maxsize=16)
def _labels_of_codes(table: MaskTable) -> NDArray[np.int16]:
    labels = np.full(256, table.others, dtype=np.int16)
    if not table.by_color and table.unlisted_void:
        labels[VOID] = VOID
    for code, entry in enumerate(table.entries):
        labels[entry.key if isinstance(entry.key, int) else code] = entry.label
    return labels
