"""Every preset of a paper trains, scores and evaluates its own network on a miniature layout."""

import csv

import numpy as np
import pytest

import alseg.run
from alseg.labels.tables import Query
from tests.data.make import ids, palette_png, picture, save
from tests.test_experiments import PARAMETERS, ROOT

pytestmark = pytest.mark.slow

#: A step of each stage, two rounds, so that the second asks by a pass over the pool.
SHORT = [
    *("rounds=2", "workers=0", "pictures=0", "network.weights=null"),
    *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false"),
]
FIT = ["method.steps=1", "method.batch_size=2", "method.epoch_steps=1"]
#: What a method has besides, or instead.
OWN = {
    "mulquery": [*FIT, "method.stage_two_steps=1", "method.stage_two_batch_size=2",
                 "budget.amount=6", "regions.num_regions=12"],
    "adaptive_superpixel": [*FIT, "budget.amount=6", "regions.num_regions=12"],
    "classbal": [*FIT, "budget.amount=6", "regions.num_regions=12"],
    "madbal": [*FIT, "method.support_steps=1", "method.support_batch_size=2",
               "method.support_epoch_steps=1", "method.validate_every=1", "method.features=encoder",
               "method.clusters=2", "budget.amount=6"],
    "equal": ["method.batch_size=2", "method.milestone_epochs=1", "method.final_epochs=1",
              "method.final_batch_size=2", "budget.amount=2"],
    "pixelpick": [*FIT, "budget.amount=6"],
}  # fmt: skip
CROPS = {"equal": [], "pixelpick": []}
PRESETS = [*PARAMETERS, "pixelpick/camvid", "pixelpick/cityscapes", "pixelpick/voc"]


def pair(seed, size, classes):
    """A picture and its labels, in blocks, so that regions and patches have a class."""
    blocks = ids(size[0] // 16, size[1] // 16, seed, classes)
    return picture(*size, seed), blocks.repeat(16, axis=0).repeat(16, axis=1)


def cityscapes(root, size):
    for part, city, count in (("train", "aachen", 3), ("val", "lindau", 1)):
        for n in range(count):
            image, labels = pair(n, size, 34)
            stem = f"{city}_{n:06d}_000019"
            save(root / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png", image)
            save(root / "gtFine" / part / city / f"{stem}_gtFine_labelIds.png", labels)
    return root


def camvid(root, size):
    for part, count in (("train", 3), ("val", 1), ("test", 1)):
        for n in range(count):
            image, labels = pair(n, size, 12)
            save(root / part / f"0001_{n}.png", image)
            save(root / f"{part}annot" / f"0001_{n}.png", labels)
    return root


def voc(root, size):
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


LAYOUTS = {"cityscapes": cityscapes, "camvid": camvid, "voc": voc}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_trains_scores_and_evaluates(preset, tmp_path):
    method, name = preset.split("/")
    kind = name.partition("_")[0]
    size = {"madbal": (128, 256), "pixelpick": (192, 256)}.get(method, (96, 128))
    if method == "equal" and kind == "camvid":
        size = (80, 160)  # 5 x 5 patches
    root = LAYOUTS[kind](tmp_path / "data", size)
    crop = [*CROPS.get(method, ["augment.crop=[65,97]"])]
    if preset.startswith("pixelpick/voc"):
        crop = ["augment.crop=[64,96]"]
    if preset.startswith("mulquery/voc"):
        crop += ["data.centre=65", "method.score_centre=65"]
    status = alseg.run(
        *(f"preset={ROOT}/experiments/{preset}.yaml", f"data.root={root}", *SHORT, *OWN[method]),
        *(*crop, f"run_dir={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}"),
    )
    assert status == 0
    with (tmp_path / "run" / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 2
    assert 0 <= float(rows[-1]["miou"]) <= 100
    asked = [Query.load(path) for path in sorted((tmp_path / "run").glob("round_*/query.npz"))]
    assert len(asked) >= 2
    assert all(len(query.image) for query in asked[:2])
    assert (asked[1].score > 0).any(), "the second round asks by scores"
