"""Whole runs of adaptive superpixels: three rounds, cut off, repeated, and measured."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from alseg.active import ledger
from alseg.active.driver import buy, drive
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.supervision import LabelFiles
from alseg.labels.tables import Answers, Query
from alseg.methods.adaptive_superpixel import module as modules
from alseg.methods.adaptive_superpixel.method import AdaptiveSuperpixel
from alseg.methods.adaptive_superpixel.module import Merger, Predictions, Sieve
from alseg.methods.baselines.random import Random
from benchmarks.bench_adaptive_superpixel import direct_knee
from tests.kills import Killed, at_call
from tests.toys import BlockMaps, toy_run

STEPS = 10
METHOD = AdaptiveSuperpixel(
    steps=4, batch_size=2, epoch_steps=2, lr=1e-2, optimizer="adamw", eps=0.1,
    prediction_scale=0.75, sieve_steps=STEPS, sieve_above=1.0,
)  # fmt: skip
IMAGES = range(6)


class Shuffled(BlockMaps):
    """Blocks whose ids differ from image to image, so that merges of images cannot be mixed up."""

    def __getitem__(self, index):
        ids = np.random.default_rng(index).permutation(24).astype(np.int32)
        return ids[super().__getitem__(index)]


def adaptive_run(root, rounds=3, method=METHOD):
    run = toy_run(root, rounds=rounds, method=method, amount=30.0)
    run.pool.maps["blocks"] = Shuffled(run.pool.sizes)
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder, rows and pool of a run of three rounds; predictions stay in ``kept_<round>``."""
    root = tmp_path_factory.mktemp("whole") / "run"
    delete = Sieve.on_predict_end

    def keep(self):
        folder = self.predictions.folder
        shutil.copytree(folder, root / f"kept_{int(folder.parent.name[-3:])}")
        delete(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sieve, "on_predict_end", keep)
        run = adaptive_run(root)
        rows = drive(run)
    return root, rows, run.pool


def answers_of(root, round):
    return Answers.load(root / f"round_{round:03d}" / "answers.npz")


def slow_map(root, round, image):
    """The map a round asked about, from the files alone, pixel by pixel."""
    base = Shuffled([(32, 48)] * 6)[image]
    if not round:
        return base
    with np.load(root / f"round_{round:03d}" / "scores.npz") as file:
        roots = file["merges/root"][file["merges/image"] == image].tolist()
    return np.array([[roots[region] for region in row] for row in base.tolist()])


def slow_labels(root, now, image, probabilities=None):
    """F14, with F13 where there are probabilities."""
    labels = np.full((32, 48), VOID, dtype=np.uint8)
    for round in range(now + 1):
        regions, answers = slow_map(root, round, image), answers_of(root, round)
        for row in np.flatnonzero(answers.image == image):
            label, inside = int(answers.label[row]), regions == answers.unit[row]
            assert inside.any()
            if label == VOID:
                continue
            if probabilities is not None and inside.sum() >= 64:
                at = np.argwhere(inside)
                q = np.array([probabilities[label, y * 24 // 32, x * 36 // 48] for y, x in at])
                curve = np.sort(q)[:: max(1, len(q) // STEPS)]
                limit = curve[direct_knee(curve.astype(np.float64).tolist())]
                for (y, x), value in zip(at, q, strict=True):
                    inside[y, x] = value >= limit
            labels[inside] = label
    return labels


def label_file(root, round, image):
    return np.asarray(Image.open(root / f"round_{round:03d}" / "train" / "labels" / f"{image}.png"))


def test_every_round_asks_about_maps_of_its_own(finished):
    root, rows, pool = finished
    assert [row["round"] for row in rows] == [0, 1, 2]
    versions = ["blocks", "blocks-merged-001", "blocks-merged-002"]
    assert list(pool.maps) == versions
    assert [answers.regions for answers in pool.history] == versions
    different = 0
    for round, version in enumerate(versions):
        query = Query.load(root / f"round_{round:03d}" / "query.npz")
        assert query.regions == version
        assert np.array_equal(query.unit, pool.history[round].unit)
        for image in IMAGES:
            expected = slow_map(root, round, image)
            assert np.array_equal(pool.maps[version][image], expected)
            asked = query.unit[query.image == image]
            assert np.isin(asked, expected).all()
            different += len(np.unique(expected)) != 24
    assert 0 < different <= 12


def test_maps_are_made_again_after_a_restart(finished):
    root, _, pool = finished
    run = adaptive_run(root)
    for round in range(3):
        assert buy(run, round)
    assert list(run.pool.maps) == list(pool.maps)
    for version, maps in pool.maps.items():
        for image in IMAGES:
            assert np.array_equal(run.pool.maps[version][image], maps[image])
            assert np.array_equal(run.pool.render(image), pool.render(image))
    assert buy(run, 2), "maps that are there are not added again"


def test_answers_of_several_maps_are_painted_in_their_order(finished):
    root, _, pool = finished
    overlaps = 0
    for image in IMAGES:
        expected = slow_labels(root, 2, image)
        assert np.array_equal(pool.render(image), expected)
        overlaps += (expected != slow_labels(root, 0, image))[
            slow_labels(root, 0, image) != VOID
        ].any()
    assert overlaps, "some answer overrules an earlier one"


def stored(root, round, image):
    with np.load(root / f"kept_{round}" / f"{image}.npz") as file:
        logits, canvas = torch.from_numpy(file["logits"]).float(), tuple(file["canvas"].tolist())
        assert file["size"].tolist() == [24, 36]
    full = F.interpolate(logits[None], canvas, mode="bilinear", align_corners=False)
    return full[0, :, :24, :36].softmax(dim=0).numpy()


def test_label_files_are_sieved_by_the_model_of_the_round_before(finished):
    root, _, _ = finished
    assert not (root / "round_000" / "train" / "labels").exists()
    removed = 0
    for round in (1, 2):
        with np.load(root / f"kept_{round}" / "0.npz") as file:
            assert file["logits"].dtype == np.float16
        known = {int(i) for r in range(round + 1) for i in answers_of(root, r).image}
        files = sorted((root / f"round_{round:03d}" / "train" / "labels").iterdir())
        assert [path.name for path in files] == [f"{image}.png" for image in sorted(known)]
        for image in known:
            found = label_file(root, round, image)
            assert found.dtype == np.uint8
            expected = slow_labels(root, round, image, stored(root, round, image))
            assert np.array_equal(found, expected)
            removed += int((expected != slow_labels(root, round, image)).sum())
    assert removed > 0
    assert not list(root.glob("round_*/predictions")), "they are deleted when they have served"


def test_measures_are_columns(finished):
    root, rows, _ = finished
    images = adaptive_run(root).splits.train
    names = ["region_pixels", "noise_answered", "noise_learnt", "sieved_share"]
    with (root / "rounds.csv").open() as file:
        written = list(csv.DictReader(file))
    columns = list(written[0])
    assert columns.index("miou") < columns.index(names[0]) < columns.index("iou_red")
    shares = []
    for round in range(3):
        sizes = [
            int((slow_map(root, round, image) == unit).sum())
            for image, unit in zip(
                answers_of(root, round).image, answers_of(root, round).unit, strict=True
            )
        ]
        counts = {"answered": [0, 0, 0], "learnt": [0, 0, 0]}  # labelled, on a class, wrong
        for image in {int(i) for r in range(round + 1) for i in answers_of(root, r).image}:
            maps = {"answered": slow_labels(root, round, image)}
            maps["learnt"] = label_file(root, round, image) if round else maps["answered"]
            truth = images.truth(image)
            for name, labels in maps.items():
                for label, true in zip(labels.flat, truth.flat, strict=True):
                    counts[name][0] += label != VOID
                    counts[name][1] += label != VOID and true != VOID
                    counts[name][2] += label != VOID and true not in (VOID, label)
        expected = [
            np.mean(sizes),
            counts["answered"][2] / counts["answered"][1],
            counts["learnt"][2] / counts["learnt"][1],
            1 - counts["learnt"][0] / counts["answered"][0],
        ]
        shares.append(expected[-1])
        stored = json.loads((root / f"round_{round:03d}" / "metrics.json").read_text())
        assert list(stored["measures"]) == names
        for source in (stored["measures"], rows[round], written[round]):
            assert [float(source[name]) for name in names] == pytest.approx(expected, rel=1e-5)
    assert shares[0] == 0
    assert max(shares) > 0


# where, and what is there then: scores, query, answers, label files, checkpoint of the next round
CUTS = {
    "in the pass": ((Merger, "predict_step", 2), [0, 0, 0, 0, 0]),
    "in the thread that merges": ((modules, "image_tables", 5), [0, 0, 0, 0, 0]),
    "before the tables are kept": ((ledger, "write_atomic", 1), [0, 0, 0, 0, 0]),
    "between tables and query": ((ledger.Ledger, "write_query", 1), [1, 0, 0, 0, 0]),
    "between query and answers": (
        (ledger.Ledger, "write_answers", 1),
        [1, 1, 0, 0, 0],
    ),
    "between answers and sieving": ((Sieve, "predict_step", 1), [1, 1, 1, 0, 0]),
    "half-way through the labels": ((LabelFiles, "write", 4), [1, 1, 1, 3, 0]),
    "when predictions are deleted": ((Sieve, "on_predict_end", 1), [1, 1, 1, 6, 0]),
    "inside training": ((Merger, "loss", 4), [1, 1, 1, 6, 1]),
}


def after_the_first_round(root, tmp_path):
    """A run that has bought, trained and measured round 0, and no more."""
    folder = tmp_path / "run" / "round_000"
    shutil.copytree(root / "round_000", folder)
    (folder / "scoring.json").unlink()
    return tmp_path / "run"


def state(root, round):
    """Everything a round leaves that decides what comes after it."""
    folder = root / f"round_{round:03d}"
    checkpoint = torch.load(folder / "train" / "last.ckpt", weights_only=True)
    files = [*folder.glob("*.npz"), *folder.glob("train/labels/*")]
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["train_s"]
    return (
        {str(path.relative_to(folder)): path.read_bytes() for path in files},
        {name: value.numpy().tobytes() for name, value in checkpoint["state_dict"].items()},
        metrics,
    )


@pytest.mark.parametrize("cut", CUTS)
def test_a_run_cut_off_anywhere_goes_on_bit_for_bit(finished, tmp_path, monkeypatch, cut):
    root, _, _ = finished
    copy = after_the_first_round(root, tmp_path)
    place, there = CUTS[cut]
    with monkeypatch.context() as patch:
        at_call(patch, *place)
        with pytest.raises(Killed):
            drive(adaptive_run(copy, rounds=2))
    folder = copy / "round_001"
    assert [
        *(int((folder / f"{name}.npz").exists()) for name in ("scores", "query", "answers")),
        len(list(folder.glob("train/labels/*.png"))),
        int((folder / "train" / "last.ckpt").exists()),
    ] == there
    drive(adaptive_run(copy, rounds=2))
    for mine, theirs in zip(state(copy, 1), state(root, 1), strict=True):
        assert mine == theirs
    files = {"scores.npz", "query.npz", "answers.npz", "train/labels/0.png"}
    assert files <= set(state(copy, 1)[0])


def test_another_run_repeats_the_purchases(finished, tmp_path):
    """With steps of its own, so that its predictions are others."""
    root, rows, pool = finished
    method = AdaptiveSuperpixel(
        steps=1, batch_size=2, epoch_steps=1, lr=1e-3, optimizer="adamw", prediction_scale=0.75,
        sieve_steps=STEPS, sieve_above=1.0,
    )  # fmt: skip
    run = adaptive_run(tmp_path / "run", rounds=4, method=method)
    run.replay = root
    again = drive(run)
    assert [row["clicks"] for row in again] == [row["clicks"] for row in rows]
    for round in range(3):
        for name in ("query", "answers", "scores"):
            if round or name != "scores":
                mine, theirs = (r / f"round_{round:03d}" / f"{name}.npz" for r in (run.root, root))
                assert mine.read_bytes() == theirs.read_bytes()
    for image in IMAGES:
        assert np.array_equal(run.pool.render(image), pool.render(image))
    assert not list(run.root.glob("round_*/predictions")), "nothing was scored"
    # sieved all the same, by its own network
    assert any(row["sieved_share"] > 0 for row in again[1:])


def test_a_method_without_these_maps_cannot_repeat_them(finished, tmp_path):
    root, _, _ = finished
    method = Random(steps=1, batch_size=2, epoch_steps=1, lr=1e-3)
    run = adaptive_run(tmp_path / "run", method=method)
    run.replay = root
    with pytest.raises(UserError, match=r"asks about the regions 'blocks-merged-001', which this"):
        drive(run)


def test_answers_are_sieved_without_stored_predictions(finished, tmp_path):
    """By the network of the round before, as after its predictions are deleted."""
    root, _, _ = finished
    copy = after_the_first_round(root, tmp_path)
    (copy / "round_001").mkdir()
    for name in ("scores", "query", "answers"):
        shutil.copy(root / "round_001" / f"{name}.npz", copy / "round_001")
    run = adaptive_run(copy)
    assert buy(run, 0)
    assert buy(run, 1)
    context = run.context(1)
    (stage,) = METHOD.stages(context)
    sieve, images = stage.prepare()
    assert images.tolist() == list(IMAGES)
    assert sieve.predictions.probabilities(0) is None
    batch = {
        "index": torch.from_numpy(images),
        "image": torch.stack(
            [run.datamodule.eval_transform(run.splits.train.image(i), {})[0] for i in images]
        ),
    }
    sieve.eval()
    with torch.no_grad():
        sieve.predict_step(batch, 0)
    wrong = [(label_file(copy, 1, i) != label_file(root, 1, i)).mean() for i in IMAGES]
    assert max(wrong) < 0.002, "batches of another size may round otherwise"
    sieve.predictions = Predictions(root / "kept_2")  # of another model
    with torch.no_grad():
        sieve.predict_step(batch, 0)
    assert any((label_file(copy, 1, i) != label_file(root, 1, i)).any() for i in IMAGES)
    assert stage.prepare() is None, "no file is missing"
    stage.supervision().path(3).unlink()
    assert stage.prepare().images.tolist() == [3]
