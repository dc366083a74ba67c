"""What is known of the cells that were asked about, as label maps and as counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import Target
from alseg.labels.tables import PIXELS
from alseg.regions.cells import block_labels, grid_labels, grid_of


@dataclass(frozen=True)
class CellLabels:
    """Label maps in which an answer covers its whole cell (F1).

    Attributes:
        pool: Answers about the top left pixels of cells.
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
            labels = block_labels(grid_labels(labels, self.grid), self.grid)[:height, :width]
        return Target({"target": labels}, {})


def check_answers(pool: LabelPool) -> None:
    """Refuse answers this method cannot learn from, such as those of another run.

    Raises:
        UserError: If anything but the class of pixels was asked.
    """
    for answers in pool.history:
        if answers.answer != "class" or answers.regions != PIXELS:
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
    for answers in pool.history:
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
