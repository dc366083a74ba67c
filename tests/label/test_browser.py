"""The page in a browser, as a person uses it. Slow; needs playwright and a Chromium."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from alseg.label.board import unroll
from alseg.label.desk import Desk
from alseg.label.journal import read_lines
from alseg.label.serve import Server
from alseg.label.server import Office
from alseg.label.suggestions import Suggestions
from alseg.labels.tables import Answers
from tests.cli.test_run import TINY
from tests.label.rounds import KINDS, Asked, same

pytestmark = pytest.mark.slow

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
KEYS = "123456789acdeijklmnoqtuvwxyz"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium: install Debian's chromium, or name one in CHROMIUM")
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens links; nothing a page asks for may lie on another machine, nothing may go wrong."""
    contexts, strange = [], []

    def watch(request):
        if urlsplit(request.url).hostname not in ("127.0.0.1", None):
            strange.append(request.url)

    def opened(link, width=1000, height=700, touch=False):
        context = chromium.new_context(viewport={"width": width, "height": height}, has_touch=touch)
        contexts.append(context)
        context.on("request", watch)
        page = context.new_page()
        page.set_default_timeout(20000)
        page.on("pageerror", lambda error: strange.append(str(error)))
        page.goto(link)
        page.wait_for_selector("body[data-row]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not strange


@pytest.fixture
def served(tmp_path, capsys):
    """Serves a round of a kind from this process."""
    opened = []

    def make(name, annotators=("ann",), overlap=0.0, hints=None, **more):
        asked = Asked(tmp_path / str(len(opened)), name, **more)
        desk = Desk(asked.read(), overlap, hints)
        server = Server(Office(desk), list(annotators), browser=False)
        opened.append((server, desk))
        return asked, desk, server

    yield make
    for server, desk in opened:
        server.close()
        desk.close()


def row_of(page):
    text = page.evaluate("document.body.dataset.row")
    return int(text) if text else None


def settled(page, row):
    """Wait until the page shows another question than a row, or none."""
    page.wait_for_function(
        "row => document.body.dataset.row !== row && !document.body.dataset.busy", arg=str(row)
    )
    return row_of(page)


def by_keys(page, answer, value, names):
    press = page.keyboard.press
    key = "0" if value is None else None
    if answer == "class_set":
        for member in value:
            press("0" if member == len(names) else KEYS[member])
        press("Enter")
    elif answer == "mask":
        common = int(np.bincount(unroll(value)).argmax())
        press("0" if common == 255 else KEYS[common])
        press("r")
        press("Enter")
    else:
        press(key or KEYS[value])


def by_mouse(page, answer, value, names):
    def choose(label):
        void = label in (None, 255, len(names))
        page.click('[data-do="void"]' if void else f'[data-class="{label}"]')

    if answer == "class_set":
        for member in value:
            choose(member)
        page.click('[data-do="confirm"]')
    elif answer == "mask":
        paint(page, unroll(value), choose)
        page.click('[data-do="confirm"]')
    else:
        choose(value)


def confirm(page, hand):
    page.keyboard.press("Enter") if hand is by_keys else page.click('[data-do="confirm"]')


def places(page):
    """Where on the screen the pixels of a unit's box are, as the page shows it at first."""
    where = page.evaluate(
        "async () => (await (await fetch('/api/state')).json()).questions[0].view"
    )
    box = page.locator("#canvas").bounding_box()
    unit, sides, screen = where["unit"], [], [box["height"], box["width"]]
    for axis in (0, 1):
        side = min(max(200, 2 * (unit[axis + 2] - unit[axis])), where["size"][axis])
        start = (unit[axis] + unit[axis + 2] - side) / 2
        sides.append((min(max(start, 0), where["size"][axis] - side), side))
    scale = 0.96 * min(n / side for n, (_, side) in zip(screen, sides, strict=True))

    def at(y, x):
        point = []
        for axis, cell in ((0, y), (1, x)):
            start, side = sides[axis]
            crop = unit[axis] + (cell + 0.5) * where["scale"][axis]
            point.append(screen[axis] / 2 + scale * (crop - start - side / 2))
        return box["x"] + point[1], box["y"] + point[0]

    return where["grid"], at


def paint(page, labels, choose):
    """Paint rows of equal labels with a brush one pixel wide, then fill the rest."""
    if page.get_attribute('[data-tool="brush"]', "aria-pressed") != "true":
        page.click('[data-tool="brush"]')
        page.fill("#size input", "1")
    grid, at = places(page)
    table = labels.reshape(grid)
    common = int(np.bincount(labels).argmax())
    for label in {*labels.tolist()} - {common}:
        choose(int(label))
        for y, row in enumerate(table):
            line = np.concatenate([[False], row == label, [False]])
            edges = np.flatnonzero(line[1:] != line[:-1])
            for start, end in edges.reshape(-1, 2).tolist():
                page.mouse.move(*at(y, start))
                page.mouse.down()
                page.mouse.move(*at(y, end - 1))
                page.mouse.up()
    choose(common)
    page.click('[data-tool="rest"]')


@pytest.mark.parametrize("hand", [by_keys, by_mouse])
@pytest.mark.parametrize("name", KINDS)
def test_twenty_questions_of_each_kind(name, hand, served, open_page):
    asked, desk, server = served(name)
    values = asked.values()
    page = open_page(server.link("ann"))
    row, count = row_of(page), 0
    while row is not None:
        if asked.suggested(row) == values[row]:
            confirm(page, hand)
        else:
            hand(page, asked.answer, values[row], desk.session.names)
        row = settled(page, row)
        count += 1
    assert count == 20
    assert "All is answered" in page.text_content("#end")
    if hand is by_keys:
        page.keyboard.press("Enter")
    else:
        page.click("#end-actions .main")
    assert desk.finished.wait(10)
    answers = desk.answers()
    if asked.answer == "mask" and hand is by_keys:  # keys fill whole units
        for mask, true in zip(answers.masks, asked.truth().masks, strict=True):
            assert (mask == np.bincount(true).argmax()).all()
    else:
        assert same(answers, asked.bought())
    assert (answers.seconds > 0).all()
    assert (answers.seconds < 20).all()


def test_undo_same_unsure_and_keys_of_ones_own(served, open_page):
    asked, desk, server = served("superpixel")
    page = open_page(server.link("ann"))
    first = row_of(page)
    page.keyboard.press("2")
    second = settled(page, first)
    page.keyboard.press("Space")
    third = settled(page, second)
    page.keyboard.press("?")
    fourth = settled(page, third)
    lines = [line for line in read_lines(asked.round / "answers.jsonl")[0] if line["do"] != "begin"]
    assert [line["value"] for line in lines] == [1, 1, None]
    assert [line.get("unsure", False) for line in lines] == [False, False, True]
    for expected in (third, second, first):
        page.keyboard.press("Backspace")
        page.wait_for_function("row => document.body.dataset.row === row", arg=str(expected))
    assert not desk.board.given
    page.keyboard.press("Backspace")
    page.wait_for_selector("#note:has-text('nothing to take back')")
    page.click('[data-do="keys"]')
    page.click("#key-list button >> nth=2")
    page.keyboard.press("q")
    page.click('[data-do="keys-close"]')
    page.reload()  # kept
    page.wait_for_selector("body[data-row]")
    page.keyboard.press("q")
    settled(page, first)
    assert [given.value for given in desk.board.given.values()] == [2]
    assert fourth not in (first, second, third)


def test_steps_of_a_mask_outlive_the_browser(served, open_page):
    _, desk, server = served("patch_mask", rows=1)
    page = open_page(server.link("ann"))
    page.keyboard.press("3")
    page.click('[data-tool="brush"]')
    _, at = places(page)
    middle = at(8, 8)
    page.mouse.click(*middle)
    page.keyboard.press("Backspace")
    page.mouse.click(*middle)
    page.wait_for_timeout(300)
    page.context.close()  # as dead as by kill -9: nothing is sent on the way
    again = open_page(server.link("ann"))
    again.keyboard.press("1")
    again.keyboard.press("r")
    again.keyboard.press("Enter")
    settled(again, 0)
    (mask,) = desk.answers().masks
    assert {*mask.tolist()} == {0, 2}


def test_suggestions_are_kept_or_replaced(served, open_page):
    asked, desk, server = served("superpixel", hints=Suggestions([row % 3 for row in range(20)]))
    values = asked.values()
    page = open_page(server.link("ann"))
    row = row_of(page)
    while row is not None:
        kept = values[row] == row % 3
        by_keys(page, "dominant", values[row], "") if not kept else page.keyboard.press("Enter")
        row = settled(page, row)
    assert same(desk.answers(), asked.bought())
    lines = read_lines(asked.round / "answers.jsonl")[0][1:]
    assert all(line["suggested"] == line["rows"][0] % 3 for line in lines)
    assert [line["taken"] for line in lines] == [
        line["value"] == line["suggested"] for line in lines
    ]


@pytest.mark.parametrize("by_key", [True, False])
def test_the_grid(by_key, served, open_page):
    asked, desk, server = served("superpixel", rows=60, hints=Suggestions([1] * 60))
    values = asked.values()
    page = open_page(server.link("ann"))
    while True:
        page.keyboard.press("g") if by_key else page.click('[data-do="grid"]')
        page.wait_for_selector(".tile")
        tiles = page.locator(".tile")
        rows = [int(tiles.nth(i).get_attribute("data-row")) for i in range(tiles.count())]
        for place, row in enumerate(rows):
            if values[row] != 1:
                tiles.nth(place).click()
        page.keyboard.press("Enter") if by_key else page.click("#grid .main")
        before = json.dumps(rows, separators=(",", ":"))
        page.wait_for_function(
            "before => !document.body.dataset.busy && (document.getElementById('grid').hidden"
            " || JSON.stringify([...document.querySelectorAll('.tile')]"
            ".map(t => +t.dataset.row)) !== before)",
            arg=before,
        )
        if page.locator("#grid").is_hidden():
            break
        page.keyboard.press("Escape")
        page.wait_for_function(
            "() => document.getElementById('grid').hidden && !document.body.dataset.busy"
        )
    given = {row for g in desk.board.given.values() for row in g.rows}
    assert given == {row for row in range(60) if values[row] == 1}
    row = row_of(page)
    while row is not None:
        by_keys(page, "dominant", values[row], "")
        row = settled(page, row)
    assert same(desk.answers(), asked.bought())


def test_two_people_at_once(served, open_page):
    asked, desk, server = served("superpixel", ("ann", "ben"), overlap=0.2, rows=60)
    values = asked.values()
    pages = {name: open_page(server.link(name)) for name in ("ann", "ben")}
    shown = {name: row_of(page) for name, page in pages.items()}
    while any(row is not None for row in shown.values()):
        for name, page in pages.items():
            row = shown[name]
            if row is not None:
                by_keys(page, "dominant", values[row], "")
                shown[name] = settled(page, row)
    assert same(desk.answers(), asked.bought())
    per_row = [row for given in desk.board.given.values() for row in given.rows]
    counts = np.bincount(per_row, minlength=60)
    assert {*np.flatnonzero(counts == 2).tolist()} <= desk.board.twice
    assert counts.max() == 2
    assert {given.by for given in desk.board.given.values()} == {"ann", "ben"}
    assert desk.agreement().kappa == 1


def test_the_clock_stops_when_nobody_is_there(served, open_page):
    _, desk, server = served("pixel")
    page = open_page(server.link("ann"))
    page.clock.install()
    page.reload()
    page.wait_for_selector("body[data-row]")
    row = row_of(page)
    page.clock.run_for(90000)
    page.keyboard.press("1")
    page.clock.run_for(1000)
    settled(page, row)
    (given,) = desk.board.given.values()
    assert 15 <= given.seconds <= 21
    row = row_of(page)
    turn = """hidden => {
        Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});
        document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.clock.run_for(3000)
    page.evaluate(turn, True)  # another tab, another window
    page.clock.run_for(15000)
    page.evaluate(turn, False)
    page.clock.run_for(2000)
    page.keyboard.press("1")
    page.clock.run_for(1000)
    settled(page, row)
    assert 4.9 <= desk.board.given[1].seconds <= 7


def test_zoom_pan_and_a_look_without_the_outline(served, open_page):
    _, _, server = served("superpixel")
    page = open_page(server.link("ann"))
    canvas = page.locator("#canvas")
    box = canvas.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def shown():
        return page.evaluate("() => document.getElementById('canvas').toDataURL()")

    def changed():  # a turn of the wheel is not waited for
        page.wait_for_function(
            "first => document.getElementById('canvas').toDataURL() !== first", arg=first
        )

    def drag():
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 40, middle[1] + 25)
        page.mouse.up()

    def wheel():
        page.mouse.move(*middle)
        page.mouse.wheel(0, -240)

    first = shown()
    for change in (
        lambda: page.keyboard.press("+"),
        lambda: page.keyboard.press("-") or page.keyboard.press("-"),
        lambda: page.click('[data-do="in"]'),
        drag,
        wheel,
    ):
        change()
        changed()
        page.keyboard.press("f")
        assert shown() == first
    page.keyboard.down("h")
    assert shown() != first
    page.keyboard.up("h")
    assert shown() == first


@pytest.mark.parametrize("width", [1400, 420])
def test_everything_is_within_reach_on_any_screen(width, served, open_page):
    for name in ("pixel", "class_set", "patch_mask"):
        _, _, server = served(name)
        page = open_page(server.link("ann"), width, 860)
        over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert over <= 0
        for selector in (".class", "[data-do=undo]", "[data-do=void]", "[data-do=unsure]"):
            for button in page.locator(selector).all():
                button.scroll_into_view_if_needed()
                box = button.bounding_box()
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width
                assert box["height"] >= 24  # WCAG 2.2, target size


def test_fingers(served, open_page):
    asked, desk, server = served("superpixel")
    values = asked.values()
    page = open_page(server.link("ann"), 420, 860, touch=True)
    row = row_of(page)
    for _ in range(3):
        label = values[row]
        page.tap('[data-do="void"]' if label is None else f'[data-class="{label}"]')
        row = settled(page, row)
    assert [given.value for given in desk.board.given.values()] == [
        values[given.rows[0]] for given in desk.board.given.values()
    ]
    page.tap('[data-do="undo"]')
    page.wait_for_function("row => document.body.dataset.row !== row", arg=str(row))
    assert len(desk.board.given) == 2
    page.tap('[data-do="fit"]')
    before = at_rest(page)
    pinch = page.context.new_cdp_session(page)  # two fingers, apart from each other
    for kind, near in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", 0)):
        points = (
            [] if kind == "touchEnd" else [{"x": 210 - near, "y": 300}, {"x": 210 + near, "y": 300}]
        )
        pinch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert at_rest(page) != before
    page.tap('[data-do="fit"]')
    assert at_rest(page) == before


def at_rest(page):
    """What is painted, once it is the same at three looks, a fifth of a second apart."""
    looks = []
    for _ in range(50):
        looks.append(page.evaluate("() => document.getElementById('canvas').toDataURL()"))
        if len(set(looks[-3:])) == 1 and len(looks) >= 3:
            return looks[-1]
        page.wait_for_timeout(200)
    raise AssertionError("the page does not come to rest")


class Program:
    """A command in a process of its own that prints links."""

    def __init__(self, *words):
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self._new = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self._new:
                self.lines.append(line)
                self._new.notify_all()

    def link(self, timeout=120):
        end = time.monotonic() + timeout
        with self._new:
            while True:
                for line in self.lines:
                    if found := re.search(r"http://\S+token=\S+", line):
                        return found[0]
                assert time.monotonic() < end, "".join(self.lines)
                self._new.wait(1)

    def kill(self):
        self.process.kill()
        self.process.wait()


def complete(page, value, confirm=True):
    """Answer a set of which some may be chosen already: steps outlive a kill, too."""
    chosen = page.eval_on_selector_all(
        '.class[aria-pressed="true"]', "found => found.map(b => +b.dataset.class)"
    )
    if page.get_attribute('[data-do="void"]', "aria-pressed") == "true":
        chosen.append(3)
    assert {*chosen} <= {*value}
    for member in {*value} - {*chosen}:
        page.keyboard.press("0" if member == 3 else KEYS[member])
    if confirm:
        page.keyboard.press("Enter")


def test_kill_9_between_any_two_keys_loses_nothing_and_doubles_nothing(tmp_path, open_page):
    asked = Asked(tmp_path, "class_set", rows=90)
    values = asked.values()
    path = asked.round / "answers.jsonl"
    luck = random.Random(5)
    confirmed = []  # what the page moved on from, in order
    kills = in_flight = 0
    while kills < 32:
        program = Program("alseg.label", str(tmp_path), "--annotator", "ann", "--no-browser")
        try:
            page = open_page(program.link())
            row = row_of(page)
            for _ in range(luck.randrange(3)):
                complete(page, values[row])
                confirmed.append(row)
                row = settled(page, row)
            if luck.random() < 0.6:
                complete(page, values[row], confirm=False)
                page.evaluate(  # pressed, and not waited for
                    "() => { setTimeout(() => document.dispatchEvent(new KeyboardEvent("
                    "'keydown', {key: 'Enter', bubbles: true})), 0); }"
                )
                in_flight += 1
            else:
                for member in values[row][: luck.randrange(3)]:
                    page.keyboard.press("0" if member == 3 else KEYS[member])
            time.sleep(luck.random() * 0.02)
        finally:
            program.kill()
        kills += 1
        page.context.close()
        answers = [line for line in read_lines(path)[0] if line["do"] == "answer"]
        rows = [line["rows"][0] for line in answers]
        assert len(set(rows)) == len(rows)  # nothing twice
        assert rows[: len(confirmed)] == confirmed  # nothing lost
        assert len(rows) - len(confirmed) <= 1  # the key that was pressed
        assert all(line["value"] == values[line["rows"][0]] for line in answers)
        confirmed = rows
    assert in_flight
    program = Program("alseg.label", str(tmp_path), "--annotator", "ann", "--no-browser")
    page = open_page(program.link())
    row = row_of(page)
    while row is not None:
        complete(page, values[row])
        row = settled(page, row)
    page.keyboard.press("Enter")
    assert program.process.wait(60) == 0
    assert same(Answers.load(asked.round / "answers.npz"), asked.bought())


def test_a_run_serves_its_own_page_round_after_round(tmp_path, open_page):
    words = [word for word in TINY if not word.startswith("method.")]
    program = Program(
        "alseg.run",
        *words,
        "method=entropy",
        "regions=slic",
        "method.steps=2",
        "method.batch_size=2",
        "budget.amount=5",
        "oracle=browser",
        "oracle.open_browser=false",
        "oracle.suggestions=true",
        "pictures=0",
        f"run_dir={tmp_path / 'run'}",
    )
    try:
        page = open_page(program.link())
        page.set_default_timeout(120000)
        for round in range(2):
            page.wait_for_function(
                "text => document.getElementById('round').textContent === text"
                " && document.body.dataset.row",
                arg=f"Round {round}",
            )
            row = row_of(page)
            assert page.locator("#hint").is_visible() == (round == 1)  # round 0 has no model
            while row is not None:
                page.keyboard.press("3")
                row = settled(page, row)
            page.keyboard.press("Enter")
            page.wait_for_function("() => !document.body.dataset.busy")
        assert program.process.wait(200) == 0, "".join(program.lines)
    finally:
        program.kill()
    for round in range(2):
        answers = Answers.load(tmp_path / "run" / f"round_{round:03d}" / "answers.npz")
        assert len(answers) >= 5
        assert (answers.seconds > 0).all()
