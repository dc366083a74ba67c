"""Small data sets on disk for the tests of the readers."""

import numpy as np
from PIL import Image

#: Colours of three classes and of void.
TABLE = {"water": (226, 169, 41), "road": (110, 193, 228), "roof": (60, 16, 152)}
VOID_COLOR = (155, 155, 155)


def picture(height=24, width=32, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def ids(height=24, width=32, seed=0, classes=3):
    return np.random.default_rng(seed).integers(0, classes, (height, width), dtype=np.uint8)


def paint(labels):
    """Ids 0..2 and 3 (void) as colours."""
    return np.array([*TABLE.values(), VOID_COLOR], dtype=np.uint8)[labels]


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def palette_png(path, array, palette):
    """A palette PNG, as VOC uses them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("P", (array.shape[1], array.shape[0]))
    image.frombytes(array.astype(np.uint8).tobytes())
    image.putpalette(np.asarray(palette, dtype=np.uint8).ravel().tolist())
    image.save(path)
    return path


def folder(root, count=4, color=False):
    """Images `a0`, `a1`, ... of different sizes with masks of ids 0..2."""
    for i in range(count):
        height, width = 20 + 2 * i, 30 + i
        save(root / "images" / f"a{i}.jpg", picture(height, width, i))
        labels = ids(height, width, i)
        save(root / "masks" / f"a{i}.png", paint(labels) if color else labels)
    return root
