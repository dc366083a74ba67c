"""Every preset of a paper trains, scores and evaluates its own network on a miniature layout."""

import csv

import numpy as np
import pytest

import alseg.run
from alseg.data import ucmerced as merced
from alseg.labels.tables import Query
from tests.cli.test_data_words import deepglobe
from tests.data.layouts import LAYOUTS, ucmerced
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
PRESETS = [preset for preset in PARAMETERS if not preset.startswith("als4gan/")]


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


#: The presets of other shares have the same networks, and ``ucmerced_reference`` takes 320 x 320.
@pytest.mark.parametrize("preset", ["ucmerced", "deepglobe"])
def test_a_preset_of_als4gan_asks_trains_and_evaluates(preset, tmp_path, monkeypatch):
    root = tmp_path / "data"
    if preset == "ucmerced":
        names = [f"{scene}0{n}" for scene in ("beach", "forest", "river") for n in range(3)]
        for part, listed in (("train", names[:6]), ("val", names[6:7]), ("test", names[7:])):
            (tmp_path / f"{part}.txt").write_text("\n".join(listed))
        monkeypatch.setattr(merced, "list_file", lambda part: tmp_path / f"{part}.txt")
        ucmerced(root, (64, 64), names)
    else:
        deepglobe(root)
    own = [*FIT, "method.ratio=0.4", "method.alpha=0.5", "method.beta=1", "data.size=[64,64]"]
    own += ["method.classifier_passes=1", "method.classifier_weights=null"]
    status = alseg.run(
        *(f"preset={ROOT}/experiments/als4gan/{preset}.yaml", f"data.root={root}", *SHORT[1:]),
        *(*own, f"run_dir={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}"),
    )
    assert status == 0
    with (tmp_path / "run" / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert 0 <= float(rows[-1]["miou"]) <= 100
    asked = [Query.load(path) for path in sorted((tmp_path / "run").glob("round_*/query.npz"))]
    assert len(asked) == len(rows) >= 4
    *scenes, masks = asked
    assert all(np.isfinite(query.score).all() for query in scenes[1:]), "the classifier scored them"
    images = np.concatenate([query.image for query in scenes])
    assert len(np.unique(images)) == len(images), "no image is asked about twice"
    assert masks.answer == "mask"
    assert np.isin(masks.image, images).all()
