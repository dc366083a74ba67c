import json
import os
import shutil
import subprocess
import sys

import pytest

from alseg.cli.command import WAITING
from alseg.cli.finished import is_finished, waits_for
from alseg.cli.run import main, options
from tests.cli.test_run import TINY

SCRIPT = (
    "import sys; from alseg.cli.run import main; status = main(sys.argv[1:]); "
    "print(status, sorted({'torch', 'lightning'} & set(sys.modules)))"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    words = [*TINY, f"run_dir={folder / 'run'}", f"cache={folder / 'cache'}"]
    argv = list(sys.argv)
    assert main(words) == 0
    sys.argv = argv
    return folder / "run", words


def test_a_finished_run_ends_at_once_and_changes_nothing(run):
    root, words = run
    files = [path for path in root.rglob("*") if path.suffix and path.name != "log.txt"]
    before = {path: path.stat().st_mtime_ns for path in files}
    result = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True)
    report, last = result.stdout.splitlines()[-2:]
    assert report == f"Report: {root / 'report.html'}"
    assert last == "0 []"
    assert before == {path: path.stat().st_mtime_ns for path in files}
    assert {path for path in root.rglob("*") if path.suffix} == {*files, root / "log.txt"}


def test_another_configuration_is_refused_there_too(run, capsys):
    _, words = run
    assert main([*words, "seed=7"]) == 2
    assert "belongs to a run with another configuration (seed: 0 there, 7 now)" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("gone", ["report.html", "rounds.csv", "round_000/pictures/index.json"])
def test_a_run_that_lacks_a_file_goes_on(run, gone):
    root, words = run
    asked = options(*words)
    rounds = asked.values["rounds"]
    assert is_finished(asked, root, rounds)
    assert is_finished(asked, root, None)
    assert not is_finished(asked, root, rounds + 1)
    (root / gone).rename(root / "away")
    assert not is_finished(asked, root, rounds)
    (root / "away").rename(root / gone)
    assert is_finished(asked, root, rounds)


def test_a_page_older_than_a_round_is_written_again(run):
    root, words = run
    metrics = root / "round_000" / "metrics.json"
    content = json.loads(metrics.read_text())
    before = (root / "report.html").stat()
    metrics.write_text(json.dumps(content))
    assert not is_finished(options(*words), root, None)
    os.utime(metrics, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert is_finished(options(*words), root, None)


@pytest.mark.parametrize("more", ["keep_rounds=1", "trainer.devices=2"])
def test_what_may_be_left_to_do_is_left_to_the_loop(run, more):
    root, words = run
    assert not is_finished(options(*words, more), root, None)


@pytest.fixture(scope="module")
def waiting(tmp_path_factory):
    folder = tmp_path_factory.mktemp("waiting")
    where = [f"run_dir={folder / 'run'}", f"cache={folder / 'cache'}"]
    words = [*TINY, *where, "oracle=human"]
    argv = list(sys.argv)
    assert main(words) == WAITING
    sys.argv = argv
    return folder / "run", words


def test_a_run_that_waits_says_so_at_once_and_changes_nothing(waiting):
    root, words = waiting
    files = [path for path in root.rglob("*") if path.suffix and path.name != "log.txt"]
    before = {path: path.stat().st_mtime_ns for path in files}
    result = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True)
    told, last = result.stdout.splitlines()[-2:]
    assert told.startswith("Round 0 waits for your answers: ")
    assert last == f"{WAITING} []"
    assert f"Or answer in a browser: python -m alseg.label {root}" in result.stderr
    assert before == {path: path.stat().st_mtime_ns for path in files}
    assert {path for path in root.rglob("*") if path.suffix} == {*files, root / "log.txt"}


def test_a_folder_without_answers_becomes_another_runs(waiting, tmp_path):
    root, words = waiting
    copy = tmp_path / "run"
    shutil.copytree(root, copy)
    for number in ("0", "7"):  # the loop chooses by another seed
        assert main([*words, f"run_dir={copy}", f"seed={number}"]) == WAITING
        same = (copy / "round_000" / "query.npz").read_bytes() == (
            root / "round_000" / "query.npz"
        ).read_bytes()
        assert same == (number == "0")


def test_what_a_waiting_run_lacks_is_made_by_the_loop(waiting):
    root, words = waiting
    asked = options(*words)
    query = waits_for(asked, root, None)
    assert query is not None
    assert query.round == 0
    assert waits_for(asked, root, 1) is not None
    assert waits_for(asked, root, 0) is None
    for name in ("questions.csv", "questions", "label", "query.npz"):
        (root / "round_000" / name).rename(root / "away")
        assert waits_for(asked, root, None) is None, name
        (root / "away").rename(root / "round_000" / name)
        assert waits_for(asked, root, None) is not None, name
    for name in ("round_000/answers.csv", "set_aside"):
        (root / name).write_text("row,answer\n")
        assert waits_for(asked, root, None) is None, name
        (root / name).unlink()
    for more in ("oracle.accept_partial=true", "answers=keep", "trainer.devices=2"):
        assert waits_for(options(*words, more), root, None) is None, more
    assert waits_for(options(*[word for word in words if "oracle" not in word]), root, None) is None
