import json

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.label.board import OPEN
from alseg.label.desk import Desk
from alseg.label.journal import Journal, read_lines
from tests.label.rounds import Asked


def snapshot(board):
    """Everything a board knows, as one text."""
    drafts = {
        f"{by} {row}": d.tolist() if isinstance(d, np.ndarray) else d
        for (by, row), d in sorted(board.drafts.items())
    }
    given = [vars(g) for g in board.given.values()]
    redo = {by: rows for by, rows in sorted(board._redo.items()) if rows}
    seconds = board.cost().seconds.tolist()
    return json.dumps([given, redo, drafts, seconds, board.answered.tolist(), sorted(board.nonces)])


def random_acts(asked, desk, rng, count):
    """Two people at work: answers, steps of answers, undos, one after the other."""
    values = asked.values()
    for number in range(count):
        by = ("ann", "ben")[rng.integers(2)]
        body = {"round": 0, "nonce": f"act{number:08d}"}
        act = rng.random()
        questions = desk.state(by)["questions"]
        if act < 0.25:
            desk.undo(by, body)
        elif not questions:
            continue
        elif act < 0.5 and asked.answer in ("class_set", "mask"):
            row = questions[0]["row"]
            paint = {"paint": [[int(rng.integers(3)), [2, 3]], [OPEN, [3, 1]]]}
            desk.draft(by, {**body, "row": row, **(paint if asked.answer == "mask" else {})})
        else:
            row = questions[0]["row"]
            spent = {"seconds": float(rng.integers(1, 9)), "clicks": 1}
            desk.answer(by, {**body, "rows": [row], "value": values[row], **spent})
        yield


@pytest.mark.parametrize("name", ["superpixel", "class_set", "patch_mask"])
def test_a_kill_at_any_byte_loses_the_line_under_way_and_nothing_else(name, tmp_path):
    rng = np.random.default_rng(3)
    asked = Asked(tmp_path, name, rows=12)
    path = asked.round / "answers.jsonl"
    desk = Desk(asked.session, overlap=0.3)
    known = {path.stat().st_size: snapshot(desk.board)}
    for _ in random_acts(asked, desk, rng, 60):
        known[path.stat().st_size] = snapshot(desk.board)
    desk.close()
    whole = path.read_bytes()
    ends = sorted(known)
    for cut in {*rng.integers(1, len(whole) + 1, 25).tolist(), *ends[-3:], ends[-1] - 1}:
        path.write_bytes(whole[:cut])
        again = Desk(asked.session, overlap=0.3)
        last = max((end for end in ends if end <= cut), default=ends[0])
        assert snapshot(again.board) == known[last]
        again.close()
        lines, torn = read_lines(path)  # what was cut off is set aside, not joined
        assert not torn
        assert (lines[-1]["do"] == "torn") == (not whole[:cut].endswith(b"\n"))


def test_a_line_lost_in_the_middle_is_damage(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text('{"do":"begin","digest":"a"}\n{"do":"ans\n{"do":"finish"}\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        Journal(path, "a")


def test_one_writer_and_one_query(tmp_path):
    path = tmp_path / "answers.jsonl"
    journal = Journal(path, "a")
    with pytest.raises(UserError, match="another process"):
        Journal(path, "a")
    journal.close()
    with pytest.raises(UserError, match="other questions"):
        Journal(path, "b")
    Journal(path, "a").close()  # a refusal leaves no lock behind


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "answers.jsonl"
    journal = Journal(path, "a")
    before = path.read_bytes()
    write = __import__("os").write

    def full(handle, data):
        if len(data) < 8:
            raise OSError(28, "No space left on device")
        return write(handle, data[: len(data) // 2])

    monkeypatch.setattr("alseg.label.journal.os.write", full)
    with pytest.raises(OSError, match="space"):
        journal.append({"do": "answer", "text": "long enough"})
    assert path.read_bytes() == before
    monkeypatch.undo()
    journal.append({"do": "finish"})
    assert read_lines(path)[0][-1] == {"do": "finish"}
    journal.close()
