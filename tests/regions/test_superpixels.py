import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.regions.seeds import cell_grid, equalized_hsv, joint_bins, nearest_request, seeds
from alseg.regions.superpixels import OpenCVSlic, PublishedSeeds, Seeds, Slic
from tests.regions.fakes import FakeImages


def dense_seeds(image, request, levels, bins):
    """SEEDS on three channels, as OpenCV means it."""
    hsv = equalized_hsv(image)
    height, width = hsv.shape[:2]
    method = cv2.ximgproc.createSuperpixelSEEDS(width, height, 3, request, levels, 3, bins, True)
    method.iterate(hsv, 10)
    return method.getLabels()


def test_published_settings_give_the_superpixels_of_the_papers():
    # recorded from the preprocessing of MADBAL's reference implementation
    with np.load(Path(__file__).parent / "madbal_seeds.npz") as recorded:
        image, expected = recorded["image"], recorded["seeds"]
    regions = PublishedSeeds()(image, "x")
    assert regions.dtype == np.int32
    assert np.array_equal(regions, expected)
    assert not np.array_equal(Seeds(prior=0)(image, "x"), expected)


@pytest.mark.parametrize(("levels", "request_", "bins"), [(5, 300, 10), (4, 120, 10), (3, 90, 6)])
def test_leaving_out_empty_bins_changes_no_pixel(levels, request_, bins):
    image = FakeImages([(90, 130)]).image(0)
    source = Seeds(
        num_regions=request_, nearest_count=False, num_levels=levels, histogram_bins=bins
    )
    assert np.array_equal(source(image, "x"), dense_seeds(image, request_, levels, bins))


def test_equalisation_pools_the_channels():
    image = np.array([[[0, 0, 10], [200, 10, 10]]], dtype=np.uint8)
    hsv = equalized_hsv(image)  # shares of values <= v: 0 -> 2/6, 10 -> 5/6, 200 -> 1
    assert hsv.dtype == np.float32
    assert hsv[0, 0] == pytest.approx([240, 1 - (2 / 6) / (5 / 6), 5 / 6], rel=1e-5)
    assert hsv[0, 1] == pytest.approx([0, 1 - 5 / 6, 1], rel=1e-5)


def test_joint_bins_are_those_of_the_joint_histogram():
    image = np.random.default_rng(0).random((6, 7, 3), dtype=np.float32)
    image[..., 0] *= 360
    bins, count = joint_bins(image, 4)
    triples = [tuple(min(int(v * 4), 3) for v in pixel) for pixel in image.reshape(-1, 3)]
    rank = {triple: i for i, triple in enumerate(sorted(set(triples)))}
    assert count == len(rank)
    assert bins.ravel().tolist() == [rank[triple] for triple in triples]


@pytest.mark.parametrize("size", [(360, 480), (375, 500), (500, 333), (75, 100), (17, 31)])
def test_cell_grid_is_the_one_of_opencv(size):
    height, width = size
    compared = 0
    for request in (1, 10, 37, 150, 468, 1350, 10_000):
        for levels in (2, 3, 5):
            grid = cell_grid(height, width, request, levels)
            if grid is None:
                continue
            method = cv2.ximgproc.createSuperpixelSEEDS(width, height, 1, request, levels, 3, 2)
            assert method.getNumberOfSuperpixels() == grid.rows * grid.cols
            compared += 1
    assert compared >= 6


@pytest.mark.parametrize(
    ("size", "request_"), [((17, 31), 1350), ((500, 333), 10), ((3, 400), 10), ((10, 1000), 10)]
)
def test_requests_on_which_opencv_crashes_or_hangs_are_refused(size, request_):
    assert cell_grid(*size, request_, 2) is None
    with pytest.raises(ValueError, match="no SEEDS grid"):
        seeds(
            np.zeros(size, np.int32),
            1,
            request_,
            num_levels=2,
            prior=3,
            double_step=True,
            iterations=1,
        )


@pytest.mark.parametrize("levels", [2, 4, 5])
@pytest.mark.parametrize("aim", [10, 70, 165, 256, 675])
@pytest.mark.parametrize("size", [(90, 120), (61, 200)])
def test_nearest_request_is_the_best_of_all_requests(size, aim, levels):
    def off(request):
        grid = cell_grid(*size, request, levels)
        return math.inf if grid is None else abs(math.log(grid.rows * grid.cols / aim))

    best = nearest_request(*size, aim, levels)
    assert off(best) == min(off(request) for request in range(10, size[0] * size[1]))


def test_the_count_is_near_the_aim_only_if_asked_for():
    image = FakeImages([(90, 120)]).image(0)
    aim = 90 * 120 // 256
    assert len(np.unique(Seeds(region_size=256)(image, "x"))) == 35  # 5 x 7 cells of 16 x 16
    published = PublishedSeeds(region_size=256)(image, "x")
    assert abs(published.max() + 1 - aim) > abs(35 - aim)


def test_seeds_of_one_colour():
    regions = Seeds(region_size=64)(np.full((40, 40, 3), 7, np.uint8), "x")
    assert regions.shape == (40, 40)
    assert regions.min() >= 0


def test_seeds_name_all_images_too_small():
    images = FakeImages([(64, 64), (3, 3), (1, 90), (64, 64)])
    with pytest.raises(UserError, match=r"2 of 4 images .*0001.jpg \(3 x 3\); .*\(1 x 90\)"):
        Seeds().check(images)
    Seeds().check(FakeImages([(64, 64), (16, 16)]))


@pytest.mark.parametrize("missing", ["module", "function"])
def test_an_overwritten_contrib_build_is_named_with_its_cure(monkeypatch, missing):
    if missing == "module":
        monkeypatch.delattr(cv2, "ximgproc")
    else:
        monkeypatch.delattr(cv2.ximgproc, "createSuperpixelSEEDS")
    with pytest.raises(
        UserError,
        match="pip install --force-reinstall --no-deps opencv-contrib-python-headless",
    ):
        Seeds().check(FakeImages([(64, 64)]))


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        (Seeds, {"region_size": 0}, "regions.region_size is 0"),
        (Seeds, {"num_regions": -1}, "regions.num_regions is -1"),
        (Seeds, {"num_levels": 1}, "regions.num_levels is 1; it must lie in 2..10"),
        (Seeds, {"prior": 6}, "regions.prior is 6"),
        (Seeds, {"histogram_bins": 1}, "regions.histogram_bins is 1"),
        (Seeds, {"iterations": 0}, "regions.iterations is 0"),
        (Slic, {"num_regions": 0}, "regions.num_regions is 0"),
        (Slic, {"compactness": 0.0}, "regions.compactness is 0.0"),
        (Slic, {"sigma": -1.0}, "regions.sigma is -1.0"),
        (OpenCVSlic, {"iterations": 0}, "regions.iterations is 0"),
        (OpenCVSlic, {"compactness": 0.0}, "regions.compactness is 0.0"),
    ],
)
def test_options_are_checked(source, options, said):
    with pytest.raises(UserError, match=said):
        source(**options)


def test_parameters_tell_apart_what_differs_and_nothing_else():
    assert PublishedSeeds().parameters() == Seeds(nearest_count=False, num_levels=5).parameters()
    assert Seeds(num_regions=9).parameters() == Seeds(num_regions=9, region_size=1024).parameters()
    for source, change in [
        (Seeds, {"region_size": 100}),
        (Seeds, {"num_regions": 256}),
        (Seeds, {"nearest_count": False}),
        (Seeds, {"num_levels": 3}),
        (Seeds, {"prior": 2}),
        (Seeds, {"histogram_bins": 8}),
        (Seeds, {"double_step": False}),
        (Seeds, {"iterations": 4}),
        (Slic, {"region_size": 100}),
        (Slic, {"num_regions": 256}),
        (Slic, {"compactness": 1.0}),
        (Slic, {"sigma": 0.0}),
        (OpenCVSlic, {"region_size": 100}),
        (OpenCVSlic, {"compactness": 1.0}),
        (OpenCVSlic, {"sigma": 0.0}),
        (OpenCVSlic, {"iterations": 4}),
    ]:
        assert json.dumps(source().parameters()) != json.dumps(source(**change).parameters())


def test_opencv_slic_follows_an_edge_and_numbers_its_regions(monkeypatch):
    image = np.zeros((60, 80, 3), np.uint8)
    image[:, 37:] = 200, 30, 30  # no multiple of the side of a cell
    for source in (OpenCVSlic(num_regions=48, sigma=0.0), OpenCVSlic(region_size=100, sigma=0.0)):
        source.check(FakeImages([(60, 80)]))
        regions = source(image, "x")
        assert regions.dtype == np.int32
        assert np.array_equal(np.unique(regions), np.arange(regions.max() + 1))
        assert 30 <= regions.max() + 1 <= 70
        left, right = np.unique(regions[:, :37]), np.unique(regions[:, 37:])
        assert not np.intersect1d(left, right).size
        assert np.array_equal(source(image, "x"), regions)
    assert not OpenCVSlic()(image[:20], "too small for two cells along a side").any()
    monkeypatch.delattr(cv2.ximgproc, "createSuperpixelSLIC")
    with pytest.raises(UserError, match="SLIC superpixels need cv2"):
        OpenCVSlic().check(FakeImages([(60, 80)]))


def test_slic_numbers_regions_from_zero_without_holes():
    image = FakeImages([(60, 80)]).image(0)
    source = Slic(num_regions=20)
    source.check(FakeImages([(60, 80)]))
    regions = source(image, "x")
    assert regions.dtype == np.int32
    assert np.array_equal(np.unique(regions), np.arange(regions.max() + 1))
    assert 10 <= regions.max() + 1 <= 30
    assert np.array_equal(Slic(region_size=240)(image, "x"), regions)
    assert len(np.unique(Slic(region_size=60)(image, "x"))) > regions.max() + 1
