"""Files of images: the bands that are wanted, in 8 bits, scaled from a range that is said."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.rasters import Header, read_header, read_samples

#: Pixels of an image that count towards percentiles where not every value can be counted.
SAMPLE = 1 << 16

Limits = tuple[float, float]


@dataclass(frozen=True)
class Reading:
    """Which bands of image files become channels, and which range of values becomes 0..255.

    Attributes:
        bands: Bands in the order of the channels, counted from 1 as GIS programs do; None for red,
            green and blue, with grey repeated and opacity dropped.
        limits: The value that becomes 0 and the one that becomes 255, for each channel or once for
            all; what is outside becomes 0 or 255. None for files of 8 bits, which stay as they are.
        percentiles: Percentiles that are to become limits, see `with_limits_of`.
    """

    bands: tuple[int, ...] | None = None
    limits: tuple[Limits, ...] | None = None
    percentiles: Limits | None = None

    @classmethod
    def from_options(cls, bands: Iterable[int] | None, range: Iterable[Any] | None) -> "Reading":
        """Check the options `data.bands` and `data.range`.

        Args:
            bands: Numbers of bands from 1, such as ``[4, 3, 2]``.
            range: ``[low, high]``, percentiles such as ``["p2", "p98"]``, or a pair of numbers for
                each band.

        Raises:
            UserError: If they are anything else.
        """
        chosen = None
        if bands is not None:
            chosen = (bands,) if isinstance(bands, int | str) else tuple(bands)
            if not chosen or not all(_is_int(band) and band >= 1 for band in chosen):
                raise UserError(
                    f"data.bands is {list(chosen)}; give numbers of bands counted from 1, such as "
                    f"data.bands=[1,2,3]."
                )
        if range is None:
            return cls(chosen)
        given = [range] if isinstance(range, int | float | str) else list(range)
        wrong = UserError(
            f"data.range is {given}; give the values that become black and white, such as "
            f"data.range=[0,4095], percentiles of the training images, such as "
            f"data.range=[p2,p98], or one pair of numbers per band."
        )
        if len(given) == 2 and all(isinstance(part, str) for part in given):
            try:
                low, high = (float(part.removeprefix("p")) for part in given)
            except ValueError:
                raise wrong from None
            if not (all(part.startswith("p") for part in given) and 0 <= low < high <= 100):
                raise wrong
            return cls(chosen, percentiles=(low, high))
        pairs = [given] if all(map(_is_number, given)) else [_listed(part) for part in given]
        if not pairs or any(not _is_range(pair) for pair in pairs):
            raise wrong
        channels = 3 if chosen is None else len(chosen)
        if len(pairs) not in (1, channels):
            raise UserError(
                f"data.range gives {len(pairs)} pairs for {channels} bands; give one pair for all "
                f"bands, or one for each."
            )
        return cls(chosen, tuple((float(pair[0]), float(pair[1])) for pair in pairs))

    @property
    def channels(self) -> int:
        """Channels of an image as it is read."""
        return 3 if self.bands is None else len(self.bands)

    def describe(self) -> dict[str, Any]:
        """Plain values that a checkpoint can hold, for `from_description`."""
        return {
            "bands": None if self.bands is None else list(self.bands),
            "range": None if self.limits is None else [list(pair) for pair in self.limits],
        }

    @classmethod
    def from_description(cls, description: Any) -> "Reading":
        """What `describe` said; `AS_RGB` if it is silent."""
        return cls.from_options(description.get("bands"), description.get("range"))

    def identity(self) -> str:
        """A text that differs where images are read differently; empty for `AS_RGB`."""
        return "" if self == AS_RGB else repr((self.bands, self.limits))

    def with_limits_of(self, paths: Sequence[Path]) -> "Reading":
        """Limits in place of percentiles.

        The percentile p of a channel is the smallest value that at least p percent of all pixels
        do not exceed. Pixels without data do not count. Values of 8 and 16 bits are all counted; of
        others, `SAMPLE` evenly spread pixels of each image.

        Args:
            paths: The training images.

        Raises:
            UserError: If a file cannot be read, or a channel has one value only.
        """
        if self.percentiles is None:
            return self
        counts = _Counts(self.channels)
        for path in paths:
            _, samples, void = _read_bands(path, self)
            counts.add(samples, void)
        limits = counts.percentiles(self.percentiles)
        for channel, (low, high) in enumerate(limits):
            if not low < high:
                raise UserError(
                    f"data.range=[p{self.percentiles[0]:g},p{self.percentiles[1]:g}] gives "
                    f"{low:g} for both ends of channel {channel + 1}; give a wider range."
                )
        return replace(self, limits=tuple(limits), percentiles=None)


#: Red, green and blue of 8 bits.
AS_RGB = Reading()


def read_image(path: str | Path, reading: Reading = AS_RGB) -> NDArray[np.uint8]:
    """Read an image.

    Args:
        path: A picture file, see `alseg.core.rasters.ENDINGS`.
        reading: Bands and range.

    Returns:
        (H, W, C), uint8. Limits ``low`` and ``high`` make a value v
        ``round(255 * (v - low) / (high - low))``, clipped to 0..255; pixels without data are 0.

    Raises:
        UserError: If the file is damaged or cannot be read faithfully that way. One sentence with
            the path that says what it is and what to give or to export.
    """
    _, samples, void = _read_bands(Path(path), reading)
    if reading.limits is None:
        image = samples
    else:
        image = np.empty(samples.shape, dtype=np.uint8)
        pairs = reading.limits * (1 if len(reading.limits) > 1 else samples.shape[2])
        for channel, limits in enumerate(pairs):
            values = samples[..., channel]
            if values.dtype.kind == "u" and values.dtype.itemsize <= 2:  # by a table, in no time
                every = np.arange(1 << 8 * values.dtype.itemsize)
                image[..., channel] = _scaled(every, limits)[values]
            else:
                image[..., channel] = _scaled(values, limits)
    if void is not None:
        image = np.where(void[..., None], np.uint8(0), image)
    return np.ascontiguousarray(image)


def _scaled(values: NDArray[Any], limits: Limits) -> NDArray[np.uint8]:
    low, high = limits
    shares = np.clip((values.astype(np.float64) - low) * 255 / (high - low), 0, 255)
    return np.floor(np.nan_to_num(shares) + 0.5).astype(np.uint8)


def read_void(path: str | Path, reading: Reading = AS_RGB) -> NDArray[np.bool_] | None:
    """Pixels for which a file says that it has no data, (H, W); None if it does not speak of any.

    A pixel has none where all the bands that are read hold the file's value for it (GDAL's tag),
    or are no number; and where a picture with a place on earth is wholly transparent.
    """
    header = read_header(Path(path))
    if header.nodata is None and not (header.geo and header.alpha) and header.dtype.kind != "f":
        return None
    return _read_bands(Path(path), reading).void


def check_image(path: str | Path, reading: Reading = AS_RGB) -> Header:
    """Refuse an image by what its head says, before it is decoded; see `read_image`.

    Raises:
        UserError: As `read_image`, of what the head tells.
    """
    header = read_header(Path(path))
    _refuse(Path(path), header, reading)
    return header


def check_samples(
    path: str | Path,
    reading: Reading = AS_RGB,
    told: Callable[[Header], object] = lambda header: None,
) -> Header:
    """Decode an image in full and refuse it if anything is wrong; see `read_image`.

    Args:
        path: A picture file.
        reading: Bands and range.
        told: Called with the header before the samples are decoded.
    """

    def check(header: Header) -> None:
        _refuse(Path(path), header, reading)
        told(header)

    header, samples = read_samples(Path(path), check)
    if header.kind == "palette":
        _check_indices(Path(path), header, samples)
    return header


def _refuse(path: Path, header: Header, reading: Reading) -> None:
    if reason := _refused(header, reading):
        raise UserError(f"{path} {reason}.")


def _refused(header: Header, reading: Reading) -> str | None:
    """What is wrong with an image, and how to mend it; None if nothing is."""
    if header.pages > 1:
        return f"holds several pictures ({header.pages} pages); save each as its own file"
    if header.orientation != 1:
        # Labelling tools differ on whether masks are drawn on the turned picture, and for half
        # turns and square images the sizes do not tell.
        return (
            f"has EXIF orientation {header.orientation}, which some tools apply and others ignore; "
            f"rewrite it upright (mogrify -auto-orient) and see that its mask fits"
        )
    if header.kind == "YCbCr" and header.lossy == "JPEG":
        pass  # decoded to RGB
    elif header.kind not in ("grey", "palette", "rgb"):
        return f"has colours in {header.kind}; convert it to RGB"
    there = 3 if header.kind == "palette" else header.bands + header.alpha
    if reading.bands is None:
        if there - header.alpha not in (1, 3):
            return (
                f"has {there} bands; choose some in the order red, green, blue or any number of "
                f"them with data.bands (data=folder), such as data.bands=[1,2,3], or export three"
            )
    elif max(reading.bands) > there:
        return f"has {there} bands, and data.bands={list(reading.bands)} asks for more"
    whole = header.dtype.kind == "u" and header.bits <= 8
    if not whole and reading.limits is None and reading.percentiles is None:
        what = f"{header.bits}-bit {'fractions' if header.dtype.kind == 'f' else 'values'}"
        return (
            f"holds {what}, and which of them are black and white is not in the file; give "
            f"data.range (data=folder), such as data.range=[0,4095] or data.range=[p2,p98], or "
            f"export 8 bits with the range you want (gdal_translate -ot Byte -scale LOW HIGH)"
        )
    return None


class _Bands(NamedTuple):
    """The bands of a file that are wanted."""

    header: Header
    samples: NDArray[Any]
    """(H, W, C)."""
    void: NDArray[np.bool_] | None
    """Pixels without data, (H, W); None if the file does not speak of any."""


def _read_bands(path: Path, reading: Reading) -> _Bands:
    header, samples = read_samples(path, lambda header: _refuse(path, header, reading))
    wanted = list(range(header.bands)) if reading.bands is None else [b - 1 for b in reading.bands]
    if header.kind == "palette":
        _check_indices(path, header, samples)
        assert header.palette is not None
        index = samples[..., 0]
        void = index == header.nodata if header.nodata is not None else None
        colors = header.palette[index]
        return _Bands(header, colors if reading.bands is None else colors[..., wanted], void)
    void = _without_data(header, samples, wanted)
    if wanted != list(range(samples.shape[2])):
        samples = samples[..., wanted]
    if header.kind == "grey":
        if header.inverted and samples.dtype.kind == "u":
            samples = np.asarray((2**header.bits - 1) - samples).astype(samples.dtype)
        if header.bits < 8:
            samples = samples * np.uint8(255 // (2**header.bits - 1))
    if reading.bands is None and header.bands == 1:
        samples = np.broadcast_to(samples, (*samples.shape[:2], 3))
    return _Bands(header, samples, void)


def _check_indices(path: Path, header: Header, samples: NDArray[Any]) -> None:
    if header.palette is None or samples[..., 0].max(initial=0) >= len(header.palette):
        raise UserError(f"{path} holds indices without a colour; save it as RGB.")


def _without_data(
    header: Header, samples: NDArray[Any], wanted: Sequence[int]
) -> NDArray[np.bool_] | None:
    void = np.zeros(samples.shape[:2], dtype=bool)
    nodata = header.nodata
    if nodata is not None and not math.isnan(nodata):
        void |= np.logical_and.reduce([samples[..., band] == nodata for band in wanted])
    if samples.dtype.kind == "f":  # fractions that are no number
        void |= np.logical_and.reduce([np.isnan(samples[..., band]) for band in wanted])
    if header.geo and header.alpha:  # the mask of validity of a map
        void |= samples[..., -1] == 0
    return void if void.any() or nodata is not None else None


class _Counts:
    """How often each value occurs in each channel, over files."""

    def __init__(self, channels: int) -> None:
        self._exact = [np.zeros(1 << 17, dtype=np.int64) for _ in range(channels)]
        self._others: list[list[NDArray[Any]]] = [[] for _ in range(channels)]

    def add(self, samples: NDArray[Any], void: NDArray[np.bool_] | None) -> None:
        for channel, (exact, others) in enumerate(zip(self._exact, self._others, strict=True)):
            values = samples[..., channel]
            values = values.ravel() if void is None else values[~void]
            if values.dtype.kind in "ui" and values.dtype.itemsize <= 2:
                # shifted, so that negative values have a place
                places = values.astype(np.int64) + (1 << 15)
                exact += np.bincount(places, minlength=len(exact))
            else:
                values = values[np.isfinite(values)]
                others.append(values[:: max(1, -(-len(values) // SAMPLE))].astype(np.float64))

    def percentiles(self, wanted: Limits) -> list[Limits]:
        found: list[Limits] = []
        for exact, others in zip(self._exact, self._others, strict=True):
            places = np.flatnonzero(exact)
            values = np.concatenate([(places - (1 << 15)).astype(np.float64), *others])
            counts = np.concatenate([exact[places], *(np.ones(len(o), np.int64) for o in others)])
            if not len(values):
                raise UserError("data.range: the training images hold no data to take it from.")
            order = np.argsort(values, kind="stable")
            below = np.cumsum(counts[order])
            ends = [below[-1] * share / 100 for share in wanted]
            at = np.minimum(np.searchsorted(below, ends), len(order) - 1)
            low, high = values[order][at].tolist()
            found.append((low, high))
        return found


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_range(pair: Sequence[Any]) -> bool:
    return len(pair) == 2 and all(map(_is_number, pair)) and pair[0] < pair[1]


def _listed(part: Any) -> list[Any]:
    return list(part) if isinstance(part, Iterable) and not isinstance(part, str) else [part]
