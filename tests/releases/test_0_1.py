"""What release 0.1 wrote still opens: a run folder of two rounds, and the checkpoint of the second.

`0.1/run.tar.xz` was made by that release with the words in its `words.txt`; `labels.npy` is what
its `predict_labels` gave for an image of seeded noise. Round 0's checkpoint is left out.
"""

import csv
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from alseg.cli import evaluate, report, run
from alseg.inference.trained import load_segmenter, predict_labels
from alseg.labels.tables import Query
from tests.data.make import ids, picture, save


@pytest.fixture
def old(tmp_path, monkeypatch):
    with tarfile.open(Path(__file__).with_name("0.1") / "run.tar.xz") as packed:
        packed.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    return tmp_path


def words(old):
    return (old / "words.txt").read_text().split()


def test_the_checkpoint_predicts_what_it_did(old):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    model = load_segmenter(old / "run/round_001/train/last.ckpt")
    labels = predict_labels(model, image)
    assert np.mean(labels == np.load(old / "labels.npy")) > 0.999  # another machine's rounding
    assert len(np.unique(labels)) == 9


def test_the_checkpoint_is_evaluated(old):
    for n in range(2):
        save(old / f"images/{n}.png", picture(48, 64, n))
        save(old / f"masks/{n}.png", ids(48, 64, n, 10))
    given = ["checkpoints=run/round_001/train", "images=images", "masks=masks", "out=measured"]
    assert evaluate.main(given) == 0
    with (old / "measured/evaluation.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert 0 < float(row["miou"]) < 100


def test_the_same_command_finds_the_run_done_and_reports_it(old, capsys):
    before = {path: path.read_bytes() for path in (old / "run").rglob("*.npz")}
    rows = (old / "run/rounds.csv").read_text().splitlines()
    assert run.main(words(old)) == 0, capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in (old / "run").rglob("*.npz")}
    assert len((old / "run/rounds.csv").read_text().splitlines()) == len(rows) == 3
    assert report.main(["run"]) == 0
    assert "<html" in (old / "run/report.html").read_text()


def test_a_run_that_was_stopped_goes_on(old, capsys):
    """Round 1 was bought and not trained: it is trained, and nothing is bought twice."""
    shutil.rmtree(old / "run/round_001/train")
    (old / "run/round_001/metrics.json").unlink()
    rows = (old / "run/rounds.csv").read_text().splitlines()
    (old / "run/rounds.csv").write_text("\n".join(rows[:2]) + "\n")
    bought = Query.load(old / "run/round_001/query.npz")
    assert run.main(words(old)) == 0, capsys.readouterr().err
    again = Query.load(old / "run/round_001/query.npz")
    assert np.array_equal(bought.unit, again.unit)
    assert (old / "run/round_001/train/last.ckpt").exists()
    assert len((old / "run/rounds.csv").read_text().splitlines()) == 3


def test_another_command_is_refused_with_the_difference(old, capsys):
    assert run.main([*words(old), "seed=3"]) == 2
    assert "seed" in capsys.readouterr().err
