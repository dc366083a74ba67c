"""What lies behind and under things: sky, hills, ground, water, a road."""

import numpy as np

from alseg.data.painting.canvas import GROUND, RGB, ROAD, TREE, WATER, Edges, Floats, Scene, noise

#: (top, horizon) of the sky.
SKIES: list[tuple[RGB, RGB]] = [
    ((0.33, 0.56, 0.88), (0.76, 0.87, 0.96)),
    ((0.45, 0.65, 0.90), (0.86, 0.90, 0.92)),
    ((0.58, 0.61, 0.66), (0.78, 0.79, 0.80)),
    ((0.38, 0.40, 0.60), (0.96, 0.68, 0.48)),
    ((0.62, 0.60, 0.56), (0.84, 0.79, 0.68)),
    ((0.12, 0.15, 0.28), (0.36, 0.36, 0.48)),
]
GROUNDS: list[RGB] = [
    (0.36, 0.50, 0.22),
    (0.44, 0.54, 0.26),
    (0.62, 0.57, 0.34),
    (0.47, 0.37, 0.28),
    (0.77, 0.69, 0.52),
    (0.86, 0.88, 0.91),
    (0.57, 0.56, 0.54),
]
CROWNS: list[RGB] = [
    (0.20, 0.40, 0.16),
    (0.13, 0.30, 0.17),
    (0.40, 0.45, 0.18),
    (0.64, 0.40, 0.14),
    (0.56, 0.25, 0.15),
    (0.24, 0.38, 0.34),
]
ROADS: list[RGB] = [(0.34, 0.34, 0.36), (0.48, 0.48, 0.49), (0.22, 0.23, 0.26), (0.52, 0.45, 0.36)]


def paint_sky(scene: Scene) -> Floats:
    """Sky with clouds; returns its colour at the horizon."""
    height, width = scene.shape
    top, low = (np.array(c) for c in SKIES[scene.rng.choice(6, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])])
    fall = np.clip(np.arange(height) / scene.horizon, 0, 1)[:, None, None] ** 1.3
    cloud = noise(scene.rng, height, width, (2.5, 6, 14))
    cover = np.clip((cloud - scene.rng.uniform(-0.2, 0.8)) * 2.0, 0, 0.85)[..., None]
    bright = 0.55 * low + 0.45
    scene.color[:] = (top + (low - top) * fall) * (1 - cover) + bright * cover
    return low


def paint_ridge(scene: Scene, sky: Floats) -> None:
    """Hills or woods in the haze, before the sky."""
    if scene.rng.random() < 0.35:
        return
    height, width = scene.shape
    wooded = scene.rng.random() < 0.6
    rise = scene.rng.uniform(0.03, 0.14) * height
    cells = (2, 5, 20) if wooded else (2, 4)
    crest = scene.horizon - rise * (
        0.8 + 0.6 * noise(scene.rng, 2, width, [c / 60 for c in cells])[0]
    )
    crest -= 0.2 * rise * noise(scene.rng, height, width, (12, 30))[0] * wooded
    where = np.nonzero(np.arange(height)[:, None] >= crest)
    haze = scene.rng.uniform(0.25, 0.6)
    color = scene.pick(CROWNS if wooded else GROUNDS) * (1 - haze) + sky * haze
    scene.paint(where, color, TREE if wooded else GROUND)


def paint_ground(scene: Scene) -> None:
    """Grass, soil, sand or snow up to the horizon."""
    height, width = scene.shape
    rows, columns = np.nonzero(np.arange(height)[:, None] >= np.full(width, scene.horizon))
    flat = noise(scene.rng, height, width, (3, 9))[rows, columns, None]
    tuft = scene.grain[rows, columns, None]
    near = ((rows - scene.horizon) / (height - scene.horizon))[:, None]
    color, other = scene.pick(GROUNDS), scene.pick(GROUNDS)
    mix = np.clip(flat, 0, 1) * scene.rng.choice([0.0, 0.5])
    base = color * (1 - mix) + other * mix
    scene.paint((rows, columns), base * (0.95 + 0.10 * flat + 0.14 * tuft * near), GROUND)


def paint_water(scene: Scene, sky: Floats) -> None:
    """A river across the scene or a lake, in the colours of the sky."""
    height, width = scene.shape
    rng, depth = scene.rng, height - scene.horizon
    wave = noise(rng, height, width, (2, 5))
    row, column = np.indices(scene.shape)
    middle = scene.horizon + depth * rng.uniform(0.12, 0.75)
    half = depth * rng.uniform(0.08, 0.25)
    reach = np.ones(scene.shape)
    if rng.random() < 0.5:  # a lake ends on both sides
        across = (column / width - rng.uniform(0.15, 0.85)) / rng.uniform(0.25, 0.6)
        reach = np.sqrt(np.clip(1 - across**2, 0, None))
    shore = np.abs(row - middle - 0.15 * half * wave) < half * reach * (1 + 0.25 * wave)
    where = np.nonzero(shore & (scene.label == GROUND) & (row > scene.horizon))
    ripples = np.zeros(height)
    ripples[scene.horizon :] = np.sin(
        60 * np.log1p(np.arange(depth) / depth * 3) + rng.uniform(0, 6)
    )
    glint = (ripples[:, None] * 0.5 + wave * 0.5)[where][:, None]
    tone = sky * rng.uniform(0.6, 0.95) + np.array([-0.10, 0.0, 0.04])
    scene.paint(where, tone * (1 + 0.10 * glint), WATER)


def paint_road(scene: Scene) -> Edges:
    """A road into the distance or across; returns its left and right edge at a row."""
    height, width = scene.shape
    rng, depth = scene.rng, height - scene.horizon
    paint, lane = scene.pick(ROADS, 0.03), np.array([0.90, 0.89, 0.82]) * rng.uniform(0.7, 1.05)
    kerb = scene.pick([(0.62, 0.61, 0.59), (0.72, 0.70, 0.66)], 0.03)
    rows = np.arange(scene.horizon + 1, height)
    near = (rows - scene.horizon) / depth
    if rng.random() < 0.3:
        first, last = sorted(rng.uniform(0.25, 1.05, 2))
        first = min(first, last - 0.2)
        inside = (near >= first) & (near <= last)
        left, right = np.where(inside, -1.0, 1e9), np.where(inside, width + 1.0, -1e9)
        stripe = np.abs(near - (first + last) / 2) < 0.02
        dash = np.arange(width) % max(6, width // 8) < width // 16
    else:
        vanish, bottom = rng.uniform(0.2, 0.8) * width, rng.uniform(0.1, 0.9) * width
        bend = rng.normal(0, 0.25) * width
        center = vanish + (bottom - vanish) * near + bend * near * (1 - near)
        half = width * (0.006 + rng.uniform(0.25, 0.6) * near)
        left, right = center - half, center + half
        stripe = np.zeros(len(rows), dtype=bool)
        dash = np.zeros(width, dtype=bool)
    column = np.arange(width)[None]
    inside = (column >= left[:, None]) & (column < right[:, None])
    margin = (right - left)[:, None] * 0.09
    walk = (column >= left[:, None] - margin) & (column < right[:, None] + margin) & ~inside
    walk &= (np.abs(left) < 1e8)[:, None]
    place = np.nonzero(walk)
    scene.paint((place[0] + scene.horizon + 1, place[1]), kerb, GROUND)
    place = np.nonzero(inside)
    scene.paint((place[0] + scene.horizon + 1, place[1]), paint, ROAD)
    if not stripe.any():
        middle = np.abs(column - (left + right)[:, None] / 2) < (right - left)[:, None] * 0.018
        broken = (4.0 / np.maximum(near, 0.02) + rng.uniform(0, 1)) % 1 < 0.55
        line = middle & inside & broken[:, None]
        edge = np.minimum(column - left[:, None], right[:, None] - column - 1)
        wide = (right - left)[:, None]
        line |= inside & (np.abs(edge - 0.06 * wide) < 0.012 * wide)
    else:
        line = inside & stripe[:, None] & dash[None]
    place = np.nonzero(line)
    scene.paint((place[0] + scene.horizon + 1, place[1]), lane, ROAD)

    def edges(row: float) -> tuple[float, float]:
        at = int(np.clip(row - scene.horizon - 1, 0, len(rows) - 1))
        return float(left[at]), float(right[at])

    return edges
