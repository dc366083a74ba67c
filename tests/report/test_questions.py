"""One picture per question, from the image's file."""

import numpy as np
from PIL import Image

from alseg.data.folder import Folder
from alseg.labels.pool import LabelPool
from alseg.labels.tables import PIXELS, Query
from alseg.report.pictures import ASKED_COLOR
from alseg.report.questions import Placed, question_picture, save_questions
from tests.data.make import save
from tests.toys import BlockMaps, Budget, toy_pool

STRIP = 32  # the line with the number
GRID = (np.arange(96)[:, None] // 16 * 8 + np.arange(128) // 16).astype(np.int32)


def test_a_unit_is_outlined_on_its_outside_and_nothing_hides_it():
    image = np.random.default_rng(0).integers(0, 100, (96, 128, 3), dtype=np.uint8)
    whole = Placed(image, (0.0, 0.0), (1.0, 1.0))
    box = np.array([16, 16, 32, 32])
    one, other = (question_picture(whole, box, (GRID, 9), n, "street") for n in ("1", "888"))
    assert one.shape == (STRIP + 5 * 96, 5 * 128, 3)  # enlarged by a whole factor
    assert (one[:STRIP] != other[:STRIP]).any()
    below = one[STRIP:]
    assert np.array_equal(below, other[STRIP:])
    marked = (below == ASKED_COLOR).all(axis=2)
    unit = np.zeros_like(marked)
    unit[80:160, 80:160] = True
    near = np.zeros_like(marked)
    near[77:163, 77:163] = True
    assert np.array_equal(marked, near & ~unit)
    near[75:165, 75:165] = True
    plain = np.asarray(Image.fromarray(image).resize((640, 480), Image.Resampling.BICUBIC))
    assert np.array_equal(below[~near], plain[~near])
    assert np.array_equal(below[unit], plain[unit])


def test_a_ring_leaves_the_pixel_in_sight():
    image = np.full((100, 100, 3), 100, np.uint8)
    placed = Placed(image, (0.0, 0.0), (4.0, 4.0))  # loaded at a quarter of the size
    picture = question_picture(placed, np.array([10, 5, 11, 6]), None, "7", "street")[STRIP:]
    assert picture.shape == (600, 600, 3)
    pixel = picture[6 * 40 : 6 * 44, 6 * 20 : 6 * 24]
    assert (pixel == 100).all()
    y, x = np.nonzero((picture == ASKED_COLOR).all(axis=2))
    assert abs(y.mean() - (6 * 42 - 0.5)) < 0.6
    assert abs(x.mean() - (6 * 22 - 0.5)) < 0.6


def test_crops_are_of_the_file_and_twice_as_wide_as_the_unit(tmp_path):
    halves = (np.arange(1200) // 600).astype(np.uint8)[None].repeat(900, axis=0)
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
        save(tmp_path / "images" / f"{number}.png", pixels)
        save(tmp_path / "masks" / f"{number}.png", halves)
    data = Folder(str(tmp_path), val="1", classes=["a", "b"], scale=1 / 3)
    images = data.splits(progress=False).train
    pool = LabelPool(np.array([[300, 400]]), 2, Budget(), [BlockMaps([(300, 400)], 100)])
    zero = np.zeros(1, np.int64)
    asked = Query(0, "region", "dominant", "blocks", zero, zero + 5, zero.astype(np.float32))
    save_questions(asked, pool, images, tmp_path / "questions")
    picture = np.asarray(Image.open(tmp_path / "questions" / "00000_0.jpg"))
    # block 5 is 100..200 of 300 rows and of 400 columns: 300..600 in the file, with 150 around it
    assert picture.shape == (STRIP + 600, 600, 3)
    original = np.asarray(Image.open(tmp_path / "images" / "0.png"))[150:750, 150:750]
    inside = np.s_[160:440, 160:440]
    assert np.abs(picture[STRIP:][inside].astype(int) - original[inside]).mean() < 12
    assert np.abs(picture[STRIP + 146, 200:400].astype(int) - ASKED_COLOR).mean() > 30
    assert np.abs(picture[STRIP + 148, 200:400].astype(int) - ASKED_COLOR).mean() < 30


def test_clean_pictures_to_draw_masks_on_and_pictures_that_are_there(tmp_path):
    images, pool = toy_pool()
    rows = np.array([1, 1, 3])
    query = Query(0, "region", "mask", "blocks", rows, np.arange(3), rows.astype(np.float32))
    for _ in range(2):
        save_questions(query, pool, images, tmp_path)
        names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*"))
        assert names == [
            "00000_toy_01.jpg", "00001_toy_01.jpg", "00002_toy_03.jpg",
            "clean/toy_01.png", "clean/toy_03.png",
        ]  # fmt: skip
        clean = np.asarray(Image.open(tmp_path / "clean" / "toy_03.png"))
        assert np.array_equal(clean, images.image(3))
        (tmp_path / "00001_toy_01.jpg").unlink()
    pixels = Query(0, "pixel", "class", PIXELS, rows[:1], rows[:1], np.zeros(1, np.float32))
    save_questions(pixels, pool, images, tmp_path / "pixels")
    assert [p.name for p in (tmp_path / "pixels").iterdir()] == ["00000_toy_01.jpg"]
