"""The command as a user meets it."""

import csv
import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from alseg.cli.command import WAITING
from alseg.cli.compose import options
from alseg.cli.help import help_text
from alseg.cli.run import build, main
from alseg.core.errors import UserError
from alseg.methods import METHODS

#: A run of seconds on images of 48x64.
TINY = [
    "data.train=6",
    "data.val=2",
    "data.size=[48,64]",
    "regions.region_size=64",
    "network.architecture=Unet",
    "network.encoder=resnet18",
    "network.options={encoder_depth:3,decoder_channels:[16,16,16]}",
    "budget.amount=12",
    "method.steps=2",
    "method.batch_size=2",
    "method.epoch_steps=2",
    "method.stage_two_steps=2",
    "method.stage_two_batch_size=2",
    "rounds=2",
    "workers=0",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
]


def command(*arguments, check=True):
    """Run the command in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "alseg.run", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def test_a_bad_option_ends_the_command_with_its_sentence_and_nothing_else(tmp_path):
    result = command("method=mulqery", check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: unknown method 'mulqery'")
    assert len(result.stderr.splitlines()) == 1


def test_bad_input_found_later_ends_the_command_with_its_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    for given, sentence in [
        (["network.encoder=resnet19"], "unknown encoder 'resnet19'; did you mean 'resnet18'"),
        (["network.weights=none.pt"], "no weights file 'none.pt'"),
        (["budget.amount=100000"], "there would be nothing to choose"),
    ]:
        folder = tmp_path / given[0].replace("=", "_")
        assert main([*TINY, *given, f"run_dir={folder}", f"cache={tmp_path / 'cache'}"]) == 2
        assert sentence in capsys.readouterr().err


def test_help_answers_without_the_heavy_imports():
    script = (
        "import sys; from alseg.cli.run import main; main(['--help']); "
        "print(sorted({'torch', 'lightning', 'cv2', 'faiss', 'skimage'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "[]"
    assert "method=   mulquery" in result.stdout


def test_help_for_a_choice_explains_its_options():
    text = help_text(["method=mulquery"])
    assert "method.nu = 6.0" in text
    assert "Strength of PixBal's class weights" in text
    # every option is explained
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("  method.")]
    assert len(heads) == len(fields(METHODS.resolve("mulquery")))
    assert all(lines[i + 1].startswith("      ") for i in heads)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    where = [f"run_dir={folder / 'run'}", f"cache={folder / 'cache'}"]
    return folder / "run", where, command(*TINY, *where)


def test_the_command_leaves_a_whole_run_folder(finished):
    root, _, result = finished
    assert f"Report: {root / 'report.html'}" in result.stdout
    assert re.search(r"round 1: \d+ regions answered", result.stderr)
    names = {path.name for path in root.iterdir()}
    expected = {"round_000", "round_001", "rounds.csv", "report.html", "config.yaml", "run.json"}
    assert expected <= names
    assert yaml.safe_load((root / "config.yaml").read_text())["method"]["name"] == "mulquery"
    pictures = json.loads((root / "round_001/pictures/index.json").read_text())
    assert {"asked", "answered", "truth"} == set(pictures[0]["files"])
    page = (root / "report.html").read_text()
    assert "data:image/jpeg;base64," in page
    with (root / "rounds.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2


def test_a_folder_of_another_configuration_is_refused(finished):
    _, where, _ = finished
    result = command(*TINY, *where, "method.nu=3", check=False)
    assert result.returncode == 2
    assert "another configuration (method.nu: 6.0 there, 3.0 now)" in result.stderr


def test_a_folder_of_an_older_release_is_opened(finished, tmp_path):
    """What its run.json does not know is what that release did: the default of today."""
    root, where, _ = finished
    shutil.copytree(root, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    stored = json.loads(path.read_text())
    new = {"trainer.sync_batchnorm", "trainer.deterministic", "plugins"}
    assert new <= set(stored)
    path.write_text(json.dumps({k: v for k, v in stored.items() if k not in new}))
    given = [*TINY, where[1], f"run_dir={tmp_path / 'run'}"]
    with pytest.raises(UserError, match=r"\(trainer\.deterministic: False there, True now\)"):
        build(options(*given, "trainer.deterministic=true"))
    build(options(*given))
    assert new <= set(json.loads(path.read_text()))


PLUGIN = """
from dataclasses import dataclass
import alseg

@dataclass(frozen=True)
class Mine(alseg.METHODS.resolve("random")):
    pass

alseg.METHODS.register("mine", Mine)
"""


@pytest.mark.slow
def test_two_processes_know_a_plugin(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(PLUGIN)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    tiny = [word for word in TINY if not word.startswith("method.stage_two")]
    command("plugins=own", "method=mine", *tiny, "run_dir=run", "cache=cache", "trainer.devices=2")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["plugins"] == ["own"]


def test_a_person_answers_through_files(finished, tmp_path):
    _, where, _ = finished
    where = [f"run_dir={tmp_path / 'run'}", where[1]]
    given = [*TINY, *where, "oracle=human", "rounds=1"]
    first = command(*given, check=False)
    assert first.returncode == WAITING
    assert "waits for your answers" in first.stdout
    folder = tmp_path / "run" / "round_000"
    assert list((folder / "questions").glob("00000_*.jpg"))
    rows = (folder / "questions.csv").read_text().splitlines()[1:]
    answers = folder / "answers.csv"
    answers.write_text("row,answer\n" + "".join(f"{i},sky;rode\n" for i in range(len(rows))))
    second = command(*given, check=False)
    assert second.returncode == 2
    assert "answers.csv, line 2: unknown class 'rode'; did you mean 'road'" in second.stderr
    answers.write_text("row,answer\n" + "".join(f"{i},sky;road\n" for i in range(7)))
    third = command(*given)
    assert "round 0: 7 regions answered for 14 clicks" in third.stderr
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_two_processes_choose_what_one_chooses_and_train_on(finished, tmp_path):
    root, where, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(root, copy)
    shutil.rmtree(copy / "round_001")
    command(*TINY, f"run_dir={copy}", where[1], "trainer.devices=2")
    for name in ("query.npz", "answers.npz"):
        one, two = (folder / "round_001" / name for folder in (root, copy))
        assert one.read_bytes() == two.read_bytes()
    with (copy / "rounds.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2


@pytest.mark.slow
def test_two_processes_from_the_start(finished, tmp_path):
    _, where, _ = finished
    command(*TINY, f"run_dir={tmp_path / 'a'}", where[1], "trainer.devices=2")
    command(*TINY, f"run_dir={tmp_path / 'b'}", where[1], "trainer.devices=2")
    files = sorted(
        path.relative_to(tmp_path / "a") for path in (tmp_path / "a").glob("round_*/*.npz")
    )
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
