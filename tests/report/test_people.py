import json
from dataclasses import replace

import numpy as np
import pytest

from alseg.active.driver import drive
from alseg.core.images import VOID, DataSplits
from alseg.labels.oracle import SimulatedOracle
from alseg.labels.tables import Answers
from alseg.report.byhand import compare, predicted_entries
from alseg.report.folder import read_run
from alseg.report.observer import Reporter
from alseg.report.page import write_report
from alseg.report.people import annotators, model, pace
from tests.active.test_driver import bought, same_weights
from tests.label.rounds import KINDS, Asked
from tests.report.runs import Page, write_run
from tests.toys import ToyImages, toy_run


def right(images, index):
    """A model that knows the truth, and takes void for class 0."""
    truth = images.truth(index)
    return np.where(truth == VOID, 0, truth)


def wrong(images, index):
    return np.ones_like(images.truth(index))


@pytest.mark.parametrize("name", KINDS)
def test_answers_are_compared_with_what_the_model_says(name, tmp_path):
    asked = Asked(tmp_path, name)
    answers = asked.bought()
    found = compare(answers, asked.pool, asked.images, right)
    if name == "scene":
        assert found is None
        return
    counts = np.array(found["counts"])
    constant = np.array(compare(answers, asked.pool, asked.images, wrong)["counts"])
    assert found["images"] == found["of"] == len(np.unique(answers.image))
    assert found["names"] == [*asked.images.classes.names, "void"]
    if answers.sets is not None:
        members = answers.members()
        assert counts.sum(axis=(1, 2)).tolist() == [20] * 4
        assert counts[:, 1].sum(axis=1).tolist() == members.sum(axis=0).tolist()
        assert constant[1, 1, 1] == members[:, 1].sum()  # both name class 1
        assert constant[0, :, 1].sum() == 0  # it names no other
        return
    said = np.concatenate(answers.masks) if answers.masks else answers.label
    table = np.bincount(np.minimum(said, 3), minlength=4)
    assert counts.sum(axis=1).tolist() == table.tolist()
    assert constant[:, 1].tolist() == table.tolist()
    if name in ("pixel", "patch_mask", "image_mask"):  # no vote that void takes part in
        assert np.trace(counts) == table[:3].sum()


def test_what_nobody_was_sure_of_is_not_compared(tmp_path):
    asked = Asked(tmp_path, "superpixel")
    unsure = np.arange(20) < 7
    answers = replace(asked.bought(), unsure=unsure)
    assert compare(answers, asked.pool, asked.images, right)["questions"] == 13


def test_predictions_are_of_held_out_images_and_of_those_nothing_was_asked_of(tmp_path):
    asked = Asked(tmp_path, "superpixel", rows=3)
    answers = asked.bought()
    asked.pool.commit(answers)
    splits = DataSplits(asked.images, ToyImages(5, seed=9))
    entries = predicted_entries(asked.pool, splits, right, most=2)
    held = [entry for entry in entries if entry.caption.startswith("held out")]
    fresh = [entry for entry in entries if entry.caption.startswith("nothing asked")]
    assert [entry.image for entry in held] == [splits.val.names[0], splits.val.names[4]]
    shown = {asked.images.names[int(i)] for i in np.unique(answers.image)}
    assert {entry.image for entry in fresh} == {*asked.images.names} - shown
    for entry in entries:
        assert list(entry.pictures) == ["image", "prediction", "truth"]
        if VOID not in splits.val.truth(0):
            assert np.array_equal(entry.pictures["prediction"], entry.pictures["truth"])


def told(folder, number, name, **content):
    path = folder / f"round_{number:03d}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def test_pace_goes_by_the_order_of_answering(tmp_path):
    folder = write_run(tmp_path / "run", [0.3, 0.4])
    assert pace(read_run(folder)) is None
    told(folder, 0, "label/times.json", seconds=[5.0] * 30, rows=[*range(30)], by=["ann"] * 30)
    told(folder, 1, "label/times.json", seconds=[2.0] * 30, rows=[*range(30)], by=["ben"] * 30)
    found = pace(read_run(folder))
    assert [line.name for line in found.chart.lines] == ["ann", "ben"]
    assert "Median 3.5 s, in all 3.5 min." in found.text
    assert "The first third of the answers took 5.0 s each, the last 2.0 s." in found.text
    ann, ben = ([mark.title for mark in line.marks] for line in found.chart.lines)
    assert ann[0] == "ann: 5.0 s at answer 1"
    assert ben[-1] == "ben: 2.0 s at answer 60"


def test_agreement_adds_up_over_the_rounds(tmp_path):
    folder = write_run(tmp_path / "run", [0.3, 0.4])
    assert annotators(read_run(folder)) == []
    same = {"answer": "class", "names": ["sky", "road", "void"]}
    told(folder, 0, "label/agreement.json", **same, questions=25, kappa=0.5,
         counts=[[20, 5, 0], [0, 0, 0], [0, 0, 0]])  # fmt: skip
    told(folder, 1, "label/agreement.json", **same, questions=25, kappa=0.5,
         counts=[[0, 0, 0], [10, 15, 0], [0, 0, 0]])  # fmt: skip
    (table,) = annotators(read_run(folder))
    # 35 of 50 alike, by chance 0.5 * 0.6 + 0.5 * 0.4
    assert "50 questions were asked twice. Cohen's kappa 0.40" in table.text[0]
    assert table.header == ["First answer", "sky", "road"]
    assert [(name, [cell.text for cell in cells]) for name, cells in table.rows] == [
        ("sky", ["20", "5"]),
        ("road", ["10", "15"]),
    ]
    page = Page(write_report(folder).read_text("utf-8"))
    (section,) = page.find("section", id="annotators")
    assert "15" in [cell["text"] for cell in page.find("td", within=section)]


def test_sets_are_shown_class_by_class(tmp_path):
    folder = write_run(tmp_path / "run", [0.3])
    counts = [[[2, 1], [3, 4]], [[10, 0], [0, 0]]]
    told(folder, 0, "disagreement.json", answer="class_set", names=["sky", "void"], questions=10,
         kappa=None, counts=counts, images=2, of=3)  # fmt: skip
    (table,) = model(read_run(folder))
    assert table.header[1:] == ["both", "the annotator alone", "the model alone"]
    assert [(name, [cell.text for cell in cells]) for name, cells in table.rows] == [
        ("sky", ["4", "3", "1"])
    ]
    assert "round 0 80.0 %" in table.text[0]  # 4 + 2 + 10 of 20
    assert "2 images with most answers of 3" in table.text[1]


class Measured:
    accept_partial = False

    def check(self, images):
        pass

    def answer(self, query, pool, images, folder):
        answers = SimulatedOracle(trim=0).answer(query, pool, images, folder)
        unsure = np.arange(len(answers)) < 1
        return replace(answers, seconds=np.full(len(answers), 3, np.float32), unsure=unsure)


def test_a_run_by_hand_tells_of_people_and_trains_the_same(tmp_path):
    rows = {}
    for name in ("with", "without"):
        run = toy_run(tmp_path / name, rounds=2)
        run.oracle = Measured()
        if name == "with":
            values = {"method": {}, "data": {}, "pictures": 1, "seed": 0}
            choices = {"method": "mulquery", "data": "toys"}
            run.observers.append(Reporter(run.root, run.splits, choices, values, run.oracle))
        rows[name] = drive(run)
    assert [row["unsure"] for row in rows["with"]] == [1, 2]
    assert bought(tmp_path / "with") == bought(tmp_path / "without")
    assert same_weights(tmp_path / "with", tmp_path / "without")
    first = Answers.load(tmp_path / "with" / "round_000" / "answers.npz")
    assert (first.seconds == 3).all()
    page = Page((tmp_path / "with" / "report.html").read_text("utf-8"))
    ids = [section.get("id") for section in page.find("section")]
    assert "pace" in ids
    assert "model" in ids
    captions = [figure["text"] for figure in page.find("figcaption")]
    assert captions.count("Prediction") >= 4  # asked and held out, in both rounds
    simulated = toy_run(tmp_path / "simulated", rounds=1)
    assert "unsure" not in drive(simulated)[0]
