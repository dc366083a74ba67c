"""Cells of the grid (F1, F2): how they are asked about, and what the answers say.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.active.context import RoundContext
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.core.seeds import derive
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.supervision import Target
from alseg.labels.tables import PIXELS, Query
from alseg.regions.cells import block_labels, grid_labels, grid_of


@dataclass(frozen=True)
class CellLabels:
    """Label maps in which an answer about the top left pixel of a cell covers the cell (F1).

    Answers about other pixels, owned ones that were not asked for cells, cover their pixel.

    Attributes:
        pool: Answers about pixels.
        grid: Pixels along a side of a cell.
    """

    pool: LabelPool
    grid: int

    @property
    def images(self) -> NDArray[np.int64]:
        """Images with answers."""
        return self.pool.images()

    def __call__(self, image: int) -> Target:
        """``target`` is the label map, (H, W), uint8, VOID where nothing is known."""
        labels = self.pool.render(image)
        if self.grid > 1:
            height, width = labels.shape
            cells = block_labels(grid_labels(labels, self.grid), self.grid)[:height, :width]
            labels = np.where(labels == VOID, cells, labels)
        return Target({"target": labels}, {})


def check_answers(pool: LabelPool) -> None:
    """Refuse answers this method cannot learn from, such as those of another run.

    Raises:
        UserError: If anything but the class of pixels was asked.
    """
    for answers in pool.known:
        if len(answers) and (answers.answer != "class" or answers.regions != PIXELS):
            raise UserError(
                f"round {answers.round} asked for the {answers.answer} of {answers.kind}s, and "
                f"method=madbal learns classes of pixels; repeat the queries of a run that asked "
                f"for those."
            )


def labelled_pixels(pool: LabelPool) -> NDArray[np.int64]:
    """Answers of every class, void left out: what the class weights are made of (F9).

    Returns:
        (C,), int64.
    """
    counts = np.zeros(VOID + 1, dtype=np.int64)
    for answers in pool.known:
        if answers.label is not None:
            counts += np.bincount(answers.label, minlength=VOID + 1)
    return counts[: pool.num_classes]


def asked_cells(pool: LabelPool, image: int, grid: int) -> NDArray[np.int64]:
    """Cells of an image that were asked about, flat indices on the grid, (n,), int64."""
    height, width = (int(side) for side in pool.sizes[image])
    y, x = np.divmod(pool.asked(PIXELS, image), width)
    return y // grid * grid_of(height, width, grid)[1] + x // grid


def pixels_of_cells(
    cells: NDArray[np.int64], size: tuple[int, int], grid: int
) -> NDArray[np.int64]:
    """The pixels that are asked for cells, their top left ones, as ``y * W + x``.

    Args:
        cells: Flat indices on the grid, (n,).
        size: Height and width of the image.
        grid: Pixels along a side of a cell.

    >>> pixels_of_cells(np.array([0, 1, 3]), (4, 5), 2).tolist()
    [0, 2, 10]
    """
    y, x = np.divmod(cells, grid_of(*size, grid)[1])
    return y * grid * size[1] + x * grid


def random_cells(
    context: RoundContext, each: int, grid: int, skip_void: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same number of random cells in every image, as PixelPick (arXiv 2104.06394).

    Args:
        context: Of the round that asks; only the seed of its run decides.
        each: Cells per image. An image with fewer cells gives all of them.
        grid: Pixels along a side of a cell.
        skip_void: Leave out cells that are void in the ground truth, which is read for it.

    Returns:
        Image index of each cell, ascending, (n,), and its flat index on the grid, (n,).
    """
    cells = []
    for image, (height, width) in enumerate(context.pool.sizes.tolist()):
        rng = np.random.default_rng(derive(context.seed, "first", image))
        rows, columns = grid_of(height, width, grid)
        candidates = np.arange(rows * columns)
        if skip_void:
            truth = grid_labels(context.images.truth(image), grid)
            candidates = np.flatnonzero(truth != VOID)
        cells.append(rng.choice(candidates, min(each, len(candidates)), replace=False))
    counts = [len(chosen) for chosen in cells]
    return np.repeat(np.arange(len(cells), dtype=np.int64), counts), np.concatenate(cells)


def cell_query(
    context: RoundContext,
    grid: int,
    image: NDArray[np.int64],
    cells: NDArray[np.int64],
    score: NDArray[np.floating[Any]],
) -> Query:
    """The query that asks about cells by their top left pixels.

    Args:
        context: Of the round that asks.
        grid: Pixels along a side of a cell.
        image: Image index of each cell, (n,).
        cells: Flat indices on the grid, (n,).
        score: Why they are asked, (n,).
    """
    unit = np.zeros(len(image), dtype=np.int64)
    for index, rows in rows_by_image(image):
        height, width = context.pool.sizes[index].tolist()
        unit[rows] = pixels_of_cells(cells[rows], (height, width), grid)
    return Query(
        round=context.round,
        kind="pixel",
        answer="class",
        regions=PIXELS,
        image=image,
        unit=unit,
        score=score.astype(np.float32),
    )
