"""GeoJSON (RFC 7946) in EPSG:4326, for images that lie on earth; takes rasterio (alseg[geo]).

A unit is a polygon (of a pixel: a point) with the properties ``row``, ``answer`` and, if something
is suggested, ``suggested``. Who answers fills in ``answer`` as in ``answers.csv``. Dense masks are
further polygons with the class as ``answer``; a pixel belongs to one if its centre does.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.exchange.coco import suggested_masks
from alseg.exchange.model import Question, Reading, Said, Sheet, Task
from alseg.exchange.runs import Mask
from alseg.exchange.sources import Source, get

name = "geojson"
steps = (
    "Open questions.geojson over the images in a GIS, fill in the property answer, and save "
    "as GeoJSON in EPSG:4326."
)
refused: dict[str, str] = {}
predictions = True

_EARTH = "EPSG:4326"
_CRS84 = ("urn:ogc:def:crs:OGC:1.3:CRS84", "urn:ogc:def:crs:OGC::CRS84", _EARTH)


def check_installed() -> None:
    """Refuse where rasterio is missing.

    Raises:
        UserError: With what to install.
    """
    try:
        import rasterio  # noqa: F401
    except ImportError as error:
        raise UserError("GeoJSON takes one more library: pip install 'alseg[geo]'.") from error


class _Ground:
    """Where the pixels of a sheet lie on earth.

    Raises:
        UserError: If the file of its image does not say.
    """

    def __init__(self, sheet: Sheet, task: Task) -> None:
        import rasterio
        from rasterio.errors import RasterioError
        from rasterio.windows import Window, transform

        path = task.files[sheet.image]
        try:
            with rasterio.open(path) as file:
                self.crs, whole = file.crs, file.transform
        except RasterioError as error:
            raise UserError(f"{path} cannot be read ({error}).") from error
        if self.crs is None or whole.is_identity:
            raise UserError(
                f"{path} does not say where on earth it lies; export to another format, or give "
                f"the run GeoTIFFs."
            )
        if sheet.corner is None:
            raise UserError(
                f"{path} is enlarged by the run, so that its pixels have no place on earth; export "
                f"to another format."
            )
        top, left = sheet.corner
        self.transform = transform(Window(left, top, sheet.width, sheet.height), whole)
        self.size = (sheet.height, sheet.width)

    def outline(self, top: int, left: int, mask: Mask) -> dict[str, Any]:
        """Pixels of a sheet as polygons on earth."""
        from rasterio.features import shapes
        from rasterio.warp import transform_geom
        from rasterio.windows import Window, transform

        height, width = mask.shape
        here = transform(Window(left, top, width, height), self.transform)
        found = shapes(mask.astype(np.uint8), mask=mask, connectivity=4, transform=here)
        polygons = [shape["coordinates"] for shape, _ in found]
        shape = {"type": "MultiPolygon", "coordinates": polygons}
        if len(polygons) == 1:
            shape = {"type": "Polygon", "coordinates": polygons[0]}
        placed: dict[str, Any] = transform_geom(self.crs, _EARTH, shape)
        return dict(placed)

    def point(self, y: float, x: float) -> dict[str, Any]:
        """A point of a sheet on earth."""
        from rasterio.warp import transform_geom

        shape = {"type": "Point", "coordinates": self.transform * (x, y)}
        return dict(transform_geom(self.crs, _EARTH, shape))

    def pixels(self, geometry: Any) -> tuple[int, int, Mask]:
        """Top, left and pixels of a shape on earth.

        Raises:
            ValueError: If it is no area.
        """
        from rasterio.errors import RasterioError
        from rasterio.features import bounds, rasterize
        from rasterio.warp import transform_geom
        from rasterio.windows import Window, transform

        if get(geometry, "type") not in ("Polygon", "MultiPolygon"):
            raise ValueError("it is no polygon")
        try:
            shape = transform_geom(_EARTH, self.crs, geometry)
            west, south, east, north = bounds(shape)
            corners = np.array(
                [~self.transform * (x, y) for x in (west, east) for y in (south, north)]
            )
            if not np.isfinite(corners).all():
                raise ValueError("it leaves the projection of the image")
            (x0, y0), (x1, y1) = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
            left, top = max(0, int(x0)), max(0, int(y0))
            width = min(self.size[1], int(x1)) - left
            height = min(self.size[0], int(y1)) - top
            if width <= 0 or height <= 0:
                return 0, 0, np.zeros((0, 0), dtype=bool)
            painted: NDArray[np.uint8] = rasterize(
                [(shape, 1)],
                out_shape=(height, width),
                transform=transform(Window(left, top, width, height), self.transform),
                all_touched=False,
                dtype="uint8",
            )
        except (
            RasterioError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            ValueError,
        ) as error:
            raise ValueError(f"its geometry cannot be read ({error})") from error
        return top, left, painted == 1


def write(task: Task) -> Iterator[tuple[str, bytes]]:
    """``questions.geojson``, and ``predictions.geojson`` if masks are suggested."""
    check_installed()
    units, hints = [], []
    for sheet in task.sheets:
        ground = _Ground(sheet, task)
        for question in sheet.questions:
            units.append(_unit(question, sheet, ground, task))
            if question.labels is not None:
                for word, mask in suggested_masks(question, task):
                    shape = ground.outline(question.box.top, question.box.left, mask)
                    hints.append(_feature(shape, row=question.row, answer=word))
    yield "questions.geojson", _collection(units)
    if hints:
        yield "predictions.geojson", _collection(hints)


def _unit(question: Question, sheet: Sheet, ground: _Ground, task: Task) -> dict[str, Any]:
    if task.answer == "class":
        shape = ground.point(*question.point)
    else:
        shape = ground.outline(question.box.top, question.box.left, question.mask)
    said: dict[str, Any] = {"row": question.row, "answer": None, "picture": sheet.name}
    if question.words:
        said["suggested"] = ";".join(question.words)
    return _feature(shape, **said)


def _feature(shape: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": shape, "properties": properties}


def _collection(features: list[dict[str, Any]]) -> bytes:
    table = {"type": "FeatureCollection", "features": features}
    return json.dumps(table, ensure_ascii=False).encode()


def read(source: Source, task: Task) -> Reading:
    """What the features of a file say."""
    check_installed()
    files = [
        name
        for name in (*source.names(".geojson"), *source.names(".json"))
        if not name.endswith("predictions.geojson")
    ]
    if len(files) != 1:
        raise UserError(f"{source.path} holds {len(files)} GeoJSON files; give the answered one.")
    table = source.json(files[0])
    if not isinstance(get(table, "features"), list):
        raise UserError(f"{source.path} is not a FeatureCollection of GeoJSON.")
    crs = get(table, "crs", "properties", "name")
    if crs is not None and crs not in _CRS84:
        raise UserError(f"{source.path} is in {crs}; save it in {_EARTH}, as GeoJSON asks for.")
    reading = Reading()
    grounds = [(sheet, _Ground(sheet, task)) for sheet in task.sheets if task.answer == "mask"]
    for number, feature in enumerate(table["features"], start=1):
        where = f"feature {number}"
        answer = get(feature, "properties", "answer")
        picture = get(feature, "properties", "picture")
        known = picture is None or reading.sheet(task, picture, None) is not None
        if answer in (None, "") or not known:
            continue
        if task.answer == "mask":
            _paint(feature, str(answer), grounds, reading, where)
            continue
        if picture is None:
            reading.mistakes.append(f"{where} lacks the property picture of its question")
            continue
        row = reading.row(get(feature, "properties", "row"), task, where)
        if row is not None:
            words = tuple(word.strip() for word in str(answer).split(";"))
            reading.said.append(Said(row, words, where))
    return reading


def _paint(
    feature: Any, word: str, grounds: list[tuple[Sheet, _Ground]], reading: Reading, where: str
) -> None:
    for sheet, ground in grounds:
        try:
            top, left, mask = ground.pixels(get(feature, "geometry"))
        except ValueError as error:
            reading.mistakes.append(f"{where}: {error}")
            return
        reading.paint(sheet, word, top, left, mask, where)


def reserved(task: Task) -> tuple[str, ...]:
    """Words that a class may not be called: none, all are values of properties."""
    return ()
