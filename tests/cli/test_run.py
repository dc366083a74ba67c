"""The command as a user meets it."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from alseg.cli.compose import expand, options
from alseg.cli.run import WAITING, help_text, identity, run_dir
from alseg.core.errors import UserError

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


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("method=mulqery", "unknown method 'mulqery'; did you mean 'mulquery'"),
        ("data=camvit", "unknown data 'camvit'; did you mean 'camvid'"),
        ("regions=seed", "unknown regions 'seed'; did you mean 'seeds'"),
        ("oracle=humam", "unknown oracle 'humam'; did you mean 'human'"),
        ("method.nuu=3", "unknown option 'method.nuu'; did you mean method.nu"),
        ("budjet.amount=3", "unknown option 'budjet.amount'; did you mean budget.amount"),
        ("method.nu=much", "cannot use method.nu=much: Value 'much' of type 'str'"),
        ("budget.amount=0", "budget.amount is 0; a round needs a positive number of clicks"),
        ("method.acquisition=pixball", "did you mean 'pixbal'"),
        ("method.lr=0", "method.lr is 0.0; it must be > 0"),
        ("augment.scale=[2,1]", "augment.scale is"),
        ("mulquery", "cannot read 'mulquery'; options are written name=value"),
        ("data=camvid", "data.root has no default; give data.root=VALUE"),
        ("preset=nowhere.yaml", "cannot read the preset nowhere.yaml"),
    ],
)
def test_bad_options_get_a_sentence(argument, sentence):
    with pytest.raises(UserError) as error:
        options(argument)
    assert sentence in str(error.value)


def test_a_bad_option_ends_the_command_with_its_sentence_and_nothing_else(tmp_path):
    result = command("method=mulqery", check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: unknown method 'mulqery'")
    assert len(result.stderr.splitlines()) == 1


def test_bad_input_found_later_ends_the_command_with_its_sentence(tmp_path):
    for given, sentence in [
        (["network.encoder=resnet19"], "unknown encoder 'resnet19'; did you mean 'resnet18'"),
        (["network.weights=none.pt"], "no weights file 'none.pt'"),
        (["budget.amount=100000"], "there would be nothing to choose"),
    ]:
        folder = tmp_path / given[0].replace("=", "_")
        result = command(
            *TINY, *given, f"run_dir={folder}", f"cache={tmp_path / 'cache'}", check=False
        )
        assert result.returncode == 2, result.stderr
        assert sentence in result.stderr
        assert "Traceback" not in result.stderr


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
    assert len(heads) == 25
    assert all(lines[i + 1].startswith("      ") for i in heads)


def test_quiet_defaults_yield_to_what_is_said():
    small = options()
    assert small.values["method"]["steps"] == 120
    assert small.values["network"]["encoder"] == "resnet18"
    said = options("method.steps=7")
    assert said.values["method"]["steps"] == 7
    assert options("method=supervised").choices["regions"] == "image"
    assert options("method=supervised", "regions=grid").choices["regions"] == "grid"
    paper = options("data=camvid", "data.root=x")
    assert paper.values["method"]["steps"] == 80_000


def test_expanding_twice_changes_nothing():
    once = expand(["method=mulquery", "seed=3"])
    assert expand(once) == once


def test_sweeps_over_methods_get_no_quiet_defaults_and_their_names_are_checked():
    assert expand(["-m", "method=random,entropy"]) == ["-m", "method=random,entropy"]
    assert expand(["seed=0,1", "-m"])[0] == "-m"
    with pytest.raises(UserError, match="did you mean 'entropy'"):
        expand(["-m", "method=random,entropie"])


def test_a_preset_is_what_its_options_are(tmp_path):
    preset = tmp_path / "p.yaml"
    preset.write_text(
        yaml.safe_dump(
            {
                "method": "mulquery",
                "data": "camvid",
                "data.root": "/data/it's here",
                "method.nu": 12.0,
                "budget": {"prices": {"class_set": {"seconds_per_class": 4.0}}},
                "augment.crop": [96, 128],
                "network.weights": None,
                "network.options": {"decoder_channels": [1, 2]},
            }
        )
    )
    got = options(f"preset={preset}", "method.nu=3").values
    assert got["data"]["root"] == "/data/it's here"
    assert got["method"]["nu"] == 3
    assert got["budget"]["prices"] == {"class_set": {"seconds_per_class": 4.0}}
    assert got["augment"]["crop"] == [96, 128]
    assert got["network"]["weights"] is None
    assert got["network"]["options"] == {"decoder_channels": [1, 2]}


def test_what_may_change_between_two_starts():
    first = options("run_dir=a")
    for free in ("run_dir=b", "rounds=9", "workers=7", "trainer.devices=2", "logger=wandb"):
        assert identity(options("run_dir=a", free)) == identity(first), free
    for bound in ("seed=1", "method.nu=1", "trainer.precision=bf16-mixed", "oracle.trim=3"):
        assert identity(options("run_dir=a", bound)) != identity(first), bound
    assert run_dir(options()) == Path("runs/synthetic_mulquery_seed0")
    assert run_dir(options("seed=3", "method=supervised")).name == "synthetic_supervised_seed3"


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


def test_a_person_answers_through_files(finished, tmp_path):
    _, where, _ = finished
    where = [f"run_dir={tmp_path / 'run'}", where[1]]
    given = [*TINY, *where, "oracle=human", "rounds=1"]
    first = command(*given, check=False)
    assert first.returncode == WAITING
    assert "waits for your answers" in first.stdout
    folder = tmp_path / "run" / "round_000"
    assert list((folder / "questions").glob("*.png"))
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
