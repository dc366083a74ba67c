"""Makes the pictures of the pages anew: ``python -m docs.pictures [FOLDER ...]``.

Without a folder, the label page and a question, of painted streets answered by a scripted person.
Of a comparison (runs/demo/comparison of ``make demo``), its top; of a run folder, the top of its
report: that of the notebook ``label_your_own`` is on the page about labelling. Needs
``alseg[label,dev]`` and a Chromium; ``CHROMIUM`` names one that playwright did not install.
"""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from alseg.core.images import VOID
from alseg.data.files import FileImages
from alseg.label.desk import Desk
from alseg.label.serve import Server
from alseg.label.server import Office
from alseg.label.session import read_session
from alseg.labels.agreement import implied
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.labels.tables import Query
from alseg.regions.maps import extract_regions
from alseg.regions.superpixels import Slic
from alseg.report.questions import save_questions
from benchmarks.label_page import street_files, waiting_round
from benchmarks.person import KEYS, Person

HERE = Path(__file__).parent
#: Questions answered before the picture is taken, if it then asks for a car and something else.
_ANSWERED = 4
_CAR = 6
#: Colours kept of a screenshot: the most frequent ones, and others.
_FLAT, _SHADES = 64, 32


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(
            executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"]
        )
        yield opened
        opened.close()


def kept(picture: bytes, name: str) -> None:
    """Save a screenshot with few colours: those of the page itself, and some for its images."""
    rgb = Image.open(io.BytesIO(picture)).convert("RGB")
    colors, counts = np.unique(np.asarray(rgb).reshape(-1, 3), axis=0, return_counts=True)
    often = colors[np.argsort(-counts)[:_FLAT]].ravel().tolist()
    others = (rgb.quantize(_SHADES).getpalette() or [])[: 3 * _SHADES]
    palette = Image.new("P", (1, 1))
    palette.putpalette([*often, *others])
    path = HERE / f"{name}.png"
    rgb.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}, {path.stat().st_size // 1024} KB")


def label_page(chromium: Any, folder: Path) -> None:
    """The page where it asks for the classes of a superpixel, and a question as a file shows it."""
    images = street_files(folder / "streets", 4, size=(768, 1536))
    asked = folder / "run" / "round_000"
    waiting_round(asked, images, "class_set", 80, folder / "cache")
    desk = Desk(read_session(asked))
    with (
        contextlib.redirect_stdout(io.StringIO()),
        Server(Office(desk), ["anna"], browser=False) as server,
    ):
        page = chromium.new_page(viewport={"width": 1060, "height": 660})
        page.goto(server.link("anna"))
        page.wait_for_selector("body[data-row]")
        person = Person(page, folder / "run", images, 0.05)
        while person.answered < _ANSWERED or not {_CAR} < {*_classes(person)}:
            person.answer(0, person.row)
        for number in _classes(person):
            page.keyboard.press(KEYS[number])
        page.wait_for_timeout(500)
        shot = page.screenshot()
        page.close()
    desk.close()
    kept(shot, "label_page")
    question(Query.load(asked / "query.npz"), images, folder)


def _classes(person: Person) -> list[int]:
    """The classes in the region that is asked about."""
    session, row = person.session(0), person.row
    assert row is not None
    labels = person.truth(session, row)
    return [*implied(labels[labels != VOID], "sets", session.num_classes)]


def question(query: Query, images: FileImages, folder: Path) -> None:
    """The picture that lies beside `questions.csv` for the first question."""
    maps = [extract_regions(Slic(region_size=1500), images, folder / "cache", 0, False)]
    sizes = np.array([images.size(index) for index in range(len(images))])
    pool = LabelPool(sizes, len(images.classes), Budget(1.0), maps)
    one = replace(query, **{name: getattr(query, name)[7:8] for name in ("image", "unit", "score")})
    save_questions(one, pool, images, folder / "questions")
    (drawn,) = (folder / "questions").iterdir()
    (HERE / "question.jpg").write_bytes(drawn.read_bytes())


def shown(chromium: Any, file: Path, name: str, height: int) -> None:
    """The top of a page that lies in a file."""
    page = chromium.new_page(viewport={"width": 1100, "height": height})
    page.goto(file.resolve().as_uri())
    page.wait_for_timeout(300)
    kept(page.screenshot(), name)
    page.close()


def main(given: list[str]) -> None:
    """Make the pictures."""
    with browser() as chromium, tempfile.TemporaryDirectory() as folder:
        if not given:
            label_page(chromium, Path(folder))
        for place in map(Path, given):
            if (place / "index.html").is_file():
                shown(chromium, place / "index.html", "demo", 935)
            else:
                shown(chromium, place / "report.html", "report", 1000)


if __name__ == "__main__":
    main(sys.argv[1:])
