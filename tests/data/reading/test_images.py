"""Images: the bands that are wanted, from the range that is said."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from alseg.core.errors import UserError
from alseg.data.files import FileImages, ImageFile, Resize, resize_smoothly
from alseg.data.masks import class_table, read_masks_by_id
from alseg.data.reading.images import AS_RGB, Reading, check_image, read_image, read_void
from tests.data.make import ids, picture, save
from tests.data.reading.bytes import png, tiff

GEO = [(33550, 12, 3, (10.0, 10.0, 0.0), True)]
TABLE = read_masks_by_id({0: "a", 1: "b", 2: "c"})


def deep(bands=3, seed=0, most=4096):
    shape = (24, 32, bands)
    return np.random.default_rng(seed).integers(0, most, shape).astype(np.uint16)


def write(path, array, **options):
    options = {"photometric": "minisblack", "metadata": None, **options}
    if array.ndim == 3:
        options.setdefault("planarconfig", "contig")
    tifffile.imwrite(path, array, **options)
    return path


def scaled(values, low, high):
    """By the definition, pixel by pixel in exact arithmetic of whole numbers."""
    shares = np.clip(values.astype(np.int64), low, high) - low
    return (2 * 255 * shares + (high - low)) // (2 * (high - low))


def reading(bands=None, range=None):
    return Reading.from_options(bands, range)


def test_photographs_are_read_as_they_are(tmp_path):
    colors = picture()
    for name in ("a.png", "a.tif", "a.bmp"):
        np.testing.assert_array_equal(read_image(save(tmp_path / name, colors)), colors)
    for name, options in (("a.jpg", {}), ("jpeg.tif", {"compression": "jpeg"}), ("a.webp", {})):
        path = save(tmp_path / name, colors, **options)
        np.testing.assert_array_equal(read_image(path), np.asarray(Image.open(path).convert("RGB")))
    np.testing.assert_array_equal(
        read_image(write(tmp_path / "grey3.tif", colors, compression="zlib")), colors
    )
    planar = write(tmp_path / "p.tif", colors.transpose(2, 0, 1), planarconfig="separate")
    np.testing.assert_array_equal(read_image(planar), colors)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_is_shown_with_the_white_it_says(tmp_path, bits):
    values = np.random.default_rng(bits).integers(0, 1 << bits, (13, 21)).astype(np.uint8)
    light = np.round(values * (255 / ((1 << bits) - 1)))
    for path, expected in (
        (png(tmp_path / "g.png", values, bits), light),
        (tiff(tmp_path / "b.tif", values, bits, 1), light),
        (tiff(tmp_path / "w.tif", values, bits, 0), 255 - light),
    ):
        np.testing.assert_array_equal(read_image(path), np.stack([expected] * 3, axis=2))
        assert read_image(path, reading([1])).shape == (13, 21, 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.tif", {}),
        ("big.tif", {"byteorder": ">"}),
        ("tiles.tif", {"tile": (16, 16), "compression": "zlib", "predictor": True}),
        ("huge.tif", {"bigtiff": True}),
        ("planar.tif", {"planarconfig": "separate"}),
        ("rgb.tif", {"photometric": "rgb"}),
        ("rgb.png", {}),
    ],
)
def test_16_bit_colours_in_their_range(tmp_path, name, options):
    values = deep()
    path = tmp_path / name
    if name.endswith("png"):
        png(path, values, 16, 2)
    else:
        planar = options.get("planarconfig") == "separate"
        write(path, values.transpose(2, 0, 1) if planar else values, **options)
    expected = scaled(values, 100, 3000)
    np.testing.assert_array_equal(read_image(path, reading(None, [100, 3000])), expected)
    with pytest.raises(UserError, match=rf"{name} holds 16-bit values.*data\.range=\[0,4095\]"):
        read_image(path)
    with pytest.raises(UserError, match="16-bit values"):
        check_image(path)
    if name.endswith("tif"):
        stored = tifffile.imread(path)
        stored = stored if stored.shape == values.shape else stored.transpose(1, 2, 0)
        np.testing.assert_array_equal(stored, values)


def test_16_bit_grey_and_opacity(tmp_path):
    values = deep(1)[..., 0]
    expected = np.stack([scaled(values, 0, 4095)] * 3, axis=2)
    for path in (png(tmp_path / "g.png", values, 16), write(tmp_path / "g.tif", values)):
        np.testing.assert_array_equal(read_image(path, reading(None, [0, 4095])), expected)
    both = np.dstack([values, np.full_like(values, 65535)])
    path = png(tmp_path / "la.png", both, 16, 4)
    np.testing.assert_array_equal(read_image(path, reading(None, [0, 4095])), expected)
    colors = np.concatenate([deep(), deep(1, 1)], axis=2)
    path = png(tmp_path / "rgba.png", colors, 16, 6)
    np.testing.assert_array_equal(
        read_image(path, reading(None, [0, 4095])), scaled(colors[..., :3], 0, 4095)
    )


def test_bands_in_any_number_and_order(tmp_path):
    values = deep(10, most=256).astype(np.uint8)
    path = write(tmp_path / "ten.tif", values)
    for bands in ([1, 2, 3], [10], [8, 1], list(range(10, 0, -1))):
        expected = values[..., [band - 1 for band in bands]]
        np.testing.assert_array_equal(read_image(path, reading(bands)), expected)
    pairs = [[0, 100], [50, 200]]
    found = read_image(path, reading([4, 2], pairs))
    np.testing.assert_array_equal(found[..., 0], scaled(values[..., 3], 0, 100))
    np.testing.assert_array_equal(found[..., 1], scaled(values[..., 1], 50, 200))
    with pytest.raises(UserError, match=r"ten\.tif has 10 bands; choose .*data\.bands=\[1,2,3\]"):
        read_image(path)
    with pytest.raises(UserError, match=r"has 10 bands, and data\.bands=\[11\] asks for more"):
        read_image(path, reading([11]))
    four = write(tmp_path / "four.tif", values[..., :4], photometric="rgb", extrasamples=[0])
    with pytest.raises(UserError, match="has 4 bands"):
        read_image(four)  # the fourth is no opacity
    four = write(tmp_path / "rgba.tif", values[..., :4], photometric="rgb", extrasamples=[2])
    np.testing.assert_array_equal(read_image(four), values[..., :3])
    assert read_image(four, reading([1, 4])).shape == (24, 32, 2)


def test_fractions_and_signed_numbers(tmp_path):
    values = np.random.default_rng(0).normal(0, 2, (24, 32, 3)).astype(np.float32)
    values[0, 0] = np.nan
    path = write(tmp_path / "f.tif", values)
    found = read_image(path, reading(None, [-2, 2]))
    expected = np.clip((values.astype(np.float64) + 2) / 4, 0, 1) * 255
    np.testing.assert_allclose(found[1:], expected[1:], atol=0.51)
    assert (found[0, 0] == 0).all()
    with pytest.raises(UserError, match="holds 32-bit fractions"):
        read_image(path)
    signed = write(tmp_path / "s.tif", deep().astype(np.int16) - 2000)
    np.testing.assert_array_equal(
        read_image(signed, reading(None, [-2000, 2095])), scaled(deep(), 0, 4095)
    )


def test_percentiles_are_those_of_all_training_pixels(tmp_path):
    for kind in (np.uint16, np.int16, np.int32, np.float32):
        arrays = [deep(4, seed).astype(kind) - (kind == np.int16) * 9 for seed in range(3)]
        paths = [write(tmp_path / f"{i}.tif", array) for i, array in enumerate(arrays)]
        asked = reading([4, 1], ["p2", "p98"])
        limits = asked.with_limits_of(paths).limits
        for pair, band in zip(limits, (3, 0), strict=True):
            pixels = np.concatenate([array[..., band].ravel() for array in arrays])
            assert pair == tuple(np.percentile(pixels, [2, 98], method="inverted_cdf"))
    flat = write(tmp_path / "flat.tif", np.full((8, 9, 3), 7, np.uint16))
    with pytest.raises(UserError, match=r"data\.range=\[p2,p98\] gives 7 for both ends"):
        reading(None, ["p2", "p98"]).with_limits_of([flat])


def test_pixels_without_data(tmp_path):
    values = deep(4)
    values[:3, :4] = 9
    values[5, 5, :2] = 9  # two bands of four
    tags = [(42113, 2, 2, "9\0", True)]
    path = write(tmp_path / "n.tif", values, extratags=tags)
    void = np.zeros((24, 32), bool)
    void[:3, :4] = True
    some = reading([1, 2, 3, 4], [0, 4095])
    np.testing.assert_array_equal(read_void(path, some), void)
    assert (read_image(path, some)[void] == 0).all()
    void[5, 5] = True
    np.testing.assert_array_equal(read_void(path, reading([2, 1], [0, 4095])), void)
    limits = reading([1], ["p0", "p100"]).with_limits_of([path]).limits
    assert limits == ((values[..., 0][~void].min(), values[..., 0][~void].max()),)
    assert read_void(save(tmp_path / "a.png", picture())) is None
    opacity = np.dstack([picture(), np.where(void, 0, 255).astype(np.uint8)])
    for name, geo, expected in (("photo.tif", [], None), ("map.tif", GEO, void)):
        path = write(tmp_path / name, opacity, photometric="rgb", extrasamples=[2], extratags=geo)
        found = read_void(path)
        assert (found is None) == (expected is None)
        assert expected is None or (found == expected).all()
    mask = save(tmp_path / "m.png", ids())
    images = FileImages([ImageFile("x", path, mask)], class_table(TABLE), TABLE)
    np.testing.assert_array_equal(images.truth(0), np.where(void, 255, ids()))
    half = FileImages(images.files, images.classes, TABLE, Resize(scale=0.5))
    assert (half.truth(0)[:1, :2] == 255).all()


def test_a_set_of_many_bands(tmp_path):
    path = write(tmp_path / "five.tif", deep(5))
    files, table = [ImageFile("x", path, None)], class_table(TABLE)
    plain = FileImages(files, table, TABLE, Resize((12, 16)), reading=reading([5, 1], [0, 4095]))
    assert plain.channels == 2
    channels = scaled(deep(5)[..., [4, 0]], 0, 4095).astype(np.uint8)
    for channel in range(2):
        small = Image.fromarray(channels[..., channel]).resize((16, 12), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(plain.image(0)[..., channel], np.asarray(small))
    np.testing.assert_array_equal(
        resize_smoothly(picture(), 12, 16)[..., 1:2],
        resize_smoothly(picture()[..., 1:2], 12, 16),
    )
    others = [reading([1, 5], [0, 4095]), reading([5, 1], [0, 4094])]
    sets = [FileImages(files, table, TABLE, Resize((12, 16)), reading=how) for how in others]
    assert len({images.fingerprint(0) for images in [plain, *sets]}) == 3
    described = plain.reading.describe()
    assert Reading.from_description(described) == plain.reading
    assert Reading.from_description({}) == AS_RGB


def test_images_of_which_something_is_wrong(tmp_path):
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "ink.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(picture()).save(tmp_path / "turned.jpg", exif=exif)
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([picture()] * 2), metadata=None)
    for name, words in (
        ("ink.jpg", "has colours in CMYK; convert it to RGB"),
        ("turned.jpg", "has EXIF orientation 6"),
        ("pages.tif", r"holds several pictures \(2 pages\)"),
    ):
        with pytest.raises(UserError, match=rf"{name} {words}.*\.$"):
            read_image(tmp_path / name)
    few = png(tmp_path / "few.png", ids(), 8, 3, [(b"PLTE", bytes(6))])
    with pytest.raises(UserError, match="holds indices without a colour"):
        read_image(few)


@pytest.mark.parametrize(
    ("bands", "range", "words"),
    [
        ([], None, r"data\.bands is \[\]"),
        ([0], None, r"data\.bands is \[0\]; give numbers of bands counted from 1"),
        ([1.5], None, r"data\.bands is \[1\.5\]"),
        (None, [5], r"data\.range is \[5\]"),
        (None, [5, 5], r"data\.range is \[5, 5\]"),
        (None, ["p2", 98], "data.range is"),
        (None, ["p98", "p2"], "data.range is"),
        (None, ["2", "98"], "data.range is"),
        (None, ["p2", "p101"], "data.range is"),
        ([1], [[0, 1], [0, 2]], "data.range gives 2 pairs for 1 bands"),
        (None, [[0, 1], [2, 2], [0, 1]], "data.range is"),
    ],
)
def test_nonsense_options_are_refused(bands, range, words):
    with pytest.raises(UserError, match=words):
        reading(bands, range)


def test_a_codec_that_is_not_there_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "m.tif", deep(4), compression="zlib")

    def decode(self):
        raise ValueError("<COMPRESSION.LERC: 34887> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", decode)
    with pytest.raises(UserError, match=r"4 bands of 16 bits with .*pip install 'alseg\[geo\]'"):
        read_image(path, reading([1], [0, 1]))
