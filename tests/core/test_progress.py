"""Progress of long work, with and without somebody who looks on."""

import io
import sys

import pytest

from alseg.core import progress
from alseg.core.progress import is_watched, progress_bar


class Terminal(io.StringIO):
    """Standard error of somebody who looks on."""

    def isatty(self):
        return True


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(progress, "INTERVAL", 0.0)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)


@pytest.mark.usefixtures("_quick")
def test_whoever_looks_on_sees_a_bar_and_a_file_gets_lines(monkeypatch):
    for stream, is_bar in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert is_watched() is is_bar
        assert list(progress_bar(range(3), "cutting", unit="image")) == [0, 1, 2]
        text = stream.getvalue()
        assert ("\r" in text.strip("\r\n")) is is_bar
        assert "cutting: 100%" in text
        assert "3/3" in text


@pytest.mark.usefixtures("_quick")
def test_every_line_of_a_file_is_whole(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(total=2, desc="answering") as bar:
        bar.update(1)
        bar.set_description("answering more")
        bar.update(1)
    said = stream.getvalue().splitlines()
    assert all(line.startswith("answering") for line in said)
    assert "2/2" in said[-1]
    assert said[-1].startswith("answering more")


@pytest.mark.usefixtures("_quick")
def test_a_hidden_bar_says_nothing(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(3), "cutting", hidden=True)) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_between_two_lines_is_half_a_minute(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    for _ in progress_bar(range(1000), "cutting"):
        pass
    assert len(stream.getvalue().splitlines()) == 1
