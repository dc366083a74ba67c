"""Run by the tools' own libraries in an environment of theirs, which knows nothing of alseg.

``python oracle.py FORMAT FOLDER``: reads FOLDER/ours with the tool's parser and writes the pixels
of each row into FOLDER/seen.npz; then writes the labels of FOLDER/labels.npz as the tool does, into
FOLDER/theirs.
"""

import json
import sys
from pathlib import Path

import numpy as np

WORDS = ("red", "green", "blue")


def coco(ours, labels, theirs):
    from pycocotools import mask as masks
    from pycocotools.coco import COCO

    known = COCO(str(ours / "annotations.json"))
    seen = {}
    for one in known.loadAnns(known.getAnnIds()):
        seen[one["attributes"]["row"]] = known.annToMask(one).astype(bool)
    ids = {c["name"]: c["id"] for c in known.loadCats(known.getCatIds())}
    annotations = []
    for image in known.loadImgs(known.getImgIds()):
        drawn = labels[image["file_name"].removesuffix(".png")]
        for label, word in enumerate(WORDS):
            runs = masks.encode(np.asfortranarray((drawn == label).astype(np.uint8)))
            runs["counts"] = runs["counts"].decode()
            one = {"image_id": image["id"], "category_id": ids[word], "segmentation": runs}
            annotations.append({**one, "id": len(annotations) + 1})
    table = {**known.dataset, "annotations": annotations}
    (theirs / "annotations.json").write_text(json.dumps(table))
    return seen


def labelstudio(ours, labels, theirs):
    from label_studio_sdk.converter import brush

    seen = {}
    tasks = json.loads((ours / "tasks.json").read_text())
    for task in tasks:
        rows = {}
        result = task["predictions"][0]["result"]
        for part in result:
            if part["type"] == "number":
                rows[part["id"]] = part["value"]["number"]
        for part in result:
            if part["type"] == "brushlabels":
                size = (part["original_height"], part["original_width"], 4)
                pixels = brush.decode_rle(part["value"]["rle"]).reshape(size)
                assert (pixels == pixels[..., :1]).all()
                seen[rows[part["id"]]] = pixels[..., 3] > 0
        drawn = labels[task["data"]["picture"]]
        painted = []
        for label, word in enumerate(WORDS):
            mask = (drawn == label).astype(np.uint8) * 255
            value = {"format": "rle", "rle": brush.mask2rle(mask), "brushlabels": [word]}
            size = {"original_height": drawn.shape[0], "original_width": drawn.shape[1]}
            painted.append({"id": word, "type": "brushlabels", "value": value, **size})
        task["annotations"] = [{"id": 1, "result": painted}]
    (theirs / "tasks.json").write_text(json.dumps(tasks))
    return seen


def _datumaro(ours, labels, theirs, kind, row_of):
    """Read and write a format of datumaro."""
    from datumaro.components.annotation import LabelCategories, Mask
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image

    seen = {}
    for item in Dataset.import_from(str(ours), kind):
        for one in item.annotations:
            if isinstance(one, Mask):
                seen[row_of(item.id, one)] = np.array(one.image, dtype=bool)
    items = []
    for name, drawn in labels.items():
        parts = [
            Mask((drawn == label), label=label, group=label + 1, id=label + 1, z_order=label)
            for label in range(3)
            if (drawn == label).any()
        ]
        pixels = np.zeros((*drawn.shape, 3), dtype=np.uint8)
        items.append(DatasetItem(name, media=Image.from_numpy(pixels), annotations=parts))
    made = Dataset.from_iterable(items, categories=list(WORDS))
    assert isinstance(next(iter(made.categories().values())), LabelCategories)
    voc = {"label_map": str(ours / "labelmap.txt"), "apply_colormap": True}
    options = {} if kind == "cvat" else voc
    made.export(str(theirs), kind, save_media=False, **options)
    return seen


def cvat(ours, labels, theirs):
    return _datumaro(ours, labels, theirs, "cvat", lambda _, one: int(one.attributes["row"]))


def mask(ours, labels, theirs):
    order = {}

    def row_of(item, one):  # the units of a picture are numbered from 1 on in SegmentationObject
        return order.setdefault((item, one.group), f"{item}/{one.group}")

    return _datumaro(ours, labels, theirs, "voc_segmentation", row_of)


def labelme(ours, labels, theirs):
    from labelme import utils
    from labelme._label_file import _load_shape_json_obj

    seen = {}
    for path in sorted(ours.glob("*.json")):
        table = json.loads(path.read_text())
        size = (table["imageHeight"], table["imageWidth"])
        for shape in map(_load_shape_json_obj, table["shapes"]):
            whole = np.zeros(size, dtype=bool)
            (x0, y0), (x1, y1) = shape["points"]
            whole[y0 : y1 + 1, x0 : x1 + 1] = shape["mask"]
            seen[shape["group_id"]] = whole
        drawn = labels[path.stem]
        table["shapes"] = [
            {
                "label": word,
                "points": [[0.0, 0.0], [size[1] - 1.0, size[0] - 1.0]],
                "shape_type": "mask",
                "mask": utils.img_arr_to_b64((drawn == label).astype(np.uint8)),
            }
            for label, word in enumerate(WORDS)
        ]
        (theirs / path.name).write_text(json.dumps(table))
    return seen


def main(form, folder):
    labels = dict(np.load(folder / "labels.npz"))
    theirs = folder / "theirs"
    theirs.mkdir()
    seen = globals()[form](folder / "ours", labels, theirs)
    np.savez(folder / "seen.npz", **{str(row): pixels for row, pixels in seen.items()})


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
