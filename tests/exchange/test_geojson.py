"""Questions on earth: two GeoTIFFs in UTM, asked and answered in degrees."""

import json

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.core.images import ClassTable
from alseg.data.files import FileImages, ImageFile, Resize
from alseg.data.masks import read_masks_by_id
from alseg.exchange.formats import FORMATS
from alseg.exchange.store import export_round, import_answers
from tests.exchange.tools import answer
from tests.exchange.waiting import KINDS, Waiting, names_of
from tests.toys import COLORS

rasterio = pytest.importorskip("rasterio")
FORM = FORMATS["geojson"]
#: Half a metre a pixel, a little turned, in UTM zone 33.
NORTH = (0.5, 0.02, 500000.0, 0.02, -0.5, 5800000.0)


def tiffs(folder, scale=1.0, place=True):
    rng = np.random.default_rng(0)
    files = []
    for index in range(2):
        path = folder / f"{index}.tif"
        where = {}
        if place:
            transform = rasterio.Affine(*NORTH) * rasterio.Affine.translation(64 * index, 0)
            where = {"crs": "EPSG:32633", "transform": transform}
        pixels = rng.integers(0, 255, (3, 32, 64), dtype=np.uint8)
        with rasterio.open(path, "w", width=64, height=32, count=3, dtype="uint8", **where) as file:
            file.write(pixels)
        files.append(ImageFile(str(index), path, None))
    names = {0: "red", 1: "green", 2: "blue"}
    table = ClassTable(tuple(names.values()), COLORS)
    return FileImages(files, table, read_masks_by_id(names), Resize(scale=scale))


def placed(path):
    with rasterio.open(path) as file:
        return file.transform, file.crs


@pytest.mark.parametrize("crops", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_masks_come_back_from_earth(scale, crops, tmp_path, monkeypatch):
    monkeypatch.setattr("alseg.label.pictures.LEAST_SIDE", 24)
    asked = Waiting(tmp_path, "patch_mask", images=tiffs(tmp_path, scale), rows=2)
    out = export_round(tmp_path, FORM, crops=crops).folder
    blocks = np.random.default_rng(3).choice([0, 1, 2, 255], (2, 8, 16)).astype(np.uint8)
    drawn = np.roll(blocks.repeat(4, axis=1).repeat(4, axis=2), (1, 1), (1, 2))
    paint = {}
    for image in range(2):
        transform, crs = placed(tmp_path / f"{image}.tif")
        words = names_of(drawn[image], asked.session.names)
        paint[image] = [(word, mask, transform, crs) for word, mask in words]
    import_answers(tmp_path, FORM, answer("geojson", out, {}, paint))
    step = round(1 / scale)
    for row, said in enumerate(asked.read().masks):
        top, left, bottom, right = asked.session.boxes[row]
        own = drawn[asked.query.image[row]][step // 2 :: step, step // 2 :: step]
        assert np.array_equal(said, own[top:bottom, left:right].ravel())


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if not kind.endswith("mask") and kind != "scene"]
)
def test_words_come_back_and_units_lie_where_they_are(kind, tmp_path):
    images = tiffs(tmp_path)
    monkey = np.random.default_rng(4).integers(0, 3, (2, 32, 64), dtype=np.uint8)
    object.__setattr__(images, "truth", lambda index: monkey[index])
    asked = Waiting(tmp_path, kind, images=images, rows=6)
    out = export_round(tmp_path, FORM).folder
    table = json.loads((out / "questions.geojson").read_text())
    for feature in table["features"]:
        row = feature["properties"]["row"]
        transform, crs = placed(tmp_path / f"{asked.query.image[row]}.tif")
        shape = rasterio.warp.transform_geom("EPSG:4326", crs, feature["geometry"])
        corners = shape["coordinates"] if kind == "pixel" else shape["coordinates"][0]
        pixels = np.array([~transform * point for point in np.atleast_2d(corners)])
        top, left, bottom, right = asked.session.boxes[row]
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        middle = 0.5 if kind == "pixel" else 0.0
        assert np.allclose(low, [left + middle, top + middle], atol=1e-4)
        assert np.allclose(high, [right - middle, bottom - middle], atol=1e-4)
        longitude, latitude = np.array(feature["geometry"]["coordinates"]).reshape(-1, 2)[0]
        assert (round(longitude), round(latitude)) == (15, 52)
        if kind == "correct":
            assert feature["properties"]["suggested"] in asked.session.names
    import_answers(tmp_path, FORM, answer("geojson", out, asked.words(), {}))
    said, truth = asked.read(), asked.truth()
    assert np.array_equal(said.said, truth.said)


def test_what_lies_nowhere_is_refused(tmp_path):
    Waiting(tmp_path, "superpixel", images=tiffs(tmp_path, place=False), rows=2)
    with pytest.raises(UserError, match="does not say where on earth it lies"):
        export_round(tmp_path, FORM)
    assert not list(tmp_path.rglob("*.part"))
    enlarged = tmp_path / "enlarged"
    enlarged.mkdir()
    Waiting(enlarged, "superpixel", images=tiffs(enlarged, scale=2.0), rows=2)
    with pytest.raises(UserError, match="is enlarged by the run"):
        export_round(enlarged, FORM)


@pytest.mark.parametrize(
    ("geometry", "clause"),
    [
        (None, "it is no polygon"),
        ({"type": "Point", "coordinates": [0, 0]}, "it is no polygon"),
        ({"type": "Polygon", "coordinates": "x"}, "cannot be read"),
        ({"type": "Polygon"}, "cannot be read"),
        (
            {"type": "Polygon", "coordinates": [[[15, 52], [15, 52]]]},
            "cannot be read|answers no question",
        ),
    ],
)
def test_wrong_shapes(geometry, clause, tmp_path):
    Waiting(tmp_path, "patch_mask", images=tiffs(tmp_path), rows=2)
    file = export_round(tmp_path, FORM).folder / "questions.geojson"
    table = json.loads(file.read_text())
    table["features"].append({"geometry": geometry, "properties": {"answer": "red"}})
    file.write_text(json.dumps(table))
    with pytest.raises(UserError, match=clause):
        import_answers(tmp_path, FORM, file)


def test_other_projections_and_missing_pictures(tmp_path):
    Waiting(tmp_path, "superpixel", images=tiffs(tmp_path), rows=2)
    file = export_round(tmp_path, FORM).folder / "questions.geojson"
    table = json.loads(file.read_text())
    crs = {"properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    file.write_text(json.dumps({**table, "crs": crs}))
    with pytest.raises(UserError, match="is in urn:ogc:def:crs:EPSG::32633; save it in EPSG:4326"):
        import_answers(tmp_path, FORM)
    del table["features"][0]["properties"]["picture"]
    table["features"][0]["properties"]["answer"] = "red"
    file.write_text(json.dumps(table))
    with pytest.raises(UserError, match="feature 1 lacks the property picture"):
        import_answers(tmp_path, FORM)


def test_without_rasterio_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    Waiting(tmp_path, "superpixel", rows=2)
    with pytest.raises(UserError, match=r"pip install 'alseg\[geo\]'"):
        export_round(tmp_path, FORM)
