"""``answers=recompute`` as a user meets it: a table of answers, and the journal of the page."""

import csv
import sys
from pathlib import Path

import pytest

from alseg.cli.command import WAITING
from alseg.cli.run import main
from alseg.label.desk import Desk
from alseg.label.session import read_session
from tests.label.test_desk import say
from tests.torture.runs import difference, words_of

pytestmark = pytest.mark.slow
Unit = tuple[int, int]


@pytest.fixture(autouse=True)
def words(monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))


class Person:
    """Answers what a run asks: by a table, or from round 1 on at the desk that the page talks to.

    Args:
        root: The run folder.
        at_desk: Answer later rounds there.
        wrong: Rows of round 0 that are answered wrongly.
    """

    def __init__(self, root: Path, at_desk: bool, wrong: tuple[int, ...] = ()) -> None:
        self.root, self.at_desk, self.wrong = root, at_desk, wrong
        self.asked: list[Unit] = []
        self.words = [*words_of("margin"), "oracle=human", f"run_dir={root}",
                      f"cache={root.parent / 'cache'}"]  # fmt: skip

    def run(self, *more: str) -> int:
        return main([*self.words, *more])

    def work(self, *more: str) -> None:
        """Answer until the run has ended."""
        while (status := self.run(*more)) == WAITING:
            self.answer()
        assert status == 0

    def answer(self, most: int = 10**6) -> None:
        """Answer the round that waits."""
        folder = sorted(self.root.glob("round_*"))[-1]
        if self.at_desk and folder.name != "round_000":
            self._at_desk(folder, most)
        else:
            self._by_table(folder)

    def _at_desk(self, folder: Path, most: int) -> None:
        desk = Desk(read_session(folder))
        query = desk.session.query
        while most and (questions := desk.state("ann")["questions"]):
            most -= 1
            row = questions[0]["row"]
            unit = int(query.image[row]), int(query.unit[row])
            self.asked.append(unit)
            say(desk, "ann", row, sum(unit) % 3)
        if not desk.state("ann")["questions"]:
            desk.finish("ann", {"round": desk.round, "nonce": "the-last-word"})
            desk.hand_in(folder)
        desk.close()

    def _by_table(self, folder: Path) -> None:
        query = read_session(folder).query
        units = list(zip(query.image.tolist(), query.unit.tolist(), strict=True))
        with (folder / "questions.csv").open() as file:
            rows = [int(line["row"]) for line in csv.DictReader(file)]
        wrong = self.wrong if folder.name == "round_000" else ()
        self.asked += [units[row] for row in rows]
        lines = [f"{row},{(sum(units[row]) + (row in wrong)) % 3}" for row in rows]
        (folder / "answers.csv").write_text("\n".join(["row,answer", *lines]) + "\n")

    def correct(self) -> None:
        """Put right what was said of round 0."""
        self.wrong = ()
        asked, self.asked = self.asked, []
        self._by_table(self.root / "round_000")
        self.asked = asked


@pytest.mark.parametrize("at_desk", [False, True])
def test_a_corrected_run_is_one_that_was_right(tmp_path, at_desk):
    right = Person(tmp_path / "right", at_desk)
    right.work()
    person = Person(tmp_path / "run", at_desk, wrong=(0, 1, 2))
    person.work()
    assert difference(right.root, person.root)
    person.correct()
    person.work("answers=recompute")
    person.work()
    assert len(person.asked) == len(set(person.asked)), "a person was asked twice"
    for name in ("query.npz", "train/last.ckpt"):
        for number in (0, 1):
            assert (person.root / f"round_{number:03d}" / name).exists()
    assert difference(right.root, person.root) in (None, "round_001/answers.npz differs")
    assert list(person.root.glob("set_aside/*/round_001/answers.npz"))


def test_what_was_said_at_a_page_that_is_half_done_is_asked_nobody_again(tmp_path):
    person = Person(tmp_path / "run", at_desk=True, wrong=(0, 1, 2))
    assert person.run() == WAITING
    person.answer()
    assert person.run() == WAITING
    person.answer(most=7)
    assert len(person.asked) == 12 + 7
    person.correct()
    person.work("answers=recompute")
    assert len(person.asked) == len(set(person.asked)), "a person was asked twice"
