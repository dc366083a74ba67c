"""Miniatures of published data sets on disk, under the names these are distributed with."""

import numpy as np

from alseg.data.ucmerced import COLORS
from tests.data.make import ids, palette_png, picture, save


def pair(seed, size, classes):
    """A picture and its labels, in blocks, so that regions and patches have a class."""
    blocks = ids(size[0] // 16, size[1] // 16, seed, classes)
    return picture(*size, seed), blocks.repeat(16, axis=0).repeat(16, axis=1)


def cityscapes(root, size):
    """Three training images and one for validation; label ids 0..33."""
    for part, city, count in (("train", "aachen", 3), ("val", "lindau", 1)):
        for n in range(count):
            image, labels = pair(n, size, 34)
            stem = f"{city}_{n:06d}_000019"
            save(root / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png", image)
            save(root / "gtFine" / part / city / f"{stem}_gtFine_labelIds.png", labels)
    return root


def camvid(root, size):
    """Three training images, one for validation and one test image; ids 0..11."""
    for part, count in (("train", 3), ("val", 1), ("test", 1)):
        for n in range(count):
            image, labels = pair(n, size, 12)
            save(root / part / f"0001_{n}.png", image)
            save(root / f"{part}annot" / f"0001_{n}.png", labels)
    return root


def voc(root, size):
    """Training images a, b and c, validation image d; ids 0..20."""
    base = root / "VOCdevkit" / "VOC2012"
    names = {"train": ("a", "b", "c"), "val": ("d",)}
    palette = np.arange(256)[:, None].repeat(3, axis=1)
    for part, members in names.items():
        for n, name in enumerate(members):
            image, labels = pair(n, size, 21)
            save(base / "JPEGImages" / f"{name}.jpg", image)
            palette_png(base / "SegmentationClass" / f"{name}.png", labels, palette)
        listed = base / "ImageSets" / "Segmentation" / f"{part}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("\n".join(members))
    return root


def ucmerced(root, size, names):
    """UC Merced with the labels of DLRSD: images of these names; ids 1..17."""
    palette = [(0, 0, 0), *COLORS.values()]
    for n, name in enumerate(names):
        image, labels = pair(n, size, 17)
        save(root / "UCMerced_Images" / f"{name}.tif", image)
        palette_png(root / "UCMerced_Labels" / f"{name}.png", labels + 1, palette)
    return root


LAYOUTS = {"cityscapes": cityscapes, "camvid": camvid, "voc": voc}
