"""The one gate for files that hold labels: masks, region maps, answers by mask."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.rasters import Header, read_header, read_samples


@dataclass(frozen=True)
class LabelFile:
    """A file of labels, as it was saved.

    Attributes:
        values: Exactly the numbers in the file: (H, W), unsigned integers, for ids and for indices
            of a palette; (H, W, 3), uint8, for colours.
        kind: ``index``, ``palette`` (indices with the colours they are shown in) or ``rgb``.
        palette: Colours of a palette, (N, 3), uint8, RGB; None for other kinds.
        nodata: The value that the file itself declares to be no data (GDAL's tag); None without.
        greys: Colours that the ids of a grey file are shown in, (N, 3), uint8, where id n is not
            the grey n: of fewer than 8 bits, or with 0 for white.
    """

    values: NDArray[Any]
    kind: Literal["index", "palette", "rgb"]
    palette: NDArray[np.uint8] | None = None
    nodata: int | None = None
    greys: NDArray[np.uint8] | None = None


def read_labels(path: str | Path) -> LabelFile:
    """Read a file of labels unchanged, or refuse it.

    Grey files of 1, 2, 4, 8, 16 or 32 bits give the ids that were saved, also where 0 is shown as
    white. Indices of a palette stay indices, whatever is transparent. Opacity is dropped where all
    of it is opaque.

    Args:
        path: A picture file, see `alseg.core.rasters.ENDINGS`.

    Raises:
        UserError: If the file is damaged, or its numbers may not be what was meant: a compression
            that changes values, several pages, an orientation other than upright, partly
            transparent pixels, fractions, negative numbers, colours of 16 bits or in another space.
            One sentence with the path.
    """
    path = Path(path)
    header, samples = read_samples(path, lambda header: _refuse(path, header))
    if header.alpha:
        if (samples[..., -1] != np.iinfo(samples.dtype).max).any():
            raise UserError(
                f"{path} is partly transparent, so that part of its labels is hidden; save the "
                f"mask without an alpha channel, void pixels with an id or colour of their own."
            )
        samples = samples[..., :-1]
    if header.kind == "rgb":
        return LabelFile(np.ascontiguousarray(samples), "rgb")
    values = samples[..., 0]
    nodata = None if header.nodata is None else _whole(header.nodata)
    if values.dtype.kind == "i":
        negative = values < 0
        if nodata is not None and nodata < 0 and (values[negative] == nodata).all():
            raise UserError(
                f"{path} marks pixels without data by {nodata}, and labels are not negative; give "
                f"those pixels an id of their own, such as 255 (gdal_translate -a_nodata 255 after "
                f"replacing them)."
            )
        if negative.any():
            raise UserError(
                f"{path} holds {int(values.min())}, and ids are not negative; save unsigned ids."
            )
        values = values.view(values.dtype.str.replace("i", "u"))
    if header.kind == "palette":
        return LabelFile(values, "palette", header.palette, nodata)
    return LabelFile(values, "index", None, nodata, _greys(header))


def check_labels(path: str | Path) -> Header:
    """Refuse a file of labels by what its head says, before it is decoded; see `read_labels`.

    Raises:
        UserError: As `read_labels`, of what the head tells.
    """
    path = Path(path)
    header = read_header(path)
    _refuse(path, header)
    return header


def _refuse(path: Path, header: Header) -> None:
    if reason := _refused(header):
        raise UserError(f"{path} {reason}.")


def _refused(header: Header) -> str | None:
    """What is wrong with a file of labels, and how to mend it; None if nothing is."""
    if header.lossy is not None:
        return (
            f"is compressed by {header.lossy}, which changes labels near edges; save masks as PNG, "
            f"or as TIFF with LZW or DEFLATE"
        )
    if header.pages > 1:
        return (
            f"holds {header.pages} pages or pictures, and which of them are the labels is not "
            f"said; save one picture in which every pixel has the id of its class"
        )
    if header.orientation != 1:
        return (
            f"has EXIF orientation {header.orientation}, which some tools apply and others ignore; "
            f"rewrite it upright (mogrify -auto-orient) and see that it fits its image"
        )
    if header.dtype.kind == "f":
        return (
            f"holds fractions ({header.bits}-bit floats), not ids; save whole numbers, such as "
            f"8-bit ids"
        )
    if header.kind == "rgb" and header.bits > 8:
        return f"has colours of {header.bits} bits; save 8-bit colours or ids"
    if header.kind not in ("grey", "palette", "rgb"):
        return f"has colours in {header.kind}; save 8-bit RGB or ids"
    if header.bands not in (1, 3) or (header.kind == "grey" and header.bands > 1):
        return (
            f"has {header.bands} bands; a mask has one band of ids, or red, green and blue; export "
            f"the band that holds the classes"
        )
    return None


def _greys(header: Header) -> NDArray[np.uint8] | None:
    if header.bits > 8 or (header.bits == 8 and not header.inverted):
        return None
    levels = np.linspace(0, 255, 1 << header.bits).astype(np.uint8)
    return np.repeat(levels[:: -1 if header.inverted else 1, None], 3, axis=1)


def _whole(value: float) -> int | None:
    return int(value) if value == value and abs(value) < 2**63 and value == int(value) else None
