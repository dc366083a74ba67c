"""Small run folders, written the way the loop writes them."""

import csv
import json
from html.parser import HTMLParser

import numpy as np

from alseg.report.folder import PictureEntry, save_pictures

VOID_TAGS = {"meta", "img", "input", "br", "line", "circle"}

COLUMNS = ["round", "images", "units", "pixels", "clicks", "seconds", "miou"]
TIMES = ["train_s", "score_s", "select_s"]


def write_run(folder, miou, *, classes=("sky", "road"), companion=None, about=None):
    """A run folder with one round per mIoU; None leaves the cell empty."""
    folder.mkdir(parents=True)
    extra = ["miou_stage1"] if companion else []
    with (folder / "rounds.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS + extra + TIMES + [f"iou_{name}" for name in classes])
        for r, value in enumerate(miou):
            costs = [2 * r + 2, 10 * r + 10, 1000 * r + 900, 25 * r**2 + 30, 7200 * r + 1800]
            value = "" if value is None else value
            more = [companion[r]] if companion else []
            writer.writerow(
                [r, *costs, value, *more, 60, 30, 10, value, *[""] * (len(classes) - 1)]
            )
    if about:
        (folder / "report.json").write_text(json.dumps(about), encoding="utf-8")
    return folder


def write_config(folder, method="mulquery", data="camvid", seed=3):
    (folder / "config.yaml").write_text(
        f"method:\n  name: {method}\ndata:\n  name: {data}\nseed: {seed}\n", encoding="utf-8"
    )


def write_pictures(folder, number, image="frame 1", kinds=("asked", "answered")):
    picture = np.full((6, 8, 3), 40 * number, np.uint8)
    entry = PictureEntry(image, "two regions asked", {kind: picture for kind in kinds})
    save_pictures(folder / f"round_{number:03d}" / "pictures", [entry])


class Page(HTMLParser):
    """Checks that tags nest, and keeps every element: tag, attributes, text directly inside."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.open = []
        self.feed(text)
        self.close()
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", **dict(attributes)}
        element["path"] = [*(e["tag"] for e in self.open), tag]
        element["classes"] = (element.get("class") or "").split()
        element["parents"] = list(self.open)
        self.elements.append(element)
        if tag not in VOID_TAGS:
            self.open.append(element)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1]["tag"] == tag, f"</{tag}> closes <{self.open[-1]['tag']}>"
        self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.open[-1]["text"] += data

    def find(self, tag, within=None, **attributes):
        return [
            e
            for e in self.elements
            if e["tag"] == tag
            and (within is None or any(p is within for p in e["parents"]))
            and all(e.get(name) == value for name, value in attributes.items())
        ]
