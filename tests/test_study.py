"""The study: its plan composes, its work goes on, and its tables are those of its results."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest

from alseg.cli.compose import options
from alseg.core.errors import UserError
from alseg.report.tables import spread
from experiments.study import choose, results, tables
from experiments.study.command import main, results_file
from experiments.study.plan import (
    BOARDS,
    FULL,
    ROWS,
    SETTINGS,
    Job,
    batches,
    chance_of,
    jobs,
    words,
)
from experiments.study.work import work

ROOT = Path(__file__).parents[1]
PLACE = ["workers=0", "pictures=0", "trainer.enable_progress_bar=false", "network.weights=null"]


def drawn(steps, images, size):
    """Two rounds of two clicks an image, on drawn scenes."""
    drawn_words = {
        "data": "synthetic",
        "data.train": str(images),
        "data.val": str(images // 3),
        "data.size": size,
        "network.encoder": "resnet18",
        "budget.amount": str(2 * images),
    }
    return replace(SETTINGS["small"], steps=steps, rounds=2, words=drawn_words)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("row", ROWS)
def test_rows_compose_and_rows_that_share_a_round_share_its_options(row, setting):
    def composed(name):
        return options(*words(Job(name, 3), SETTINGS[setting]), "data.root=somewhere")

    made = composed(row)
    assert made.values["seed"] == 3
    made.components["network"].check()
    first = ROWS[row].first
    if first is not None:
        assert ROWS[first].board == ROWS[row].board
        lender = composed(first)
        for name in ("network", "augment", "budget", "regions", "data"):
            if name == "budget":  # where the price is known, the rules buy the same
                assert made.values[name]["amount"] == lender.values[name]["amount"]
            else:
                assert made.values[name] == lender.values[name]
        for name in ("steps", "batch_size", "lr", "head_factor", "weight_decay", "epoch_steps"):
            assert made.values["method"][name] == lender.values["method"][name]


def test_parts_are_a_partition_and_keep_what_is_shared_together():
    everything = jobs()
    assert len(set(everything)) == len(everything)
    parts = [jobs(part, 4) for part in range(4)]
    assert sorted(job for part in parts for job in part) == sorted(everything)
    for part in parts:
        blocks = {job.block for job in part}
        assert [job for job in everything if job.block in blocks] == part
    assert set(BOARDS.values()) <= set(ROWS)
    for bad in ((4, 4), (-1, 2), (0, 0)):
        with pytest.raises(UserError, match="parts are counted from 0"):
            jobs(*bad)


def test_chance_is_the_row_that_asks_alike_and_batches_are_those_of_all_fits():
    found = {name: chance_of(name) for name in ROWS}
    assert found["margin"] == "random_pixels"
    assert found["mulquery_two_stages"] == "mulquery_random"
    assert found["mulquery_dominant"] == "mulquery_dominant_random"
    for name in ("mulquery_dominant_random", "random_patches", FULL):
        assert found[name] is None
    medium = {name: batches(name, SETTINGS["medium"]) for name in ROWS}
    assert medium["margin"] == "300"
    assert medium["madbal"] == "300 + 150"
    assert medium["mulquery_two_stages"] == "300 + 300"


def test_runs_go_on_from_the_file_and_a_shared_round_is_what_it_would_have_been(tmp_path):
    setting = drawn(steps=2, images=6, size="[48,64]")
    todo = [Job("mulquery_random", 1), Job("mulquery", 1)]
    file, runs = tmp_path / "results.csv", tmp_path / "runs"
    assert work(todo[:1], setting, PLACE, runs, file) == 1
    assert work(todo, setting, PLACE, runs, file) == 1
    assert work(todo, setting, PLACE, runs, file) == 0
    found = results.read(file)
    assert [*found] == todo
    assert [line["round"] for line in found[todo[1]]] == ["0", "1"]
    assert all(float(line["miou"]) >= 0 and line["cpu_s"] for line in found[todo[1]])
    alone = tmp_path / "alone.csv"
    work(todo[1:], setting, PLACE, tmp_path / "other", alone)
    own = ("miou", "clicks", "units", "pixels", "void")
    for shared, single in zip(found[todo[1]], results.read(alone)[todo[1]], strict=True):
        assert [shared[name] for name in own] == [single[name] for name in own]
    assert not (tmp_path / "other" / "mulquery_random_seed1_round_0").exists(), "nobody wants it"
    assert not list(runs.rglob("round_001/*/*.ckpt")), "finished runs keep no checkpoints"


def test_a_row_takes_over_the_first_round_it_names_also_where_that_run_is_gone(tmp_path):
    """The first query of ``pixelpick`` is not that of ``margin``: pixels of each image."""
    setting = drawn(steps=1, images=3, size="[32,32]")
    both = [Job("pixelpick", 1), Job("margin", 1)]
    assert work(both, setting, PLACE, tmp_path / "runs", tmp_path / "both.csv") == 2
    assert work(both[1:], setting, PLACE, tmp_path / "other", tmp_path / "one.csv") == 1
    together, alone = (results.read(tmp_path / name)[both[1]] for name in ("both.csv", "one.csv"))
    first = results.read(tmp_path / "both.csv")[both[0]][0]
    for name in ("miou", "asked_top_tenth", "pixels", "clicks"):
        assert first[name] == together[0][name] == alone[0][name]
        assert together[1][name] == alone[1][name]


@pytest.mark.parametrize("setting", ["small", "medium", "aerial"])
def test_the_committed_tables_are_those_of_the_results(setting):
    assert results.read(results_file(setting))
    tables.check(results_file(setting), setting)


def test_a_file_that_is_none_and_words_that_are_none(tmp_path, capsys):
    (tmp_path / "other.csv").write_text("row,seed\nnobody,0\n")
    with pytest.raises(UserError, match="is no file of results of this study"):
        results.read(tmp_path / "other.csv")
    for given, sentence in [
        ([], "say where CamVid is"),
        (["--part", "1"], "write K/N"),
        (["--part", "4/4"], "counted from 0 to 3"),
    ]:
        with pytest.raises(SystemExit) as caught:
            main(given)
        assert caught.value.code == 2
        assert sentence in capsys.readouterr().err
    assert main(["--list"]) == 0
    assert "pixelpick 0" in capsys.readouterr().out


def test_the_page_that_helps_to_choose_is_that_of_the_results(tmp_path, monkeypatch):
    assert choose.PAGE.read_text("utf-8") == choose.page()
    stale = tmp_path / "choose.md"
    stale.write_text(choose.PAGE.read_text("utf-8").replace("| `margin` |", "| `margins` |"))
    monkeypatch.setattr(choose, "PAGE", stale)
    with pytest.raises(UserError, match=r"docs/choose\.md does not show what the results give"):
        choose.check()
    choose.write()
    choose.check()
    with pytest.raises(UserError, match="needs the lines"):
        choose.written("no place", "")


def test_the_table_of_the_readme_is_that_of_the_results():
    """Rows of `medium` with three seeds or more: mean at the end, and share of full."""
    text = (ROOT / "README.md").read_text().partition("**Does asking pay?**")[2]
    rows = re.findall(r"^\| `(\w+)` \|.*\| (\S+ ± \S+) \| ([\d.]*) ?\|$", text, re.M)
    shown = {name: (final, share) for name, final, share in rows}
    expected = {}
    for comparison in tables.comparisons(results_file("medium"), "medium").values():
        expected[FULL] = (spread(comparison.full_values), "")
        for group in comparison.groups:
            final = comparison.measured(group, "final")
            if len(final) < 3:  # a row with fewer is a hint, for the study's own page
                continue
            expected[group.name] = (spread(final), f"{100 * final.mean() / comparison.level:.1f}")
    assert shown == expected


def test_the_table_of_the_half_size_runs_is_that_of_their_results():
    with (ROOT / "experiments/results/camvid_imagenet.csv").open(newline="") as file:
        rounds = list(csv.DictReader(file))
    full = next(float(line["miou"]) for line in rounds if line["run"] == "imagenet_supervised")
    text = (
        (ROOT / "experiments/README.md").read_text().partition("`results/camvid_imagenet.csv`")[2]
    )
    name, found = "", []
    for line in text.partition("```")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[2].isdigit():
            name = cells[0].strip("`").removesuffix(".yaml") or name
            found.append((name, *cells[2:]))
    expected = []
    for line in rounds:
        miou, clicks = float(line["miou"]), round(float(line["clicks"]))
        share = "" if line["run"] == "imagenet_supervised" else f"{100 * miou / full:.1f}"
        expected.append((line["run"], str(clicks), f"{100 * miou:.1f}", share))
    assert found == expected
