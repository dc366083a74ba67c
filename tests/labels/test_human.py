"""Questions and answers through files; see test_oracle.py for who asks."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.core.images import VOID, WithoutTruth, origin_of, original
from alseg.data.folder import Folder
from alseg.labels.answerfile import Line, Lines, differences
from alseg.labels.human import (
    check_waiting,
    file_boxes,
    keep_read,
    keep_seen,
    read_answers,
    told_changes,
    write_questions,
)
from alseg.labels.kinds import KINDS
from alseg.labels.oracle import AwaitingAnswersError, HumanOracle
from alseg.labels.pool import LabelPool
from alseg.labels.tables import PIXELS, Query
from tests.data.make import picture, save
from tests.toys import BlockMaps, Budget, toy_pool


def query(answer="dominant", regions="blocks", kind="region", n=6, suggested=None):
    image, unit = np.array([0, 1, 0, 2, 1, 3]), np.array([9, 0, 2, 20, 13, 7])
    return Query(
        0, kind, answer, regions, image[:n], unit[:n], np.zeros(n, np.float32),
        None if suggested is None else np.array(suggested, np.uint8),
    )  # fmt: skip


def halves(height, width):
    return (np.arange(width) * 2 // width).astype(np.uint8)[None].repeat(height, axis=0)


def answered(folder, *lines, head="row,answer"):
    path = folder / "answers.csv"
    path.write_text("\n".join([head, *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    ("lines", "labels"),
    [
        (["1,GREEN", "0,r", "2,2"], [0, 1, 2]),
        (["0,0", "1,255", "2,V"], [0, VOID, VOID]),
        (["2,?", "1,Unsure", "0, blue "], [2, VOID, VOID]),
    ],
)
def test_names_numbers_and_beginnings(tmp_path, lines, labels):
    images, pool = toy_pool()
    answers = read_answers(answered(tmp_path, *lines), query(), pool, images)
    assert answers.label.tolist() == labels
    unsure = [False, True, True] if "2,?" in lines else None
    assert (answers.unsure if unsure is None else answers.unsure.tolist()) == unsure


def test_what_cannot_be_told_in_a_set_stands_alone(tmp_path):
    images, pool = toy_pool()
    path = answered(tmp_path, "0,unsure", "1,red;green")
    answers = read_answers(path, query("class_set"), pool, images)
    assert answers.members().astype(int).tolist() == [[0, 0, 0, 1], [1, 1, 0, 0]]
    assert answers.counts().tolist() == [1, 1, 0, 0, 1]
    with pytest.raises(UserError, match=r"line 2: 'unsure' stands alone"):
        read_answers(answered(tmp_path, "0,red;unsure"), query("class_set"), pool, images)


def test_suggestions_are_kept_or_replaced(tmp_path):
    images, pool = toy_pool()
    asked = query("correct", suggested=[2, VOID, 0, 1, 1, 1])
    write_questions(asked, pool, images, tmp_path)
    table = [line.split(",") for line in (tmp_path / "questions.csv").read_text().splitlines()]
    assert [line[-1] for line in table[:4]] == ["suggested", "blue", "void", "red"]
    assert "0,yes" in (tmp_path / "HOW_TO_ANSWER.txt").read_text()
    path = answered(tmp_path, "0,yes", "1,YES", "2,blue", "3,unsure", "4,green")
    answers = read_answers(path, asked, pool, images)
    assert answers.label.tolist() == [2, VOID, 2, VOID, 1]
    assert pool.budget.cost(answers, np.ones(5, int)).clicks.tolist() == [0, 0, 1, 1, 0]


@pytest.mark.parametrize(
    "raw",
    [
        b"row;answer\r\n0;red;green\r\n1;blue\r\n",  # a set without quotation marks
        b'"row";"answer"\r\n1;"blue"\r\n0;"red;green"\r\n',
        b"row,answer,,\r0,red;green,,\r1,blue,,\r,,,\r",  # the ends of lines of old Macs
        b"row,image,answer\n0,toy_00,red;green\n1,toy_01,blue\n",
        b'row,answer\n0,"red;\ngreen"\n1,blue\n',
    ],
)
def test_forms_of_tables(tmp_path, raw):
    images, pool = toy_pool()
    (tmp_path / "answers.csv").write_bytes(raw)
    answers = read_answers(tmp_path / "answers.csv", query("class_set"), pool, images)
    assert answers.members().astype(int).tolist() == [[1, 1, 0, 0], [0, 0, 1, 0]]


def test_mistakes_of_form_and_of_names_are_told_together(tmp_path):
    images, pool = toy_pool()
    path = answered(
        tmp_path, "0,lila,soon", "1,", "9,red", "2,re;gre", "x,red", "3,green,1", "3,blue,1",
        "4,grene,1,5", "5,grene,", head="row,answer,seconds",
    )  # fmt: skip
    with pytest.raises(UserError) as told:
        read_answers(path, query(), pool, images)
    assert str(told.value) == (
        f"{path}, line 2: unknown class 'lila'; line 2: seconds is 'soon'; write a number of at "
        f"least 0; line 3: the answer is empty; write 'void' for no class; line 4: there are only "
        f"6 questions; delete this line; line 5: 're;gre' names 2 classes; name one; line 6: row "
        f"is 'x', not a number of questions.csv; line 8: row 3 is answered in line 7 already; line "
        f"9: there are more cells than columns; separate classes by semicolons, not commas; line "
        f"10: unknown class 'grene'; did you mean 'green' or 'red'? Known: blue, green, red, void."
    )


def test_names_that_may_be_several(tmp_path):
    names = ("road", "roof", "10", "1st")
    images, pool = toy_pool()
    images = type(images)(4, classes=type(images.classes)(names, np.zeros((4, 3), np.uint8)))
    pool = LabelPool(pool.sizes, 4, pool.budget, list(pool.maps.values()))
    path = answered(tmp_path, "0,ro", "1,1", "2,10", "3,1s")
    with pytest.raises(UserError) as told:
        read_answers(path, query(), pool, images)
    assert "line 2: 'ro' may mean 'road' or 'roof'; line 3: '1' may mean 'roof' or" in str(
        told.value
    )
    assert "line 4" not in str(told.value)


@pytest.mark.parametrize("kind", ["pipe", "folder", "large", "latin"])
def test_what_is_no_table_is_refused_at_once(tmp_path, kind):
    images, pool = toy_pool()
    path = tmp_path / "answers.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # no block of it is on the disk
    else:
        path.write_bytes("row,answer\n0,façade\n".encode("latin-1"))
    sentence = {"large": "1048576 MiB, too much", "latin": "save it as UTF-8"}
    with pytest.raises(UserError, match=sentence.get(kind, "is not a file")):
        read_answers(path, query(), pool, images)


def test_boxes_are_in_pixels_of_the_file(tmp_path):
    for number in range(2):
        save(tmp_path / "images" / f"{number}.png", picture(64, 96, number))
        save(tmp_path / "masks" / f"{number}.png", halves(64, 96))
    data = {"root": str(tmp_path), "val": "1", "classes": ["a", "b"]}
    half = Folder(**data, scale=0.5).splits(progress=False).train
    sizes = np.array([[32, 48]])
    pool = LabelPool(sizes, 2, Budget(), [BlockMaps(sizes)])
    none = np.zeros(2, np.int64)
    regions = Query(0, "region", "dominant", "blocks", none, np.array([9, 0]), none.astype("f4"))
    # block 9 of 6 a row: second row, fourth column
    assert file_boxes(regions, pool, half)[0].tolist() == [[16, 48, 32, 64], [0, 0, 16, 16]]
    write_questions(regions, pool, WithoutTruth(half), tmp_path / "round")
    assert (tmp_path / "round" / "questions.csv").read_text().splitlines()[1] == (
        "0,0,9,16,48,32,64"
    )
    assert (
        "loads the images at another size" in (tmp_path / "round" / "HOW_TO_ANSWER.txt").read_text()
    )
    pixels = Query(0, "pixel", "class", PIXELS, none, np.array([49, 0]), none.astype("f4"))
    assert file_boxes(pixels, pool, half)[0].tolist() == [[2, 2, 4, 4], [0, 0, 2, 2]]
    # windows of 16 x 24 loaded pixels: the last one begins in the middle of both sides
    windows = Folder(**data, scale=0.5, window=(16, 24)).splits(progress=False).train
    pool = LabelPool(np.array([[16, 24]] * 4), 2, Budget(), [])
    last = Query(0, "pixel", "class", PIXELS, none + 3, np.array([25, 0]), none.astype("f4"))
    assert windows.names[3] == "0@y16x24"
    assert file_boxes(last, pool, windows)[0].tolist() == [[34, 50, 36, 52], [32, 48, 34, 50]]
    assert origin_of(windows, 3).box == (32, 48, 64, 96)
    assert np.array_equal(original(windows, 3), original(half, 0)[32:, 48:])
    images, _ = toy_pool()
    assert origin_of(images, 0) is None
    assert np.array_equal(original(images, 1), images.image(1))


def test_scales_that_are_no_whole_numbers_are_rounded_outwards(tmp_path):
    for number in range(2):
        save(tmp_path / "images" / f"{number}.png", picture(30, 50, number))
        save(tmp_path / "masks" / f"{number}.png", halves(30, 50))
    data = Folder(str(tmp_path), val="1", classes=["a", "b"], size=(20, 20))
    images = data.splits(progress=False).train
    pool = LabelPool(np.array([[20, 20]]), 2, Budget(), [])
    none = np.zeros(2, np.int64)
    asked = Query(0, "pixel", "class", PIXELS, none, np.array([21, 43]), none.astype("f4"))
    # 1.5 and 2.5 pixels of the file per loaded pixel
    assert file_boxes(asked, pool, images)[0].tolist() == [[1, 2, 3, 5], [3, 7, 5, 10]]


def test_a_budget_that_is_reached_is_enough(tmp_path):
    images, pool = toy_pool(amount=4)  # rule exceed: a simulated oracle buys a fifth
    folder = answered(tmp_path, *(f"{row},red" for row in range(4))).parent
    assert len(HumanOracle().answer(query(), pool, images, folder)) == 4
    answered(tmp_path, *(f"{row},red" for row in range(3)))
    with pytest.raises(UserError, match=r"for 3 of 4 clicks; go on from row 3"):
        HumanOracle().answer(query(), pool, images, folder)


def test_answers_are_counted_in_the_log(tmp_path, caplog):
    images, pool = toy_pool(amount=4)
    answered(tmp_path, "0,red", "1,void", "2,?", "3,red")
    with caplog.at_level(logging.INFO):
        HumanOracle().answer(query(), pool, images, tmp_path)
    assert "2 red, 1 void, 1 unsure" in caplog.text


def test_mistakes_are_found_without_images_and_without_torch(tmp_path):
    images, pool = toy_pool(amount=4)
    folder = tmp_path / "round_000"
    asked = query()
    check_waiting(tmp_path)
    with pytest.raises(AwaitingAnswersError):
        HumanOracle().answer(asked, pool, images, folder)
    asked.save(folder / "query.npz")
    check_waiting(tmp_path)
    answered(folder, "0,red", "1,grene")
    code = (
        f"import sys\nfrom pathlib import Path\nfrom alseg.labels.human import check_waiting\n"
        f"try:\n    check_waiting(Path({str(tmp_path)!r}))\nexcept ValueError as error:\n"
        f"    print(error)\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "line 3: unknown class 'grene'; did you mean 'green'" in done.stdout
    assert done.stdout.endswith("False\n")
    (folder / "answers.npz").write_bytes(b"")  # answered: the file is not read again
    check_waiting(tmp_path)


def test_changes_of_what_was_read_are_told(tmp_path):
    path = answered(tmp_path, "0,red", "1,green,", "2,blue")
    assert told_changes(tmp_path) is None
    keep_read(tmp_path, path.read_bytes())
    assert told_changes(tmp_path) is None
    path.write_bytes("row\tanswer\n2\tblue\n1\tgreen\n0\tred\n".encode("utf-16"))
    assert told_changes(tmp_path) is None, "the same answers in another form"
    answered(tmp_path, "0,red", "1,blue", "3,red")
    assert told_changes(tmp_path) == (
        f"{path} has changed since its answers were taken: row 1 was 'green' and is 'blue'; row 2 "
        f"was 'blue' and is left out; row 3 was left out and is 'red'. The run goes on with what "
        f"it read then, which is in answers_read.csv; answers=recompute goes back to this round "
        f"with the answers as they are now, answers=keep leaves them and tells this no more."
    )
    path.write_text("nothing")
    assert "line 1: the first line must be" in told_changes(tmp_path)
    path.unlink()
    assert told_changes(tmp_path) is None


def test_a_changed_mask_file_is_told_until_it_was_seen(tmp_path):
    images, _ = toy_pool()
    save(tmp_path / "masks" / "0.png", images.truth(0))
    query("mask", n=1).save(tmp_path / "query.npz")
    path = answered(tmp_path, "0,masks/0.png")
    keep_read(tmp_path, path.read_bytes())
    assert told_changes(tmp_path) is None
    save(tmp_path / "masks" / "0.png", np.zeros_like(images.truth(0)))
    assert "the mask masks/0.png has changed. The run" in told_changes(tmp_path)
    keep_seen(tmp_path)
    assert told_changes(tmp_path) is None
    (tmp_path / "masks" / "0.png").unlink()
    assert "the mask masks/0.png is gone. The run" in told_changes(tmp_path)


def test_many_differences_are_counted():
    old, new = ({n: Line(n + 2, text, "1") for n in range(9)} for text in "ab")
    told = differences(Lines(old, []), Lines(new | {0: Line(2, "a", "3")}, []))
    assert told[0] == "the seconds of row 0 were '1' and are '3'"
    assert told[5:] == ["and 4 more"]


@pytest.mark.parametrize("answer", KINDS)
def test_what_to_write_is_said_for_every_kind(tmp_path, answer):
    """The example that is given is an answer that is read."""
    images, pool = toy_pool()
    images = type(images)(4, scenes=("town", "field", "wood"))
    kind, suggested = KINDS[answer], [2] * 6 if KINDS[answer].suggests else None
    asked = query(answer, suggested=suggested)
    write_questions(asked, pool, images, tmp_path)
    text = (tmp_path / "HOW_TO_ANSWER.txt").read_text()
    assert kind.question.format(unit="region") in text
    listed = "Classes: 0 red, 1 green, 2 blue" if kind.covers_pixels else "Scenes: 0 town, 1 field"
    assert listed in text
    assert ("'unsure', or ?, is for what you cannot tell" in text) == kind.takes_unsure
    assert ("another size" in text) is False
    example = next(line.strip() for line in text.splitlines() if line.startswith("    0,"))
    if answer == "mask":
        save(tmp_path / "masks" / "0.png", images.truth(0))
    answers = read_answers(answered(tmp_path, example), asked, pool, images)
    expected = {"correct": [2], "class_set": [0, 1], "mask": None}.get(answer, [0])
    if expected is not None:
        assert np.flatnonzero(answers.members()[0]).tolist() == expected
