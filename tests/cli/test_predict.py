"""Using a trained network, as a user meets it."""

import csv
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.classification import MulticlassJaccardIndex

import alseg.inference.prediction
import alseg.methods
from alseg.active.driver import drive
from alseg.cli.predict import help_text, load_segmenter, main, options_from, predict, predict_labels
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.data.masks import default_colors
from alseg.data.transforms import EvalTransform
from alseg.methods.baselines.random import Random
from alseg.methods.equal.method import Equal
from alseg.methods.mulquery.method import MulQuery
from alseg.nn.network import Network
from tests.methods.test_contract import rounds_of, short
from tests.toys import COLORS, ToyImages, toy_run

NETWORK = Network(
    "Unet", "tu-test_resnet", None, {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}
)
SHORT = {"steps": 2, "batch_size": 2, "epoch_steps": 2}
#: Stage whose checkpoint is used, and the method that trains it.
METHODS = {
    "mulquery": (
        "stage_two",
        MulQuery(**SHORT, stage_two_steps=2, stage_two_batch_size=2, keep="best"),
    ),
    "equal": ("train", Equal(milestone_epochs=1, final_epochs=0)),
    "random": ("train", Random(**SHORT)),
}
TRUTH = ToyImages(2, seed=1)  # what toy runs are evaluated on


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """The validation images of toy runs, as files, in folders of their own, and their masks."""
    root = tmp_path_factory.mktemp("photos")
    for index, name in enumerate(("a/x", "b/c/x")):
        for kind, pixels in (("images", TRUTH.image(index)), ("masks", TRUTH.truth(index))):
            path = root / kind / f"{name}.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Checkpoint and evaluation of a run of each method, out of its run folder."""
    made = {}
    for name, (stage, method) in METHODS.items():
        root = tmp_path_factory.mktemp(name)
        rows = drive(toy_run(root / "run", rounds=1, method=method, network=NETWORK))
        keep = "best" if name == "mulquery" else "last"
        source = root / "run" / "round_000" / stage / f"{keep}.ckpt"
        made[name] = (shutil.copy(source, root / "moved.ckpt"), rows[-1])
        shutil.rmtree(root / "run")
    return made


def start(runs, photos, out, *more, method="mulquery"):
    return predict(
        options_from(
            [
                f"checkpoint={runs[method][0]}",
                f"images={photos / 'images'}",
                f"out={out}",
                "device=cpu",
                "progress=false",
                *more,
            ]
        )
    )


def label_maps(out):
    return {
        path.relative_to(out / "labels").as_posix(): np.array(Image.open(path))
        for path in sorted((out / "labels").rglob("*.png"))
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_moved_checkpoint_measures_what_its_run_measured(runs, photos, tmp_path, method, capsys):
    metrics = start(runs, photos, tmp_path, f"masks={photos / 'masks'}", method=method)
    row = runs[method][1]
    assert metrics["miou"] == pytest.approx(row["miou"], abs=1e-6)
    for name in ("red", "green", "blue"):
        assert metrics[f"iou_{name}"] == pytest.approx(row[f"iou_{name}"], abs=1e-6)
    house = MulticlassJaccardIndex(3, average="macro", ignore_index=VOID)
    maps = label_maps(tmp_path)
    assert list(maps) == ["a/x.png", "b/c/x.png"]
    for index, labels in enumerate(maps.values()):
        assert labels.dtype == np.uint8
        assert labels.shape == (32, 48)
        assert labels.max() < 3  # not the output for void, or for undefined regions
        house.update(torch.from_numpy(labels.astype(int)), torch.from_numpy(TRUTH.truth(index)))
    assert metrics["miou"] == pytest.approx(float(house.compute()), abs=1e-6)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    with (tmp_path / "metrics.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert float(line["miou"]) == pytest.approx(metrics["miou"], abs=1e-5)
    assert float(line["pixels"]) == 2 * 30 * 48  # two rows of each image are void
    said = capsys.readouterr().out
    assert f"mIoU   {metrics['miou']:.4f}" in said
    with Image.open(tmp_path / "labels/a/x.png") as image:
        assert np.array_equal(np.array(image.convert("RGB")), COLORS[maps["a/x.png"]])
    with Image.open(tmp_path / "overlays/b/c/x.jpg") as picture:
        assert picture.width == 11 * 48
        assert picture.height > 11 * 32  # the legend


def test_what_a_checkpoint_says_of_itself(runs):
    said = {name: torch.load(path, weights_only=True)["alseg"] for name, (path, _) in runs.items()}
    assert [said[m]["network"]["cosine"] for m in METHODS] == [True, False, False]
    assert [said[m]["network"]["outputs"] for m in METHODS] == [4, 4, 3]
    assert {about["network_at"] for about in said.values()} == {"network"}
    assert [said[m]["temperature"] for m in METHODS] == [0.1, 1.0, 1.0]
    for about in said.values():
        assert about["num_classes"] == 3
        assert about["images"]["classes"] == ["red", "green", "blue"]
        assert about["images"]["colors"] == COLORS.tolist()
        assert about["images"]["scale"] == 1.0


def test_a_model_is_what_the_method_trained(runs):
    model = load_segmenter(runs["mulquery"][0], device="cpu")
    assert not model.network.training
    image = TRUTH.image(0)
    tensor, _ = EvalTransform()(image, {})
    probabilities = model(model.normalized(image))
    with torch.inference_mode():
        scores = model.network(tensor[None])
    assert probabilities.shape == (1, 3, 32, 48)
    assert torch.equal(probabilities, (scores[:, :3] / 0.1).softmax(dim=1))
    expected = scores[0, :3].argmax(dim=0).numpy()
    assert np.array_equal(predict_labels(model, image), expected)


def test_images_are_normalised_as_in_the_run(runs, tmp_path):
    content = torch.load(runs["random"][0], weights_only=True)
    content["alseg"]["images"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 1.0]}
    torch.save(content, tmp_path / "last.ckpt")
    image = TRUTH.image(0)
    got = load_segmenter(tmp_path / "last.ckpt", "cpu").normalized(image)[0].permute(1, 2, 0)
    np.testing.assert_allclose(got, (image / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(alseg.methods.METHODS))
def test_every_checkpoint_of_every_method_can_be_used(name, tmp_path):
    method = short(name)
    drive(toy_run(tmp_path, rounds=rounds_of(method), method=method))  # has dropout
    checkpoints = sorted(tmp_path.rglob("*.ckpt"))
    assert checkpoints
    for path in checkpoints:
        if path.parent.name == "classifier":  # of whole images
            with pytest.raises(UserError, match="holds no segmentation network"):
                load_segmenter(path, "cpu")
            continue
        model = load_segmenter(path, "cpu")
        assert model.classes.names == ("red", "green", "blue")
        assert predict_labels(model, TRUTH.image(0), flip=True).max() < 3


def test_bf16_is_mixed_precision(runs):
    image = TRUTH.image(0)
    exact, mixed = (load_segmenter(runs["random"][0], "cpu", p) for p in ("32-true", "bf16"))
    a, b = (model(model.normalized(image)) for model in (exact, mixed))
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert torch.allclose(a, b, atol=0.05)


def test_what_is_there_is_skipped_and_a_killed_command_goes_on(
    runs, photos, tmp_path, capsys, monkeypatch
):
    start(runs, photos, tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert len(whole) == 4
    (tmp_path / "labels/b/c/x.png").unlink()  # as if killed before it was written
    (tmp_path / "overlays/a/x.jpg").unlink()
    first = (tmp_path / "labels/a/x.png").stat().st_mtime_ns
    capsys.readouterr()
    start(runs, photos, tmp_path)
    assert "1 predicted, 1 skipped (there already; overwrite=true" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in whole} == whole
    assert (tmp_path / "labels/a/x.png").stat().st_mtime_ns == first
    start(runs, photos, tmp_path, "overwrite=true")
    assert "2 predicted, 0 skipped:" in capsys.readouterr().out
    assert (tmp_path / "labels/a/x.png").stat().st_mtime_ns > first


@pytest.mark.parametrize("change", ["flip=true", "method"])
def test_results_of_something_else_are_not_taken_for_ones_own(runs, photos, tmp_path, change):
    start(runs, photos, tmp_path, "overlay=false")
    more = {"method": "random"} if change == "method" else {}
    given = [] if more else [change]
    with pytest.raises(UserError, match=r"2 label maps in out, .*a/x\.png, were not predicted by"):
        start(runs, photos, tmp_path, *given, **more)
    start(runs, photos, tmp_path, *given, "overwrite=true", **more)
    start(runs, photos, tmp_path, *given, **more)


def test_large_images_are_predicted_by_windows(runs, photos, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(alseg.inference.prediction, "WINDOW", (16, 16))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses twice as many
    caplog.set_level(logging.INFO, "alseg")
    start(runs, photos, tmp_path / "auto", "max_pixels=1535", "overlap=0.5")
    assert "more than max_pixels=1535; predicted by windows of 16 x 16" in caplog.text
    start(runs, photos, tmp_path / "said", "window=[16,16]", "overlap=0.5")
    start(runs, photos, tmp_path / "whole", "max_pixels=1536")
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.undo()
    auto, said, whole = (label_maps(tmp_path / name) for name in ("auto", "said", "whole"))
    assert all(np.array_equal(auto[name], said[name]) for name in auto)
    assert any((auto[name] != whole[name]).any() for name in auto)


def test_huge_images_are_checked_before_the_work(runs, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(alseg.data.checks, "HUGE", 1000)
    bad = tmp_path / "images"
    shutil.copytree(photos / "images", bad)
    (bad / "cut.png").write_bytes((bad / "a/x.png").read_bytes()[:900])
    with pytest.raises(UserError, match=r"cut\.png cannot be read"):
        start(runs, tmp_path, tmp_path / "out")
    assert not label_maps(tmp_path / "out")


def test_a_run_that_loaded_its_images_smaller_sees_all_images_smaller(runs, photos, tmp_path):
    path, _ = runs["random"]
    content = torch.load(path, weights_only=True)
    content["alseg"]["images"]["scale"] = 0.5
    torch.save(content, tmp_path / "half.ckpt")
    content["alseg"]["images"] |= {"scale": 1.0, "size": [16, 96]}
    torch.save(content, tmp_path / "size.ckpt")
    half, fixed = (load_segmenter(tmp_path / f"{name}.ckpt", "cpu") for name in ("half", "size"))
    full, image, seen = load_segmenter(path, "cpu"), TRUTH.image(0), []
    small = np.array(Image.fromarray(image).resize((24, 16), Image.Resampling.BILINEAR))
    scores = torch.nn.functional.interpolate(
        full(full.normalized(small)), (32, 48), mode="bilinear"
    )
    assert np.array_equal(predict_labels(half, image), scores[0].argmax(dim=0))
    windowed = predict_labels(half, image, window=(32, 48))
    assert np.array_equal(windowed, predict_labels(full, image, scales=[0.5]))
    own = predict_labels(half, image, resize=False)
    assert np.array_equal(own, predict_labels(full, image))
    fixed.network.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-2:]))
    assert predict_labels(fixed, image, scales=[1, 0.5]).shape == (32, 48)
    assert seen == [(16, 96), (8, 48)]


def test_a_checkpoint_that_knows_its_network_only_is_used_with_warnings(runs, tmp_path, caplog):
    content = torch.load(runs["equal"][0], weights_only=True)
    content["alseg"]["images"] = {}
    torch.save(content, tmp_path / "bare.ckpt")
    model = load_segmenter(tmp_path / "bare.ckpt", "cpu")
    assert model.classes.names == ("class 0", "class 1", "class 2")
    assert np.array_equal(model.classes.colors, default_colors(4)[1:])
    assert model.mean == (0.485, 0.456, 0.406)
    assert "they are numbered and coloured by their ids" in caplog.text
    assert "mean and standard deviation of ImageNet are taken" in caplog.text


def test_a_network_that_a_method_wraps_is_found(runs, tmp_path):
    content = torch.load(runs["random"][0], weights_only=True)
    state = {f"network.{k}": v for k, v in content["state_dict"].items()}
    state |= {"network.network_of_another.classifier.conv.weight": torch.ones(1)}
    about = content["alseg"] | {"network_at": "network.network"}
    image = TRUTH.image(0)
    expected = predict_labels(load_segmenter(runs["random"][0], "cpu"), image)
    torch.save({"state_dict": state, "alseg": about}, tmp_path / "new.ckpt")
    model = load_segmenter(tmp_path / "new.ckpt", "cpu")
    assert np.array_equal(predict_labels(model, image), expected)


def test_bad_checkpoints_get_a_sentence(runs, tmp_path):
    (tmp_path / "run" / "stage").mkdir(parents=True)
    shutil.copy(runs["random"][0], tmp_path / "run" / "stage" / "last.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({"state_dict": {"encoder.weight": torch.ones(1)}}, tmp_path / "other.ckpt")
    torch.save({"encoder.weight": torch.ones(1)}, tmp_path / "plain.ckpt")
    torch.save({"state_dict": {"network.x": np.random.default_rng}}, tmp_path / "code.ckpt")
    content = torch.load(runs["random"][0], weights_only=True)
    content["alseg"]["network"]["outputs"] = 5
    torch.save(content, tmp_path / "wrong.ckpt")
    del content["alseg"]
    torch.save(content, tmp_path / "silent.ckpt")
    for path, sentence in [
        ("none.ckpt", "there is no checkpoint"),
        ("run", r"is a folder; give a checkpoint file, such as .*last\.ckpt"),
        ("text.ckpt", "cannot be read as a checkpoint"),
        ("code.ckpt", "cannot be read as a checkpoint"),
        ("plain.ckpt", "is no checkpoint of a run"),
        ("other.ckpt", "holds no segmentation network of alseg"),
        ("silent.ckpt", "holds no segmentation network of alseg, or does not describe it"),
        ("wrong.ckpt", "does not hold the Unet with tu-test_resnet"),
    ]:
        with pytest.raises(UserError, match=sentence):
            load_segmenter(tmp_path / path)


def test_all_bad_files_are_told_before_anything_is_written(runs, photos, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(photos, bad)
    (bad / "images/cut.png").write_bytes((bad / "images/a/x.png").read_bytes()[:900])
    Image.fromarray(TRUTH.truth(0)).save(bad / "masks/cut.png")
    Image.fromarray(TRUTH.image(0)).save(bad / "images/alone.png")
    Image.fromarray(np.full((32, 48), 3, np.uint8)).save(bad / "masks/a/x.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(bad / "masks/b/c/x.png")
    with pytest.raises(UserError, match="images without a mask") as error:
        start(runs, bad, tmp_path / "out", f"masks={bad / 'masks'}")
    assert "alone.png" in str(error.value)
    (bad / "images/alone.png").unlink()
    with pytest.raises(UserError) as error:
        start(runs, bad, tmp_path / "out", f"masks={bad / 'masks'}")
    text = str(error.value)
    assert "cut.png" in text
    assert "x.png: image 32 x 48, mask 8 x 8" in text
    assert "ids outside the class table (1)" in text
    assert not (tmp_path / "out").exists()


def test_masks_of_colours_and_of_more_void_ids(runs, photos, tmp_path):
    expected = start(runs, photos, tmp_path / "o", f"masks={photos / 'masks'}")
    for kind in ("colors", "ids"):
        for name in ("a/x", "b/c/x"):
            labels = np.array(Image.open(photos / "masks" / f"{name}.png"))
            path = tmp_path / kind / f"{name}.png"
            path.parent.mkdir(parents=True)
            if kind == "colors":
                table = np.zeros((256, 3), np.uint8)
                table[:3] = COLORS
                Image.fromarray(table[labels]).save(path)
            else:
                Image.fromarray(np.where(labels == VOID, 7, labels).astype(np.uint8)).save(path)
    for kind, void in (("colors", '"#000000"'), ("ids", "7")):
        given = (runs, photos, tmp_path / "o", f"masks={tmp_path / kind}")
        assert start(*given, f"ignore=[{void}]") == expected
        with pytest.raises(UserError, match=f"{'colours' if kind == 'colors' else 'ids'} outside"):
            start(*given)
    with pytest.raises(UserError, match="ignore holds 1, which stands for the class 'green'"):
        start(runs, photos, tmp_path / "o", f"masks={photos / 'masks'}", "ignore=[1]")


def test_results_may_not_lie_among_the_images(runs, photos, tmp_path):
    for where in (photos / "images", photos / "images" / "a"):
        with pytest.raises(UserError, match="lies in images="):
            start(runs, photos, where)
    masks = photos / "masks"
    with pytest.raises(UserError, match="lies in masks="):
        start(runs, photos, masks / "out", f"masks={masks}")
    assert not (photos / "images" / "labels").exists()


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("checkpiont=x", "unknown option 'checkpiont'; did you mean 'checkpoint'"),
        ("photos", "cannot read 'photos'; options are written name=value"),
        ("window=[3]", r"cannot use window=\[3\]; it must be a list \[...\] of 2 whole numbers or"),
        ("window=[0,4]", r"window is \[0, 4\]"),
        ("window=4", "cannot use window=4"),
        ("scales=[1,", r"cannot use scales=\[1,"),
        ("scales=[]", r"scales is \[\]; give one or more factors"),
        ("scales=[1,-1]", r"scales is \[1.0, -1.0\]"),
        ("overlap=1", "overlap is 1.0; it is a share"),
        ("flip=maybe", "cannot use flip=maybe"),
        ("max_pixels=0", "max_pixels is 0"),
        ("device=tpu", "unknown device 'tpu'"),
        ("precision=16", "unknown precision '16'"),
        ("out=", "out is empty"),
    ],
)
def test_bad_options_get_a_sentence(argument, sentence):
    with pytest.raises(UserError, match=sentence):
        options_from(["checkpoint=c", "images=i", "out=o", argument])


def test_options_are_read_as_they_are_written():
    given = ["checkpoint=a b=c.ckpt", "images=1e3", "out=~/x", "masks=null", "scales=[0.5,1]"]
    options = options_from([*given, "window=[3,4]", "ignore=[11]", "flip=true"])
    assert (options.checkpoint, options.images, options.masks) == ("a b=c.ckpt", "1e3", None)
    assert (options.scales, list(options.window)) == ([0.5, 1.0], [3, 4])
    assert (options.ignore, options.flip) == (["11"], True)
    assert options.label_map("a/x") == Path.home() / "x/labels/a/x.png"
    with pytest.raises(UserError, match="images is empty; give images=PATH"):
        predict(options_from(["checkpoint=c", "out=o"]))


def test_a_device_that_is_not_there(runs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no GPU"):
        load_segmenter(runs["random"][0], device="cuda")
    assert load_segmenter(runs["random"][0]).device.type == "cpu"


def test_help_explains_every_option_and_errors_end_with_status_2(capsys):
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.strip() == help_text()
    lines = help_text().splitlines()
    heads = [i for i, line in enumerate(lines) if re.match(r"  \w+ = ", line)]
    assert len(heads) == 18
    assert all(lines[i + 1].startswith("      ") for i in heads)
    assert main(["checkpoint=none.ckpt", "images=.", "out=/nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: there is no checkpoint none.ckpt")


def test_the_command_in_a_process_of_its_own(runs, photos, tmp_path):
    given = [f"checkpoint={runs['random'][0]}", f"images={photos / 'images/a/x.png'}"]
    command = [sys.executable, "-m", "alseg.predict", *given, f"out={tmp_path}", "device=cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "1 predicted, 0 skipped" in done.stdout
    assert "x (1/1): 100%" in done.stderr
    assert {path.name for path in tmp_path.rglob("*.*")} == {"x.png", "x.jpg"}
    script = (
        "import sys; from alseg.cli.predict import main; main(['--help']); "
        "print(sorted({'torch', 'lightning', 'cv2', 'faiss', 'skimage'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
