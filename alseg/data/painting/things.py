"""Houses, trees, cars, people and poles."""

import numpy as np

from alseg.data.painting.canvas import (
    BUILDING,
    CAR,
    PERSON,
    POLE,
    RGB,
    SIGN,
    TREE,
    Edges,
    Floats,
    Scene,
)

WALLS: list[RGB] = [
    (0.62, 0.32, 0.24),
    (0.86, 0.80, 0.68),
    (0.56, 0.57, 0.59),
    (0.42, 0.56, 0.66),
    (0.82, 0.66, 0.40),
    (0.48, 0.55, 0.44),
    (0.34, 0.34, 0.38),
    (0.88, 0.87, 0.85),
]
PAINTS: list[RGB] = [
    (0.88, 0.88, 0.88),
    (0.14, 0.14, 0.16),
    (0.62, 0.64, 0.67),
    (0.72, 0.13, 0.12),
    (0.15, 0.28, 0.58),
    (0.85, 0.66, 0.15),
    (0.22, 0.42, 0.28),
]
SKINS: list[RGB] = [(0.90, 0.74, 0.62), (0.72, 0.52, 0.38), (0.42, 0.29, 0.21)]


def paint_houses(scene: Scene, on_road: Edges | None) -> None:
    """A skyline, scattered houses, or none, from far to near; none stands on the road."""
    height, width = scene.shape
    rng = scene.rng
    kind = rng.choice(3, p=[0.2, 0.4, 0.4])
    if kind == 0:
        return
    houses = []
    if kind == 1:
        left = -rng.uniform(0, 0.2) * width
        while left < width:
            wide = width * rng.uniform(0.07, 0.24)
            if rng.random() < 0.85:
                base = scene.horizon + 0.03 * height * rng.uniform(0.3, 2.0)
                houses.append((base, left, wide, height * rng.uniform(0.08, 0.42)))
            left += wide * rng.uniform(0.85, 1.25)
    for _ in range(rng.integers(1, 4)):
        base = scene.horizon + (height - scene.horizon) * rng.uniform(0.05, 0.4)
        tall = (0.9 + rng.random()) * scene.unit(base) + 0.06 * height
        wide = tall * rng.uniform(0.7, 1.6)
        at = rng.uniform(-0.3, 1.0) * width
        left, right = (width, -1) if on_road is None else on_road(base)
        if at + wide < left or at > right or left > right:
            houses.append((base, at, wide, tall))
    for base, left, wide, tall in sorted(houses):
        paint_house(scene, base, left, wide, tall)


def paint_house(scene: Scene, base: float, left: float, wide: float, tall: float) -> None:
    """A house with windows and a pitched roof or a shaded side."""
    rng = scene.rng
    right, top = left + wide, base - tall
    wall = scene.pick(WALLS)
    scene.box(top, left, base, right, wall, BUILDING)
    if rng.random() < 0.5:  # a pitched roof, or a side wall in the shade
        peak = top - wide * rng.uniform(0.15, 0.4)
        middle = left + wide * rng.uniform(0.35, 0.65)
        corners = [(top, left - 0.05 * wide), (peak, middle), (top, right + 0.05 * wide)]
        scene.polygon(corners, scene.pick(WALLS) * 0.6, BUILDING)
    else:
        edge = left if scene.light > 0 else right - 0.25 * wide
        scene.box(top, edge, base, edge + 0.25 * wide, wall * 0.72, BUILDING)
    pitch = max(tall, wide) / rng.integers(3, 7)
    if pitch < 4:
        return
    lit, dark = np.array([0.95, 0.85, 0.55]), np.array([0.20, 0.25, 0.32])
    glass = lit if rng.random() < 0.25 else dark * rng.uniform(0.7, 1.8)
    share = rng.uniform(0.35, 0.6)
    for row in np.arange(top + 0.35 * pitch, base - 0.6 * pitch, pitch):
        for column in np.arange(left + 0.3 * pitch, right - 0.6 * pitch, pitch):
            tone = glass * rng.uniform(0.75, 1.25)
            scene.box(row, column, row + pitch * 0.55, column + pitch * share, tone, BUILDING)


def paint_tree(scene: Scene, row: float, column: float, unit: float, tone: Floats) -> None:
    """A broad-leaved tree, a conifer or a bush."""
    height, width = scene.shape
    rng = scene.rng
    tall = unit * rng.uniform(0.5, 1.1)
    bark = scene.pick([(0.36, 0.27, 0.20), (0.48, 0.44, 0.40)], 0.03)
    scene.shadow(row, column, tall * 0.28)
    kind = rng.choice(3, p=[0.6, 0.25, 0.15])
    if kind == 2:  # a bush
        tall *= 0.4
    else:
        trunk = max(1.0, tall * 0.07)
        scene.box(row - 0.5 * tall, column - trunk / 2, row, column + trunk / 2, bark, TREE)
    if kind == 1:  # a conifer
        for low, high, half in ((0.1, 0.55, 0.26), (0.35, 0.78, 0.20), (0.6, 1.0, 0.13)):
            corners = [
                (row - low * tall, column - half * tall),
                (row - low * tall, column + half * tall),
                (row - high * tall, column),
            ]
            scene.polygon(corners, tone * rng.uniform(0.75, 1.05), TREE)
        return
    middle, radius = row - tall * (0.66 if kind == 0 else 0.5), tall * (0.34 if kind == 0 else 0.5)
    top, bottom = max(0, int(middle - 1.5 * radius)), min(height, int(middle + 1.5 * radius) + 1)
    left, right = max(0, int(column - 1.5 * radius)), min(width, int(column + 1.5 * radius) + 1)
    if bottom <= top or right <= left:
        return
    y = (np.arange(top, bottom)[:, None] - middle) / radius
    x = (np.arange(left, right)[None] - column) / radius
    depth = np.full((bottom - top, right - left), -9.0)
    for _ in range(6):
        dy, dx, size = rng.uniform(-0.45, 0.45), rng.uniform(-0.5, 0.5), rng.uniform(0.4, 0.65)
        depth = np.maximum(depth, 1 - ((y - dy) ** 2 + (x - dx) ** 2) / size**2)
    leaves = scene.grain[top:bottom, left:right]
    inside = np.nonzero(depth + 0.45 * leaves > 0)
    shade = (0.95 - 0.22 * (y - scene.light * x) * 0.7 + 0.22 * leaves)[inside][:, None]
    scene.paint((inside[0] + top, inside[1] + left), tone * shade, TREE)


def paint_car(scene: Scene, row: float, column: float, unit: float) -> None:
    """A car from the side, from behind or from the front."""
    rng = scene.rng
    tall = unit * rng.uniform(0.20, 0.28)
    paint = scene.pick(PAINTS, 0.04)
    glass = np.array([0.16, 0.20, 0.26]) * rng.uniform(0.8, 2.0)
    tyre = np.array([0.08, 0.08, 0.09])
    side = rng.random() < 0.45
    half = tall * (1.15 if side else 0.66) * rng.uniform(0.9, 1.15)
    scene.shadow(row, column, half * 1.1)

    def at(up: float, along: float) -> tuple[float, float]:
        return row - up * tall, column + along * half

    if side:
        front = rng.choice([-1.0, 1.0])
        cabin = [(0.5, -0.80), (0.98, -0.52), (0.98, 0.22), (0.5, 0.62)]
        window = [(0.56, -0.66), (0.90, -0.46), (0.90, 0.18), (0.56, 0.48)]
        scene.polygon([at(u, front * a) for u, a in cabin], paint, CAR)
        scene.polygon([at(u, front * a) for u, a in window], glass, CAR)
        body = [(0.12, -1.0), (0.52, -1.0), (0.56, 0.55), (0.46, 1.0), (0.12, 1.0)]
        scene.polygon([at(u, front * a) for u, a in body], paint * 0.95, CAR)
        for wheel in (-0.58, 0.60):
            scene.ellipse(*at(0.14, front * wheel), 0.17 * tall, 0.17 * tall, tyre, CAR)
        return
    for wheel in (-0.72, 0.72):
        scene.box(*at(0.25, wheel - 0.16), *at(0.0, wheel + 0.16), tyre, CAR)
    cabin = [(0.5, -0.92), (1.0, -0.64), (1.0, 0.64), (0.5, 0.92)]
    window = [(0.56, -0.74), (0.92, -0.54), (0.92, 0.54), (0.56, 0.74)]
    scene.polygon([at(u, a) for u, a in cabin], paint * 0.9, CAR)
    scene.polygon([at(u, a) for u, a in window], glass, CAR)
    scene.box(*at(0.56, -1.0), *at(0.12, 1.0), paint, CAR)
    lamp = np.array([0.85, 0.12, 0.10] if rng.random() < 0.5 else [0.98, 0.95, 0.80])
    for lamp_at in (-0.86, 0.62):
        scene.box(*at(0.48, lamp_at), *at(0.36, lamp_at + 0.24), lamp, CAR)


def paint_person(scene: Scene, row: float, column: float, unit: float) -> None:
    """Somebody standing or walking."""
    rng = scene.rng
    tall = unit * rng.uniform(0.24, 0.36)
    skin, coat, legs = (
        scene.pick(SKINS, 0.02),
        scene.pick(PAINTS, 0.12),
        scene.pick(PAINTS, 0.08) * 0.7,
    )
    scene.shadow(row, column, tall * 0.2)
    stride = rng.uniform(0.03, 0.13) * tall
    for foot in (-stride, stride):
        hip = 0.06 * tall * np.sign(foot)
        corners = [
            (row - 0.50 * tall, column + hip - 0.06 * tall),
            (row - 0.50 * tall, column + hip + 0.06 * tall),
            (row, column + foot + 0.045 * tall),
            (row, column + foot - 0.045 * tall),
        ]
        scene.polygon(corners, legs, PERSON)
    shoulders = 0.13 * tall
    corners = [
        (row - 0.46 * tall, column - 0.09 * tall),
        (row - 0.80 * tall, column - shoulders),
        (row - 0.84 * tall, column),
        (row - 0.80 * tall, column + shoulders),
        (row - 0.46 * tall, column + 0.09 * tall),
    ]
    scene.polygon(corners, coat, PERSON)
    scene.ellipse(row - 0.91 * tall, column, 0.085 * tall, 0.07 * tall, skin, PERSON)


def paint_pole(scene: Scene, row: float, column: float, unit: float) -> None:
    """A pole: bare, with a lamp, or with a traffic sign."""
    rng = scene.rng
    tall = unit * rng.uniform(0.55, 1.05)
    half = max(0.6, 0.012 * unit)
    metal = scene.pick([(0.42, 0.43, 0.45), (0.28, 0.28, 0.29), (0.45, 0.35, 0.26)], 0.03)
    scene.shadow(row, column, 2 * half)
    scene.box(row - tall, column - half, row, column + half, metal, POLE)
    if rng.random() < 0.45:
        arm = tall * 0.22 * rng.choice([-1.0, 1.0])
        left, right = sorted((column, column + arm))
        scene.box(row - tall, left, row - tall + 2 * half, right, metal, POLE)
        return
    size = max(1.6, unit * rng.uniform(0.05, 0.085))
    top = row - tall * rng.uniform(0.78, 1.0)
    rim, face = (
        scene.pick(
            [(0.80, 0.12, 0.12), (0.12, 0.30, 0.70), (0.92, 0.75, 0.12), (0.15, 0.45, 0.28)], 0.03
        ),
        np.array([0.93, 0.93, 0.90]),
    )
    kind = rng.integers(3)
    for share, tone in ((1.0, rim), (0.58, face)):
        radius = size * share
        if kind == 0:
            scene.ellipse(top, column, radius, radius, tone, SIGN)
        elif kind == 1:
            scene.box(top - radius, column - radius, top + radius, column + radius, tone, SIGN)
        else:
            corners = [
                (top + 0.8 * radius, column - radius),
                (top + 0.8 * radius, column + radius),
                (top - radius, column),
            ]
            scene.polygon(corners, tone, SIGN)
