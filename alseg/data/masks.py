"""Tables of masks from the options of a data set: class ids, or colours that stand for classes."""

import json
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.files import MOST_BYTES, require_file
from alseg.core.images import VOID, ClassTable
from alseg.core.labelfiles import read_labels
from alseg.core.masks import UNKNOWN_COLOR, Color, Entry, MaskTable, parse_color, show_color
from alseg.core.typed import parse_yaml, read_node


def stored_values(path: Path, table: MaskTable) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """What a mask file stores, for `alseg.core.masks.MaskTable.codes`.

    Pixels that the file itself declares to be no data are void, unless the table says otherwise.

    Args:
        path: The file.
        table: How it is going to be read.

    Returns:
        Values (H, W) with the palette (n, 3) or None, or colours (H, W, 3) and None.

    Raises:
        UserError: If decoding changes the values; the sentence has the path.
    """
    file = read_labels(path)
    values = file.values
    listed = [entry.key for entry in table.entries]
    if file.nodata not in (None, VOID, *listed) and not table.by_color:
        values = np.where(values == file.nodata, values.dtype.type(VOID), values)
    return values, file.greys if table.by_color and file.palette is None else file.palette


def read_masks_by_id(names: Mapping[int, str], ignore: Iterable[str] = ()) -> MaskTable:
    """Table of masks that hold ids. Id 255 is void even if it is not listed.

    Args:
        names: Name of each id 0..255.
        ignore: Names, or ids written as text, that are void. The other ids are numbered through,
            in increasing order, to give the classes.

    Raises:
        UserError: If an id is out of range, a name occurs twice, or `ignore` names something
            unknown or, by its id, a class that has a name.

    >>> [(e.key, e.label) for e in read_masks_by_id({0: "void", 1: "a", 2: "b"}, ["void"]).entries]
    [(0, 255), (1, 0), (2, 1)]
    """
    table, void = dict(names), set()
    for name in [name for i, name in enumerate(names.values()) if name in [*names.values()][:i]]:
        raise UserError(f"data.classes holds {name!r} twice; every class needs its own name.")
    for text in ignore:
        if text in names.values():
            void |= {key for key, name in names.items() if name == text}
        elif text.isdecimal() and int(text) in names:
            raise _ignored_class(int(text), names)
        elif text.isdecimal():
            table[int(text)] = text
            void.add(int(text))
        else:
            raise _unknown_ignore(text, names.values(), "an id such as 255")
    for key in table:
        if not 0 <= key <= 255:
            raise UserError(
                f"data.ignore or data.class_file holds the id {key}, which is out of range; masks "
                f"hold ids 0 to 255."
            )
    return _reader([(key, table[key], key in void) for key in sorted(table)], by_color=False)


def read_masks_by_color(
    colors: Mapping[str, Color], ignore: Iterable[str] = (), others_void: bool = False
) -> MaskTable:
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
                f"data.colors: the classes {table[color]!r} and {name!r} have the same colour "
                f"{show_color(color)}; masks cannot tell them apart, so give each its own."
            )
        table[color] = name
    for text in ignore:
        if text in colors:
            void.add(colors[text])
        elif text.startswith("#"):
            color = parse_color(text, "data.ignore")
            table.setdefault(color, text)
            void.add(color)
        else:
            raise _unknown_ignore(text, colors, 'a colour such as "#000000"')
    reader = _reader([(key, name, key in void) for key, name in table.items()], by_color=True)
    return reader._replace(others=VOID) if others_void else reader


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


def class_table(reader: MaskTable, colors: NDArray[np.uint8] | None = None) -> ClassTable:
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


def _reader(table: Iterable[tuple[int | Color, str, bool]], *, by_color: bool) -> MaskTable:
    """Number the keys that are not void, in the order given."""
    entries: list[Entry] = []
    found = 0
    for key, name, void in table:
        entries.append(Entry(key, name, VOID if void else found))
        found += not void
    if not 2 <= found <= VOID or (by_color and len(entries) > UNKNOWN_COLOR):
        raise UserError(
            f"the class table leaves {found} classes; a task needs 2 to 255. List the classes with "
            f"data.classes (masks of ids) or data.colors, and take the ones that count out of "
            f"data.ignore."
        )
    return MaskTable(tuple(entries), by_color)


def _unknown_ignore(text: str, known: Iterable[str], other: str) -> UserError:
    return UserError(
        f"data.ignore names {text!r}, which is not in the class table; write one of "
        f"{', '.join(known)}, or {other}."
    )


def _ignored_class(key: int, names: Mapping[int, str]) -> UserError:
    """An id that is to be void has a name: nobody knows which of the two was meant."""
    advice = f"if the class {names[key]!r} is void, write data.ignore=[{names[key]}]"
    if key == 0 and sorted(names) == list(range(len(names))):
        advice += (
            f"; if the names are those of the ids 1 to {len(names)} and 0 is void, name it, too: "
            f"data.classes=[void,{','.join(names.values())}] data.ignore=[void]"
        )
    return UserError(
        f"data.ignore holds the id {key}, but that is the class {names[key]!r}: names count from "
        f"id 0; {advice}."
    )


def read_class_file(path: Path) -> dict[str, Any] | dict[int, str] | list[str]:
    """Read a class file, JSON or YAML.

    Names stay as they are written: ``no`` and ``010`` are names, not a truth value or a number.

    Returns:
        Names in the order of their ids, names by id, or colours by name.

    Raises:
        UserError: If it cannot be read, holds a key or a name twice, or something else.
    """
    try:
        require_file(path, MOST_BYTES)
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            table = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, path))
        else:
            hint = list[str] | dict[str, list[int] | str]
            table = read_node(hint, parse_yaml(text, f"data.class_file={path}"), str(path))
    except UserError:
        raise
    except Exception as error:  # parsers have errors of their own
        raise UserError(f"{path} cannot be read as a class file ({error}).") from error
    if isinstance(table, dict) and table:
        ids = all(str(key).isdecimal() for key in table)
        if ids and all(isinstance(v, str) and not v.startswith("#") for v in table.values()):
            return {int(key): name for key, name in table.items()}
        if all(_is_color(value) for value in table.values()):
            return {str(name): value for name, value in table.items()}
    if isinstance(table, list) and table and all(isinstance(name, str) for name in table):
        return table
    raise UserError(
        f"{path} is not a class file (data.class_file); write a list of names, such as "
        f'["road", "building"], names by id, such as {{"1": "road", "2": "building"}}, or colours '
        f'by name, such as {{"road": [110, 193, 228]}}.'
    )


def _is_color(value: Any) -> bool:
    """Whether a value is meant as a colour; `parse_color` says what is wrong with a bad one."""
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(part, int) for part in value)
    )


def _unique(pairs: Iterable[tuple[Hashable, Any]], path: Path) -> dict[Any, Any]:
    table: dict[Any, Any] = {}
    for key, value in pairs:
        if key in table:
            raise UserError(f"data.class_file={path} holds {key!r} twice; keep one of them.")
        table[key] = value
    return table
