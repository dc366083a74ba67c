"""Answers by mask: label images that a person made, read as the data set's own masks are."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import VOID, ImageSet, origin_of
from alseg.core.labelfiles import LabelFile, check_labels, read_labels
from alseg.core.masks import UNKNOWN, MaskTable, table_of, table_of_colors, table_of_ids
from alseg.core.rasters import open_picture

#: Entry of a PNG's text by which a file says that it holds class ids.
_HOLDS, _CLASS_IDS = "alseg", "class ids"
#: Pixels a label image may have whatever the size of the image.
_ALWAYS = 1 << 26


def describe_values(images: ImageSet) -> str:
    """What label images may hold, for the person who makes them.

    >>> from alseg.core.images import ClassTable
    >>> class Images:
    ...     classes = ClassTable(("road", "building"), np.zeros((2, 3), np.uint8))
    >>> describe_values(Images())
    '0 road, 1 building, 255 void'
    """
    table = table_of(images)
    if table.by_color:
        other, what = _ids_besides(table, images), "ids"
    else:
        other, what = _shown(images), "colours"
    text = table.summary()
    return text if other is None else f"{text}; or {what}: {other.summary()}"


def write_answer_mask(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write a label image that is read as class ids, whatever the data set's own masks hold.

    Args:
        path: The file, a PNG.
        labels: (H, W), uint8, class ids or `alseg.core.images.VOID`, at the size of the loaded
            image.
    """
    says = PngInfo()
    says.add_text(_HOLDS, _CLASS_IDS)
    buffer = io.BytesIO()
    Image.fromarray(labels).save(buffer, "PNG", pnginfo=says)
    write_atomic(path, buffer.getvalue())


def read_answer_mask(path: Path, images: ImageSet, index: int) -> NDArray[np.uint8]:
    """Read a label image of a pool image, in whatever form the data set's own masks may have.

    Args:
        path: The file: ids, a palette or colours, at the size the image is loaded at or that of its
            file.
        images: The pool's images.
        index: Of the image.

    Returns:
        (H, W), uint8, class ids or `alseg.core.images.VOID`, at the size of the loaded image.

    Raises:
        UserError: If the file cannot be read, has another size, holds what stands for no class, or
            can be read in two ways that differ; the sentence has the path.
    """
    if path.exists() and not path.is_file():  # to open a pipe would wait for ever
        raise UserError(f"{path} is not a file; give the path of a label image.")
    header = check_labels(path)
    size, origin = images.size(index), origin_of(images, index)
    most = max(_ALWAYS, size[0] * size[1], 0 if origin is None else origin.size[0] * origin.size[1])
    fitted = None
    if header.height * header.width <= most:  # else decoding it may take all memory
        file = read_labels(path)
        if _holds_class_ids(path):
            labels = _of_class_ids(path, file, images)
        else:
            labels = _labels(path, file, images)
        own = getattr(images, "fit_mask", None)
        fitted = labels if own is None else own(index, labels)
    if fitted is None or fitted.shape != size:
        raise UserError(
            f"{path} is {header.height} x {header.width} (height x width); save it at "
            f"{size[0]} x {size[1]}, as the image is loaded, or at the size of the image's file."
        )
    return fitted


def _holds_class_ids(path: Path) -> bool:
    """Whether a file says of itself that it is one of `write_answer_mask`."""
    if path.suffix.lower() != ".png":
        return False
    with open_picture(path) as image:
        return image.info.get(_HOLDS) == _CLASS_IDS


def _of_class_ids(path: Path, file: LabelFile, images: ImageSet) -> NDArray[np.uint8]:
    try:
        return table_of_ids(images.classes.names).read(file.values)
    except UserError as error:
        raise UserError(f"{path} {error}.") from error


def _labels(path: Path, file: LabelFile, images: ImageSet) -> NDArray[np.uint8]:
    """Class ids by the table of the data set, or by what else is told to the person."""
    table = table_of(images)
    ids, colors = _ids_besides(table, images), _shown(images)
    tables = {"colours" if table.by_color else "ids": table}
    if not table.by_color and file.kind != "index" and colors is not None:
        tables["colours"] = colors
    if table.by_color and file.kind == "index" and ids is not None:
        tables["ids"] = ids
    found: dict[str, NDArray[np.uint8]] = {}
    reasons = []
    for name, reading in tables.items():
        try:
            found[name] = reading.read(*_stored(file, reading))
        except UserError as error:
            reasons.append(str(error))
    if not found and table.by_color and file.kind == "palette" and ids is not None:
        try:  # a palette of other colours says nothing
            return ids.read(file.values)
        except UserError as error:
            reasons.append(str(error))
    if not found:
        raise UserError(f"{path} {reasons[0]}.")
    first, *others = found.values()
    if any(not np.array_equal(first, other) for other in others):
        raise UserError(
            f"{path} can be read as ids and as colours, which say different classes; save ids in "
            f"one grey channel without a palette, or colours as RGB."
        )
    return first


def _stored(file: LabelFile, table: MaskTable) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    return file.values, file.greys if table.by_color and file.palette is None else file.palette


def _ids_besides(table: MaskTable, images: ImageSet) -> MaskTable | None:
    """Table of class ids; None where an id is a grey that is the colour of something else."""
    ids = table_of_ids(images.classes.names)
    values = np.array([[*range(len(images.classes)), VOID]], dtype=np.uint8)
    as_colors, as_ids = (t.labels(t.codes(values)) for t in (table, ids))
    return ids if ((as_colors == as_ids) | (as_colors == UNKNOWN)).all() else None


def _shown(images: ImageSet) -> MaskTable | None:
    """Table of the colours in which classes are shown; None if two look alike."""
    colors = {tuple(color) for color in np.asarray(images.classes.colors).tolist()}
    return table_of_colors(images.classes) if len(colors) == len(images.classes) else None
