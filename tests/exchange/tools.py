"""People at the tools: they answer what was exported by changing files, without alseg's codecs."""

import base64
import io
import json
from copy import deepcopy
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

#: One pair of lists per format: words by row, and painted (word, mask) pairs by name of a sheet.


def runs(flat):
    """Run lengths of zeros and ones in turn, counted one by one."""
    counts, value = [], False
    flat = list(map(bool, flat))
    while flat:
        n = next((i for i, one in enumerate(flat) if one != value), len(flat))
        counts.append(n)
        flat, value = flat[n:], not value
    return counts


def cvat(folder, words, paint):
    tree = ElementTree.parse(folder / "annotations.xml")
    for image in tree.iter("image"):
        for shape in list(image):
            said = {one.get("name"): one for one in shape.findall("attribute")}
            for word in words.get(int(said["row"].text), ()):
                if "class" in said:
                    said["class"].text = word
                else:
                    said[word].text = "true"
        for word, mask in paint.get(image.get("name").removesuffix(".png"), ()):
            ys, xs = np.nonzero(mask)
            box = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
            ElementTree.SubElement(
                image, "mask", label=word, source="manual", occluded="0", z_order="1",
                rle=", ".join(map(str, runs(box.ravel()))), left=str(xs.min()), top=str(ys.min()),
                width=str(box.shape[1]), height=str(box.shape[0]),
            )  # fmt: skip
    path = folder / "answered.xml"
    tree.write(path)
    return path


def coco(folder, words, paint):
    table = json.loads((folder / "annotations.json").read_text())
    ids = {c["name"]: c["id"] for c in table["categories"]}
    answered = []
    for annotation in table["annotations"]:
        said = words.get(annotation["attributes"]["row"], ())
        answered += [{**annotation, "category_id": ids[word]} for word in said] or [annotation]
    for image in table["images"]:
        for word, mask in paint.get(image["file_name"].removesuffix(".png"), ()):
            counts = runs(mask.T.ravel())
            answered.append(
                {
                    "image_id": image["id"],
                    "category_id": ids[word],
                    "segmentation": {"counts": counts, "size": list(mask.shape)},
                }
            )
    table["annotations"] = [{**one, "id": n} for n, one in enumerate(answered, start=1)]
    path = folder / "answered.json"
    path.write_text(json.dumps(table))
    return path


def brush(mask):
    """Label Studio's runs in their other form: every value is written out."""
    values = np.repeat(mask.ravel() * 255, 4)
    bits = f"{values.size:032b}" + f"{7:05b}" + "".join(f"{size - 1:04b}" for size in (3, 4, 8, 16))
    for start in range(0, values.size, 256):
        part = values[start : start + 256]
        bits += f"010{len(part) - 1:08b}" + "".join(f"{value:08b}" for value in part)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def labelstudio(folder, words, paint):
    tasks = json.loads((folder / "tasks.json").read_text())
    for task in tasks:
        result = deepcopy(task["predictions"][0]["result"])
        result = [part for part in result if part["type"] != "choices"]
        if not result:  # a scene: the test says its row
            said = words.get(task["id"] - 1)
            if said:
                choice = {"choices": said}
                result = [{"id": "x", "type": "choices", "from_name": "class", "value": choice}]
        for part in list(result):
            if part["type"] == "number" and part["value"]["number"] in words:
                said = {"choices": words[part["value"]["number"]]}
                result.append({**part, "from_name": "class", "type": "choices", "value": said})
        for number, (word, mask) in enumerate(paint.get(task["data"]["picture"], ())):
            result.append(
                {
                    "id": f"painted{number}",
                    "type": "brushlabels",
                    "from_name": "label",
                    "original_height": mask.shape[0],
                    "original_width": mask.shape[1],
                    "value": {"format": "rle", "rle": brush(mask), "brushlabels": [word]},
                }
            )
        task["annotations"] = [{"id": 7, "lead_time": 12.0, "result": result}]
    path = folder / "answered.json"
    path.write_text(json.dumps(tasks))
    return path


def labelme(folder, words, paint):
    for path in folder.glob("*.json"):
        table = json.loads(path.read_text())
        rows = [shape["group_id"] for shape in table["shapes"]]
        for row, shape in zip(rows, table["shapes"], strict=True):
            for word in words.get(row, ()):
                if shape["flags"]:
                    shape["flags"][word] = True
                else:
                    shape["label"] = word
        if table["flags"]:  # a scene: the test says its row
            for word in words.get(sorted(folder.glob("*.json")).index(path), ()):
                table["flags"][word] = True
        for word, mask in paint.get(path.stem, ()):
            buffer = io.BytesIO()
            Image.fromarray(mask).save(buffer, "PNG")
            height, width = mask.shape
            table["shapes"].append(
                {
                    "label": word,
                    "shape_type": "mask",
                    "points": [[0.0, 0.0], [width - 1.0, height - 1.0]],
                    "mask": base64.b64encode(buffer.getvalue()).decode(),
                    "group_id": None,
                    "flags": {},
                }
            )
        path.write_text(json.dumps(table))
    return folder


def mask(folder, words, paint):
    """Paints each unit through its colour in SegmentationObject, or whole pictures."""
    lines = (folder / "labelmap.txt").read_text().splitlines()[1:]
    colors = {line.split(":")[0]: list(map(int, line.split(":")[1].split(","))) for line in lines}
    rows = iter(sorted(words))
    for path in sorted((folder / "SegmentationClass").glob("*.png")):
        pixels = np.array(Image.open(path))
        if words:
            (row,) = [next(rows)]  # exported with crops: one row per picture, in order
            pixels[(pixels == colors["question"]).all(axis=2)] = colors[words[row][0]]
        for word, where in paint.get(path.stem, ()):
            pixels[where] = colors[word]
        Image.fromarray(pixels).save(path)
    return folder


def geojson(folder, words, paint):
    from rasterio.warp import transform_geom

    table = json.loads((folder / "questions.geojson").read_text())
    for feature in table["features"]:
        said = words.get(feature["properties"]["row"])
        feature["properties"]["answer"] = None if said is None else ";".join(said)
    for where in paint.values():
        for word, mask, transform, crs in where:
            corners, edges = [], np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(int))
            for y, line in enumerate(edges):  # a polygon for each run of pixels of a line
                for x, end in zip(np.flatnonzero(line > 0), np.flatnonzero(line < 0), strict=True):
                    ring = [(x, y), (end, y), (end, y + 1), (x, y + 1), (x, y)]
                    corners.append([[transform * point for point in ring]])
            shape = {"type": "MultiPolygon", "coordinates": corners}
            geometry = dict(transform_geom(crs, "EPSG:4326", shape))
            table["features"].append({"geometry": geometry, "properties": {"answer": word}})
    path = folder / "answered.geojson"
    path.write_text(json.dumps(table))
    return path


TOOLS = {
    "cvat": cvat,
    "coco": coco,
    "labelstudio": labelstudio,
    "labelme": labelme,
    "mask": mask,
}


def answer(form, folder, words, paint):
    """Answer what was exported; returns what is to be imported."""
    return Path({**TOOLS, "geojson": geojson}[form](folder, words, paint))
