"""What a run says, on the terminal and in ``log.txt``."""

import logging
import re
import subprocess
import sys
import warnings

import pytest

from alseg.cli.logs import LOG, logged
from alseg.core.errors import UserError
from alseg.core.progress import LINES


def lines(folder):
    """What a log says, without the time of each line, and the first lines of what has several.

    Tests that ran before may leave something that is warned of only now.
    """
    stamped = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)")
    found = [stamped.fullmatch(line) for line in (folder / LOG).read_text("utf-8").splitlines()]
    return [match.group(1) for match in found if match]


@pytest.fixture(autouse=True)
def _speaks():
    """The level that the command sets."""
    logger = logging.getLogger("alseg")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


def test_the_log_holds_what_was_said_and_is_only_added_to(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["run", "method=random"])
    with logged(tmp_path, 0) as said:
        logging.getLogger("alseg.active").info("round 0")
        LINES.info("round 0 train: step 1/2")
        warnings.warn("look out", stacklevel=1)
        said.say("Report: here")
    assert capsys.readouterr().out == "Report: here\n"
    first, *rest = lines(tmp_path)
    assert re.fullmatch(r"begun on \S+: method=random", first)
    told = ["round 0", "round 0 train: step 1/2", "UserWarning: look out", "Report: here"]
    assert rest == told
    with logged(tmp_path, 0):
        pass
    assert lines(tmp_path)[:5] == [first, *told]
    assert len(lines(tmp_path)) == 6


def test_other_processes_add_warnings_with_their_number(tmp_path):
    with logged(tmp_path, 3):
        logging.getLogger("alseg.active").info("round 0")
        logging.getLogger("alseg.active").warning("slow disk")
    assert lines(tmp_path) == ["[process 3] slow disk"]


def test_a_log_of_ones_own_gets_no_line_that_was_said_to_the_run(tmp_path):
    own = logging.FileHandler(tmp_path / "own.txt")
    logging.getLogger().addHandler(own)
    try:
        with logged(tmp_path, 0) as said:
            said.say("Report: here")
    finally:
        logging.getLogger().removeHandler(own)
        own.close()
    assert (tmp_path / "own.txt").read_text() == ""


def test_the_log_tells_how_a_run_ended(tmp_path):
    before = list(logging.getLogger().handlers)
    with pytest.raises(UserError), logged(tmp_path, 0):
        raise UserError("there are no images.")
    assert lines(tmp_path)[-1] == "error: there are no images."
    with pytest.raises(ZeroDivisionError), logged(tmp_path, 0):
        _ = 1 / 0
    text = (tmp_path / LOG).read_text("utf-8")
    assert "error:\nTraceback (most recent call last)" in text
    assert text.endswith("ZeroDivisionError: division by zero\n")
    assert logging.getLogger().handlers == before


def test_a_run_says_no_more_than_how_far_it_is(tmp_path):
    words = ["method=random", "rounds=1", "data.train=4", "data.val=2", "data.size=[48,64]"]
    words += ["regions=pixels", "budget.amount=8", "method.steps=2", "method.epoch_steps=2"]
    words += ["method.batch_size=2", "network.architecture=FPN", "network.encoder=resnet18"]
    words += ["network.weights=null", "workers=0", "trainer.accelerator=cpu", "pictures=0"]
    words += [f"run_dir={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}"]
    done = subprocess.run(
        [sys.executable, "-m", "alseg.run", *words], capture_output=True, text=True, check=True
    )
    expected = [
        r"round 0: 8 pixels answered for 8 clicks \(0\.0 h\); 8 clicks in all",
        r"round 0 train: 2 steps in \d+ s, loss [\d.]+",
        r"round 0: train mIoU 0\.\d{4}",
        r"Report: \S+/report\.html",
    ]
    told = done.stderr.splitlines() + done.stdout.splitlines()
    said = [line for line in told if not re.search("image/s|: step ", line)]  # of slow machines
    assert len(said) == len(expected), said
    assert all(re.fullmatch(form, line) for form, line in zip(expected, said, strict=True)), said
    assert set(said) <= set(lines(tmp_path / "run"))
