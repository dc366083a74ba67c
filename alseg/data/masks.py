"""Read ground truth files: class ids, or colours that stand for classes."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.images import VOID, ClassTable

Color = tuple[int, int, int]

#: Code of a colour that no entry names.
UNKNOWN_COLOR = 255

#: What `MaskReader.labels` finds where a file holds something that no entry names.
UNKNOWN = -1


class Entry(NamedTuple):
    """One line of a mask table: what a mask file holds, and what it means."""

    key: int | Color
    """The id (0..255) or the colour in the file."""
    name: str
    label: int
    """Class id 0..254, or `alseg.core.images.VOID`."""


class MaskReader(NamedTuple):
    """Turns mask files into labels by a table of ids or of colours.

    A file is read in two steps, each one look-up per pixel: first its *codes* (the ids themselves,
    or the position of the pixel's colour in the table), then the labels of the codes.
    """

    entries: tuple[Entry, ...]
    by_color: bool
    others: int = UNKNOWN
    """Label of what no entry names."""

    def codes(self, mask: Image.Image) -> NDArray[np.uint8]:
        """Codes of an open mask file.

        Args:
            mask: The file as Pillow opened it, before its pixels are loaded.

        Returns:
            (H, W), uint8: ids, or positions in `entries` with `UNKNOWN_COLOR` elsewhere.

        Raises:
            UserError: If the kind of file cannot hold such a mask; the sentence lacks the path.
        """
        _refuse(mask)
        if not self.by_color:
            if mask.mode not in ("L", "P", "1"):
                raise UserError(
                    f"is a mask of kind {mask.mode} where class ids in one 8-bit channel are "
                    f"expected; save ids, or give the colour of every class"
                )
            return np.array(mask, dtype=np.uint8)
        if mask.mode == "P":
            palette = np.full((256, 3), -1, dtype=np.int64)
            listed = np.array(mask.getpalette("RGB"), dtype=np.int64).reshape(-1, 3)
            palette[: len(listed)] = listed
            packed = palette @ (1 << 16, 1 << 8, 1)
            table = np.where(
                packed >= 0, _codes_of_colors(self.entries)[np.maximum(packed, 0)], UNKNOWN_COLOR
            )
            return np.asarray(table.astype(np.uint8)[np.asarray(mask)])
        return np.asarray(_codes_of_colors(self.entries)[pack_rgb(mask)])

    def labels(self, codes: NDArray[np.uint8]) -> NDArray[np.int16]:
        """Labels of codes, (H, W), int16: class ids, `VOID`, or `others`."""
        return np.asarray(_labels_of_codes(self)[codes])

    def describe(self) -> list[str]:
        """The table, one line per entry, as a person would write it."""
        width = max(len(entry.name) for entry in self.entries)
        lines = []
        for entry in self.entries:
            meaning = "void" if entry.label == VOID else f"class {entry.label}"
            key = entry.key if isinstance(entry.key, int) else show_color(entry.key)
            lines.append(f"{entry.name:{width}}  {key}  {meaning}")
        return lines


def read_masks_by_id(names: Mapping[int, str], ignore: Iterable[str] = ()) -> MaskReader:
    """Table of masks that hold ids. Id 255 is void even if it is not listed.

    Args:
        names: Name of each id 0..255.
        ignore: Names, or ids written as text, that are void. The other ids are numbered through,
            in increasing order, to give the classes.

    Raises:
        UserError: If an id is out of range, or `ignore` names something unknown.

    >>> [(e.key, e.label) for e in read_masks_by_id({0: "void", 1: "a", 2: "b"}, ["void"]).entries]
    [(0, 255), (1, 0), (2, 1)]
    """
    table, void = dict(names), set()
    for text in ignore:
        if text in names.values():
            void |= {key for key, name in names.items() if name == text}
        elif text.isdecimal():
            table.setdefault(int(text), text)
            void.add(int(text))
        else:
            raise _unknown_ignore(text, names.values(), "an id such as 255")
    for key in table:
        if not 0 <= key <= 255:
            raise UserError(f"mask id {key} is out of range; 8-bit masks hold ids 0 to 255.")
    return _reader([(key, table[key], key in void) for key in sorted(table)], by_color=False)


def read_masks_by_color(
    colors: Mapping[str, Color], ignore: Iterable[str] = (), others_void: bool = False
) -> MaskReader:
    """Table of masks that hold colours.

    Args:
        colors: Colour of each name, RGB, 0..255; the order gives the class ids.
        ignore: Names, or colours written as ``"#rrggbb"``, that are void.
        others_void: Every other colour is void too, instead of a mistake in the files: for masks
            that were drawn or resized with smooth edges.

    Raises:
        UserError: If two names share a colour, or `ignore` names something unknown.
    """
    table: dict[Color, str] = {}
    void = set()
    for name, color in colors.items():
        if color in table:
            raise UserError(
                f"classes {table[color]!r} and {name!r} have the same colour {show_color(color)}; "
                f"masks cannot tell them apart, so give each its own."
            )
        table[color] = name
    for text in ignore:
        if text in colors:
            void.add(colors[text])
        elif text.startswith("#"):
            color = parse_color(text, "ignore")
            table.setdefault(color, text)
            void.add(color)
        else:
            raise _unknown_ignore(text, colors, 'a colour such as "#000000"')
    reader = _reader([(key, name, key in void) for key, name in table.items()], by_color=True)
    return reader._replace(others=VOID) if others_void else reader


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


def show_color(color: Color) -> str:
    """A colour as it is written in an option.

    >>> show_color((226, 169, 41))
    '[226, 169, 41]'
    """
    return f"[{color[0]}, {color[1]}, {color[2]}]"


def pack_rgb(image: Image.Image) -> NDArray[np.uint32]:
    """Colour of each pixel as one number ``red << 16 | green << 8 | blue``, (H, W), uint32."""
    # Pillow's four-byte pixels are read as big-endian words: packing costs a shift, no arithmetic
    # on three channels. Alpha is dropped, as for images.
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    words = np.asarray(rgb.convert("RGBX")).view(">u4")[..., 0]
    return np.asarray(words.astype(np.uint32) >> 8)


def unpack_rgb(packed: int) -> Color:
    """The colour behind a number of `pack_rgb`.

    >>> unpack_rgb(0xE2A929)
    (226, 169, 41)
    """
    return packed >> 16, packed >> 8 & 255, packed & 255


def default_colors(n: int) -> NDArray[np.uint8]:
    """The first ``n`` colours of the PASCAL VOC palette, (n, 3), uint8, RGB.

    >>> default_colors(3).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    index = np.arange(n)
    colors = np.zeros((n, 3), dtype=np.uint8)
    for bit in range(8):  # bits 0, 1, 2 of the index go to red, green, blue, highest first
        for channel in range(3):
            colors[:, channel] |= ((index >> (3 * bit + channel) & 1) << (7 - bit)).astype(np.uint8)
    return colors


def class_table(reader: MaskReader, colors: NDArray[np.uint8] | None = None) -> ClassTable:
    """Classes of a mask table; shown in the masks' own colours where it has them.

    Args:
        reader: The mask table.
        colors: Display colour per class, (C, 3), for masks that hold ids.
    """
    classes = {e.label: e for e in reversed(reader.entries) if e.label != VOID}
    ordered = [classes[label] for label in sorted(classes)]
    if reader.by_color:
        colors = np.array([entry.key for entry in ordered], dtype=np.uint8)
    elif colors is None:
        colors = default_colors(len(ordered) + 1)[1:]  # the palette's first colour is black
    return ClassTable(tuple(entry.name for entry in ordered), colors)


def _reader(table: Iterable[tuple[int | Color, str, bool]], *, by_color: bool) -> MaskReader:
    """Number the keys that are not void, in the order given."""
    entries: list[Entry] = []
    found = 0
    for key, name, void in table:
        entries.append(Entry(key, name, VOID if void else found))
        found += not void
    if not 2 <= found <= VOID or (by_color and len(entries) > UNKNOWN_COLOR):
        raise UserError(
            f"the class table leaves {found} classes; a task needs 2 to 255. List the classes with "
            f"`classes` (ids) or `colors`, and take the ones that count out of `ignore`."
        )
    return MaskReader(tuple(entries), by_color)


def _unknown_ignore(text: str, known: Iterable[str], other: str) -> UserError:
    return UserError(
        f"ignore names {text!r}, which is not in the class table; write one of "
        f"{', '.join(known)}, or {other}."
    )


@lru_cache(maxsize=4)
def _codes_of_colors(entries: tuple[Entry, ...]) -> NDArray[np.uint8]:
    """Code of each of the 2^24 colours: 16 MB, of which a mask touches a few cache lines."""
    table = np.full(1 << 24, UNKNOWN_COLOR, dtype=np.uint8)
    for code, entry in enumerate(entries):
        red, green, blue = entry.key  # type: ignore[misc]  # colour tables hold colours
        table[red << 16 | green << 8 | blue] = code
    return table


@lru_cache(maxsize=16)
def _labels_of_codes(reader: MaskReader) -> NDArray[np.int16]:
    table = np.full(256, reader.others, dtype=np.int16)
    if not reader.by_color:
        table[VOID] = VOID
    for code, entry in enumerate(reader.entries):
        table[entry.key if isinstance(entry.key, int) else code] = entry.label
    return table


def _refuse(mask: Image.Image) -> None:
    """Refuse files whose values are not what was saved."""
    if mask.format in ("JPEG", "MPO"):
        raise UserError("is a JPEG mask, whose compression blurs classes; save masks as PNG")
    if mask.mode[0] in "IF" or mask.mode == "CMYK":
        raise UserError(f"is a mask of kind {mask.mode}; save masks as 8-bit ids or as 8-bit RGB")
    # Pillow stretches 2- and 4-bit grey values to 0..255, so id 1 would arrive as 85 or 17.
    if any(tile.args in ("L;2", "L;4") for tile in getattr(mask, "tile", ())):
        raise UserError("is a grey mask of under 8 bits, whose ids are ambiguous; save 8-bit ids")
