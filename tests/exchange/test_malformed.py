"""Files whose parts are not what they should be end in a sentence, whatever they hold."""

import base64
import io
import json
import random
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.exchange.formats import FORMATS
from alseg.exchange.store import export_round, import_answers
from tests.exchange.tools import answer
from tests.exchange.waiting import Waiting, names_of

STRANGE = [None, True, -1, 1e300, "", "x", [], {}, [[1]], {"a": []}, 10**30]


def spoilt(thing, rng):
    """A copy of nested JSON in which one thing is another one."""
    if not isinstance(thing, dict | list) or not thing or rng.random() < 0.1:
        return rng.choice(STRANGE)
    keys = list(thing) if isinstance(thing, dict) else range(len(thing))
    key = rng.choice(keys)
    copy = dict(thing) if isinstance(thing, dict) else list(thing)
    copy[key] = spoilt(thing[key], rng)
    return copy


@pytest.mark.parametrize("kind", ["superpixel", "patch_mask", "scene", "class_set"])
@pytest.mark.parametrize("form", ["coco", "labelstudio", "labelme"])
def test_spoilt_json_is_refused_or_read(form, kind, tmp_path):
    asked = Waiting(tmp_path, kind, rows=3)
    out = export_round(tmp_path, FORMATS[form]).folder
    paint = {}
    if kind == "patch_mask":
        whole = [("red", np.ones((32, 48), bool))]
        paint = {path.stem: whole for path in out.rglob("*.png")}
    file = answer(form, out, asked.words(), paint)
    file = next(file.glob("*.json")) if file.is_dir() else file
    table, rng = json.loads(file.read_text()), random.Random(0)
    refused = 0
    for _ in range(60):
        file.write_text(json.dumps(spoilt(table, rng)))
        try:
            import_answers(tmp_path, FORMATS[form], file, replace=True)
        except UserError:  # anything else ends the test
            refused += 1
    assert 5 < refused < 60


@pytest.mark.parametrize(
    ("attribute", "text", "clause"),
    [
        ("rle", "1, 2", "cover 3 pixels of"),
        ("rle", "a", "invalid literal"),
        ("left", "-1", "leaves the picture"),
        ("width", "1000000000", "leaves the picture"),
        ("height", "0", "leaves the picture"),
    ],
)
def test_wrong_masks_of_cvat(attribute, text, clause, tmp_path):
    asked = Waiting(tmp_path, "patch_mask", rows=2)
    out = export_round(tmp_path, FORMATS["cvat"]).folder
    tree = ElementTree.parse(out / "annotations.xml")
    shape = next(iter(tree.iter("mask")))
    shape.set("label", asked.session.names[0])
    shape.set(attribute, text)
    tree.write(tmp_path / "a.xml")
    with pytest.raises(UserError, match=clause):
        import_answers(tmp_path, FORMATS["cvat"], tmp_path / "a.xml")


def test_a_picture_larger_than_its_place_is_not_decoded(tmp_path):
    Waiting(tmp_path, "image_mask", rows=1)
    out = export_round(tmp_path, FORMATS["labelme"]).folder
    (file,) = out.glob("*.json")
    table = json.loads(file.read_text())
    buffer = io.BytesIO()
    Image.new("1", (9000, 5000)).save(buffer, "PNG")
    shape = {"label": "red", "shape_type": "mask", "points": [[0, 0], [8999, 4999]]}
    table["shapes"] = [{**shape, "mask": base64.b64encode(buffer.getvalue()).decode()}]
    file.write_text(json.dumps(table))
    with pytest.raises(UserError, match="its mask is larger than the picture"):
        import_answers(tmp_path, FORMATS["labelme"])


def test_colours_that_nothing_names_are_told(tmp_path):
    asked = Waiting(tmp_path, "patch_mask", rows=3)
    out = export_round(tmp_path, FORMATS["mask"]).folder
    path = sorted((out / "SegmentationClass").glob("*.png"))[0]
    pixels = np.array(Image.open(path))
    pixels[pixels.any(axis=2)] = [1, 2, 3]
    Image.fromarray(pixels).save(path)
    with pytest.raises(
        UserError, match=r"256 pixels of the colour \[1, 2, 3\], which labelmap.txt"
    ):
        import_answers(tmp_path, FORMATS["mask"])
    Image.fromarray(pixels[:5]).save(path)
    with pytest.raises(UserError, match="is 5 x 48"):
        import_answers(tmp_path, FORMATS["mask"])
    (out / "labelmap.txt").write_text("red:1,2,3::\nblue:1,2,3::\n")
    with pytest.raises(UserError, match="gives 'red' and 'blue' the same colour"):
        import_answers(tmp_path, FORMATS["mask"])
    assert names_of(np.array([255]), asked.session.names)[0][0] == "void"
