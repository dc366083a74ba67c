"""Picture files as they are stored: every sample as it was written, and what the file says of them.

Viewers show pictures; a program that learns from them needs their numbers. Pillow hands over what
is shown: it stretches 2 and 4 bits to 8, turns white-is-zero around, cuts 16-bit colours to 8 and
takes the first of several pages. So each file is first described (`read_header`), and decoded by
the library that gives its samples back unchanged: Pillow, tifffile for most TIFFs, OpenCV for PNGs
with 16-bit colours.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.errors import UserError, first_line
from alseg.core.files import require_file

#: File name endings of pictures that are read, in lower case.
ENDINGS = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})

#: TIFF tags that say where on earth a picture lies, copied as they are: scale, tie points,
#: transform, and the directory of keys with its numbers and texts (OGC GeoTIFF 1.1, section 7.1).
GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
#: GDAL's tag of the value that stands for no data.
NODATA_TAG = 42113

#: Pixels that are copied at once.
BAND = 1 << 22

_ORIENTATION = 0x0112  # of EXIF, and of TIFF
_LOSSY_TIFF = {6: "JPEG", 7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000",
               34892: "JPEG", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}  # fmt: skip
_PNG_KINDS = {0: "grey", 2: "rgb", 3: "palette", 4: "grey", 6: "rgb"}
_TIFF_KINDS = {0: "grey", 1: "grey", 2: "rgb", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*"}
#: Kinds of Pillow whose samples are what was stored, and what they are.
_PILLOW_KINDS = {"1": "grey", "L": "grey", "LA": "grey", "I;16": "grey", "P": "palette",
                 "PA": "palette", "RGB": "rgb", "RGBA": "rgb"}  # fmt: skip
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class UnreadableError(UserError):
    """A file that is missing, damaged, or of a kind that no reader here knows."""


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself.

    Attributes:
        format: ``PNG``, ``TIFF``, ``JPEG``, ...
        height: Pixels.
        width: Pixels.
        bands: Samples per pixel without opacity.
        alpha: Whether a further sample is the opacity.
        bits: Bits of a sample.
        dtype: Type of the samples once decoded.
        kind: ``grey``, ``rgb``, ``palette``, or another space of colours by its name.
        inverted: Whether grey 0 stands for white.
        palette: Colours of a palette, (N, 3), uint8, RGB.
        pages: Pictures in the file; smaller copies (overviews) and masks of validity do not count.
        orientation: As in EXIF, 1 for upright.
        lossy: The compression, if it changes samples; it depends on the encoder for some.
        nodata: The value that stands for no data.
        geo: Tags that place the picture on earth, ``{tag: (type, count, value)}``.
    """

    format: str
    height: int
    width: int
    bands: int
    alpha: bool
    bits: int
    dtype: np.dtype[Any]
    kind: str
    inverted: bool = False
    palette: NDArray[np.uint8] | None = None
    pages: int = 1
    orientation: int = 1
    lossy: str | None = None
    nodata: float | None = None
    geo: Mapping[int, tuple[int, int, Any]] = field(default_factory=lambda: MappingProxyType({}))


def read_header(path: Path) -> Header:
    """Describe a picture file without decoding it.

    Raises:
        UnreadableError: If it cannot be opened; the sentence has the path and ends in a period.
    """
    with _readable(path):
        require_file(path)
        head = _head(path)
        if head[:4] in _TIFF_STARTS:
            return _tiff_header(path)
        with open_picture(path) as image:
            return _pillow_header(image, path, head)


def read_samples(
    path: Path, check: Callable[[Header], object] = lambda header: None
) -> tuple[Header, NDArray[Any]]:
    """Decode a picture file in full.

    Args:
        path: The file.
        check: Told the header before the samples are decoded, so that it can refuse the file.

    Returns:
        The header, and the samples as they are stored, (H, W, bands + alpha): palette indices,
        grey values whether or not 0 is white, colours in the order red, green, blue.

    Raises:
        UnreadableError: If it is damaged, or its kind cannot be decoded unchanged; the sentence has
            the path and ends in a period.
    """
    with _readable(path):
        require_file(path)
        head = _head(path)
        if head[:4] in _TIFF_STARTS:
            header = _tiff_header(path)
            check(header)
            samples = _tiff_samples(path, header)
        else:
            with open_picture(path) as image:
                header = _pillow_header(image, path, head)
                check(header)
                step = {"L;2": 85, "L;4": 17}.get(_rawmode(image), 1)
                image.load()  # all of it: a truncated file has a sound header
                # A PNG may say behind its pixels that it is turned.
                turned = replace(header, orientation=_orientation(image))
                if turned.orientation != header.orientation:
                    check(turned)
                if header.bits == 16 and header.bands + header.alpha > 1:
                    samples = _png16_samples(path, header)
                else:
                    samples = _array(image)
                    # Pillow stretches grey values of 2 and 4 bits to 0..255 in whole steps.
                    samples = samples // np.uint8(step) if step > 1 else samples
    samples = samples.reshape(*samples.shape[:2], -1)
    expected = (header.height, header.width, header.bands + header.alpha)
    if samples.shape != expected:
        raise UnreadableError(
            f"{path} says it has {expected[0]} x {expected[1]} pixels of {expected[2]} samples and "
            f"decodes to {samples.shape}; save it again."
        )
    return header, samples


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a file with Pillow whatever its size.

    Pillow takes 179 megapixels for an attack; these pictures are the user's own.
    """
    with any_size(), Image.open(path) as image:
        yield image


class _NoLimit:
    """Pillow's limit is off as long as any thread is within."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._most: int | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._readers:
                self._most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    Image.MAX_IMAGE_PIXELS = self._most


#: Within it, Pillow takes pictures of any size.
any_size = _NoLimit()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever decoders raise on damaged files into a sentence."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UnreadableError(f"{path} is not there; restore it.") from error
    except PermissionError as error:
        raise UnreadableError(
            f"{path} cannot be opened ({error.strerror}); give yourself the right to read it."
        ) from error
    except Exception as error:
        reason = first_line(error)
        reason = reason.replace(f" {str(path)!r}", " it")
        raise UnreadableError(f"{path} cannot be read ({reason}); restore or remove it.") from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(32)


def _pillow_header(image: Image.Image, path: Path, head: bytes) -> Header:
    mode, kind = image.mode, _PILLOW_KINDS.get(image.mode, image.mode)
    alpha = mode in ("LA", "PA", "RGBA")
    bits = {"1": 1, "I;16": 16}.get(mode, 32 if mode in ("I", "F") else 8)
    dtype = np.dtype({16: "uint16", 32: "float32" if mode == "F" else "int32"}.get(bits, "u1"))
    bands = len(image.getbands()) - alpha
    file_format, palette = image.format or "", None
    if file_format == "PNG":
        bits, color = head[24:26]
        kind, alpha = _PNG_KINDS[color], color in (4, 6)
        dtype, bands = np.dtype("uint16" if bits == 16 else "u1"), 3 if color in (2, 6) else 1
    if kind == "palette":
        palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    lossy = {"JPEG": "JPEG", "MPO": "JPEG"}.get(file_format)
    if file_format == "WEBP" and _webp_is_lossy(path):
        lossy = "WebP"
    # Phones save a second picture for their own use behind the first (MPO).
    pages = 1 if file_format == "MPO" else getattr(image, "n_frames", 1)
    # Pillow would decode a whole PNG to look for EXIF behind its pixels.
    known = file_format != "PNG" or "exif" in image.info
    return Header(
        file_format,
        image.height,
        image.width,
        bands,
        alpha,
        bits,
        dtype,
        kind,
        palette=palette,
        pages=pages,
        orientation=_orientation(image) if known else 1,
        lossy=lossy,
    )


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(_ORIENTATION, 1) or 1)


def _rawmode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", ())
    arguments = tiles[0][3] if tiles else ""  # a plain tuple before Pillow 11
    return arguments if isinstance(arguments, str) else str((*arguments, "")[0])


def _array(image: Image.Image) -> NDArray[Any]:
    """The samples, band of rows by band of rows: Pillow copies twice what NumPy asks it for."""
    if image.mode == "1":
        return np.array(image, dtype=np.uint8)
    if image.width * image.height <= BAND:
        return np.array(image)
    first = np.asarray(image.crop((0, 0, image.width, 1)))
    samples = np.empty((image.height, *first.shape[1:]), dtype=first.dtype)
    rows = max(1, BAND // max(1, image.width))
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        samples[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return samples


def _png16_samples(path: Path, header: Header) -> NDArray[Any]:
    """Colours, or grey with opacity, of 16 bits, of which Pillow keeps 8."""
    import cv2

    samples = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is None:
        raise OSError("the file is damaged")
    if header.bands == 1:  # OpenCV repeats the grey value in three channels
        return np.asarray(samples[..., [0, 3]])
    order = [2, 1, 0, 3][: samples.shape[2]]
    return np.ascontiguousarray(samples[..., order])


def _webp_is_lossy(path: Path) -> bool:
    """Whether any picture of a WebP file is in a VP8 chunk; the lossless ones are in VP8L."""
    with path.open("rb") as file:
        end = int.from_bytes(file.read(12)[4:8], "little") + 8
        while file.tell() + 8 <= end:
            name, size = file.read(4), int.from_bytes(file.read(4), "little")
            if name in (b"VP8 ", b""):
                return True
            if name == b"ANMF":  # a frame: its head, then chunks of its own
                file.seek(16, 1)
            else:
                file.seek(size + size % 2, 1)
    return False


def _tiff_header(path: Path) -> Header:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        pages = [page for page in _pages(tiff) if not _is_helper(page)]
        if not pages:
            raise OSError("it holds no picture")
        page: Any = pages[0]
        count = len(pages)
        if tiff.is_imagej and tiff.imagej_metadata:  # ImageJ counts pages that have no header
            count = max(count, int(tiff.imagej_metadata.get("images", 1)))
        bits = page.bitspersample if isinstance(page.bitspersample, int) else page.bitspersample[0]
        dtype = page.dtype or np.dtype(f"u{max(1, -(-bits // 8))}")
        opacity = [int(extra) in (1, 2) for extra in page.extrasamples]
        alpha = bool(opacity) and opacity[-1]
        kind = _TIFF_KINDS.get(int(page.photometric), page.photometric.name)
        bands = page.samplesperpixel - alpha
        if kind == "rgb" and bands == 1:
            kind = "grey"
        return Header(
            format="TIFF",
            height=page.imagelength,
            width=page.imagewidth,
            bands=bands,
            alpha=alpha,
            bits=bits,
            dtype=np.dtype("u1") if dtype.kind == "b" else dtype.newbyteorder("="),
            kind=kind,
            inverted=int(page.photometric) == 0,
            palette=_tiff_palette(page.colormap) if kind == "palette" else None,
            pages=count * page.imagedepth,
            orientation=int(page.tags.valueof(_ORIENTATION, 1)),
            lossy=_LOSSY_TIFF.get(int(page.compression)),
            nodata=_nodata(page.tags.valueof(NODATA_TAG)),
            geo={
                tag.code: (int(tag.dtype), tag.count, tag.value)
                for tag in page.tags
                if tag.code in GEO_TAGS
            },
        )


def _pages(tiff: Any) -> Iterator[Any]:
    """The pages of a TIFF, by their numbers: tifffile's own way never ends if one links back."""
    return (tiff.pages[number] for number in range(len(tiff.pages)))


def _is_helper(page: Any) -> bool:
    """Whether a page is a smaller copy of another, or says where another is valid."""
    return bool(int(page.subfiletype) & 0b101)


def _tiff_palette(colors: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Colours of 16 bits, (3, N); some programs write 8 bits into them."""
    return np.asarray((colors >> 8 if colors.max(initial=0) > 255 else colors).T, dtype=np.uint8)


def _nodata(text: object) -> float | None:
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def _tiff_samples(path: Path, header: Header) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        page: Any = next(page for page in _pages(tiff) if not _is_helper(page))
        length = tiff.filehandle.size
        ends = map(sum, zip(page.dataoffsets, page.databytecounts, strict=False))
        if any(end > length for end in ends):
            raise OSError("the file is truncated")
        compression = page.compression.name if hasattr(page.compression, "name") else "?"
        # JPEG is left to Pillow, whose decoder minds the colours that the file means.
        if header.lossy != "JPEG" and not (header.bits in (2, 4) and header.bands == 1):
            try:
                samples = np.asarray(page.asarray())
            except (ValueError, NotImplementedError, ImportError) as error:
                if "imagecodecs" not in str(error) and "compression" not in str(error):
                    raise
            else:
                if samples.ndim == 3 and int(page.planarconfig) == 2 and page.samplesperpixel > 1:
                    samples = samples.transpose(1, 2, 0)
                return samples.astype(header.dtype, copy=False)
    if (decode := _by_pillow(header)) is not None:
        return decode(path)
    raise UnreadableError(
        f"{path} is a TIFF of {header.bands + header.alpha} bands of {header.bits} bits with the "
        f"compression {compression}, which takes one more library: pip install 'alseg[geo]', or "
        f"export it without compression or with DEFLATE."
    )


def _by_pillow(header: Header) -> Callable[[Path], NDArray[Any]] | None:
    """How Pillow decodes a TIFF that it gives back unchanged, or changed in a known way."""
    samples = header.bands + header.alpha
    plain = header.kind in ("grey", "palette") and samples == 1 and header.bits in (1, 2, 4, 8)
    deep = header.kind == "grey" and samples == 1 and header.bits == 16 and not header.inverted
    colors = header.kind in ("rgb", "YCbCr") and samples == 3 and header.bits == 8
    opaque = header.kind == "rgb" and samples == 4 and header.alpha and header.bits == 8
    if not (plain or colors or opaque or (deep and header.dtype == np.uint16)):
        return None

    def decode(path: Path) -> NDArray[Any]:
        with open_picture(path) as image:
            image.load()
            if header.kind == "YCbCr":
                image = image.convert("RGB")
            values = _array(image)
        if not plain or header.kind == "palette":
            return values.astype(header.dtype, copy=False)
        if header.bits in (2, 4):
            values = values // np.uint8(255 // (2**header.bits - 1))
        return np.uint8(2**header.bits - 1) - values if header.inverted else values

    return decode
