"""The notebook runs from end to end, and its two files say the same."""

import ast
import csv
import io
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.test_run import TINY
from tests.test_front_door import smaller

EXTRA = "needs the notebooks extra: pip install -e '.[notebooks]'"
for module in ("ipykernel", "matplotlib"):
    pytest.importorskip(module, reason=EXTRA)
jupytext = pytest.importorskip("jupytext", reason=EXTRA)
nbclient = pytest.importorskip("nbclient", reason=EXTRA)
nbformat = pytest.importorskip("nbformat", reason=EXTRA)

SOURCE = Path(__file__).parents[1] / "notebooks" / "quickstart.py"


@pytest.fixture
def notebook():
    return nbformat.read(SOURCE.with_suffix(".ipynb"), as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook):
    """The cell whose values the test replaces."""
    (cell,) = [c for c in code(notebook) if "parameters" in c.metadata.get("tags", [])]
    return cell


def assigned(source):
    return {node.targets[0].id for node in ast.parse(source).body if isinstance(node, ast.Assign)}


def test_the_notebook_is_what_jupytext_makes_of_its_source(notebook):
    made = jupytext.read(SOURCE)
    told = [(cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]
    assert told == [(cell.cell_type, cell.source, cell.metadata) for cell in made.cells]
    assert notebook.metadata.kernelspec == made.metadata.kernelspec
    nbformat.validate(notebook)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_the_notebook_is_kept_without_outputs(notebook):
    assert not any(cell.outputs or cell.execution_count for cell in code(notebook))


def test_the_notebook_uses_the_library_and_defines_nothing(notebook):
    defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
    for cell in code(notebook):
        assert not any(isinstance(node, defined) for node in ast.walk(ast.parse(cell.source)))


def test_the_notebook_runs(notebook, tmp_path, monkeypatch):
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    small = f"run_dir = 'run'\nsettings = {[*TINY, 'cache=cache']!r}"
    assert assigned(small) == assigned(parameters(notebook).source)
    parameters(notebook).source = small
    first = code(notebook)[0]
    first.source = smaller(first.source)

    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()

    outputs = [output for cell in code(notebook) for output in cell.outputs]
    pictures = [o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    shown = [np.asarray(Image.open(io.BytesIO(b64decode(p))).convert("RGB")) for p in pictures]
    # the pool, its classes, two images of either query, the curve
    assert [picture.std() > 5 for picture in shown] == [True] * 7

    text = "".join(o.text for o in outputs if o.get("name") == "stdout")
    with (tmp_path / "run" / "rounds.csv").open(newline="") as file:
        rounds = list(csv.DictReader(file))
    assert len(rounds) == 2
    # the query one looks at is the one that the run then buys
    assert f"query, {rounds[0]['units']} answered\n{rounds[0]['clicks']} clicks, " in text
    assert (tmp_path / "run" / "report.html").is_file()
