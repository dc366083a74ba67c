import subprocess
import sys

from alseg.report.__main__ import main

from .runs import write_run


def test_one_folder_gets_its_report(tmp_path, capsys):
    folder = write_run(tmp_path / "run", [0.5])
    assert main([str(folder)]) == 0
    assert (folder / "report.html").is_file()
    assert capsys.readouterr().out.strip() == str(folder / "report.html")


def test_several_folders_are_compared(tmp_path, capsys):
    folders = [str(write_run(tmp_path / name, [0.5])) for name in ("a", "b")]
    out = tmp_path / "both.html"
    assert main([*folders, "--out", str(out)]) == 0
    assert out.is_file()
    assert not (tmp_path / "a" / "report.html").exists()


def test_other_folders_end_in_one_sentence(tmp_path):
    command = [sys.executable, "-m", "alseg.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path} is no run folder")
    assert done.stderr.count("\n") == 1


def test_out_is_for_comparisons(tmp_path, capsys):
    folder = write_run(tmp_path / "run", [0.5])
    assert main([str(folder), "--out", str(tmp_path / "x.html")]) == 2
    assert "--out" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()
