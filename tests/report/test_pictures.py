import io

import numpy as np
import pytest
from PIL import Image

from alseg.core.images import VOID
from alseg.report.canvas import (
    VOID_COLORS,
    display_size,
    faded,
    fit_map,
    group_colors,
    lay_stripes,
    open_canvas,
    outlines,
)
from alseg.report.pictures import (
    ASKED_COLOR,
    answered_picture,
    asked_picture,
    encode_picture,
    groups_picture,
    heat_picture,
    label_overlay,
    regions_picture,
    save_picture,
    with_legend,
)

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
GREY = np.full((12, 12, 3), 100, np.uint8)
FADED = 105  # 0.1 * 100 + 0.3 * 100 + 65


def quarters():
    """Four regions of 6 x 6 pixels: 0 1 above 2 3."""
    half = np.arange(12) // 6
    return (2 * half[:, None] + half).astype(np.int32)


def members(*sets):
    said = np.zeros((len(sets), 4), bool)
    for row, classes in enumerate(sets):
        said[row, list(classes)] = True
    return said


def test_display_size_is_a_whole_multiple_or_part():
    assert display_size(8, 8) == (512, 512)
    assert display_size(200, 300) == (400, 600)
    assert display_size(375, 500) == (375, 500)
    assert display_size(1024, 1025) == (512, 512)
    assert display_size(1, 3000) == (1, 1000)


def test_faded_keeps_neither_colour_nor_contrast():
    canvas = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.float32)
    np.testing.assert_allclose(faded(canvas), [[[65] * 3, [167] * 3, [116, 90.5, 90.5]]])


def test_label_overlay_blends_and_leaves_void_alone():
    image = np.full((1, 3, 3), 100, np.uint8)
    labels = np.array([[0, VOID, 2]], np.uint8)
    picture = label_overlay(image, labels, COLORS, alpha=0.4, size=(1, 3))
    # 0.6 * 100 + 0.4 * 255 = 162 and 0.6 * 100 = 60
    assert picture.tolist() == [[[162, 60, 60], [100, 100, 100], [60, 60, 162]]]
    assert picture.dtype == np.uint8


def test_tiny_images_are_enlarged_with_their_labels():
    image = np.zeros((2, 4, 3), np.uint8)
    labels = np.array([[0, 1, 2, VOID], [VOID, VOID, VOID, 1]], np.uint8)
    picture = label_overlay(image, labels, COLORS, alpha=1.0)
    assert picture.shape == (256, 512, 3)
    assert (picture[:128, 128:256] == COLORS[1]).all()
    assert (picture[128:, :384] == 0).all()


def test_huge_label_maps_are_thinned_at_pixel_centres():
    ids = np.arange(8).repeat(8).reshape(8, 8)
    assert fit_map(ids, (2, 2)).tolist() == [[2, 2], [6, 6]]


def test_huge_images_are_thinned_before_they_are_shrunk():
    y, x = np.mgrid[:3000, :60]
    image = np.stack([y // 12, 4 * x, 0 * x], axis=-1).astype(np.uint8)
    size = (120, 2)  # by 25 and 30: of every 6 x 6 pixels one is taken
    whole = Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC)
    assert np.abs(open_canvas(image, size) - np.asarray(whole)).max() <= 2
    small = image[:500]  # by 4 and 30: none is left out
    whole = Image.fromarray(small).resize((2, 125), Image.Resampling.BICUBIC)
    assert (open_canvas(small, (125, 2)) == np.asarray(whole)).all()


def test_outline_is_half_on_the_region_and_half_around_it():
    ids = np.zeros((7, 7), np.int32)
    ids[2:5, 2:5] = 1
    lines = outlines(ids, ids == 1, width=2)
    expected = np.zeros((7, 7), bool)
    expected[2:5, 2:5] = True  # all of the region but its middle
    expected[3, 3] = False
    expected[[1, 1, 1, 5, 5, 5], [2, 3, 4, 2, 3, 4]] = True  # one pixel around, without corners
    expected[[2, 3, 4, 2, 3, 4], [1, 1, 1, 5, 5, 5]] = True
    np.testing.assert_array_equal(lines, expected)


@pytest.mark.parametrize("width", [2, 3, 6])
def test_outlines_pixel_by_pixel(width):
    """On the region: a square around touches another id. Beside it: a disc touches the region."""
    rng = np.random.default_rng(width)
    ids = rng.integers(-1, 5, (4, 5)).repeat(6, 0).repeat(5, 1).astype(np.int32)
    inside = np.isin(ids, [1, 3])
    framed, around = np.pad(ids, width, constant_values=-1), width - width // 2
    expected = np.zeros_like(inside)
    for y, x in np.ndindex(ids.shape):
        rows, columns = (np.arange(c + around, c + width + width // 2 + 1) for c in (y, x))
        square = framed[np.ix_(rows, columns)]
        gaps = np.hypot(*(np.argwhere(inside) - (y, x)).T)
        expected[y, x] = (square != ids[y, x]).any() if inside[y, x] else gaps.min() <= around
    np.testing.assert_array_equal(outlines(ids, inside, width), expected)


def test_outline_separates_two_asked_neighbours_and_follows_the_frame():
    ids = np.array([[0, 0, 0, 1, 1, 1]] * 3, np.int32)
    lines = outlines(ids, np.ones((3, 6), bool), width=2)
    assert lines.tolist() == [[True] * 6, [True, False, True, True, False, True], [True] * 6]


def test_asked_regions_are_bright_and_outlined_and_the_rest_is_faded():
    picture = asked_picture(GREY, quarters(), np.array([3]), size=(12, 12))
    assert (picture[7:11, 7:11] == 100).all()
    assert (picture[6:, 6] == ASKED_COLOR).all()
    assert (picture[6:, 5] == ASKED_COLOR).all()
    assert (picture[:5] == FADED).all()
    assert (picture[:, :5] == FADED).all()


def test_asked_whole_image_is_not_faded():
    picture = asked_picture(GREY, np.zeros((12, 12), np.int32), np.array([0]), size=(12, 12))
    assert (picture[1:-1, 1:-1] == 100).all()
    assert (picture[0] == ASKED_COLOR).all()


def test_nothing_asked_fades_everything():
    nothing = np.zeros(0, np.int64)
    assert (asked_picture(GREY, quarters(), nothing, size=(12, 12)) == FADED).all()
    assert (asked_picture(GREY, None, nothing, size=(12, 12)) == FADED).all()


def test_asked_pixel_gets_a_ring_around_it():
    image = np.full((40, 60, 3), 100, np.uint8)
    picture = asked_picture(image, None, np.array([20 * 60 + 30]), size=(40, 60))
    assert (picture[20, 33] == ASKED_COLOR).all()  # the ring spans 2 to 4 pixels from its centre
    assert (picture[17, 30] == ASKED_COLOR).all()
    assert (picture[20, 30] == FADED).all()  # the asked pixel itself stays in sight
    changed = np.argwhere((picture != FADED).any(axis=2))
    assert changed.min(axis=0).tolist() == [15, 25]
    assert changed.max(axis=0).tolist() == [25, 35]


def test_rings_at_the_corner_stay_inside():
    picture = asked_picture(GREY, None, np.array([0, 143]), size=(24, 24))
    assert (picture[0, 3] == ASKED_COLOR).all()
    assert (picture[23, 20] == ASKED_COLOR).all()


def test_one_class_fills_its_region():
    picture = answered_picture(GREY, quarters(), np.array([1]), members([2]), COLORS, size=(12, 12))
    # 0.15 * 105 + 0.85 * (0, 0, 255)
    assert (picture[1:5, 7:11] == [16, 16, 232]).all()
    assert (picture[0, 6:] == 255).all()
    assert (picture[7:] == FADED).all()


def test_several_classes_share_their_region_in_stripes():
    image = np.full((40, 40, 3), 100, np.uint8)
    whole = np.zeros((40, 40), np.int32)
    picture = answered_picture(image, whole, np.array([0]), members([0, 2]), COLORS, size=(40, 40))
    inner = picture[1:-1, 1:-1].reshape(-1, 3)
    shown, counts = np.unique(inner, axis=0, return_counts=True)
    assert shown.tolist() == [[16, 16, 232], [232, 16, 16]]
    assert counts.min() > 0.4 * len(inner)


def test_stripes_run_diagonally_and_show_every_colour_in_a_small_region():
    canvas = np.zeros((6, 6, 3), np.float32)
    lay_stripes(canvas, np.ones((6, 6), bool), COLORS)
    names = np.argmax(canvas, axis=2)
    y, x = np.mgrid[:6, :6]
    np.testing.assert_array_equal(names, (y + x) // 2 % 3)


def test_void_is_hatched_alone_and_a_stripe_beside_a_class():
    ids = np.array([0, 1])
    said = members([3], [1, 3])
    picture = answered_picture(GREY, quarters(), ids, said, COLORS, size=(12, 12))
    alone = np.unique(picture[1:5, 1:5].reshape(-1, 3), axis=0).tolist()
    assert alone == sorted(map(list, VOID_COLORS))
    beside = np.unique(picture[1:5, 7:11].reshape(-1, 3), axis=0).tolist()
    assert beside == [[16, 232, 16], [159, 159, 159]]  # 0.15 * 105 + 0.85 * 168


def test_masks_are_laid_over_their_regions_in_raster_order():
    mask = np.full(36, 1, np.uint8)
    mask[:18] = 0
    mask[18:24] = VOID
    picture = answered_picture(GREY, quarters(), np.array([2]), [mask], COLORS, size=(12, 12))
    assert (picture[7:9, 1:5] == [225, 21, 21]).all()  # 0.2 * 105 + 0.8 * 255
    assert (picture[10, 1:5] == [21, 225, 21]).all()
    assert {tuple(p) for p in picture[9, 1:5].tolist()} <= set(VOID_COLORS)
    assert (picture[:5, 7:] == FADED).all()


def test_masks_without_a_map_are_refused():
    with pytest.raises(ValueError, match="region map"):
        answered_picture(GREY, None, np.array([0]), [np.zeros(1, np.uint8)], COLORS)


def test_answered_pixels_are_dots_and_void_is_an_eye():
    image = np.full((40, 60, 3), 100, np.uint8)
    pixels = np.array([10 * 60 + 10, 30 * 60 + 40])
    picture = answered_picture(image, None, pixels, members([1], [3]), COLORS, size=(40, 60))
    assert picture[10, 10].tolist() == [0, 255, 0]
    assert picture[30, 40].tolist() == [0, 0, 0]
    assert picture[30, 42].tolist() == list(VOID_COLORS[0])
    assert picture[20, 25].tolist() == [FADED] * 3


def test_saved_pictures_open_as_what_their_suffix_says(tmp_path):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, 4:] = (255, 0, 170)
    save_picture(tmp_path / "a.png", picture)
    save_picture(tmp_path / "a.jpg", picture)
    with Image.open(tmp_path / "a.png") as file:
        assert file.format == "PNG"
        np.testing.assert_array_equal(np.asarray(file), picture)
    with Image.open(tmp_path / "a.jpg") as file:
        assert file.format == "JPEG"
        assert np.abs(np.asarray(file).astype(int) - picture).max() < 12  # no chroma bleeding


def test_a_legend_stands_below_and_takes_the_lines_it_needs():
    picture = np.full((50, 120, 3), 77, np.uint8)
    one = with_legend(picture, ["a"], COLORS[:1])
    three = with_legend(picture, ["first class", "second class", "third class"], COLORS)
    for page, colors in ((one, COLORS[:1]), (three, COLORS)):
        assert np.array_equal(page[:50, :120], picture)
        assert all((page[50:] == color).all(axis=2).sum() > 100 for color in colors)
    assert one.shape[1] == 120
    assert three.shape[0] > one.shape[0] > 50
    long = with_legend(picture, ["a name much wider than the picture is"], COLORS[:1])
    assert long.shape[1] > 120


def test_regions_are_outlined_where_they_meet():
    regions = (
        np.array([[0, 0, 1], [0, 0, 1], [2, 2, 2]], dtype=np.int32).repeat(20, 0).repeat(20, 1)
    )
    image = np.full((60, 60, 3), 200, dtype=np.uint8)
    picture = regions_picture(image, regions, size=(60, 60), color=(1, 2, 3))
    marked = (picture == (1, 2, 3)).all(axis=2)
    expected = np.zeros((60, 60), dtype=bool)
    expected[:40, 40] = expected[40] = True
    assert np.array_equal(marked, expected)
    assert (picture[~marked] == 200).all()


def test_groups_have_colours_of_their_own_in_all_pictures():
    groups = quarters().astype(np.uint16)
    groups[:6, :6] = np.iinfo(np.uint16).max
    picture = groups_picture(GREY, groups, size=(12, 12))
    assert (picture[:6, :6] == 100).all()
    for group, (y, x) in {1: (0, 9), 2: (9, 0), 3: (9, 9)}.items():
        expected = 0.4 * 100 + 0.6 * group_colors(9)[group].astype(float)
        assert np.abs(picture[y, x] - expected).max() <= 1
    assert len(np.unique(group_colors(30), axis=0)) == 30


def test_heat_is_brighter_for_higher_numbers():
    values = np.repeat(np.array([[0.0, 0.5, 1.0, np.nan]], np.float32), 3, axis=1).repeat(12, 0)
    picture = heat_picture(GREY, values, size=(12, 12))
    brightness = picture[0, ::3].astype(float).mean(axis=1)
    assert brightness[0] < brightness[1] < brightness[2]
    assert (picture[:, 9:] == 100).all()
    assert np.array_equal(heat_picture(GREY, values + 1, size=(12, 12))[0, 0], picture[0, 6])


def test_noise_can_be_encoded():
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_picture(noise))) as file:
        assert file.size == (300, 300)
