import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from alseg.core.errors import UserError
from alseg.regions.base import map_version
from alseg.regions.files import Files
from alseg.regions.maps import extract_regions
from tests.data.reading.bytes import png, tiff
from tests.regions.fakes import FakeImages

SIZE = (6, 8)
IDS = np.arange(48).reshape(SIZE) // 5


def put(folder: Path, index: int, ids: np.ndarray, ending: str = ".npy") -> Path:
    path = folder / f"street/{index:04}{ending}"
    path.parent.mkdir(exist_ok=True)
    if ending == ".npy":
        np.save(path, ids)
    else:
        Image.fromarray(ids).save(path)
    return path


def load(folder: Path, **options) -> np.ndarray:
    images = FakeImages([SIZE])
    source = Files(str(folder), **options)
    source.check(images)
    regions = source(images.image(0), images.names[0])
    assert regions.dtype == np.int32
    return regions


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64])
def test_integer_arrays_are_used_as_they_are(tmp_path, kind):
    put(tmp_path, 0, IDS.astype(kind))
    assert np.array_equal(load(tmp_path), IDS)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_pngs_of_8_and_16_bits(tmp_path, kind):
    put(tmp_path, 0, (IDS * 4).astype(kind), ".png")
    assert np.array_equal(load(tmp_path), IDS * 4)


def test_16_bit_ids_survive(tmp_path):
    folder = tmp_path
    large = np.arange(300 * 300, dtype=np.uint16).reshape(300, 300) // 2 + 1
    put(folder, 0, large, ".png")
    images = FakeImages([(300, 300)])
    assert np.array_equal(Files(str(folder))(images.image(0), images.names[0]), large)


def test_palette_pngs_hold_indices(tmp_path):
    path = put(tmp_path, 0, IDS.astype(np.uint8), ".png")
    picture = Image.fromarray(IDS.astype(np.uint8), mode="P")
    picture.putpalette([200, 10, 10] * 256)
    picture.save(path)
    assert np.array_equal(load(tmp_path), IDS)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_ids_of_few_bits_and_of_other_tools(tmp_path, bits):
    ids = IDS % (1 << min(bits, 3))
    (tmp_path / "street").mkdir()
    png(tmp_path / "street/0000.png", ids, bits)
    assert np.array_equal(load(tmp_path), ids)
    (tmp_path / "street/0000.png").unlink()
    for photometric in (0, 1):
        tiff(tmp_path / "street/0000.tif", ids, bits, photometric)
        assert np.array_equal(load(tmp_path), ids)


def test_tiffs_beside_maps_may_be_the_images_and_no_data_is_void(tmp_path):
    ids = IDS.astype(np.uint16)
    ids[0, 0] = 65_535
    put(tmp_path, 0, IDS)
    path = tmp_path / "street/0000.tif"
    tifffile.imwrite(path, ids, extratags=[(42113, 2, 6, "65535\0", True)])
    assert load(tmp_path)[0, 0] == 0
    (tmp_path / "street/0000.npy").unlink()
    assert load(tmp_path)[0, 0] == -1
    assert np.array_equal(load(tmp_path).ravel()[1:], IDS.ravel()[1:])


def test_maps_that_decoders_would_change_are_refused(tmp_path):
    path = put(tmp_path, 0, IDS.astype(np.uint8), ".png")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(IDS.astype(np.uint8)).save(path, exif=exif)
    with pytest.raises(UserError, match=r"1 of 1 images .*0000\.png has EXIF orientation 3"):
        load(tmp_path)
    path.unlink()
    tifffile.imwrite(path.with_suffix(".tif"), np.stack([IDS.astype(np.uint8)] * 2))
    with pytest.raises(UserError, match=r"0000\.tif holds 2 pages"):
        load(tmp_path)


def test_maps_with_accents_as_the_disk_spells_them(tmp_path):
    images = FakeImages([SIZE])
    images.names = ["Stra\u00dfe/\u00fc"]
    apart = tmp_path / unicodedata.normalize("NFD", "Straße/ü.npy")
    apart.parent.mkdir()
    np.save(apart, IDS)
    source = Files(str(tmp_path))
    source.check(images)
    assert np.array_equal(source(images.image(0), images.names[0]), IDS)


def test_void_and_negative_ids_are_in_no_region(tmp_path):
    ids = IDS.copy()
    ids[0, 0], ids[5, 7], ids[2, 2] = -1, -7, 65_535
    put(tmp_path, 0, ids)
    expected = np.where((ids < 0) | (ids == 65_535), -1, IDS)
    assert np.array_equal(load(tmp_path, void=65_535), expected)
    assert (load(tmp_path, void=65_535) == -1).sum() == 3
    put(tmp_path, 0, IDS.astype(np.uint8))
    assert np.array_equal(load(tmp_path, void=0), np.where(IDS == 0, -1, IDS))
    assert np.array_equal(load(tmp_path, void=65_535), IDS)  # beyond the file's type


@pytest.mark.parametrize("largest", [48, 70_000, 2**31, 2**63])
def test_ids_that_cannot_be_numbers_of_regions(tmp_path, largest):
    ids = IDS.astype(np.uint64)
    ids[3, 3] = largest
    put(tmp_path, 0, ids)
    with pytest.raises(UserError, match=rf"0000.npy holds id {largest}, .*regions.void"):
        load(tmp_path)
    assert load(tmp_path, void=largest)[3, 3] == -1


def test_the_largest_possible_id_is_allowed(tmp_path):
    ids = IDS.copy()
    ids[3, 3] = 47
    put(tmp_path, 0, ids)
    assert load(tmp_path)[3, 3] == 47


def test_names_with_dots_keep_what_is_not_an_image_ending(tmp_path):
    images = FakeImages([SIZE, SIZE])
    images.names = ["v.1", "v.2"]
    np.save(tmp_path / "v.1.npy", IDS)
    np.save(tmp_path / "v.2.npy", IDS + 1)
    source = Files(str(tmp_path))
    source.check(images)
    assert np.array_equal(source(images.image(1), "v.2"), IDS + 1)


def test_check_names_everything_that_is_wrong_at_once(tmp_path):
    images = FakeImages([SIZE] * 10)
    put(tmp_path, 0, IDS)
    put(tmp_path, 2, IDS.astype(np.float32))
    put(tmp_path, 3, IDS[:, :7])
    put(tmp_path, 4, IDS)
    put(tmp_path, 4, IDS.astype(np.uint8), ".png")
    put(tmp_path, 5, IDS).write_bytes(b"\x93NUMPY")
    put(tmp_path, 6, np.zeros((*SIZE, 3), np.uint8), ".png")
    put(tmp_path, 7, IDS.astype(np.uint8), ".png").write_bytes(b"not a picture")
    put(tmp_path, 8, IDS > 3)
    put(tmp_path, 9, np.zeros((6, 8, 2), int))
    with pytest.raises(UserError) as caught:
        Files(str(tmp_path)).check(images)
    said = str(caught.value)
    assert said.startswith("9 of 10 images have no usable region map in ")
    assert "0000" not in said
    for part in (
        "street/0001.npy or street/0001.png is missing",
        "0002.npy holds float32 of shape (6, 8)",
        "0003.npy has 6 x 7 pixels (height x width), its image 6 x 8",
        "street/0004 has two maps, 0004.npy and 0004.png",
        "0005.npy cannot be read",
        "0006.png holds colours (RGB)",
        "0007.png cannot be read",
        "0008.npy holds bool",
        "0009.npy holds int64 of shape (6, 8, 2)",
    ):
        assert part in said


def test_many_problems_are_counted_but_not_all_listed(tmp_path):
    with pytest.raises(UserError, match=r"60 of 60 images .*0049.png is missing; and 10 more$"):
        Files(str(tmp_path)).check(FakeImages([SIZE] * 60))


def test_what_only_reading_shows_is_told_for_all_images(tmp_path):
    (tmp_path / "maps").mkdir()
    for index in range(4):
        path = put(tmp_path / "maps", index, IDS + (1000 if index == 1 else 0), ".npy")
    png = put(tmp_path / "maps", 3, IDS.astype(np.uint8), ".png")
    path.unlink()
    png.write_bytes(png.read_bytes()[:-30])
    source = Files(str(tmp_path / "maps"))
    source.check(FakeImages([SIZE] * 4))
    with pytest.raises(UserError, match=r"2 of 4 images .*0001.npy holds id 1009.*0003.png cannot"):
        extract_regions(source, FakeImages([SIZE] * 4), tmp_path / "cache", 0, False)


def test_a_missing_folder(tmp_path):
    source = Files(str(tmp_path / "nowhere"))
    for call in (source.parameters, lambda: source.check(FakeImages([SIZE]))):
        with pytest.raises(UserError, match="nowhere', which is not a folder"):
            call()


def test_the_version_is_decided_by_content_and_not_by_place(tmp_path):
    def version(folder: Path, **options) -> str:
        return map_version(Files(str(folder), **options).parameters())

    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        put(tmp_path / place, 0, IDS)
    first = version(tmp_path / "a")
    assert first == version(tmp_path / "b")
    assert first.startswith("files-")
    assert first != version(tmp_path / "a", void=3)
    put(tmp_path / "b", 0, IDS + 1)
    assert first != version(tmp_path / "b")
    put(tmp_path / "a", 1, IDS)
    assert first != version(tmp_path / "a")


def test_a_changed_map_is_read_anew(tmp_path):
    images, cache = FakeImages([SIZE]), tmp_path / "cache"
    maps = tmp_path / "maps"
    maps.mkdir()
    put(maps, 0, IDS)
    old = extract_regions(Files(str(maps)), images, cache, 0, False)
    put(maps, 0, IDS + 2)
    new = extract_regions(Files(str(maps)), images, cache, 0, False)
    assert np.array_equal(old[0], IDS)
    assert np.array_equal(new[0], IDS + 2)
    assert old.version != new.version
    assert new.num_regions == old.num_regions + 2
