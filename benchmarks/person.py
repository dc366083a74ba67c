"""A scripted person at the page: knows the ground truth, and takes a fixed time for every key."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID, ImageSet
from alseg.label.session import Session, read_session
from alseg.labels.agreement import implied

KEYS = "123456789acdeijklmnoqtuvwxyz"

#: When a key went down, and when the next picture was on the screen.
WATCH = """
window.times = []; let at = null;
document.addEventListener('keydown', () => { at = performance.now(); }, {capture: true});
document.addEventListener('shown', (event) => {
  if (at !== null) { window.times.push(event.detail.at - at); at = null; }
});
"""


@dataclass
class Person:
    """Answers the questions of a page.

    Attributes:
        page: Of playwright, open at the questions of a run.
        run_dir: The run folder.
        images: Images with truth, those of the run.
        key_s: Seconds a key or a click takes.
        answered: Questions answered so far.
        presses: Keys and clicks so far.
    """

    page: object
    run_dir: Path
    images: ImageSet
    key_s: float
    answered: int = 0
    presses: int = 0
    _sessions: dict[int, Session] = field(default_factory=dict)

    @property
    def row(self) -> int | None:
        """Row of the question on the screen, None where there is none."""
        text = self.page.evaluate("document.body.dataset.row")
        return int(text) if text else None

    def session(self, round: int) -> Session:
        """The questions of a round."""
        if round not in self._sessions:
            self._sessions[round] = read_session(self.run_dir / f"round_{round:03d}")
        return self._sessions[round]

    def answer(self, round: int, row: int) -> None:
        """Answer the question on the screen, and wait for the next one."""
        session = self.session(round)
        labels = self.truth(session, row)
        if session.column == "masks":
            self._paint(labels)
        elif session.column == "sets":
            found = implied(labels[labels != VOID], "sets", session.num_classes)
            for member in found:
                self.press(KEYS[member])
            if not found or (labels == VOID).mean() > 0.02:
                self.press("0")
            self.press("Enter")
        else:
            self.press(self._single(labels, session.num_classes))
        self.page.wait_for_function(
            "row => document.body.dataset.row !== row && !document.body.dataset.busy", arg=str(row)
        )
        self.answered += 1

    def truth(self, session: Session, row: int) -> NDArray[np.uint8]:
        """True labels of the pixels of a unit, in raster order."""
        top, left, bottom, right = session.boxes[row].tolist()
        truth = self.images.truth(int(session.query.image[row]))
        return truth[top:bottom, left:right][session.mask(row)]

    def press(self, key: str) -> None:
        """Press a key, after the time that takes."""
        time.sleep(self.key_s)
        self.presses += 1
        self.page.keyboard.press(key)

    def _single(self, labels: NDArray[np.uint8], num_classes: int) -> str:
        count = np.bincount(labels, minlength=VOID + 1)
        label = int(count.argmax())
        return "0" if label == VOID else KEYS[label]

    def _paint(self, labels: NDArray[np.uint8]) -> None:
        """Click the superpixels that show another class than most, then fill the rest."""
        cells, corner, step = self._cells()
        flat = labels.reshape(cells.shape)
        common = int(np.bincount(labels, minlength=VOID + 1).argmax())
        wanted: dict[int, list[tuple[int, int]]] = {}
        for cell in np.unique(cells).tolist():
            inside = cells == cell
            label = int(np.bincount(flat[inside], minlength=VOID + 1).argmax())
            if label != common:
                y, x = np.argwhere(inside)[inside.sum() // 2].tolist()
                wanted.setdefault(label, []).append((y, x))
        for label, places in wanted.items():
            self.press("0" if label == VOID else KEYS[label])
            for y, x in places:
                time.sleep(self.key_s)
                self.presses += 1
                self.page.mouse.click(
                    corner[1] + (x + 0.5) * step[1], corner[0] + (y + 0.5) * step[0]
                )
        self.press("0" if common == VOID else KEYS[common])
        for key in ("r", "Enter"):
            self.press(key)
        if self.page.locator("#note:has-text('have no class')").count():
            self.press("Enter")

    def _cells(self) -> tuple[NDArray[np.uint16], tuple[float, float], tuple[float, float]]:
        """Superpixels of the unit's box, and where on the screen it begins, and how large it is."""
        found = self.page.evaluate(
            """async () => {
              const [question] = (await (await fetch('/api/state')).json()).questions;
              const bytes = await (await fetch(question.superpixels)).arrayBuffer();
              return {view: question.view, cells: [...new Uint16Array(bytes)]};
            }"""
        )
        view, box = found["view"], self.page.locator("#canvas").bounding_box()
        unit, whole = view["unit"], view["size"]
        screen = (box["height"], box["width"])
        sides, starts = [], []
        for axis in (0, 1):  # what the page shows at first, see view.js
            side = min(whole[axis], max(200, 2 * (unit[axis + 2] - unit[axis])))
            start = (unit[axis] + unit[axis + 2] - side) / 2
            starts.append(min(max(start, 0), whole[axis] - side))
            sides.append(side)
        scale = 0.96 * min(screen[0] / sides[0], screen[1] / sides[1])
        corner = [
            (box["y"], box["x"])[axis]
            + screen[axis] / 2
            + scale * (unit[axis] - starts[axis] - sides[axis] / 2)
            for axis in (0, 1)
        ]
        step = tuple(scale * one for one in view["scale"])
        cells = np.array(found["cells"], dtype=np.uint16).reshape(view["grid"])
        return cells, tuple(corner), step
