"""What the pages say: commands are read, links lead somewhere, code is Python that imports."""

import ast
import importlib
import re
import subprocess
from pathlib import Path

import pytest

from alseg.cli import (
    compare,
    evaluate,
    exchange,
    export,
    label,
    predict,
    regions,
    report,
    run,
    sweep,
)
from alseg.cli.compose import options
from alseg.cli.grid import cells
from tests.documents import PAGES, ROOT, anchors, blocks, commands, is_open, links, words_of

COMMANDS = sorted({command for page in PAGES for command in commands(page.read_text())})
#: Without those in which the reader fills something in, or names a module of their own; the tests
#: of those pages write and run that.
WHOLE = [
    command
    for command in COMMANDS
    if not any(is_open(word) or word.startswith("plugins=") for word in words_of(command)[1])
]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture
def read_only(monkeypatch):
    """The commands read all their words, and then do nothing."""

    def compose(words, *_):
        options(*words)

    def compose_all(words, given):
        for cell in cells(words, given.plan):
            options(*cell.words)

    monkeypatch.chdir(ROOT)
    for module, work in [
        *[(predict, "predict"), (evaluate, "evaluate"), (export, "export"), (label, "label")],
        *[(compare, "compare"), (report, "report"), (exchange, "export"), (exchange, "import_")],
        (run, "run"),
    ]:
        monkeypatch.setattr(module, work, lambda *_: [])
    monkeypatch.setattr(regions, "cut", compose)
    monkeypatch.setattr(sweep, "sweep", compose_all)


@pytest.mark.parametrize("command", WHOLE)
def test_a_command_is_read_to_its_last_word(command, read_only, capsys):
    module, words = words_of(command)
    assert importlib.import_module(f"alseg.cli.{module.partition('.')[2]}").main(words) == 0, (
        capsys.readouterr().err
    )


def test_a_command_with_a_mistake_is_not(read_only, capsys):
    for words in (["method=randon"], ["method.nosuch=1"], ["preset=experiments/none.yaml"]):
        assert run.main(words) == 2
    assert sweep.main(["method=random,margn", "seed=0", "--out", "runs/x"]) == 2
    assert predict.main(["checkpoint=a", "images=b", "outt=c"]) == 2
    assert len(WHOLE) > 50


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
    for target in links(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_of_a_page_is_python_and_its_imports_are_there(page):
    for code in blocks(page.read_text(), "python", "py"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("alseg"):
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{node.module}.{alias.name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_knows_the_targets_a_page_names(page):
    text = page.read_text()
    named = {
        target
        for code in [*blocks(text, "", "sh"), *re.findall(r"`(make [^`]+)`", text)]
        for target in re.findall(r"^make ([\w-]+)", code, re.M)
    }
    if named:
        subprocess.run(
            ["make", "--dry-run", *sorted(named)], cwd=ROOT, check=True, capture_output=True
        )
