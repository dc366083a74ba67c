import numpy as np
import pytest
import torch

from alseg.acquisition.scores import entropy
from alseg.acquisition.units import region_scores
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.truth import dominant_labels
from alseg.methods.equal import schedule
from alseg.methods.equal.acquisition import (
    at_most_per_image,
    patch_majority,
    patch_means,
    select_patches,
    two_view_entropy,
)
from alseg.methods.equal.patches import (
    patch_grid,
    patch_of_region,
)
from alseg.regions.geometry import bounding_boxes
from alseg.regions.simple import Grid
from tests.golden.reference.equal import (
    patch_budget,
    patch_corners,
    patch_target,
    reference_iou,
    region_of_patch,
    rescaled_corners,
    round_size,
)

SHAPES = [(5, 5), (4, 8), (1, 3), (3, 1)]
shapes = pytest.mark.parametrize(("rows", "cols"), SHAPES)


def grid(height, width, rows, cols):
    return Grid(rows=rows, cols=cols)(np.zeros((height, width, 3), np.uint8), "")


def test_score_is_the_sum_of_two_entropies():
    a, b = torch.randn(2, 3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(two_view_entropy(a, b), entropy(a) + entropy(b))
    torch.testing.assert_close(two_view_entropy(a, a), 2 * entropy(a))
    assert not torch.allclose(two_view_entropy(a, b), 2 * entropy((a + b) / 2), atol=0.1)


@shapes
def test_patch_means_are_those_of_the_regions_of_a_grid(rows, cols):
    values = torch.rand(2, 3 * rows, 2 * cols, generator=torch.Generator().manual_seed(0))
    regions = torch.from_numpy(grid(3 * rows, 2 * cols, rows, cols))
    means = patch_means(values, rows, cols)
    assert means.shape == (2, rows * cols)
    for image, row in zip(values, means, strict=True):
        expected = region_scores(image, regions).score
        torch.testing.assert_close(row, expected)


def test_patch_means_where_the_sides_leave_a_rest():
    values = torch.arange(7.0 * 9).reshape(1, 7, 9)
    means = patch_means(values, 4, 2)  # windows of 1 x 4; 7 of them would fit
    assert means.tolist() == [
        [float(values[0, y, x : x + 4].mean()) for y in range(4) for x in (0, 4)]
    ]


@shapes
def test_order_of_the_reference(rows, cols):
    """x is the outer loop, y the inner."""
    regions = [iy * cols + ix for ix in range(cols) for iy in range(rows)]
    every = np.arange(rows * cols)
    assert region_of_patch(every, rows, cols).tolist() == regions
    assert patch_of_region(np.array(regions), rows, cols).tolist() == every.tolist()


@shapes
@pytest.mark.parametrize("size", [(20, 24), (23, 31)])
def test_corners_are_those_of_the_regions_of_a_grid(rows, cols, size):
    boxes = bounding_boxes(grid(*size, rows, cols), rows * cols)
    assert np.array_equal(patch_corners(*size, rows, cols), boxes[:, :2])


@pytest.mark.parametrize("seed", range(3))
def test_majority(seed):
    random = np.random.default_rng(seed)
    regions = random.integers(-1, 20, (10, 12))
    truth = random.choice(np.array([0, 1, 2, VOID], dtype=np.uint8), regions.shape)
    loses = patch_majority(truth, regions, 3, 21, void_wins=False)
    assert np.array_equal(loses, dominant_labels(regions, truth, 3, 21, vote_void=True))
    wins = patch_majority(truth, regions, 3, 21, void_wins=True)
    for region, winner in enumerate(wins):
        counts = {
            label: int((truth[regions == region] == label).sum()) for label in (VOID, 0, 1, 2)
        }
        assert winner == max(counts, key=counts.get)  # the first of equals
    assert (wins != loses).any()
    assert wins[20] == loses[20] == VOID, "no pixel"


@pytest.mark.parametrize("seed", range(5))
def test_selection_is_a_stable_ascending_sort_turned_round(seed):
    random = np.random.default_rng(seed)
    score = random.integers(0, 4, 60) / 4
    may_ask = random.random(60) < 0.6
    image, patch = np.divmod(np.arange(60), 12)
    ranked = sorted(range(60), key=lambda g: score[g])[::-1]
    shuffle = random.permutation(60)
    for n in (0, 1, 7, 60):
        expected = [g for g in ranked if may_ask[g]][:n]
        assert select_patches(score, image, patch, may_ask, n).tolist() == expected
        columns = (column[shuffle] for column in (score, image, patch, may_ask))
        assert shuffle[select_patches(*columns, n)].tolist() == expected
    assert len(select_patches(score, image, patch, may_ask, -3)) == 0


def test_scores_that_are_not_numbers():
    score, ids = np.array([0.5, np.nan, 0.2]), np.arange(3)
    may_ask = np.array([True, False, True])
    assert select_patches(score, ids, ids, may_ask, 2).tolist() == [0, 2], "it does not count"
    with pytest.raises(ValueError, match="NaN"):
        select_patches(score, ids, ids, ~may_ask, 1)


@shapes
def test_targets(rows, cols):
    random = np.random.default_rng(0)
    truth = random.integers(0, 9, (4 * rows, 3 * cols)).astype(np.uint8)
    asked = np.flatnonzero(random.random(rows * cols) < 0.5)
    corners = patch_corners(*truth.shape, rows, cols)[asked]
    inside = np.isin(grid(*truth.shape, rows, cols), asked)
    assert np.array_equal(patch_target(truth, corners, rows, cols), np.where(inside, truth, VOID))
    larger = patch_corners(8 * rows, 9 * cols, rows, cols)[asked]
    assert np.array_equal(rescaled_corners(corners, truth.shape, (8 * rows, 9 * cols)), larger)


@pytest.mark.parametrize("larger", [(512, 1000), (500, 1024), (128, 512)])
def test_corners_that_cannot_be_rescaled(larger):
    with pytest.raises(UserError, match="whole multiple"):
        rescaled_corners(np.array([[64, 64]]), (256, 512), larger)


def test_rounds_of_camvid():
    budget = patch_budget(367 * 25, 0.12)
    every = schedule.milestone(budget, 1)
    marks = [n for n in range(1, budget + 1) if schedule.at_milestone(n, every)]
    assert marks == [330, 660, 990]
    assert sum(schedule.round_epochs(n, every, 5) for n in range(1, budget + 1)) == 1101 + 3 * 4


def test_rounds_add_up_to_the_budget():
    for budget, k in [(11, 3), (12, 3), (2, 5)]:
        labelled = []
        while n := round_size(k, budget, sum(labelled)):
            labelled.append(n)
        assert sum(labelled) == budget
        assert set(labelled[:-1]) <= {k}
    assert round_size(5, budget=3, labelled=4) == 0


@pytest.mark.parametrize("budget", [0, 1, 3])
def test_tiny_budgets_have_no_milestone(budget):
    assert schedule.round_epochs(1, schedule.milestone(budget, 1), 5) == 1


def test_batches_grow():
    sizes = [schedule.batch_size(n, images, 5) for n, images in [(1, 1), (5, 2), (5, 3), (6, 1)]]
    assert sizes == [1, 1, 2, 5]


def test_iou_of_the_reference():
    # Truth 0 is called 0, 1 and void; void is called 1; class 2 is nowhere.
    truth, guess = np.array([0, 0, 0, 1, 3]), np.array([0, 1, 3, 1, 1])
    result = reference_iou(guess, truth, num_outputs=4, void=3)
    assert result.counts.sum() == 5
    assert result.counts[0].tolist() == [1, 1, 0, 1], "rows are truth"
    assert result.counted.sum() == 3
    np.testing.assert_allclose(result.per_class, [1 / 2, 1 / 2, np.nan, np.nan])
    assert result.mean == 0.5
    assert np.isnan(reference_iou(np.array([3]), np.array([3]), 4, 3).mean)


@pytest.mark.parametrize(("rows", "cols"), [*SHAPES, (1, 1), (6, 6)])
def test_the_grid_of_regions(rows, cols):
    assert patch_grid(grid(3 * rows, 2 * cols, rows, cols)) == (rows, cols)
    assert patch_grid(grid(rows, cols, rows, cols)) == (rows, cols)


def test_regions_that_are_no_grid_of_equal_patches():
    with pytest.raises(UserError, match=r"10 x 12 pixels .* 3 x 4 equal patches.* as 2 and 4"):
        patch_grid(grid(10, 12, 3, 4))
    regions = grid(8, 12, 2, 3)
    transposed = np.array([0, 2, 4, 1, 3, 5])[regions]  # column by column
    for other in (transposed, regions + 1, np.where(regions == 5, -1, regions), regions[::-1]):
        with pytest.raises(UserError, match="8 x 12 pixels are no grid of equal patches"):
            patch_grid(other)
    moved = regions.copy()
    moved[0, 4:6] = 0  # the first column and row still look like a grid
    with pytest.raises(UserError, match="no grid"):
        patch_grid(np.roll(moved, 1, axis=0))


@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_no_more_than_some_patches_of_an_image(seed, most):
    image = np.random.default_rng(seed).integers(0, 6, 30)
    seen, expected = [], []
    for i in image.tolist():
        expected.append(seen.count(i) < most)
        seen.append(i)
    assert at_most_per_image(image, most).tolist() == expected
    assert not all(expected)
    assert len(at_most_per_image(image[:0], most)) == 0
