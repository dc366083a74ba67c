"""Answers per minute, and the time from a key to the next question, on the page for people.

A browser is driven by a person who always knows the answer and takes a fixed time for every key.
Images are painted streets of 1024x2048 pixels in PNG files, loaded by the run at half the size.

    python -m benchmarks.label_page [--answers 60] [--key 0.6]

Beside it stands what the same hands could do with ``answers.csv``: a model, not a measurement. An
answer by its number takes one key for each class and each semicolon, and four more: to the next
picture, to the window with the table, Enter, and back.

Needs ``alseg[label,dev]`` and a Chromium; ``CHROMIUM`` names one that playwright did not install.
"""

import argparse
import contextlib
import io
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from alseg.core.images import ClassTable
from alseg.data.files import FileImages, ImageFile, Resize
from alseg.data.masks import read_masks_by_id
from alseg.data.synthetic import COLORS, Synthetic
from alseg.label.desk import Desk
from alseg.label.serve import Server
from alseg.label.server import Office
from alseg.label.session import read_session, write_session
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import PIXELS, Query
from alseg.regions.maps import extract_regions
from alseg.regions.superpixels import Slic
from benchmarks.person import WATCH, Person

#: Keys of an answer in a spreadsheet beside the time its text takes: to the next picture, to the
#: other window, Enter, and back. It is a model: nobody's hands were measured.
SPREADSHEET_KEYS = 4


def street_files(folder: Path, count: int, size=(1024, 2048)) -> FileImages:
    """Painted streets as PNG files with masks."""
    painted = Synthetic(train=count, val=0, size=size, crowding=2.0, seed=3).splits().train
    files = []
    for index, name in enumerate(painted.names):
        paths = [folder / kind / f"{name}.png" for kind in ("images", "masks")]
        for path, pixels in zip(paths, (painted.image, painted.truth), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                Image.fromarray(pixels(index)).save(path, compress_level=3)
        files.append(ImageFile(name, *paths))
    table = ClassTable(tuple(COLORS), np.array([*COLORS.values()], dtype=np.uint8))
    return FileImages(
        files, table, read_masks_by_id(dict(enumerate(COLORS)), []), Resize(scale=0.5)
    )


def waiting_round(folder: Path, images: FileImages, answer: str, rows: int, cache: Path) -> None:
    """Write a round that asks for pixels, superpixels or class sets."""
    sizes = np.array([images.size(i) for i in range(len(images))])
    rng = np.random.default_rng(0)
    maps = []
    if answer != "class":
        maps = [extract_regions(Slic(region_size=1500), images, cache, 0, False)]
    pool = LabelPool(sizes, len(images.classes), Budget(float(rows)), maps)
    regions = maps[0].version if maps else PIXELS
    image = rng.integers(len(images), size=rows)
    unit = np.array([rng.choice(pool.num_units(regions)[i]) for i in image])
    kind = "region" if maps else "pixel"
    query = Query(0, kind, answer, regions, image, unit, np.zeros(rows, np.float32))
    query.save(folder / "query.npz")
    write_session(query, pool, images, folder)


def play(folder: Path, images: FileImages, answers: int, key_s: float):
    """Answer questions in a browser.

    Returns:
        Seconds in all, milliseconds from key to next question, and keys of an answer in a file.
    """
    from playwright.sync_api import sync_playwright

    desk = Desk(read_session(folder))
    with (
        contextlib.redirect_stdout(io.StringIO()),
        Server(Office(desk), ["bench"], browser=False) as server,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(
            executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.add_init_script(WATCH)
        page.goto(server.link("bench"))
        page.wait_for_selector("body[data-row]")
        person = Person(page, folder.parent, images, key_s)
        start = time.perf_counter()
        for _ in range(answers):
            person.answer(0, person.row)
        took = time.perf_counter() - start
        times = np.array(page.evaluate("window.times"))
        browser.close()
    names = [len(given.value) if isinstance(given.value, list) else 1
             for given in desk.board.given.values()]  # fmt: skip
    desk.close()
    return took, times, SPREADSHEET_KEYS + float(np.mean([2 * n - 1 for n in names]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=60)
    parser.add_argument("--key", type=float, default=0.6, help="seconds a key takes the person")
    parser.add_argument("--folder", type=Path, help="where the images are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        images = street_files(folder / "streets", 12)
        heads = ("asked", "answers", "per minute", "by answers.csv, modelled",
                 "key to next question, median ms", "95 % ms")  # fmt: skip
        print(f"| {' | '.join(heads)} |\n{'| --- ' * len(heads)}|")
        for answer, name in (
            ("class", "pixels"),
            ("dominant", "superpixels"),
            ("class_set", "class sets of superpixels"),
        ):
            place = Path(temporary) / answer / "round_000"
            waiting_round(place, images, answer, 4 * options.answers, folder / "cache")
            took, times, keys = play(place, images, options.answers, options.key)
            median, high = np.percentile(times, [50, 95])
            rate = 60 * options.answers / took
            by_file = f"{60 / (keys * options.key):.0f}"
            cells = (name, options.answers, f"{rate:.0f}", by_file, f"{median:.0f}", f"{high:.0f}")
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
