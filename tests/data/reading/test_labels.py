"""Labels come out of files as they were saved, or not at all."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.rasters import UnreadableError
from alseg.data.reading.labels import check_labels, read_labels
from tests.data.make import ids, picture, save
from tests.data.reading.bytes import colormap, packed, png, tiff

COLORS = np.array([[0, 0, 0], [9, 200, 7], [255, 1, 2]], dtype=np.uint8)


def exactly(path, values, kind="index"):
    file = read_labels(path)
    assert file.kind == kind
    assert file.values.dtype.kind == "u"
    np.testing.assert_array_equal(file.values, values)
    return file


def refused(path, words):
    for read in (read_labels, check_labels):
        with pytest.raises(UserError, match=words) as error:
            read(path)
        assert str(error.value).startswith(f"{path} ")
        assert str(error.value).endswith(".")
        assert str(error.value).count("\n") == 0


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_grey_of_any_bits_and_either_white(tmp_path, bits):
    values = np.random.default_rng(bits).integers(0, 1 << bits, (13, 21)).astype(np.uint16)
    greys = None if bits >= 8 else np.linspace(0, 255, 1 << bits).astype(int).tolist()
    file = exactly(png(tmp_path / "grey.png", values, bits), values)
    assert (None if file.greys is None else file.greys[:, 0].tolist()) == greys
    for order in "<>":
        exactly(tiff(tmp_path / "black.tif", values, bits, 1, order), values)
        inverted = exactly(tiff(tmp_path / "white.tif", values, bits, 0, order), values)
        if bits < 8:
            assert inverted.greys[:, 0].tolist() == greys[::-1]
    assert file.palette is None
    assert file.nodata is None


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_of_palettes_whatever_is_transparent(tmp_path, bits):
    colors = COLORS[: 1 << bits]
    values = np.random.default_rng(bits).integers(0, len(colors), (13, 21)).astype(np.uint8)
    chunks = [(b"PLTE", colors.tobytes()), (b"tRNS", b"\0\x80")]
    for path in (
        png(tmp_path / "p.png", values, bits, 3, chunks),
        tiff(tmp_path / "p.tif", values, bits, 3, c320=colormap(colors, bits)),
    ):
        found = exactly(path, values, "palette").palette
        np.testing.assert_array_equal(found[: len(colors)], colors)


@pytest.mark.parametrize("kind", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int64"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "tile": (16, 16)}])
def test_what_tifffile_writes(tmp_path, kind, options):
    values = ids(40, 50, classes=2 if kind == "bool" else 100).astype(kind)
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, values, **options)
    np.testing.assert_array_equal(tifffile.imread(path), values)
    exactly(path, values)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "group4", "tiff_deflate"])
def test_what_pillow_compresses(tmp_path, compression):
    values = ids(40, 50, classes=2)
    image = Image.fromarray(values * 255).convert("1")
    if compression != "group4":
        image = Image.fromarray(values)
    image.save(tmp_path / "m.tif", compression=compression)
    exactly(tmp_path / "m.tif", values)


def test_colours(tmp_path):
    colors = picture()
    for name in ("m.png", "m.tif", "m.bmp"):
        exactly(save(tmp_path / name, colors), colors, "rgb")
    Image.fromarray(colors).save(tmp_path / "m.webp", lossless=True)
    exactly(tmp_path / "m.webp", colors, "rgb")
    opaque = np.dstack([colors, np.full(colors.shape[:2], 255, np.uint8)])
    for name in ("a.png", "a.tif"):
        exactly(save(tmp_path / name, opaque), colors, "rgb")
    grey = ids()
    exactly(save(tmp_path / "la.png", np.dstack([grey, np.full_like(grey, 255)])), grey)
    opaque[3, 4, 3] = 254
    hidden = save(tmp_path / "hidden.png", opaque)
    with pytest.raises(UserError, match=r"hidden\.png is partly transparent.*without an alpha"):
        read_labels(hidden)


def test_overviews_are_no_pages(tmp_path):
    values = ids(40, 50)
    path = tmp_path / "cog.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(values, metadata=None)
        file.write(values[::2, ::2], subfiletype=1, metadata=None)
    exactly(path, values)


def test_the_value_of_no_data_is_told(tmp_path):
    values = ids()
    tifffile.imwrite(tmp_path / "m.tif", values, extratags=[(42113, 2, 4, "200\0", True)])
    assert exactly(tmp_path / "m.tif", values).nodata == 200


def test_files_that_change_values_are_refused(tmp_path):
    values, colors = ids(), picture()
    refused(save(tmp_path / "m.jpg", values), "compressed by JPEG, .*as PNG")
    (tmp_path / "m.png").write_bytes((tmp_path / "m.jpg").read_bytes())  # by content, not by name
    refused(tmp_path / "m.png", "compressed by JPEG")
    Image.fromarray(colors).save(tmp_path / "jpeg.tif", compression="jpeg")
    refused(tmp_path / "jpeg.tif", "compressed by JPEG")
    Image.fromarray(colors).save(tmp_path / "m.webp", quality=90)
    refused(tmp_path / "m.webp", "compressed by WebP")
    alpha = np.dstack([colors, values])
    Image.fromarray(alpha).save(tmp_path / "alpha.webp", quality=90)  # in an extended container
    refused(tmp_path / "alpha.webp", "compressed by WebP")
    for pages in (2, 5):
        tifffile.imwrite(tmp_path / "pages.tif", np.stack([values] * pages), metadata=None)
        refused(tmp_path / "pages.tif", f"holds {pages} pages")
    frames = [Image.fromarray(values + i) for i in range(3)]
    for name in ("moving.png", "moving.webp"):
        options = {"save_all": True, "append_images": frames[1:], "lossless": True}
        frames[0].save(tmp_path / name, **options)
        refused(tmp_path / name, "holds 3 pages or pictures")
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("turned.png", "turned.webp", "turned.tif"):
        Image.fromarray(values).save(tmp_path / name, exif=exif, lossless=True)
        refused(tmp_path / name, "EXIF orientation 6")
    for name, array, words in (
        ("half", values.astype(np.float16), "holds fractions"),
        ("double", values.astype(np.float64), "holds fractions"),
        ("deep", colors.astype(np.uint16), "colours of 16 bits"),
    ):
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
        refused(tmp_path / f"{name}.tif", words)
    tifffile.imwrite(tmp_path / "bands.tif", colors, photometric="minisblack", metadata=None,
                     planarconfig="contig")  # fmt: skip
    refused(tmp_path / "bands.tif", "has 3 bands; a mask has one")
    Image.fromarray(colors).convert("CMYK").save(tmp_path / "ink.tif")
    refused(tmp_path / "ink.tif", "colours in CMYK")
    refused(png(tmp_path / "deep.png", colors, 16, 2), "colours of 16 bits")


def test_negative_ids_are_refused(tmp_path):
    values = ids().astype(np.int16)
    values[0, 0] = -9999
    tifffile.imwrite(tmp_path / "m.tif", values, metadata=None)
    with pytest.raises(UserError, match="holds -9999, and ids are not negative"):
        read_labels(tmp_path / "m.tif")
    tags = [(42113, 2, 6, "-9999\0", True)]
    tifffile.imwrite(tmp_path / "n.tif", values, metadata=None, extratags=tags)
    with pytest.raises(UserError, match=r"without data by -9999.*such as 255"):
        read_labels(tmp_path / "n.tif")


def test_an_orientation_behind_the_pixels_is_found_as_they_are_read(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    late = [(b"eXIf", exif.tobytes()[6:])]
    with pytest.raises(UserError, match="EXIF orientation 3"):
        read_labels(png(tmp_path / "m.png", ids(), 8, late=late))


@pytest.mark.parametrize("name", ["m.png", "m.tif", "m.bmp", "lzw.tif"])
def test_damaged_files(tmp_path, name):
    options = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    path = save(tmp_path / name, ids(99, 99), **options)
    content = path.read_bytes()
    if name.endswith("tif"):  # its directory may stand behind the pixels
        path = tiff(path, ids(99, 99), 8)
        content = path.read_bytes()
        path.write_bytes(content.replace(struct.pack("<II", 8, 8 + 50 * 99),
                                         struct.pack("<II", 8, 1 << 20)))  # fmt: skip
    else:
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UnreadableError, match=rf"{name} cannot be read .*restore or remove it\."):
        read_labels(path)
    path.write_bytes(b"")
    with pytest.raises(UnreadableError, match="cannot be read"):
        check_labels(path)
    path.unlink()
    with pytest.raises(UnreadableError, match="is not there"):
        read_labels(path)


def test_rows_are_packed_from_the_left():
    """The writer of these tests itself, by hand."""
    assert packed(np.array([[1, 2, 3, 0, 1]]), 2) == [bytes([0b01101100, 0b01000000])]
    assert packed(np.array([[1, 10, 15]]), 4) == [bytes([0x1A, 0xF0])]
