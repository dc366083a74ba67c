"""The command that exports and imports; what it does is tested in tests/exchange."""

import pytest

from alseg.cli.exchange import main
from tests.exchange.tools import answer
from tests.exchange.waiting import Waiting


def test_out_and_back(tmp_path, capsys):
    asked = Waiting(tmp_path, "superpixel")
    words = asked.words()
    del words[3], words[4], words[5]
    assert main(["export", str(tmp_path), "--format", "cvat"]) == 0
    said = capsys.readouterr().out
    out = asked.round / "exchange" / "cvat"
    assert f"{out} has 8 questions on 4 pictures. Make a task" in said
    assert f"python -m alseg.exchange import {tmp_path} FILE --format cvat" in said
    file = answer("cvat", out, words, {})
    assert main(["import", str(tmp_path), str(file), "format=cvat"]) == 0
    said = capsys.readouterr().out
    assert "has 5 new answers. Without an answer: row 3 to 5." in said
    assert main(["import", str(tmp_path), str(file), "format=cvat"]) == 0
    assert "has 0 new answers, 5 were there already." in capsys.readouterr().out


def test_help_tells_both(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "export RUN_DIR" in said
    assert "import RUN_DIR [FILE]" in said
    assert "--lead_time" in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("explode here", "write export RUN_DIR, or import RUN_DIR"),
        ("export --format cvat", "write export RUN_DIR"),
        ("import a b c --format cvat", "write export RUN_DIR"),
        ("export here", "format has no default"),
        ("export here --format vott", "format"),
        ("export here --format cvat --rows 0", "rows is 0; give at least 1"),
        ("export nowhere --format cvat", "nowhere is not a folder"),
        ("import nowhere --format cvat", "nowhere is not a folder"),
        ("import . --format cvat --out x", "unknown option"),
    ],
)
def test_wrong_words(words, sentence, capsys):
    assert main(words.split()) == 2
    assert sentence in capsys.readouterr().err


def test_a_file_that_is_not_there(tmp_path, capsys):
    Waiting(tmp_path, "superpixel")
    assert main(["import", str(tmp_path), "--format", "coco"]) == 2
    assert "cannot read" in capsys.readouterr().err
