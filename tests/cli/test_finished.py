import json
import os
import subprocess
import sys

import pytest

from alseg.cli.finished import is_finished
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
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.suffix}
    result = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True)
    report, last = result.stdout.splitlines()[-2:]
    assert report == f"Report: {root / 'report.html'}"
    assert last == "0 []"
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.suffix}


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
