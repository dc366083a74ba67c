"""Classes of whole images: a kind of answer with a table of its own, next to masks."""

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.budget import PRICES, Budget
from alseg.labels.human import read_answers, write_questions
from alseg.labels.oracle import AwaitingAnswersError, HumanOracle, SimulatedOracle
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import LabelMaps, Streams, Unlabelled
from alseg.labels.tables import Answers, Query
from tests.toys import ToyImages, WholeMaps

SCENES = ("meadow", "harbour", "street", "forest", "desert")


class SceneMaps(WholeMaps):
    version = "scenes"


@pytest.fixture
def images():
    return ToyImages(7, scenes=SCENES)


@pytest.fixture
def pool(images):
    sizes = np.array([images.size(i) for i in range(7)])
    budget = Budget(float("inf"), "units", "within")
    return LabelPool(sizes, 3, budget, [WholeMaps(sizes), SceneMaps(sizes)])


def query(answer, rows, round=0):
    rows = np.array(rows)
    regions = "image" if answer == "mask" else "scenes"
    zeros = np.zeros(len(rows), np.int64)
    return Query(round, "image", answer, regions, rows, zeros, zeros.astype(np.float32))


def scenes(rows, labels, round=0, num_classes=5):
    rows, labels = np.array(rows), np.array(labels, np.uint8)
    units = np.zeros(len(rows), np.int64)
    return Answers(round, "image", "scene", "scenes", num_classes, rows, units, label=labels)


def test_the_truth_answers_and_a_file_keeps_it(images, pool, tmp_path):
    answers = SimulatedOracle().answer(query("scene", [6, 0, 3]), pool, images, tmp_path)
    assert answers.label.tolist() == [1, 0, 3]
    assert answers.num_classes == 5
    answers.save(tmp_path / "answers.npz")
    again = Answers.load(tmp_path / "answers.npz")
    assert (again.answer, again.num_classes) == ("scene", 5)
    assert again.label.tolist() == [1, 0, 3]
    assert again.members().argmax(axis=1).tolist() == [1, 0, 3]


def test_more_scenes_than_classes_fit_into_the_pool(pool):
    cost = pool.commit(scenes([6, 0], [4, VOID]))
    assert cost.units == cost.clicks == 2
    assert cost.seconds == 2 * PRICES["scene"]["seconds_per_unit"]
    assert pool.asked("scenes", 6).tolist() == [0]
    assert pool.asked("image", 6).tolist() == []


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (scenes([1], [5], round=1), "class 5 of 5"),
        (scenes([1], [1], round=1, num_classes=6), "answers for 6 classes, not 5"),
        (scenes([6], [1], round=1), "asked twice"),
    ],
)
def test_what_cannot_be_is_refused(pool, answers, message):
    pool.commit(scenes([6, 0], [4, 0]))
    with pytest.raises(ValueError, match=message):
        pool.commit(answers)


def test_a_scene_says_nothing_of_pixels_and_a_mask_of_the_same_image_may_follow(images, pool):
    pool.commit(scenes([6, 0], [2, 1]))
    assert (pool.render(6) == VOID).all()
    masks = SimulatedOracle().answer(query("mask", [6], round=1), pool, images, None)
    pool.commit(masks)
    assert np.array_equal(pool.render(6), images.truth(6))
    assert pool.images().tolist() == [0, 6]
    assert pool.images(("mask",)).tolist() == [6]
    assert pool.images(("scene",)).tolist() == [0, 6]


def test_only_the_kinds_that_count_are_painted(images, pool):
    """The class that covers most of an image must not pass for its mask."""
    for round, (answer, rows) in enumerate([("dominant", [2, 4]), ("mask", [2])]):
        pool.commit(SimulatedOracle().answer(query(answer, rows, round), pool, images, None))
    everything, masks = LabelMaps(pool), LabelMaps(pool, ("mask",))
    assert everything.images.tolist() == [2, 4]
    assert masks.images.tolist() == [2]
    assert (everything(4).maps["target"] != VOID).all()
    assert (masks(4).maps["target"] == VOID).all()
    assert np.array_equal(masks(2).maps["target"], images.truth(2))
    assert not np.array_equal(everything(2).maps["target"], images.truth(2)), "void is painted"


def test_a_person_names_scenes(images, pool, tmp_path):
    asked = query("scene", [6, 0, 3])
    write_questions(asked, pool, images, tmp_path)
    text = (tmp_path / "HOW_TO_ANSWER.txt").read_text()
    assert "all of them" in text
    assert "Scenes: 0 meadow, 1 harbour, 2 street, 3 forest, 4 desert, 255 void." in text
    assert "inf" not in text
    assert "0,meadow" in text
    path = tmp_path / "answers.csv"
    path.write_text("row,answer,seconds\n0,desert,3\n1,void,4\n2,street,5\n")
    answers = read_answers(path, asked, pool, images)
    assert answers.label.tolist() == [4, VOID, 2]
    assert pool.commit(answers).seconds == 12
    path.write_text("row,answer\n0,red\n")
    with pytest.raises(UserError, match=r"line 2: unknown class 'red'.*meadow"):
        read_answers(path, asked, pool, images)


def test_a_person_answers_all_questions(images, pool, tmp_path):
    oracle = HumanOracle()
    oracle.check(images)
    with pytest.raises(AwaitingAnswersError):
        oracle.answer(query("scene", [6, 0]), pool, images, tmp_path)
    (tmp_path / "answers.csv").write_text("row,answer\n0,forest\n")
    with pytest.raises(UserError, match="go on from row 1"):
        oracle.answer(query("scene", [6, 0]), pool, images, tmp_path)
    (tmp_path / "answers.csv").write_text("row,answer\n0,forest\n1,street\n")
    answers = oracle.answer(query("scene", [6, 0]), pool, images, tmp_path)
    assert answers.label.tolist() == [3, 2]
    with pytest.raises(UserError, match="void"):
        oracle.check(ToyImages(2, scenes=("void", "forest")))


def test_streams_know_their_images():
    sizes = np.array([[3, 4]] * 5)
    some, others = (Unlabelled(np.array(rows), sizes) for rows in ([1, 3], [3, 0]))
    assert Streams({"a": some, "b": others}).images.tolist() == [0, 1, 3]
    nothing = Unlabelled(np.zeros(0, np.int64), sizes)
    assert not len(Streams({"a": some, "b": nothing}).images)
    assert some(1).maps["inside"].tolist() == [[1] * 4] * 3
    with pytest.raises(TypeError):
        Streams({"a": some})(1)
