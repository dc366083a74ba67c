"""Random masks through the tools' own parsers and writers, in an environment of their own.

The tools bring an OpenCV that would overwrite ours. ALSEG_ORACLES names a Python that has them
already, or is ``install``: then the test installs them, which takes minutes, and is skipped where
there is no package index.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from alseg.exchange.formats import FORMATS
from alseg.exchange.model import Box, Question, Sheet, Task
from alseg.exchange.place import Place
from alseg.exchange.segmentation import _png
from alseg.exchange.sources import Source
from tests.exchange.oracle import WORDS
from tests.toys import COLORS

pytestmark = pytest.mark.slow
TOOLS = {
    "coco": "pycocotools==2.0.11",
    "labelstudio": "label-studio-sdk==2.1.2",
    "cvat": "datumaro==1.13.12",
    "mask": "datumaro==1.13.12",
    "labelme": "labelme==6.3.1",
}
SHEETS = 12


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """A Python with the tools; each is installed when it is first asked for."""
    given = os.environ.get("ALSEG_ORACLES", "")
    if not given:
        pytest.skip("ALSEG_ORACLES names no Python with the tools; ALSEG_ORACLES=install makes one")
    if given != "install":
        return lambda package: Path(given)
    folder = tmp_path_factory.mktemp("oracles")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    own = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    failed = {}

    def with_package(package):
        if package not in failed:
            command = [own, "-m", "pip", "install", "--quiet", "--timeout", "20", package]
            done = subprocess.run(command, capture_output=True, text=True)
            failed[package] = done.stderr if done.returncode else ""
        if failed[package]:
            pytest.skip(f"{package} cannot be installed: {failed[package][-300:]}")
        return own

    return with_package


def random_sheets(rng):
    """Sheets on which a random map of regions is asked about; rows count through all of them."""
    sheets, row = [], 0
    for number in range(SHEETS):
        height, width = (int(side) for side in rng.integers(1, 40, 2))
        ids = rng.integers(0, 1 + number % 4, (height, width))
        questions = []
        for unit in np.unique(ids):
            ys, xs = np.nonzero(ids == unit)
            box = Box(int(ys.min()), int(xs.min()), int(ys.max()) + 1, int(xs.max()) + 1)
            inside = (ids == unit)[box.top : box.bottom, box.left : box.right]
            questions.append(Question(row, box, inside, (0.5, 0.5)))
            row += 1
        place = Place((0.0, 0.0), (1.0, 1.0), (height, width))
        png = _png(np.zeros((height, width, 3), np.uint8))
        asked = tuple(questions)
        sheets.append(Sheet(f"sheet_{number}", number, place, (0, 0), asked, lambda png=png: png))
    return tuple(sheets)


@pytest.mark.parametrize("form", TOOLS)
def test_the_tool_sees_our_masks_and_we_see_its(form, python, tmp_path):
    rng = np.random.default_rng(0)
    sheets = random_sheets(rng)
    asked = Task("dominant", "region", WORDS, COLORS, sheets)
    for name, content in FORMATS[form].write(asked):
        path = tmp_path / "ours" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    labels = {s.name: rng.integers(0, 3, (s.height, s.width), dtype=np.uint8) for s in sheets}
    np.savez(tmp_path / "labels.npz", **labels)
    script = Path(__file__).with_name("oracle.py")
    without_screen = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    command = [python(TOOLS[form]), script, form, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=without_screen)
    assert done.returncode == 0, done.stderr[-2000:]

    seen = dict(np.load(tmp_path / "seen.npz"))
    expected = {}
    for sheet in sheets:
        for number, question in enumerate(sheet.questions, start=1):
            whole = np.zeros((sheet.height, sheet.width), dtype=bool)
            box = question.box
            whole[box.top : box.bottom, box.left : box.right] = question.mask
            expected[f"{sheet.name}/{number}" if form == "mask" else str(question.row)] = whole
    assert seen.keys() == expected.keys()
    assert all(np.array_equal(seen[row], whole) for row, whole in expected.items())

    dense = Task("mask", "region", WORDS, COLORS, sheets)
    reading = FORMATS[form].read(Source(tmp_path / "theirs"), dense)
    assert reading.mistakes == []
    for sheet in sheets:
        found = np.full((sheet.height, sheet.width), 255, dtype=np.uint8)
        for part in reading.painted[sheet.name]:
            height, width = part.mask.shape
            here = np.s_[part.top : part.top + height, part.left : part.left + width]
            found[here][part.mask] = WORDS.index(part.word)
        assert np.array_equal(found, labels[sheet.name])
