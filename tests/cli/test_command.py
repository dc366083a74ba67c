"""Statuses and sentences that all commands end with."""

import errno
import sys

import pytest

from alseg.cli import command, report
from alseg.cli.compose import options
from alseg.cli.folders import read_folders
from alseg.cli.run import main
from alseg.core.errors import UserError
from alseg.report.loggers import Wandb


def ends(work, arguments=("x=1",), **options):
    return command.main(list(arguments), lambda words: f"help of {words}", work, **options)


def raising(error):
    def work(words):
        raise error

    return work


def test_statuses(capsys):
    assert ends(lambda words: None) == 0
    assert ends(lambda words: 3) == 3
    assert ends(raising(UserError("it is wrong; mend it."))) == 2
    assert capsys.readouterr().err == "error: it is wrong; mend it.\n"
    assert ends(raising(RuntimeError), ["--help", "method=x"]) == 0
    assert capsys.readouterr().out == "help of ['method=x']\n"
    assert ends(raising(RuntimeError), []) == 0
    assert ends(lambda words: 0, [], needs_words=False) == 0
    with pytest.raises(ZeroDivisionError):  # a fault of ours is not hidden
        ends(raising(ZeroDivisionError()))


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "error: /x/y: no space left on device; free some space there, or give"),
        (errno.EROFS, "error: /x/y: read-only file system; give a folder that can be written"),
        (errno.EACCES, "error: /x/y: permission denied; give a folder that may be"),
        (errno.EMFILE, "error: /x/y: too many open files; allow more open files (ulimit -n 4096)"),
        (errno.ENAMETOOLONG, "error: /x/y: file name too long; give a shorter name"),
    ],
)
def test_errors_of_the_system_name_the_path_and_the_mend(capsys, number, sentence):
    import os

    assert ends(raising(OSError(number, os.strerror(number), "/x/y"))) == 2
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert said.endswith(", then give the same command again.\n")
    assert said.count("\n") == 1


def test_errors_that_only_look_like_the_systems_are_not_hidden():
    with pytest.raises(ConnectionResetError):
        ends(raising(ConnectionResetError("by peer")))


@pytest.mark.parametrize("option", ["run_dir", "cache"])
def test_folders_that_cannot_be_made(tmp_path, capsys, option):
    (tmp_path / "file").write_text("")
    given = [f"run_dir={tmp_path / 'run'}", f"{option}={tmp_path / 'file' / 'x'}"]
    sizes = ["data.train=2", "data.val=1", "data.size=[32,48]", "regions=grid", "method=random"]
    assert main([*sizes, *given, "budget.amount=1", "trainer.enable_progress_bar=false"]) == 2
    said = capsys.readouterr().err
    assert "give a folder" in said or "a part of this path is a file" in said
    assert str(tmp_path / "file") in said


@pytest.fixture(autouse=True)
def words_of_the_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", list(sys.argv))


def test_words_of_a_report():
    def read(*words):
        return read_folders(report.ReportOptions, words)

    folders, given = read("runs/lr=0.1", "b", "--out", "c=d.html")
    assert [str(folder) for folder in folders] == ["runs/lr=0.1", "b"]
    assert str(given.out) == "c=d.html"
    assert read("a", "out=x")[1] == read("a", "--out=x")[1]
    assert read("a")[1].out is None
    for bad, sentence in (
        (["a", "--out"], "--out stands without a value"),
        (["--otu", "x"], "unknown option '--otu'; did you mean '--out'"),
        (["-x"], "cannot read '-x'"),
    ):
        with pytest.raises(UserError, match=sentence):
            read(*bad)
    with pytest.raises(UserError, match="no run folder is given"):
        report.report(*read("out=x"))


@pytest.mark.parametrize("project", ["", "a/b", "a:b", "a#b", "x" * 129])
def test_names_of_projects_that_wandb_refuses(project):
    with pytest.raises(UserError, match=r"logger\.project is '.*', which Weights & Biases refuses"):
        Wandb(project=project, offline=True).check()


def test_wandb_without_a_key(monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    Wandb(offline=True).check()
    for answer in (False, wandb.errors.UsageError("api_key not configured (no-tty)")):

        def login(answer=answer):
            if answer:
                raise answer
            return answer

        monkeypatch.setattr(wandb, "login", login)
        with pytest.raises(UserError, match=r"logger=wandb needs a key .* logger\.offline=true"):
            options("logger=wandb").components["logger"].check()
    monkeypatch.setenv("WANDB_MODE", "offline")
    Wandb().check()
