"""What an import refuses, and how answers of several imports come together."""

import json
import zipfile
from xml.etree import ElementTree

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.exchange.formats import FORMATS
from alseg.exchange.sheets import make_task
from alseg.exchange.store import export_round, import_answers, spans
from alseg.label.desk import Desk
from alseg.label.suggestions import make_suggestions
from tests.exchange.tools import TOOLS, answer, cvat
from tests.exchange.waiting import Waiting, names_of
from tests.label.rounds import same
from tests.label.test_desk import work

CVAT, COCO = FORMATS["cvat"], FORMATS["coco"]


def exported(asked, form=CVAT, **options):
    return export_round(asked.round.parent, form, **options).folder


def take(asked, file, form=CVAT, **options):
    return import_answers(asked.round.parent, form, file, **options)


def test_a_second_import_adds_what_the_first_one_lacks(tmp_path):
    asked = Waiting(tmp_path, "superpixel")
    out, words = exported(asked), asked.words()
    first = cvat(out, {row: words[row] for row in (0, 1, 5)}, {})
    assert take(asked, first)[1:] == (3, 0, [2, 3, 4, 6, 7])
    with pytest.raises(UserError, match="leaves out row 2"):
        asked.read()
    assert take(asked, first)[1:] == (0, 3, [2, 3, 4, 6, 7])
    again = exported(asked, COCO)  # only what is open
    rows = json.loads((again / "annotations.json").read_text())["annotations"]
    assert sorted(one["attributes"]["row"] for one in rows) == [2, 3, 4, 6, 7]
    assert take(asked, answer("coco", again, words, {}), COCO)[1:] == (5, 0, [])
    assert same(asked.read(), asked.truth())
    with pytest.raises(UserError, match="answers all questions"):
        exported(asked, FORMATS["labelme"])


def test_what_a_person_wrote_by_hand_stays(tmp_path):
    asked = Waiting(tmp_path, "superpixel")
    out, words = exported(asked), asked.words()
    by_hand = "row;note;answer;seconds\n7;easy;GR;3,5\n"
    (asked.round / "answers.csv").write_text(by_hand)
    words[7] = ["green"]
    assert take(asked, cvat(out, words, {})).new == 7
    lines = (asked.round / "answers.csv").read_text().splitlines()
    assert lines[0] == "row,answer,seconds"
    assert lines[8] == "7,GR,3,5" or lines[8] == '7,GR,"3,5"'
    assert (asked.round / "exchange" / "answers_before_001.csv").read_text() == by_hand
    words[7] = ["blue"]
    with pytest.raises(
        UserError, match=r"row 7 is 'GR' in answers.csv and 'blue' in mask .*replace"
    ):
        take(asked, cvat(out, words, {}))
    assert take(asked, cvat(out, words, {}), replace=True)[1:3] == (1, 7)
    assert asked.read().label[7] == 2


def test_other_pixels_of_a_mask_are_told(tmp_path):
    asked = Waiting(tmp_path, "patch_mask", rows=4)
    out = exported(asked)
    sheets = make_task(asked.session, range(4), False).sheets
    paint = {sheet.name: names_of(asked.labels(sheet), asked.session.names) for sheet in sheets}
    file = answer("cvat", out, {}, paint)
    assert take(asked, file).new == 4
    assert take(asked, file)[1:3] == (0, 4)
    other = {name: [("blue", np.ones((32, 48), bool))] for name in paint}
    changed = answer("cvat", out, {}, other)
    with pytest.raises(UserError, match="and other pixels in round_000"):
        take(asked, changed)
    take(asked, changed, replace=True)
    assert {label for mask in asked.read().masks for label in mask.tolist()} == {2}


def test_everything_that_is_wrong_is_told_at_once_and_nothing_is_written(tmp_path):
    asked = Waiting(tmp_path, "superpixel")
    out = exported(asked)
    tree = ElementTree.parse(cvat(out, asked.words(), {}))
    shapes = list(tree.iter("mask"))
    said = [{one.get("name"): one for one in shape.findall("attribute")} for shape in shapes]
    said[0]["class"].text = "gren"
    said[1]["row"].text = "99"
    said[2]["row"].text = said[3]["row"].text
    said[2]["class"].text, said[3]["class"].text = "red", "blue"
    shapes[4].set("label", "car")
    image = next(iter(tree.iter("image")))
    extra = ElementTree.SubElement(
        tree.getroot(), "image", name="holiday.jpg", width="1", height="1"
    )
    wrong = ElementTree.SubElement(tree.getroot(), "image", name=image.get("name"))
    wrong.set("width", "5")
    wrong.set("height", "five")
    assert extra is not None
    file = out / "wrong.xml"
    tree.write(file)
    with pytest.raises(UserError) as error:
        take(asked, file)
    for clause in (
        "unknown class 'gren'; did you mean 'green'",
        "row is '99', which is no question of this round",
        "is 'red' in",
        "has the label 'car'",
        "'holiday.jpg' is not one of this round's questions",
        "is five x 5",
    ):
        assert clause in str(error.value)
    assert not (asked.round / "answers.csv").exists()


@pytest.mark.parametrize("form", ["coco", "labelstudio"])
def test_a_pixel_has_one_class_where_a_format_has_no_order(form, tmp_path):
    asked = Waiting(tmp_path, "patch_mask", rows=4)
    out = exported(asked, FORMATS[form])
    everywhere = np.ones((32, 48), bool)
    half = everywhere.copy()
    half[:, 5:] = False
    names = [sheet.name for sheet in make_task(asked.session, range(4), False).sheets]
    paint = {name: [("red", everywhere), ("blue", half)] for name in names}
    with pytest.raises(UserError, match=r"pixels are 'red' and 'blue' \(.*a pixel has one class"):
        take(asked, answer(form, out, {}, paint), FORMATS[form])


def test_pixels_nobody_painted_are_a_mistake_or_the_rest(tmp_path):
    asked = Waiting(tmp_path, "image_mask", rows=3)
    out = exported(asked)
    task = make_task(asked.session, range(3), False)
    half = np.zeros((32, 48), bool)
    half[:, :20] = True
    names = {sheet.questions[0].row: sheet.name for sheet in task.sheets}
    file = cvat(out, {}, {names[0]: [("red", half)], names[1]: [("void", half)]})
    with pytest.raises(
        UserError, match=r"row 0: 896 of its 1536 pixels have no class on .*rest=void"
    ):
        take(asked, file)
    with pytest.raises(UserError, match="rest: unknown class 'purple'"):
        take(asked, file, rest="purple")
    assert take(asked, file, rest="blue").missing == [2]
    read = asked.read()
    assert np.array_equal(read.masks[0], np.where(half, 0, 2).ravel())
    assert np.array_equal(read.masks[1], np.where(half, 255, 2).ravel())


def test_the_higher_shape_hides_the_lower_one_in_cvat(tmp_path):
    asked = Waiting(tmp_path, "image_mask", rows=1)
    tree = ElementTree.parse(exported(asked) / "annotations.xml")
    (image,) = tree.iter("image")
    top = {"xtl": "0", "ytl": "0", "xbr": "10.2", "ybr": "32"}
    ElementTree.SubElement(image, "box", label="red", z_order="2", **top)
    corners = "0,0;48,0;48,32;0,32"
    ElementTree.SubElement(image, "polygon", label="blue", z_order="-1", points=corners)
    ElementTree.SubElement(image, "polygon", label="green", z_order="0", points="0,0;48,0;48,5;0,5")
    tree.write(tmp_path / "a.xml")
    take(asked, tmp_path / "a.xml")
    expected = np.full((32, 48), 2)
    expected[:5] = 1
    expected[:, :10] = 0
    assert np.array_equal(asked.read().masks[0].reshape(32, 48), expected)


def test_unsure_void_and_yes(tmp_path):
    asked = Waiting(tmp_path, "correct")
    words = {0: ["yes"], 1: ["unsure"], 2: ["void"], 3: ["blue"]}
    take(asked, cvat(exported(asked), words, {}))
    assert (asked.round / "answers.csv").read_text() == (
        "row,answer\n0,yes\n1,unsure\n2,void\n3,blue\n"
    )
    read = asked.read()
    assert read.label.tolist() == [asked.query.suggested[0], 255, 255, 2]
    assert read.unsure.tolist() == [False, True, False, False]
    sets = Waiting(tmp_path / "sets", "class_set")
    out = exported(sets)
    with pytest.raises(UserError, match="'unsure' stands alone"):
        take(sets, cvat(out, {0: ["red", "unsure"]}, {}))
    assert take(sets, cvat(exported(sets, out=tmp_path / "b"), {0: ["red", "void"]}, {})).new == 1
    assert sets.read().members()[0].tolist() == [True, False, False, True]


def test_answers_to_other_questions_are_refused(tmp_path):
    asked = Waiting(tmp_path / "a", "superpixel")
    other = Waiting(tmp_path / "b", "superpixel", seed=1)
    for form in TOOLS:
        out = exported(other, FORMATS[form], crops=True)
        with pytest.raises(UserError, match="is not one of this round's questions"):
            take(asked, answer(form, out, other.words(), {}), FORMATS[form])


def test_a_round_that_is_answered_in_the_browser_is_left_alone(tmp_path):
    asked = Waiting(tmp_path, "superpixel")
    out = exported(asked)
    desk = Desk(asked.session)
    with pytest.raises(UserError, match=r"the page of .* is open"):
        take(asked, cvat(out, asked.words(), {}))
    desk.close()
    assert take(asked, cvat(out, {0: ["red"]}, {})).new == 1  # no answer was given there
    (asked.round / "answers.csv").unlink()
    desk = Desk(asked.session)
    work(desk, asked.values(), most=1)
    desk.close()
    for action in (lambda: take(asked, out), lambda: exported(asked, COCO)):
        with pytest.raises(UserError, match="answers that were given in the browser"):
            action()


def test_exports_are_never_written_over(tmp_path):
    asked = Waiting(tmp_path, "superpixel")
    out = exported(asked)
    before = (out / "annotations.xml").read_bytes()
    with pytest.raises(UserError, match="is there already"):
        exported(asked)
    assert (out / "annotations.xml").read_bytes() == before
    assert exported(asked, out=tmp_path / "again", rows=3) == tmp_path / "again"
    tree = ElementTree.parse(tmp_path / "again" / "annotations.xml")
    assert len(list(tree.iter("mask"))) == 3


@pytest.mark.parametrize("kind", ["class_set", "scene"])
def test_what_a_mask_cannot_hold_is_refused(kind, tmp_path):
    asked = Waiting(tmp_path, kind)
    with pytest.raises(UserError, match=r"format=mask cannot hold .*; give one of cvat, coco"):
        exported(asked, FORMATS["mask"])
    assert not (asked.round / "exchange").exists()


def test_suggestions_go_where_a_format_has_a_place_for_them(tmp_path, monkeypatch):
    asked = Waiting(tmp_path, "superpixel")
    hints = make_suggestions(asked.session, asked.images.truth)
    monkeypatch.setattr("alseg.exchange.store.suggest_from_run", lambda session, run: hints)
    names = asked.session.names
    expected = [names[label] for label in hints.rows]
    results = json.loads((exported(asked, COCO, suggestions=True) / "predictions.json").read_text())
    known = {word: number for number, word in enumerate(names, start=1)}
    assert sorted(one["category_id"] for one in results) == sorted(known[w] for w in expected)
    out = exported(asked, FORMATS["labelstudio"], suggestions=True)
    found = {}
    for task in json.loads((out / "tasks.json").read_text()):
        assert task["annotations"] == []
        for part in task["predictions"][0]["result"]:
            if part["type"] == "choices":
                found[part["id"]] = part["value"]["choices"]
    assert found == {f"row{row}": [word] for row, word in enumerate(expected)}
    tree = ElementTree.parse(exported(asked, suggestions=True) / "annotations.xml")
    said = [
        {one.get("name"): one.text for one in shape.findall("attribute")}
        for shape in tree.iter("mask")
    ]
    assert {int(one["row"]): one["suggested"] for one in said} == dict(enumerate(expected))
    assert {one["class"] for one in said} == {"unanswered"}
    masks = Waiting(tmp_path / "masks", "patch_mask", rows=3)
    hints = make_suggestions(masks.session, masks.images.truth)
    with pytest.raises(UserError, match="no place for suggested masks"):
        exported(masks, suggestions=True)
    tasks = exported(masks, FORMATS["labelstudio"], suggestions=True) / "tasks.json"
    table = json.loads(tasks.read_text())  # accepted as they are, they are the answer
    for task in table:
        task["annotations"] = [{"id": 1, "result": task["predictions"][0]["result"]}]
    tasks.write_text(json.dumps(table))
    assert take(masks, tasks, FORMATS["labelstudio"]).new == 3
    assert same(masks.read(), masks.truth())


def test_wall_time_counts_only_if_it_is_asked_for(tmp_path):
    asked = Waiting(tmp_path, "superpixel", rows=4)
    out = exported(asked, FORMATS["labelstudio"], crops=True)
    file = answer("labelstudio", out, asked.words(), {})
    take(asked, file, FORMATS["labelstudio"])
    assert asked.read().seconds is None
    (asked.round / "answers.csv").unlink()
    take(asked, file, FORMATS["labelstudio"], timed=True)
    assert asked.read().seconds.tolist() == [12.0] * 4


def test_an_archive_is_read_as_a_folder_is(tmp_path):
    asked = Waiting(tmp_path, "patch_mask", rows=4)
    out = exported(asked, FORMATS["mask"])
    sheets = make_task(asked.session, range(4), False).sheets
    paint = {sheet.name: names_of(asked.labels(sheet), asked.session.names) for sheet in sheets}
    answer("mask", out, {}, paint)
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        for path in sorted(out.rglob("*")):
            archive.write(path, path.relative_to(out))
    assert take(asked, tmp_path / "task.zip", FORMATS["mask"]).new == 4
    assert same(asked.read(), asked.truth())


def test_rows_are_listed_shortly():
    assert spans([7, 1, 2, 3, 9, 10]) == "1 to 3, 7, 9, 10"
    assert spans([]) == ""


def test_polygons_and_rectangles_are_filled_in_every_format_that_draws_them(tmp_path):
    expected = np.full((32, 48), 2)
    expected[:, :10] = 0
    left, right = [[0, 0], [10, 0], [10, 32], [0, 32]], [[10, 0], [48, 0], [48, 32], [10, 32]]
    for form in ("coco", "labelstudio", "labelme"):
        asked = Waiting(tmp_path / form, "image_mask", rows=1)
        out = exported(asked, FORMATS[form])
        if form == "coco":
            table = json.loads((out / "annotations.json").read_text())
            ids = {c["name"]: c["id"] for c in table["categories"]}
            table["annotations"] = [
                {"image_id": 1, "category_id": ids[word], "segmentation": [np.ravel(loop).tolist()]}
                for word, loop in (("red", left), ("blue", right))
            ]
            (out / "annotations.json").write_text(json.dumps(table))
        elif form == "labelstudio":
            table = json.loads((out / "tasks.json").read_text())
            size = {"original_width": 48, "original_height": 32}
            table[0]["annotations"] = [
                {"was_cancelled": True, "result": [{"type": "brushlabels", "value": "nonsense"}]},
                {
                    "result": [
                        {
                            **{"id": word, "type": "polygonlabels", **size},
                            "value": {
                                "points": [[x / 0.48, y / 0.32] for x, y in loop],
                                "polygonlabels": [word],
                            },
                        }
                        for word, loop in (("red", left), ("blue", right))
                    ]
                },
            ]
            (out / "tasks.json").write_text(json.dumps(table))
        else:
            (file,) = out.glob("*.json")
            table = json.loads(file.read_text())
            table["shapes"] += [
                {"label": "blue", "shape_type": "rectangle", "points": [[48, 32], [5, 0]]},
                {"label": "red", "shape_type": "polygon", "points": left},
            ]
            file.write_text(json.dumps(table))
        take(asked, out, FORMATS[form])
        assert np.array_equal(asked.read().masks[0].reshape(32, 48), expected)


def test_two_annotations_of_a_task_may_not_contradict_each_other(tmp_path):
    asked = Waiting(tmp_path, "superpixel", rows=2)
    out = exported(asked, FORMATS["labelstudio"], crops=True)
    file = answer("labelstudio", out, {0: ["red"], 1: ["blue"]}, {})
    table = json.loads(file.read_text())
    again = json.loads(file.read_text())[0]["annotations"][0]
    table[0]["annotations"].append(again)
    file.write_text(json.dumps(table))
    (tmp_path / "same.json").write_text(json.dumps(table))
    next(p for p in again["result"] if p["type"] == "choices")["value"]["choices"] = ["green"]
    table[0]["annotations"][1] = again
    (tmp_path / "other.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match=r"row 0 is 'red' in .* and 'green' in"):
        take(asked, tmp_path / "other.json", FORMATS["labelstudio"])
    assert take(asked, tmp_path / "same.json", FORMATS["labelstudio"]).new == 2
