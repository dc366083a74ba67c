"""A picture in the making, and the smooth noise it is textured with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage import draw

Floats = NDArray[np.float64]
RGB = tuple[float, float, float]

#: Columns of the left and the right edge of a road at a row; left > right where there is none.
Edges = Callable[[float], tuple[float, float]]

SKY, BUILDING, ROAD, GROUND, TREE, WATER, CAR, PERSON, POLE, SIGN = range(10)

#: Strength of the texture of painted things.
GRAIN = 0.08


@dataclass
class Scene:
    """A picture in the making, painted from back to front."""

    rng: np.random.Generator
    color: NDArray[np.float32]
    """(H, W, 3), about 0..1."""
    label: NDArray[np.uint8]
    """(H, W)."""
    horizon: int
    """Row where the ground begins."""
    grain: Floats
    """Fine texture, (H, W), about -1..1."""
    light: float
    """Side the light comes from: -1 left, 1 right."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.label.shape[0], self.label.shape[1]

    def unit(self, row: float) -> float:
        """Pixels that one image height at the camera takes where the ground is at a row."""
        return (row - self.horizon) / (self.shape[0] - self.horizon) * self.shape[0]

    def pick(self, palette: Sequence[RGB], spread: float = 0.05) -> Floats:
        """A colour near one of a palette."""
        return np.array(palette[int(self.rng.integers(len(palette)))]) + self.rng.normal(
            0, spread, 3
        )

    def paint(self, where: tuple[NDArray[np.intp], ...], color: Floats, label: int) -> None:
        """Paint pixels; `color` is (3,) or one per pixel, (n, 3)."""
        grain = self.grain[where][:, None]
        self.color[where] = color * (1 + GRAIN * grain)
        self.label[where] = label

    def polygon(self, points: Sequence[tuple[float, float]], color: Floats, label: int) -> None:
        """Paint a polygon of (row, column) corners."""
        rows, columns = zip(*points, strict=True)
        self.paint(draw.polygon(rows, columns, self.shape), color, label)

    def box(
        self, top: float, left: float, bottom: float, right: float, color: Floats, label: int
    ) -> None:
        """Paint an upright rectangle that is at least a pixel wide and high."""
        height, width = self.shape
        bottom, right = max(round(bottom), round(top) + 1), max(round(right), round(left) + 1)
        rows = slice(max(0, round(top)), max(0, min(height, bottom)))
        columns = slice(max(0, round(left)), max(0, min(width, right)))
        grain = self.grain[rows, columns, None]
        self.color[rows, columns] = color * (1 + GRAIN * grain)
        self.label[rows, columns] = label

    def ellipse(
        self, row: float, column: float, height: float, width: float, color: Floats, label: int
    ) -> None:
        """Paint an ellipse by its centre and half axes."""
        where = draw.ellipse(row, column, max(height, 0.8), max(width, 0.8), self.shape)
        self.paint(where, color, label)

    def shadow(self, row: float, column: float, width: float) -> None:
        """Darken the ground under an object."""
        where = draw.ellipse(row, column, max(width * 0.22, 0.8), max(width, 1.0), self.shape)
        below = np.isin(self.label[where], (ROAD, GROUND))
        self.color[where[0][below], where[1][below]] *= 0.65


def noise(rng: np.random.Generator, height: int, width: int, cells: Sequence[float]) -> Floats:
    """Smooth noise as a sum of octaves, (H, W), about -1..1.

    Args:
        rng: Source of the lattice values.
        height: Rows.
        width: Columns.
        cells: Cells of the lattice along the height, per octave; cells are square.
    """
    total = np.zeros((height, width))
    weight = 0.0
    for octave, count in enumerate(cells):
        rows, columns = max(2, round(count)), max(2, round(count * width / height))
        lattice = rng.uniform(-1, 1, (rows + 1, columns + 1))
        gain = 0.7**octave
        total += gain * (_ramp(height, rows) @ lattice @ _ramp(width, columns).T)
        weight += gain
    return total * (1.6 / weight)


def _ramp(n: int, cells: int) -> Floats:
    """Weights that interpolate ``cells + 1`` lattice values at ``n`` pixels, (n, cells + 1)."""
    at = (np.arange(n) + 0.5) / n * cells
    return np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(cells + 1)))
