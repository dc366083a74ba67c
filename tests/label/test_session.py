import threading

import numpy as np
import pytest
from PIL import Image

from alseg.active.driver import buy
from alseg.active.ledger import Ledger
from alseg.cli.compose import options
from alseg.core.errors import UserError
from alseg.core.images import ClassTable
from alseg.data.files import FileImages, ImageFile, Resize
from alseg.data.masks import read_masks_by_id
from alseg.data.windows import WindowImages
from alseg.label.desk import Desk
from alseg.label.oracle import SERVERS, BrowserOracle
from alseg.label.pictures import Pictures, brush_cells
from alseg.label.server import Office  # noqa: F401  it must be loaded before its Desk is replaced
from alseg.label.session import SessionWriter, find_waiting, read_session
from alseg.label.suggestions import make_suggestions, read_suggestions
from alseg.labels.oracle import AwaitingAnswersError, HumanOracle, answer_from_truth
from alseg.labels.tables import PIXELS
from tests.label.rounds import KINDS, Asked, same
from tests.label.test_desk import work
from tests.toys import COLORS, toy_run


@pytest.mark.parametrize("name", KINDS)
def test_what_is_written_is_read(name, tmp_path):
    asked = Asked(tmp_path, name)
    there = asked.read()
    assert there.digest == asked.session.digest
    assert there.names == (asked.images.scenes or asked.images.classes.names)
    assert there.budget == asked.pool.budget
    assert there.pictures == asked.session.pictures
    assert there.pixels.tolist() == asked.pool.unit_pixels(asked.query).tolist()
    for row in range(len(there)):
        image, unit = int(asked.query.image[row]), int(asked.query.unit[row])
        height, width = asked.images.size(image)
        ids = np.arange(height * width).reshape(height, width)
        if asked.query.regions != PIXELS:
            ids = asked.pool.maps[asked.query.regions][image]
        top, left, bottom, right = there.boxes[row]
        whole = np.zeros((height, width), dtype=bool)
        whole[top:bottom, left:right] = there.mask(row)
        assert np.array_equal(whole, ids == unit)
        pixels = np.asarray(Image.open(there.path(image)))
        assert np.array_equal(pixels, asked.images.image(image))


def files_of(folder, size=(64, 96), count=2):
    rng = np.random.default_rng(0)
    files = []
    for index in range(count):
        path = folder / f"{index}.png"
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)
        files.append(ImageFile(str(index), path, None))
    names = {0: "red", 1: "green", 2: "blue"}
    table = ClassTable(tuple(names.values()), COLORS)
    return FileImages(files, table, read_masks_by_id(names), Resize(scale=0.5))


@pytest.mark.parametrize("window", [None, (16, 16)])
def test_pictures_come_from_the_original_files(window, tmp_path, monkeypatch):
    monkeypatch.setattr("alseg.label.pictures.LEAST_SIDE", 24)
    files = files_of(tmp_path)
    images = WindowImages(files, window) if window else files
    asked = Asked(tmp_path, "superpixel", rows=8, images=images)
    session, pictures = asked.read(), Pictures(asked.read())
    for row in range(8):
        image = int(asked.query.image[row])
        file = image if window is None else images.windows[image].image
        top, left = (0, 0) if window is None else images.windows[image][1:3]
        original = np.asarray(Image.open(tmp_path / f"{file}.png"))
        crop, view = pictures.crop(row), pictures.view(row)
        content, kind = pictures.crop_picture(row)
        part = original[crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        path = tmp_path / "crop.png"
        path.write_bytes(content)
        assert kind == "image/png"
        assert np.array_equal(np.asarray(Image.open(path)), part)  # full resolution, no loss
        y, x, bottom, right = view["unit"]
        box = session.boxes[row] + [top, left, top, left]
        assert [y + crop.top, x + crop.left] == (2 * box[:2]).tolist()
        assert [bottom - y, right - x] == [16, 16]
        assert part.shape[:2] == (32, 32)  # twice the unit
        assert 0 <= y <= 16 >= x >= 0
        (loop,) = view["loops"]
        assert {*loop[::2]} == {x, right}
        assert {*loop[1::2]} == {y, bottom}
        loaded = images.image(image)[
            slice(*session.boxes[row, ::2]), slice(*session.boxes[row, 1::2])
        ]
        assert np.abs(pictures.loaded(row).astype(int) - loaded).max() <= 1
    assert (tmp_path / "round_000" / "label" / "images").exists() is False


def test_superpixels_to_paint_with_cover_the_unit():
    rng = np.random.default_rng(0)
    for size in ((5, 7), (20, 90), (64, 64)):
        cells = brush_cells(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
        assert cells.shape == size
        assert cells.min() >= 0
        assert cells.max() < 1 << 16


def test_answers_to_other_questions_are_never_taken_over(tmp_path):
    asked = Asked(tmp_path, "superpixel")
    Asked(tmp_path, "superpixel", seed=1)  # nothing was answered: the new query counts
    Asked(tmp_path, "superpixel")
    desk = Desk(asked.read())
    work(desk, asked.values(), most=1)
    desk.close()
    before = (asked.round / "label" / "session.json").read_bytes()
    Asked(tmp_path, "superpixel")  # the same command again
    with pytest.raises(UserError, match="answers to other questions"):
        Asked(tmp_path, "superpixel", seed=1)
    assert (asked.round / "label" / "session.json").read_bytes() == before
    ledger = Ledger(tmp_path)
    ledger.write_json(tmp_path / "run.json", {"seed": 0})
    with pytest.raises(UserError, match="another configuration"):  # as soon as one is given
        ledger.claim({"seed": 1})
    assert (asked.round / "query.npz").exists()


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("oracle.overlap=2", "oracle.overlap is 2"),
        ("oracle.port=70000", "oracle.port is 70000"),
    ],
)
def test_options_of_the_oracle_are_checked(argument, sentence):
    with pytest.raises(UserError, match=sentence):
        options("oracle=browser", argument)
    chosen = options("oracle=browser", "oracle.annotators=[ann,ben]").components["oracle"]
    assert list(chosen.annotators) == ["ann", "ben"]


def test_suggestions_are_what_the_prediction_says(tmp_path):
    for name in ("pixel", "superpixel", "class_set", "patch_mask"):
        asked = Asked(tmp_path / name, name)
        hints = make_suggestions(asked.session, asked.images.truth)
        kept = read_suggestions(asked.read())
        truth = asked.truth()
        for row in range(20):
            if name == "patch_mask":
                assert np.array_equal(kept[row], truth.masks[row])
                continue
            assert hints[row] == kept[row]
            if truth.label is not None and truth.label[row] != 255:
                assert kept[row] == truth.label[row]
    scene = Asked(tmp_path / "scene", "scene")
    with pytest.raises(UserError, match="does not know scenes"):
        make_suggestions(scene.session, scene.images.truth)


def answer_by_truth(run, desk):
    """Be the person at the page, and know everything."""
    query = desk.session.query
    truth = answer_from_truth(query, run.pool, run.splits.train, 0, True)
    work(desk, [np.flatnonzero(row).tolist() for row in truth.members()])
    desk.finish("ann", {"round": query.round, "nonce": "finishing"})


def test_a_run_that_waits_in_round_0_is_answered_from_its_folder(tmp_path):
    runs = {name: toy_run(tmp_path / name) for name in ("simulated", "human")}
    human = runs["human"]
    human.oracle = HumanOracle()
    human.observers.append(SessionWriter(human.splits.train))
    with pytest.raises(AwaitingAnswersError):
        buy(human, 0)
    folder = find_waiting(tmp_path / "human")
    desk = Desk(read_session(folder))
    answer_by_truth(human, desk)
    desk.hand_in(folder)
    desk.close()
    for run in runs.values():
        assert buy(run, 0)
    assert same(human.pool.history[0], runs["simulated"].pool.history[0])
    spent = human.pool.spent()
    assert spent.seconds == 2 * spent.units  # measured, not from the price table
    assert spent.clicks == runs["simulated"].pool.spent().clicks


def test_the_run_itself_serves_the_page_and_goes_on(tmp_path, monkeypatch):
    run = toy_run(tmp_path / "browser")
    run.oracle = BrowserOracle(annotators=("ann",), open_browser=False)

    def opened(*arguments):
        desk = Desk(*arguments)
        threading.Thread(target=answer_by_truth, args=(run, desk), daemon=True).start()
        return desk

    monkeypatch.setattr("alseg.label.desk.Desk", opened)
    assert buy(run, 0)
    server = SERVERS.pop(tmp_path / "browser")
    assert server.office.desk is None
    assert "goes on" in server.office.message
    server.close()
    (tmp_path / "browser" / "round_000" / "answers.npz").unlink()  # killed before it was written
    monkeypatch.undo()
    again = toy_run(tmp_path / "browser")
    again.oracle = run.oracle
    assert buy(again, 0)  # nobody is asked again
    assert not SERVERS
    simulated = toy_run(tmp_path / "simulated")
    assert buy(simulated, 0)
    for other in (run, again):
        assert same(other.pool.history[0], simulated.pool.history[0])
