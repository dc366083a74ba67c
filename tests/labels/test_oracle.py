import numpy as np
import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.images import VOID, ClassTable
from alseg.labels.budget import Budget
from alseg.labels.oracle import AwaitingAnswersError, HumanOracle, SimulatedOracle
from alseg.labels.tables import PIXELS, Query
from tests.toys import ToyImages, toy_pool


def query(answer="class_set", regions="blocks", n=6, kind="region"):
    image, unit = np.array([0, 1, 0, 2, 1, 3]), np.array([9, 0, 2, 20, 13, 7])
    return Query(0, kind, answer, regions, image[:n], unit[:n], np.zeros(n, np.float32))


def test_class_sets_are_what_the_regions_hold(tmp_path):
    images, pool = toy_pool(amount=100)
    answers = SimulatedOracle(trim=0).answer(query(), pool, images, tmp_path)
    for row in range(6):
        region = pool.maps["blocks"][answers.image[row]] == answers.unit[row]
        found = set(np.unique(images.truth(int(answers.image[row]))[region]).tolist())
        said = {3 if c == VOID else c for c in found}
        assert set(np.flatnonzero(answers.members()[row]).tolist()) == said


def test_a_simulated_oracle_stops_when_the_budget_is_spent(tmp_path):
    images, pool = toy_pool(amount=3)
    answers = SimulatedOracle(trim=0).answer(query(), pool, images, tmp_path)
    costs = answers.members().sum(axis=1)
    assert costs.sum() > 3 >= costs[:-1].sum()


def test_dominant_labels_pixels_and_masks(tmp_path):
    images, pool = toy_pool(amount=100)
    oracle = SimulatedOracle()
    dominant = oracle.answer(query("dominant"), pool, images, tmp_path)
    for row in range(6):
        region = pool.maps["blocks"][dominant.image[row]] == dominant.unit[row]
        counts = np.bincount(images.truth(int(dominant.image[row]))[region], minlength=256)
        assert dominant.label[row] == counts.argmax()
    pixels = oracle.answer(query("class", PIXELS, kind="pixel"), pool, images, tmp_path)
    truth = [images.truth(int(i)).ravel()[u] for i, u in zip(pixels.image, pixels.unit)]  # noqa: B905
    assert pixels.label.tolist() == truth
    masks = oracle.answer(query("mask"), pool, images, tmp_path)
    pool.commit(masks)
    region = pool.maps["blocks"][0] == 9
    assert np.array_equal(pool.render(0)[region], images.truth(0)[region])


def test_a_simulated_oracle_needs_truth():
    with pytest.raises(UserError, match="oracle=human"):
        SimulatedOracle().check(ToyImages(2, has_truth=False))
    with pytest.raises(UserError, match="odd width"):
        SimulatedOracle(trim=4)


def test_some_kinds_of_answers_are_left_to_a_person(tmp_path):
    images, pool = toy_pool(amount=100)
    oracle = SimulatedOracle(trim=0, by_hand=("mask",))
    assert len(oracle.answer(query(), pool, images, tmp_path)) == 6
    with pytest.raises(AwaitingAnswersError, match=r"questions\.csv lists up to 6 questions"):
        oracle.answer(query("mask"), pool, images, tmp_path)
    assert "toy_00" in (tmp_path / "questions.csv").read_text()
    assert len(SimulatedOracle().answer(query("mask"), pool, images, tmp_path)) == 6
    with pytest.raises(UserError, match=r"unknown oracle\.by_hand 'masks'"):
        SimulatedOracle(by_hand=("masks",))


def answered(folder, lines, header="row,answer"):
    (folder / "answers.csv").write_text("\n".join([header, *lines]) + "\n")


def test_a_person_is_asked_and_the_run_waits(tmp_path):
    images, pool = toy_pool(amount=4)
    with pytest.raises(AwaitingAnswersError, match="waits for your answers"):
        HumanOracle().answer(query(), pool, images, tmp_path)
    lines = (tmp_path / "questions.csv").read_text().splitlines()
    assert lines[0] == "row,image,unit,top,left,bottom,right"
    assert lines[1] == "0,toy_00,9,8,24,16,32"  # block 9 of 6 a row: second row, fourth column
    assert len(lines) == 7
    assert "red;green" in (tmp_path / "HOW_TO_ANSWER.txt").read_text()


def test_a_persons_answers_are_read(tmp_path):
    images, pool = toy_pool(amount=4)
    answered(tmp_path, ["0,red", "1, green ; void", "2,blue;red"])
    answers = HumanOracle().answer(query(), pool, images, tmp_path)
    assert answers.members().astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0]]
    assert answers.unit.tolist() == [9, 0, 2]


def test_answers_beyond_the_budget_are_kept(tmp_path):
    images, pool = toy_pool(amount=1)
    answered(tmp_path, [f"{row},red" for row in range(6)])
    assert len(HumanOracle().answer(query(), pool, images, tmp_path)) == 6


def test_measured_seconds_are_read(tmp_path):
    images, pool = toy_pool(amount=4)
    answered(tmp_path, ["0,red,3.5"] + [f"{row},red," for row in range(1, 6)], "row,answer,seconds")
    answers = HumanOracle().answer(query("dominant"), pool, images, tmp_path)
    assert answers.seconds[0] == 3.5
    assert np.isnan(answers.seconds[1:]).all()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["0,red", "1,grene"], r"answers.csv, line 3: unknown class 'grene'; did you mean 'green'"),
        (["0,red", "2,red"], r"leaves out row 1; rows count from 0 on"),
        (["0,red", "x,red"], r"line 3: row is 'x', not a number"),
        (
            ["0,re", "1,gre", "2,lila", "9,red", "1,red"],
            r"line 4: unknown class 'lila'|line 5: there are only 6 questions; .*line 6: row 1 is",
        ),
        (["0,red", "1,"], r"line 3: the answer is empty; write 'void'"),
        (["0,red", "0,red"], r"line 3: row 0 is answered in line 2 already"),
        (["0,red", "1,red"], r"answers 2 questions for 2 of 4 clicks; go on from row 2"),
        ([f"{row},red" for row in range(7)], r"line 8: there are only 6 questions"),
        ([], "holds no answers"),
    ],
)
def test_a_malformed_answers_file_is_refused_with_its_line(tmp_path, lines, sentence):
    images, pool = toy_pool(amount=4)
    answered(tmp_path, lines)
    with pytest.raises(UserError, match=sentence):
        HumanOracle().answer(query(), pool, images, tmp_path)


@pytest.mark.parametrize(
    "raw",
    [
        b"row,answer\n1,GREEN\n0,r\n",
        b"row;answer\r\n0;red\r\n1;green\r\n",
        b"sep=;\r\nrow;answer\r\n0;red\r\n1;green\r\n",
        b"\xef\xbb\xbfRow\tAnswer\r\n0\tred\r\n1\tgreen\r\n,\r\n"[:-3],
        b"row,answer\r\n0,red\r\n1,green\r\n,\r\n,\r\n\r\n",
        "row\tanswer\r\n0\tred\r\n1\tgreen\r\n".encode("utf-16"),
    ],
)
def test_what_spreadsheets_and_people_write(tmp_path, raw):
    images, pool = toy_pool(amount=4)
    (tmp_path / "answers.csv").write_bytes(raw)
    answers = HumanOracle(accept_partial=True).answer(query(), pool, images, tmp_path)
    assert answers.members().astype(int).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]


def test_all_mistakes_are_told_at_once(tmp_path):
    images, pool = toy_pool(amount=4)
    answered(tmp_path, ["0,red", "1,lila", "2,", "7,red", "3,blue,4,5"], "row,answer,seconds")
    with pytest.raises(UserError) as told:
        HumanOracle().answer(query(), pool, images, tmp_path)
    lines = ["line 4: the answer is empty", "line 5: there are only 6", "line 6: there are more"]
    assert all(line in str(told.value) for line in lines)
    answered(tmp_path, ["0,lila", "1,red,soon", "2,"], "row,answer,seconds")
    (tmp_path / "answers.csv").write_text('row,answer\n0,"' + "a" * 200_000 + '"\n')
    with pytest.raises(UserError, match="line 2: field larger than field limit"):
        HumanOracle().answer(query(), pool, images, tmp_path)


def test_how_to_answer_names_ids_and_void(tmp_path):
    images, pool = toy_pool(amount=4)
    with pytest.raises(AwaitingAnswersError):
        HumanOracle().answer(query("mask"), pool, images, tmp_path)
    text = (tmp_path / "HOW_TO_ANSWER.txt").read_text()
    assert "Classes: 0 red, 1 green, 2 blue, 255 void" in text


def test_other_malformed_files(tmp_path):
    images, pool = toy_pool(amount=4)
    answered(tmp_path, ["red"], header="answer")
    with pytest.raises(UserError, match="line 1: the first line must be 'row,answer'"):
        HumanOracle().answer(query(), pool, images, tmp_path)
    answered(tmp_path, ["0,red;green"])
    with pytest.raises(UserError, match="names 2 classes; name one"):
        HumanOracle().answer(query("dominant"), pool, images, tmp_path)
    answered(tmp_path, ["0,red,quick"], header="row,answer,seconds")
    with pytest.raises(UserError, match="line 2: seconds is 'quick'; write a number"):
        HumanOracle().answer(query(), pool, images, tmp_path)
    for seconds in ("-5", "inf", "nan"):
        answered(tmp_path, [f"0,red,{seconds}"], header="row,answer,seconds")
        with pytest.raises(UserError, match="write a number of at least 0"):
            HumanOracle().answer(query(), pool, images, tmp_path)
    answered(tmp_path, ["0,red,blue"])
    with pytest.raises(UserError, match="line 2: there are more cells than columns; separate"):
        HumanOracle().answer(query(), pool, images, tmp_path)
    (tmp_path / "answers.csv").write_bytes(b"row,answer\n0,\xff\xfe\n")
    with pytest.raises(UserError, match="save it as UTF-8"):
        HumanOracle().answer(query(), pool, images, tmp_path)


def test_fewer_answers_are_taken_on_request(tmp_path):
    images, pool = toy_pool(amount=4)
    answered(tmp_path, ["0,red", "1,red"])
    answers = HumanOracle(accept_partial=True).answer(query(), pool, images, tmp_path)
    assert len(answers) == 2


def test_masks_by_hand(tmp_path):
    images, pool = toy_pool(amount=1000)
    drawn = np.arange(32 * 48, dtype=np.uint8).reshape(32, 48) % 3
    Image.fromarray(drawn).save(tmp_path / "m.png")
    answered(tmp_path, ["0,m.png"])
    oracle = HumanOracle(accept_partial=True)
    answers = oracle.answer(query("mask"), pool, images, tmp_path)
    assert np.array_equal(answers.masks[0], drawn[pool.maps["blocks"][0] == 9])
    Image.fromarray(drawn[:9]).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"line 2: .*m.png is 9 x 48 .*; save it at 32 x 48"):
        oracle.answer(query("mask"), pool, images, tmp_path)
    Image.fromarray(drawn + 7).save(tmp_path / "m.png")
    with pytest.raises(UserError, match=r"line 2: .*holds the id [789] .* may hold 0 red, 1 green"):
        oracle.answer(query("mask"), pool, images, tmp_path)
    answered(tmp_path, ["0,absent.png"])
    with pytest.raises(UserError, match=r"line 2: .*absent\.png"):
        oracle.answer(query("mask"), pool, images, tmp_path)


def test_prices_of_void(tmp_path):
    images, pool = toy_pool(amount=3, void_costs=False)
    answered(tmp_path, ["0,void", "1,void", "2,red;green;blue", "3,red"])
    answers = HumanOracle(accept_partial=True).answer(query(), pool, images, tmp_path)
    assert Budget(void_costs=False).cost(answers, np.ones(4, int)).clicks.tolist() == [0, 0, 3, 1]


@pytest.mark.parametrize("name", ["void", "car;bus", " car", ""])
def test_class_names_an_answers_file_cannot_hold_are_refused(name):
    classes = ClassTable(("red", name), np.zeros((2, 3), np.uint8))
    with pytest.raises(UserError, match="rename them in the class table"):
        HumanOracle().check(ToyImages(1, classes=classes))
