"""Measuring a folder of checkpoints, as a user meets it."""

import csv
import json
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

import alseg.cli.evaluate
from alseg.active.driver import drive
from alseg.cli.evaluate import choose, curve, evaluate, help_text, main, options_from
from alseg.core.errors import UserError
from alseg.core.images import VOID, DataSplits
from alseg.inference.trained import load_segmenter, predict_labels, read_checkpoint
from alseg.methods.mulquery.method import MulQuery
from alseg.nn.segmenter import build_segmenter
from alseg.report.page import write_chart
from tests.cli.test_predict import NETWORK, SHORT
from tests.toys import COLORS, ToyImages, toy_run

VAL, TEST = ToyImages(3, seed=1), ToyImages(2, seed=2)
CLASSES = ["red", "green", "blue"]


def write_checkpoint(path, seed, batches=None, classes=CLASSES):
    """A network with random weights, described as a run describes it."""
    torch.manual_seed(seed)
    network = build_segmenter(
        NETWORK.architecture, NETWORK.encoder, None, len(classes), False, NETWORK.options
    )
    network.classifier.conv.weight.data *= 30  # an untrained network predicts one class only
    network.classifier.conv.bias.data.normal_(std=0.05)
    images = {
        "classes": list(classes), "colors": COLORS[: len(classes)].tolist(),
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "scale": 1.0,
    }  # fmt: skip
    content = {
        "state_dict": {f"network.{name}": value for name, value in network.state_dict().items()},
        "alseg": {
            "network": network.description, "network_at": "network", "num_classes": len(classes),
            "temperature": 1.0, "images": images,
        },
    }  # fmt: skip
    if batches is not None:
        progress = {"epoch_loop.batch_progress": {"total": {"processed": batches}}}
        content |= {"loops": {"fit_loop": progress}, "global_step": 2 * batches}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


def write_images(root, images):
    for index, name in enumerate(images.names):
        for kind, pixels in (("images", images.image(index)), ("masks", images.truth(index))):
            path = root / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three checkpoints, whose names are in another order than their training, and two splits."""
    root = tmp_path_factory.mktemp("files")
    for name, seed, batches in (("c", 5, 100), ("a", 6, 200), ("b", 7, 300)):
        write_checkpoint(root / "checkpoints" / f"{name}.ckpt", seed, batches)
    write_images(root / "val", VAL)
    write_images(root / "test", TEST)
    return root


def begin(files, out, *more, checkpoints=None, test=False):
    given = [
        f"checkpoints={checkpoints or files / 'checkpoints'}",
        f"images={files / 'val/images'}",
        f"masks={files / 'val/masks'}",
        f"out={out}",
        "device=cpu",
        "progress=false",
    ]
    if test:
        given += [f"test_images={files / 'test/images'}", f"test_masks={files / 'test/masks'}"]
    return evaluate(options_from([*given, *more]))


def slow_iou(checkpoint, images):
    """IoU of every class, pixel by pixel."""
    model = load_segmenter(checkpoint, "cpu")
    common, either = [0] * 3, [0] * 3
    for index in range(len(images)):
        labels, truth = predict_labels(model, images.image(index)), images.truth(index)
        for guess, wanted in zip(labels.ravel().tolist(), truth.ravel().tolist(), strict=True):
            if wanted != VOID:
                for number in range(3):
                    common[number] += guess == wanted == number
                    either[number] += number in (guess, wanted)
    return [a / b for a, b in zip(common, either, strict=True)]


@pytest.fixture
def counted(monkeypatch):
    """Names of the checkpoints that are loaded, one by one."""
    loaded = []

    def load(checkpoint, *more):
        loaded.append(Path(checkpoint).name)
        return load_segmenter(checkpoint, *more)

    monkeypatch.setattr(alseg.cli.evaluate, "load_segmenter", load)
    return loaded


def test_every_checkpoint_is_measured_in_the_order_of_training(files, tmp_path, capsys):
    rows = begin(files, tmp_path)
    assert [(row["checkpoint"], row["step"]) for row in rows] == [
        ("c.ckpt", 100), ("a.ckpt", 200), ("b.ckpt", 300),
    ]  # fmt: skip
    for row in rows:
        path = files / "checkpoints" / row["checkpoint"]
        expected = slow_iou(path, VAL)
        assert [row[f"iou_{name}"] for name in CLASSES] == pytest.approx(expected, abs=1e-12)
        assert row["miou"] == pytest.approx(sum(expected) / 3, abs=1e-12)
        house = MulticlassJaccardIndex(3, average="macro", ignore_index=VOID)
        model = load_segmenter(path, "cpu")
        for index in range(len(VAL)):
            labels = predict_labels(model, VAL.image(index)).astype(int)
            house.update(torch.from_numpy(labels), torch.from_numpy(VAL.truth(index)))
        assert row["miou"] == pytest.approx(float(house.compute()), abs=1e-6)
        assert (row["images"], row["pixels"]) == (3, 3 * 30 * 48)  # two rows of each are void
    values = [row["miou"] for row in rows]
    assert len(set(values)) == 3, "or nothing is chosen"
    best = values.index(max(values))
    assert rows[best]["chosen"].split()[0] == "best"
    assert rows[2]["chosen"].split()[-1] == "last"
    assert sum(row["chosen"] != "" for row in rows) == len({best, 2})
    assert json.loads((tmp_path / "evaluation.json").read_text()) == rows
    with (tmp_path / "evaluation.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == [
        "checkpoint", "step", "chosen", "images", "pixels", "miou", "iou_red", "iou_green",
        "iou_blue",
    ]  # fmt: skip
    assert [float(line["miou"]) for line in table] == pytest.approx(values, abs=1e-5)
    said = capsys.readouterr().out
    assert "3 measured, 0 skipped" in said
    assert f"best on validation: {rows[best]['checkpoint']}, {100 * max(values):.2f} %" in said
    assert f"last: b.ckpt, {100 * values[2]:.2f} %" in said
    assert "test images" not in said


def test_test_images_are_for_the_chosen_ones(files, tmp_path, counted, capsys):
    rows = begin(files, tmp_path, test=True)
    best = choose(rows)
    assert best != 2, "or the best is the last"
    chosen = [rows[best]["checkpoint"], "b.ckpt"]
    assert counted == ["c.ckpt", "a.ckpt", "b.ckpt", *chosen]
    for row in rows:
        columns = {name for name in row if name.startswith("test_")}
        if row["checkpoint"] in chosen:
            expected = slow_iou(files / "checkpoints" / row["checkpoint"], TEST)
            assert row["test_miou"] == pytest.approx(sum(expected) / 3, abs=1e-12)
            assert row["test_iou_green"] == pytest.approx(expected[1], abs=1e-12)
            assert row["test_images"] == 2
        else:
            assert not columns
    said = capsys.readouterr().out
    assert f"on the test images {100 * rows[2]['test_miou']:.2f} %" in said
    assert "shown to these two only; they chose nothing" in said
    del counted[:]
    assert begin(files, tmp_path, test=True) == rows
    assert counted == []
    assert begin(files, tmp_path) == [
        {name: value for name, value in row.items() if not name.startswith("test_")} for row in rows
    ]


def test_the_best_on_the_test_images_on_request(files, tmp_path, counted, capsys):
    """As a script does that shows all checkpoints to its test list; the results say so."""
    rows = begin(files, tmp_path, "choose_on=test", test=True)
    assert counted == ["c.ckpt", "a.ckpt", "b.ckpt"]
    expected = [sum(slow_iou(files / "checkpoints" / row["checkpoint"], TEST)) / 3 for row in rows]
    assert [row["miou"] for row in rows] == pytest.approx(expected, abs=1e-12)
    assert rows[choose(rows)]["chosen"].startswith("best on test")
    said = capsys.readouterr().out
    assert "best on test: " in said
    assert "validation" not in said
    assert "The best of 3 was chosen on the test images: its number is higher" in said
    assert "Checkpoints on test images" in (tmp_path / "curve.html").read_text()
    with pytest.raises(UserError, match="there are no test images; give test_images"):
        begin(files, tmp_path, "choose_on=test")
    with pytest.raises(UserError, match="unknown choose_on 'train'"):
        begin(files, tmp_path, "choose_on=train")


def test_without_images_to_choose_on_the_last_is_measured(files, tmp_path, counted, capsys):
    """A data set whose validation images are in the pool."""
    data = Pooled(ToyImages(2, seed=3))
    given = [f"checkpoints={files / 'checkpoints'}", f"out={tmp_path}", "progress=false"]
    (row,) = evaluate(options_from(given), data)
    assert counted == ["b.ckpt"]
    assert (row["checkpoint"], row["images"]) == ("b.ckpt", 2)
    said = capsys.readouterr().out
    assert "nothing to choose a checkpoint on: the last one alone is measured" in said
    assert len(evaluate(options_from([*given, "choose_on=test"]), data)) == 3


class Pooled:
    """A data set without validation images."""

    evaluate = "test"
    val_in_pool = True

    def __init__(self, images):
        self.images = images

    def splits(self, progress, cache):
        return DataSplits(self.images, self.images)


def test_the_test_split_chooses_nothing(files, tmp_path):
    """Whatever the test images are, the same checkpoints are chosen."""
    plain = begin(files, tmp_path / "a")
    swapped = tmp_path / "files"
    shutil.copytree(files / "val", swapped / "test")
    shutil.copytree(files / "val", swapped / "val")
    for path in (swapped / "test/images").iterdir():  # by their content other images
        image = np.array(Image.open(path))
        image[0, 0] ^= 1
        Image.fromarray(image).save(path)
    for path in (swapped / "test/masks").iterdir():  # the order of quality turns round
        labels = np.array(Image.open(path))
        Image.fromarray(np.where(labels == VOID, VOID, 2 - labels).astype(np.uint8)).save(path)
    tested = begin(swapped, tmp_path / "b", checkpoints=files / "checkpoints", test=True)
    assert [row["chosen"] for row in plain] == [row["chosen"] for row in tested]


def test_what_is_measured_is_not_measured_again(files, tmp_path, counted, monkeypatch):
    folder = tmp_path / "checkpoints"
    shutil.copytree(files / "checkpoints", folder)
    (folder / "b.ckpt").unlink()
    whole = begin(files, tmp_path / "whole", checkpoints=folder)
    out = tmp_path / "out"
    del counted[:]
    measure = alseg.cli.evaluate._measure

    def killed(options, candidate, *more):
        if candidate.name == "a.ckpt":
            raise KeyboardInterrupt
        return measure(options, candidate, *more)

    monkeypatch.setattr(alseg.cli.evaluate, "_measure", killed)
    with pytest.raises(KeyboardInterrupt):
        begin(files, out, checkpoints=folder)
    monkeypatch.setattr(alseg.cli.evaluate, "_measure", measure)
    assert counted == ["c.ckpt"]
    assert begin(files, out, checkpoints=folder) == whole
    assert counted == ["c.ckpt", "a.ckpt"]
    shutil.copy(files / "checkpoints/b.ckpt", folder)  # training goes on
    rows = begin(files, out, checkpoints=folder)
    assert counted == ["c.ckpt", "a.ckpt", "b.ckpt"]
    assert [row["chosen"].split()[-1:] for row in rows][-1] == ["last"]
    assert rows == begin(files, tmp_path / "other", checkpoints=files / "checkpoints")
    del counted[:]
    shutil.copy(folder / "b.ckpt", folder / "a.ckpt")  # another file under a name that is known
    again = begin(files, out, checkpoints=folder)
    assert counted == []
    assert [row["checkpoint"] for row in again] == ["c.ckpt", "a.ckpt", "b.ckpt"]
    assert again[1]["miou"] == again[2]["miou"] == rows[2]["miou"]
    begin(files, out, "flip=true", checkpoints=folder)
    assert counted == ["c.ckpt", "a.ckpt"], "equal files are measured once"
    (out / "evaluation.json").write_text("[{")
    with pytest.raises(UserError, match=r"evaluation\.json cannot be read as an earlier"):
        begin(files, out, checkpoints=folder)


def test_masks_that_change_are_measured_again(files, tmp_path, counted):
    root = tmp_path / "files"
    shutil.copytree(files, root)
    first = begin(root, tmp_path / "out")
    path = root / "val/masks/toy_00.png"
    Image.fromarray(np.full((32, 48), VOID, np.uint8)).save(path)
    second = begin(root, tmp_path / "out")
    assert len(counted) == 6
    assert second[0]["pixels"] == first[0]["pixels"] - 30 * 48


def test_steps_of_names_and_of_none(files, tmp_path):
    folder = tmp_path / "checkpoints"
    for number in (10, 9, 100):
        write_checkpoint(folder / f"step_{number}.ckpt", number)
    rows = begin(files, tmp_path / "out", checkpoints=folder)
    assert [row["step"] for row in rows] == [9, 10, 100]
    write_checkpoint(folder / "model.ckpt", 0)
    with pytest.raises(UserError, match=r"model\.ckpt does not say how long it was trained"):
        begin(files, tmp_path / "out", checkpoints=folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    method = MulQuery(**SHORT, stage_two_steps=2, stage_two_batch_size=2, keep="best")
    rows = drive(toy_run(root, rounds=2, method=method, network=NETWORK))
    (root / "config.yaml").write_text("")
    return root, rows


def test_rounds_of_a_run(files, run, tmp_path):
    root, rows = run
    with pytest.raises(UserError, match="several stages; give stage=stage_one or stage=stage_two"):
        begin(files, tmp_path, checkpoints=root)
    with pytest.raises(UserError, match="unknown stage 'stage_tow'; did you mean 'stage_two'"):
        begin(files, tmp_path, "stage=stage_tow", checkpoints=root)
    write_images(tmp_path / "val", ToyImages(2, seed=1))  # what toy runs are evaluated on
    found = begin(tmp_path, tmp_path / "out", "stage=stage_two", checkpoints=root)
    assert [row["round"] for row in found] == [row["round"] for row in rows]
    assert [row["checkpoint"] for row in found] == [
        f"round_{row['round']:03d}/stage_two/best.ckpt" for row in rows
    ]
    for measured, row in zip(found, rows, strict=True):
        assert measured["miou"] == pytest.approx(row["miou"], abs=1e-6)
    stage = root / "round_000" / "stage_two"
    assert read_checkpoint(stage / "last.ckpt").batches == 2
    several = begin(files, tmp_path / "stage", checkpoints=stage)
    assert {row["checkpoint"] for row in several} == {"best.ckpt", "last.ckpt"}
    with pytest.raises(UserError, match="stage=x is for run folders"):
        begin(files, tmp_path, "stage=x", checkpoints=stage)
    with pytest.raises(UserError, match=r"holds no \.ckpt file .* such as .*round_000/stage_one"):
        begin(files, tmp_path, checkpoints=root / "round_000")


def test_bad_input_is_told_before_the_work(files, tmp_path, counted):
    (tmp_path / "empty").mkdir()
    bad = tmp_path / "bad"
    shutil.copytree(files, bad)
    write_checkpoint(bad / "checkpoints/d.ckpt", 0, 400, ["red", "green"])
    Image.fromarray(np.full((32, 48), 3, np.uint8)).save(bad / "val/masks/toy_00.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(bad / "val/masks/toy_01.png")
    out = tmp_path / "out"
    for more, sentence in [
        ([f"checkpoints={tmp_path / 'none'}"], "none is not a folder"),
        ([f"checkpoints={tmp_path / 'empty'}"], r"holds no \.ckpt file and is no run folder"),
        ([f"checkpoints={bad / 'checkpoints'}"], r"d\.ckpt knows 2 classes \(red, green\), .* 3"),
        ([f"masks={bad / 'val/masks'}"], "(?s)mask 8 x 8.*ids outside the class table"),
        ([f"masks={files / 'test/images'}"], "images without a mask"),
        ([f"masks={files / 'test'}"], "images without a mask"),
        ([f"images={tmp_path / 'none'}"], "is no folder, no image"),
        ([f"test_images={files / 'test/images'}"], "test_images and test_masks belong together"),
        (
            [f"test_images={files / 'val/images'}", f"test_masks={files / 'val/masks'}"],
            "toy_00 is among images= and test_images=, by its content",
        ),
        ([f"out={files / 'val/images/x'}"], "lies in images="),
        (["out="], "out is empty"),
    ]:
        with pytest.raises(UserError, match=sentence):
            begin(files, out, *more)
    assert not out.exists()
    assert not counted


def test_curve(tmp_path):
    def row(step, miou):
        return {"checkpoint": f"{step}.ckpt", "step": step, "miou": miou}

    rows = [row(100, 0.25), row(200, 0.5), row(300, None), row(400, 0.5), row(500, 0.375)]
    assert choose(rows) == 1
    chart = curve(rows, "step")
    line, best, last = chart.lines
    assert len(line.marks) == 4, "not the one without a value"
    assert [(m.x, m.y) for m in (*best.marks, *last.marks)] == [
        (line.marks[1].x, line.marks[1].y), (line.marks[3].x, line.marks[3].y),
    ]  # fmt: skip
    heights = [mark.y for mark in line.marks]
    assert heights[0] - heights[3] == pytest.approx((heights[0] - heights[1]) / 2, abs=0.2)
    assert (best.name, last.name) == ("best: step 200, 50.00 %", "last: step 500, 37.50 %")
    assert (chart.x_label, chart.y_label) == ("Batches trained on", "mIoU, %")
    assert line.marks[0].title == "100.ckpt: 25.00 %"
    one = curve([{"checkpoint": "a & b", "round": 0, "miou": 0.5}], "round")
    assert one.lines[1].name == "best and last: round 0, 50.00 %"
    page = write_chart("Checkpoints", [("Best", "a & b")], one, tmp_path / "curve.html")
    text = page.read_text()
    assert "a &amp; b: 50.00 %" in text
    assert "best and last: round 0, 50.00 %" in text


def test_help_explains_every_option_and_errors_end_with_status_2(capsys):
    assert main(["--help"]) == 0
    assert capsys.readouterr().out.strip() == help_text()
    heads = [line for line in help_text().splitlines() if re.match(r"  \w+ = ", line)]
    assert [line.split()[0] for line in heads[:7]] == [
        "checkpoints", "out", "images", "masks", "test_images", "test_masks", "stage",
    ]  # fmt: skip
    assert len(heads) == 20
    assert main(["checkpoints=none", "images=.", "masks=.", "out=/nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: checkpoints=none is not a folder")


def test_the_command_in_a_process_of_its_own(files, tmp_path):
    given = [
        f"checkpoints={files / 'checkpoints'}", f"images={files / 'val/images'}",
        f"masks={files / 'val/masks'}", f"out={tmp_path}", "device=cpu",
    ]  # fmt: skip
    command = [sys.executable, "-m", "alseg.evaluate", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "3 measured, 0 skipped" in done.stdout
    assert "validation, b.ckpt: 100%" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "evaluation.csv", "evaluation.json", "curve.html",
    }  # fmt: skip
