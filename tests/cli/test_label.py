"""The command that serves the page; what it serves is tested in tests/label."""

from pathlib import Path

import pytest

from alseg.cli.label import LabelOptions, main, options_from
from alseg.core.errors import UserError
from alseg.label.session import find_waiting
from tests.label.rounds import Asked


def test_a_run_that_does_not_wait_says_so(tmp_path, capsys):
    for folder, sentence in (
        (tmp_path / "nowhere", "is not a folder"),
        (tmp_path, "does not wait for answers"),
    ):
        assert main([str(folder), "--no-browser"]) == 2
        assert sentence in capsys.readouterr().err
    asked = Asked(tmp_path, "pixel")
    assert find_waiting(tmp_path) == asked.round
    assert main([str(tmp_path), "--overlap", "5"]) == 2
    assert "overlap (--overlap) is 5" in capsys.readouterr().err
    assert main([str(tmp_path), "--suggestions"]) == 2
    assert "no model" in capsys.readouterr().err
    (asked.round / "answers.csv").write_text("row,answer\n")
    assert main([str(tmp_path)]) == 2
    assert "holds answers already" in capsys.readouterr().err
    (asked.round / "answers.csv").unlink()
    (asked.round / "label" / "units.npz").write_bytes(b"no")
    assert main([str(tmp_path)]) == 2
    assert "is not a table" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("run", {}),
        ("run=1/seed=2", {}),
        ("run --annotator ann --annotator=ben", {"annotators": ("ann", "ben")}),
        ("run annotators=[ann,ben]", {"annotators": ("ann", "ben")}),
        ("--port 80 run --no-browser", {"port": 80, "browser": False}),
        ("run --host 0.0.0.0 --overlap 0.05", {"host": "0.0.0.0", "overlap": 0.05}),
        ("run --suggestions", {"suggestions": True}),
    ],
)
def test_words(words, options):
    folder, read = options_from(words.split())
    assert folder == Path(next(word for word in words.split() if word.startswith("run")))
    assert read == LabelOptions(**options)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("", "one run folder is needed"),
        ("a b", "a and b is given"),
        ("a --anotator x", "cannot read '--anotator'"),
        ("a --port", "--port stands without a value"),
        ("a --port x", "port"),
        ("a --port 70000", "port .--port. is 70000"),
    ],
)
def test_wrong_words(words, sentence):
    with pytest.raises(UserError, match=sentence):
        options_from(words.split())
