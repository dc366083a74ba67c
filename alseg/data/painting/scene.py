"""Paint a small landscape: sky, a road or a street, houses, trees, people, and their labels.

Made so that colour alone says little: light, tint and season differ from image to image, water
mirrors the sky, cars and clothes have any colour, walls are as grey as roads. What tells the
classes apart is shape, texture and place.
"""

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID
from alseg.data.painting.backdrop import (
    CROWNS,
    paint_ground,
    paint_ridge,
    paint_road,
    paint_sky,
    paint_water,
)
from alseg.data.painting.canvas import GROUND, PERSON, ROAD, SKY, Edges, Scene, noise
from alseg.data.painting.things import (
    PAINTS,
    paint_car,
    paint_houses,
    paint_person,
    paint_pole,
    paint_tree,
)


def paint_scene(
    rng: np.random.Generator, height: int, width: int, crowding: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paint one scene.

    Args:
        rng: Decides everything.
        height: Pixels, at least 32.
        width: Pixels, at least 32.
        crowding: Factor on the number of objects.

    Returns:
        The image, (H, W, 3), uint8, RGB, and its labels, (H, W), uint8, classes 0..9 or VOID.
    """
    scene = Scene(
        rng=rng,
        color=np.zeros((height, width, 3), dtype=np.float32),
        label=np.full((height, width), SKY, dtype=np.uint8),
        horizon=round(height * rng.uniform(0.28, 0.52)),
        grain=noise(rng, height, width, (height / 2.5, height / 6)),
        light=rng.choice([-1.0, 1.0]),
    )
    sky = paint_sky(scene)
    paint_ridge(scene, sky)
    paint_ground(scene)
    if rng.random() < 0.4:
        paint_water(scene, sky)
    on_road = paint_road(scene) if rng.random() < 0.8 else None
    paint_houses(scene, on_road)
    crowd = 0.0 if rng.random() < 0.12 else crowding * rng.gamma(2.0, 0.5)
    _objects(scene, crowd, on_road)
    label = _void(scene)
    return _photograph(scene), label


def _objects(scene: Scene, crowd: float, on_road: Edges | None) -> None:
    """Trees, cars, people and poles, from far to near, each where it belongs."""
    height, width = scene.shape
    rng = scene.rng
    wanted = {"tree": 4.5, "car": 2.8, "person": 2.2, "pole": 1.8}
    things = [
        (scene.horizon + (height - scene.horizon) * rng.beta(1.2, 2.2), kind)
        for kind, mean in wanted.items()
        for _ in range(rng.poisson(mean * crowd))
    ]
    painters = {"person": paint_person, "pole": paint_pole}
    crown = scene.pick(CROWNS)
    for row, kind in sorted(things):
        unit = scene.unit(row)
        if unit < 0.09 * height:
            continue
        if kind == "car":
            if on_road is not None:
                left, right = on_road(row)
                if right > left:
                    paint_car(scene, row, rng.uniform(max(left, 0), min(right, width)), unit)
            continue
        column = rng.uniform(0, width)
        if kind == "pole" and on_road is not None:  # beside the road rather than anywhere
            left, right = on_road(row)
            if -1e8 < left < right < width + 1:
                gap = (right - left) * 0.12
                column = left - gap if rng.random() < 0.5 else right + gap
        at = scene.label[min(int(row), height - 1), int(np.clip(column, 0, width - 1))]
        allowed = (GROUND, ROAD) if kind == "person" else (GROUND,)
        if not 0 <= column < width or at not in allowed:
            continue
        if kind == "tree":
            tone = crown if rng.random() < 0.6 else scene.pick(CROWNS)
            paint_tree(scene, row, column, unit, tone)
        else:
            painters[kind](scene, row, column, unit)


def _void(scene: Scene) -> NDArray[np.uint8]:
    """Labels with some doubtful borders, and now and then an odd thing, as void."""
    height, width = scene.shape
    rng, label = scene.rng, scene.label
    if rng.random() < 0.25:  # something no class stands for
        row = scene.horizon + (height - scene.horizon) * rng.uniform(0.15, 0.9)
        size = max(2.0, 0.10 * scene.unit(row))
        column = rng.uniform(0, width)
        scene.ellipse(
            row - size, column, size, size * rng.uniform(0.6, 1.6), scene.pick(PAINTS, 0.2), VOID
        )
    label = scene.label.copy()
    border = np.zeros((height, width), dtype=bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        # thin and small classes would vanish under a border two pixels wide
        differs = (scene.label[here] != scene.label[there]) & (scene.label[here] < PERSON)
        differs &= scene.label[there] < PERSON
        border[here] |= differs
        border[there] |= differs
    doubtful = noise(rng, height, width, (5, 11)) > 0.25
    label[border & doubtful] = VOID
    return label


def _photograph(scene: Scene) -> NDArray[np.uint8]:
    """Light, tint, blur and sensor noise."""
    rng = scene.rng
    color = scene.color
    side = rng.uniform(0.08, 0.22)  # soften edges by three taps along both axes
    for axis in (0, 1):
        before, after = np.roll(color, 1, axis), np.roll(color, -1, axis)
        color = np.float32(1 - 2 * side) * color + np.float32(side) * (before + after)
    angle = rng.normal(0, 0.20)  # turn of the hue, radians, around the grey axis
    cos, sin = np.cos(angle), np.sin(angle) / np.sqrt(3)
    turn = np.full((3, 3), (1 - cos) / 3) + cos * np.eye(3)
    turn += sin * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    strength = rng.uniform(0.65, 1.15)
    mix = strength * turn + (1 - strength) / 3  # the turn, then towards or away from grey
    mix *= (rng.normal(1.0, 0.06, 3) * rng.uniform(0.75, 1.2))[:, None]
    glow = 1 + 0.12 * noise(rng, *scene.shape, (1.5,))[..., None]
    color = np.clip(color @ mix.T.astype(np.float32) * glow.astype(np.float32), 0, 1)
    color **= np.float32(rng.uniform(0.75, 1.2))
    color += np.float32(rng.uniform(0.006, 0.025)) * rng.standard_normal(color.shape, np.float32)
    return np.asarray(np.rint(np.clip(color, 0, 1) * 255).astype(np.uint8))
