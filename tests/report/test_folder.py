import json

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.report.folder import PictureEntry, read_run, save_pictures

from .runs import write_config, write_pictures, write_run


def test_table_keeps_columns_and_empty_cells(tmp_path):
    run = read_run(write_run(tmp_path / "run", [0.25, None], companion=[0.2, 0.3]))
    assert run.rounds == [0, 1]
    np.testing.assert_array_equal(run.table["miou"], [0.25, np.nan])
    np.testing.assert_array_equal(run.ious["sky"], [0.25, np.nan])
    assert np.isnan(run.ious["road"]).all()
    assert run.companions == ["miou_stage1"]


def test_options_are_read_and_missing_ones_are_empty(tmp_path):
    folder = write_run(tmp_path / "run", [0.5])
    assert read_run(folder).option("method", "name") == ""
    write_config(folder)
    run = read_run(folder)
    assert run.option("method", "name") == "mulquery"
    assert run.option("seed") == "3"
    assert run.option("seed", "deeper") == ""


def test_pictures_come_back_in_order_without_those_that_are_gone(tmp_path):
    folder = write_run(tmp_path / "run", [0.5])
    picture = np.zeros((4, 4, 3), np.uint8)
    entries = [
        PictureEntry("b", "second", {"asked": picture, "truth": picture}),
        PictureEntry("a", "", {"asked": picture}),
    ]
    pictures = folder / "round_000" / "pictures"
    save_pictures(pictures, entries)
    assert json.loads((pictures / "index.json").read_text()) == [
        {
            "image": "b",
            "caption": "second",
            "files": {"asked": "0_asked.jpg", "truth": "0_truth.jpg"},
        },
        {"image": "a", "caption": "", "files": {"asked": "1_asked.jpg"}},
    ]
    (pictures / "0_truth.jpg").unlink()
    (pictures / "1_asked.jpg").unlink()
    (entry,) = read_run(folder).pictures(0)
    assert (entry.image, entry.caption, list(entry.files)) == ("b", "second", ["asked"])
    assert read_run(folder).pictures(1) == []


def test_picture_names_cannot_leave_the_folder(tmp_path):
    folder = write_run(tmp_path / "run", [0.5])
    write_pictures(folder, 0)
    (folder / "secret.jpg").write_bytes(b"")
    index = folder / "round_000" / "pictures" / "index.json"
    index.write_text(json.dumps([{"image": "x", "files": {"asked": "../../secret.jpg"}}]))
    assert read_run(folder).pictures(0) == []


def test_metrics_leave_out_lists_and_what_the_table_holds(tmp_path):
    folder = write_run(tmp_path / "run", [0.5])
    (folder / "round_000").mkdir()
    content = {"miou": 0.5, "accuracy": 0.75, "kept": "best", "iou": [0.5, 0.5]}
    (folder / "round_000" / "metrics.json").write_text(json.dumps(content))
    assert read_run(folder).metrics(0) == {"accuracy": 0.75, "kept": "best"}


def break_header(folder):
    (folder / "rounds.csv").write_text("a,b\n1,2\n")


def break_rows(folder):
    (folder / "rounds.csv").write_text("round,miou\n")


def break_cell(folder):
    (folder / "rounds.csv").write_text("round,miou\n0,0.5\n1,often\n")


def break_line(folder):
    (folder / "rounds.csv").write_text("round,miou\n0,0.5\n1\n")


def break_config(folder):
    (folder / "config.yaml").write_text("a: [1")


def break_about(folder):
    (folder / "report.json").write_text("{")


def break_key(folder):
    (folder / "report.json").write_text('{"tilte": ""}')


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (break_header, ["rounds.csv", "'round'"]),
        (break_rows, ["rounds.csv", "no finished round"]),
        (break_cell, ["line 3", "'often'", "'miou'"]),
        (break_line, ["line 3", "1 cells under 2 columns"]),
        (break_config, ["config.yaml", "no valid YAML"]),
        (break_about, ["report.json", "cannot be read"]),
        (break_key, ["report.json", "tilte"]),
    ],
)
def test_damage_is_named_with_its_place(tmp_path, damage, words):
    folder = write_run(tmp_path / "run", [0.5])
    damage(folder)
    with pytest.raises(UserError) as caught:
        read_run(folder)
    for word in words:
        assert word in str(caught.value)


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no run folder.*rounds\.csv"):
        read_run(tmp_path)
