"""What the papers' pages promise works here from one command, on miniatures of their data sets.

The table "Coming from a paper's page" of docs/papers.md names the test of each row.
"""

import csv
import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import alseg.run
from alseg.cli.command import WAITING
from alseg.cli.compose import options as composed
from alseg.cli.convert import main as convert
from alseg.cli.evaluate import main as evaluate
from alseg.cli.predict import main as predict
from alseg.cli.regions import main as regions
from alseg.data import ucmerced
from alseg.data.voc import VOC
from alseg.inference.trained import load_segmenter, read_checkpoint
from alseg.labels.tables import Answers, Query
from alseg.nn.segmenter import build_segmenter
from tests.cli.test_data_words import checkpoint, deepglobe, merced
from tests.data import layouts
from tests.data.layouts import cityscapes, voc
from tests.data.make import ids, picture, save

ROOT = Path(__file__).parents[1]
#: A network of a moment, and no progress bars.
SMALL = ["network.encoder=resnet18", "network.weights=null"]
QUIET = ["workers=0", "pictures=0", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"]
ONE_STEP = ["method.steps=1", "method.batch_size=2", "method.epoch_steps=1"]
STAGE_TWO = ["method.stage_two_steps=1", "method.stage_two_batch_size=2"]
CROP = ["augment.crop=[33,33]"]
#: Of the preset of mulquery for VOC on images of 64 x 96.
CENTRED = ["data.centre=33", "method.score_centre=33"]
VIEW = ["device=cpu", "progress=false"]
SIZE = (64, 96)


def preset(name):
    return f"preset={ROOT}/experiments/{name}.yaml"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    return cityscapes(tmp_path_factory.mktemp("cityscapes"), SIZE)


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    return voc(tmp_path_factory.mktemp("voc"), SIZE)


def blocks():
    """Superpixels of 16 x 16 pixels."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] // 16
    return (y * (SIZE[1] // 16) + x).astype(np.int16)


def dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path


def released(path, network, names, **more):
    """A checkpoint as other code writes it: its own names, wrapped, numbers of NumPy beside."""
    state = {}
    for ours, theirs in names.items():
        for name, tensor in network.state_dict().items():
            if name.startswith(f"{ours}."):
                state[f"module.{theirs}{name[len(ours) :]}"] = tensor
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model_state_dict": {**state, **more}, "best": np.float64(0.5)}, path)
    return path


def stage_model(path, seed, classes=21):
    """A stage-2 model of mulquery for VOC: DeepLabv3+ with a cosine classifier."""
    torch.manual_seed(seed)
    given = composed(preset("mulquery/voc_resnet50"), "data.root=x", *SMALL).components["network"]
    names = {
        "decoder.low": "classifier.project", "decoder.aspp": "classifier.aspp",
        "encoder": "backbone", "decoder.join": "classifier.classifier.0",
        "classifier": "classifier.classifier.1",
    }  # fmt: skip
    return released(path, given.build(classes, cosine=True), names)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, objects):
    """Two released models of mulquery on VOC as checkpoints of alseg, of round 0 and 1."""
    root = tmp_path_factory.mktemp("theirs")
    for number in (1, 2):
        stage_model(root / "released" / f"stage2_checkpoint0{number}.tar", number)
    words = [preset("mulquery/voc_resnet50"), f"data.root={objects}", *SMALL, *CENTRED]
    given = [f"checkpoint={root / 'released'}", f"out={root / 'converted'}"]
    assert convert([*given, *words]) == 0
    return root / "converted"


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_row_of_the_table_names_its_test():
    rows = re.findall(r"\| `(test_\w+)` \|$", (ROOT / "docs" / "papers.md").read_text(), re.M)
    assert set(rows) == {n for n in globals() if n.startswith("test_")} - {
        "test_every_row_of_the_table_names_its_test"
    }


@pytest.mark.parametrize("name", ["mulquery/cityscapes_resnet50", "adaptive_superpixel/cityscapes"])
def test_preprocess_superpixels(name, streets, tmp_path):
    words = [preset(name), f"data.root={streets}", *SMALL, *QUIET, "regions.num_regions=12"]
    assert regions([*words, "--export", str(tmp_path)]) == 0
    found = sorted(tmp_path.rglob("*.png"))
    assert len(found) == 3
    for path in found:
        labels = np.asarray(Image.open(path))
        assert labels.shape == SIZE
        assert 2 <= len(np.unique(labels)) <= 16


def import_released(objects, folder):
    """Their superpixels and class sets of VOC's training images, imported."""
    data = VOC(str(objects)).splits(progress=False).train
    hot = np.zeros((3, 24, 22), np.uint8)
    for index, name in enumerate(data.names):
        record = {"labels": blocks(), "valid_idxes": np.arange(24)}
        dump(folder / "seeds_32" / f"{name}.pkl", record)
        truth = data.truth(index)
        for region in range(24):
            found = np.unique(truth[blocks() == region])
            hot[index, region, np.minimum(found, 21)] = 1
    dump(folder / "multihot.pkl", {"multi_hot_cls": hot})
    words = ["data=voc", f"data.root={objects}"]
    maps, sets = folder / "maps", folder / "sets.npz"
    assert regions([*words, "--pickles", str(folder / "seeds_32"), "--to", str(maps)]) == 0
    assert regions([*words, f"multihot={folder / 'multihot.pkl'}", f"to={sets}"]) == 0
    oracle = ["oracle=table", f"oracle.file={sets}"]
    return hot, ["regions=files", f"regions.folder={maps}", "regions.void=65535", *oracle]


@pytest.mark.slow
def test_import_released_superpixels_and_labels(objects, tmp_path):
    hot, given = import_released(objects, tmp_path)
    words = [preset("mulquery/voc_resnet50"), f"data.root={objects}", *SMALL, *QUIET, *CENTRED]
    more = [*ONE_STEP, *STAGE_TWO, *CROP, "rounds=1", "budget.amount=9"]
    assert alseg.run(*words, *given, *more, f"run_dir={tmp_path / 'run'}") == 0
    answers = Answers.load(tmp_path / "run" / "round_000" / "answers.npz")
    assert len(answers) >= 5
    said = hot[answers.image, answers.unit].astype(bool)
    np.testing.assert_array_equal(answers.members()[:, :21], said[:, :21])


@pytest.mark.parametrize("name", ["maps", "sets"])
def test_pickled_code_is_refused(name, objects, tmp_path, capsys):
    class Runs:
        def __reduce__(self):
            return (open, (str(tmp_path / "there"), "w"))

    path = dump(tmp_path / "a.pkl", {"labels": blocks(), "more": Runs()})
    given = [f"pickles={path}", f"to={tmp_path / 'maps'}"]
    if name == "sets":
        given = [f"multihot={path}", f"to={tmp_path / 'a.npz'}", "data=voc", f"data.root={objects}"]
    assert regions(given) == 2
    assert "a.pkl is refused as a pickle: it names io.open" in capsys.readouterr().err
    assert not (tmp_path / "there").exists()


def test_load_stage_models_and_evaluate_them(theirs, objects, tmp_path):
    found = read_checkpoint(theirs / "stage2_checkpoint01.ckpt")
    assert found.network["cosine"]
    assert (found.temperature, len(found.class_names)) == (0.1, 21)
    words = [f"checkpoints={theirs}", "data=voc", f"data.root={objects}", "data.centre=33"]
    assert evaluate([*words, f"out={tmp_path}", *VIEW]) == 0
    rows = table(tmp_path / "evaluation.csv")
    assert [row["step"] for row in rows] == ["1", "2"]
    assert all(row["pixels"] == str(33 * 33) for row in rows), "scored on the central square"


def test_load_models_of_madbal_and_evaluate_them(streets, tmp_path):
    """torchvision's DeepLabV3 with support modules beside it, which evaluation does not take."""
    words = [preset("madbal/cityscapes_resnet50"), f"data.root={streets}", *SMALL]
    part = composed(*words, "network.options={decoder_channels:16}").components["network"]
    names = {"encoder": "backbone", "decoder": "classifier.a", "classifier": "classifier.b"}
    support = {"loss_pred_conv.weight": torch.zeros(3, 2), "W_loss_pred.0.bias": torch.zeros(3)}
    path = released(tmp_path / "MADBAL" / "best_1.pth", part.build(19), names, **{
        f"module.{name}": tensor for name, tensor in support.items()
    })  # fmt: skip
    given = [f"checkpoint={path}", f"out={tmp_path / 'own' / 'best_1.ckpt'}", *words]
    given.append("network.options={decoder_channels:16}")
    assert convert(given) == 2, "what belongs to no part is not dropped silently"
    assert convert([*given, "unused=['*loss_pred*']"]) == 0
    said = [f"checkpoints={tmp_path / 'own'}", "data=cityscapes", f"data.root={streets}"]
    assert evaluate([*said, f"out={tmp_path / 'out'}", *VIEW]) == 0
    (row,) = table(tmp_path / "out" / "evaluation.csv")
    assert (row["images"], row["step"]) == ("1", "1")


def test_load_encoders_with_a_deep_stem(tmp_path):
    """Weights of ImageNet for tu-resnet50s, of the file a user has."""
    network = build_segmenter("Unet", "tu-resnet26d", None, 2, options={"encoder_depth": 4,
                              "decoder_channels": [8, 8, 8, 8]})  # fmt: skip
    state = {n.removeprefix("model."): t for n, t in network.encoder.state_dict().items()}
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "a.tar")
    options = {"encoder_depth": 4, "decoder_channels": [8, 8, 8, 8]}
    again = build_segmenter("Unet", "tu-resnet26d", str(tmp_path / "a.tar"), 2, options=options)
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(again.encoder.state_dict()[name], tensor), name


def test_naive_inference(theirs, objects, tmp_path):
    """The most probable class of every pixel, from ten views as their VOC script."""
    model = theirs / "stage2_checkpoint01.ckpt"
    given = [f"checkpoint={model}", "data=voc", f"data.root={objects}", f"out={tmp_path}"]
    views = ["scales=[0.5,1.0,1.5]", "flip=true", "average=logits", "overlay=false"]
    assert predict([*given, *views, *VIEW]) == 0
    labels = np.asarray(Image.open(tmp_path / "labels" / "d.png"))
    assert labels.shape == SIZE
    assert labels.max() < 21
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["pixels"] == SIZE[0] * SIZE[1]


@pytest.mark.parametrize("data", ["voc", "cityscapes"])
def test_evaluate_per_round(data, theirs, streets, objects, tmp_path):
    run = tmp_path / "run"
    for number in (0, 1):
        folder = run / f"round_00{number}" / "stage_two"
        folder.mkdir(parents=True)
        if data == "voc":
            shutil.copy(theirs / f"stage2_checkpoint0{number + 1}.ckpt", folder / "last.ckpt")
        else:
            images = composed("data=cityscapes", f"data.root={streets}").components["data"]
            checkpoint(folder / "last.ckpt", images.splits(progress=False).train, seed=number)
    root = {"voc": objects, "cityscapes": streets}[data]
    words = [f"data={data}", f"data.root={root}", *(["data.centre=33"] if data == "voc" else [])]
    given = [f"checkpoints={run}", "stage=stage_two", f"out={tmp_path / 'out'}"]
    assert evaluate([*given, *words, *VIEW]) == 0
    assert [row["round"] for row in table(tmp_path / "out" / "evaluation.csv")] == ["0", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("data", ["voc", "cityscapes"])
def test_stages_one_and_two_and_naive_labels(data, streets, objects, tmp_path):
    root = {"voc": objects, "cityscapes": streets}[data]
    words = [preset(f"mulquery/{data}_resnet50"), f"data.root={root}", *SMALL, *QUIET, *CROP]
    words += [*ONE_STEP, *STAGE_TWO, "rounds=2", "budget.amount=9", "regions.num_regions=12"]
    words += CENTRED if data == "voc" else []
    run = tmp_path / "run"
    assert alseg.run(*words, "method.pseudo_labels=naive", f"run_dir={run}") == 0
    given = [f"checkpoints={run}", "stage=stage_two", f"out={tmp_path / 'out'}", f"data={data}"]
    assert evaluate([*given, f"data.root={root}", *VIEW]) == 0
    assert [row["round"] for row in table(tmp_path / "out" / "evaluation.csv")] == ["0", "1"]
    first = run / "round_000" / "stage_one" / "best.ckpt"
    assert load_segmenter(first, "cpu").temperature == 0.1


@pytest.mark.slow
def test_warm_up_adaptive_maps_next_round(streets, tmp_path):
    words = [preset("adaptive_superpixel/cityscapes"), f"data.root={streets}", *SMALL, *QUIET]
    words += [*ONE_STEP, *CROP, "budget.amount=6", "regions.num_regions=12"]
    words += [f"run_dir={tmp_path / 'run'}"]
    assert alseg.run(*words, "rounds=1") == 0
    assert alseg.run(*words, "rounds=2") == 0
    warm, following = (Query.load(tmp_path / "run" / f"round_00{n}" / "query.npz") for n in (0, 1))
    assert following.regions != warm.regions, "asked about maps of its own"
    given = ["rounds=2", "--export", str(tmp_path / "maps"), "--of_round", "1"]
    assert regions([*words, *given]) == 0
    assert len(list((tmp_path / "maps").rglob("*.png"))) == 3


def test_sliding_and_multi_scale_inference(streets, tmp_path):
    images = composed("data=cityscapes", f"data.root={streets}").components["data"]
    checkpoint(tmp_path / "own" / "a_1.ckpt", images.splits(progress=False).train)
    given = [f"checkpoints={tmp_path / 'own'}", "data=cityscapes", f"data.root={streets}", *VIEW]
    found = {}
    for average in ("probabilities", "logits"):
        views = ["scales=[0.5,0.75,1.0,1.25]", "flip=true", "window=[48,64]", "overlap=0.5"]
        out = tmp_path / average
        assert evaluate([*given, *views, f"average={average}", f"out={out}"]) == 0
        (found[average],) = table(out / "evaluation.csv")
    assert found["probabilities"]["pixels"] == found["logits"]["pixels"]
    assert found["probabilities"]["miou"] != found["logits"]["miou"]


@pytest.mark.slow
def test_learner_and_s4gan_apart(tmp_path, monkeypatch):
    names = ["beach00", "beach01", "forest00", "forest01", "river00", "river01", "beach02"]
    parts = {"train": names[:6], "val": names[6:], "test": ["river02"]}
    layouts.ucmerced(tmp_path / "data", (32, 32), [*names, "river02"])
    for part, members in parts.items():
        (tmp_path / f"{part}.txt").write_text("\n".join(members))
    monkeypatch.setattr(ucmerced, "list_file", lambda part: tmp_path / f"{part}.txt")
    words = [preset("als4gan/ucmerced"), f"data.root={tmp_path / 'data'}", *SMALL, *QUIET]
    words += ["data.size=[32,32]", "augment.crop=[32,32]", "network.architecture=DeepLabV3Plus"]
    words += ["method.classifier=tu-resnet10t", "method.classifier_weights=null"]
    words += ["method.classifier_passes=1", "method.ratio=0.5", *ONE_STEP]
    learner = [*words, "oracle.by_hand=[mask]", f"run_dir={tmp_path / 'learner'}"]
    assert alseg.run(*learner) == WAITING, "the learner has chosen, and nobody has drawn masks"
    (asked,) = (tmp_path / "learner").glob("round_*/questions.csv")
    chosen = [row["image"] for row in table(asked)]
    assert len(chosen) == 4
    assert not list((tmp_path / "learner").rglob("segment/*.ckpt"))
    (tmp_path / "chosen.txt").write_text("\n".join(chosen))
    listed = [f"query=list:{tmp_path / 'chosen.txt'}", f"run_dir={tmp_path / 's4gan'}"]
    assert alseg.run(*words, *listed) == 0
    assert len(list((tmp_path / "s4gan").rglob("segment/last.ckpt"))) == 1
    assert not list((tmp_path / "s4gan").rglob("classif*/*.ckpt"))


@pytest.mark.parametrize(("write", "name"), [(merced, "ucmerced"), (deepglobe, "deepglobe")])
def test_auto_evaluate(write, name, tmp_path, monkeypatch, capsys):
    for part, image in (("train", "beach00"), ("val", "river00"), ("test", "forest00")):
        (tmp_path / f"{part}.txt").write_text(image)
    monkeypatch.setattr(ucmerced, "list_file", lambda part: tmp_path / f"{part}.txt")
    write(tmp_path / "data")
    words = [f"data={name}", f"data.root={tmp_path / 'data'}", "data.size=[16,24]"]
    images = composed(*words).components["data"].splits(progress=False).train
    for step in (100, 200, 300):
        checkpoint(tmp_path / "own" / f"step_{step}.ckpt", images, seed=step)
    given = [f"checkpoints={tmp_path / 'own'}", *words, "data.evaluate=test", *VIEW]
    assert evaluate([*given, f"out={tmp_path / 'a'}"]) == 0
    rows = table(tmp_path / "a" / "evaluation.csv")
    assert [row["checkpoint"] for row in rows] == [f"step_{n}00.ckpt" for n in (1, 2, 3)]
    tested = [row["test_miou"] for row in rows]
    assert 1 <= sum(value != "" for value in tested) <= 2, "the best on validation and the last"
    assert "they chose nothing" in capsys.readouterr().out
    assert evaluate([*given, "choose_on=test", f"out={tmp_path / 'b'}"]) == 0
    as_theirs = table(tmp_path / "b" / "evaluation.csv")
    assert max(float(row["miou"]) for row in as_theirs) >= max(float(v) for v in tested if v)
    assert "was chosen on the test images" in capsys.readouterr().out


def test_masks_of_sbd(tmp_path):
    root = voc(tmp_path, SIZE)
    base = root / "VOCdevkit" / "VOC2012"
    for n, name in enumerate(("a", "e")):
        save(base / "SegmentationClassAug" / f"{name}.png", ids(*SIZE, seed=n, classes=21))
    save(base / "JPEGImages" / "e.jpg", picture(*SIZE))
    (base / "ImageSets" / "Segmentation" / "trainaug.txt").write_text("a\ne\n")
    words = [preset("mulquery/voc_resnet50"), f"data.root={root}", "data.train=trainaug"]
    part = composed(*words, "data.masks=SegmentationClassAug", *CENTRED).components["data"]
    data = part.splits(progress=False)
    assert data.train.names == ("a", "e")
    np.testing.assert_array_equal(data.train.truth(1), ids(*SIZE, seed=1, classes=21))
    assert data.val.names == ("d",)
