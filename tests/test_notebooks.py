"""The notebooks run from end to end, and their two files say the same."""

import ast
import csv
import io
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alseg.labels.tables import Query
from tests.cli.test_run import TINY
from tests.test_front_door import smaller

EXTRA = "needs the notebooks extra: pip install -e '.[notebooks]'"
for module in ("ipykernel", "matplotlib"):
    pytest.importorskip(module, reason=EXTRA)
pytest.importorskip("jupytext", reason=EXTRA)
pytest.importorskip("nbclient", reason=EXTRA)
nbformat = pytest.importorskip("nbformat", reason=EXTRA)

from notebooks.__main__ import NAMES as NOTEBOOKS  # noqa: E402
from notebooks.__main__ import executed, made  # noqa: E402

HERE = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.stem for path in HERE.glob("[!_]*.py"))
PLAIN = [w for w in TINY if not w.startswith(("data.", "regions.", "method.stage_two"))]
UNTRAINED = [*PLAIN, "network.weights=null"]
#: What the cell of parameters says instead, so that a notebook takes seconds.
SMALL = {
    "quickstart": f"run_dir = 'run'\nsettings = {[*TINY, 'cache=cache']!r}",
    "label_your_own": "images, size, run_dir = 4, (48, 64), 'run'\n"
    f"settings = {[*UNTRAINED, 'rounds=3', 'cache=cache']!r}",
    "own_acquisition": f"out = 'own'\nsettings = {[*UNTRAINED, *TINY[:3], 'cache=cache']!r}",
    "compare": "out, seeds = 'runs', (0, 1)\n"
    f"settings = {[*[w for w in UNTRAINED if w != 'rounds=2'], *TINY[:3], 'cache=cache']!r}\n"
    "asking = ['regions=pixels', 'rounds=2']",
}


def read(name):
    return nbformat.read(HERE / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook):
    """The cell whose values the test replaces."""
    (cell,) = [c for c in code(notebook) if "parameters" in c.metadata.get("tags", [])]
    return cell


def assigned(source):
    targets = [n.targets[0] for n in ast.parse(source).body if isinstance(n, ast.Assign)]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def printed(notebook):
    return "".join(o.text for o in outputs(notebook) if o.get("name") == "stdout")


def shown(notebook):
    return [output.data for output in outputs(notebook) if "data" in output]


def pictures(notebook):
    kinds = ("image/png", "image/jpeg")
    found = [[data[k] for k in kinds if k in data] for data in shown(notebook)]
    return [
        np.asarray(Image.open(io.BytesIO(b64decode(same[0]))).convert("RGB"))
        for same in found  # Pillow offers both kinds
        if same
    ]


def small_run(name, folder, monkeypatch):
    """The notebook, run with the small parameters in a folder."""
    for variable in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(folder / variable))
    notebook = made(name)
    assert assigned(SMALL[name]) == assigned(parameters(notebook).source)
    parameters(notebook).source = SMALL[name]
    if name == "quickstart":
        first = code(notebook)[0]
        first.source = smaller(first.source)
    return executed(notebook, folder)


def test_every_notebook_is_listed():
    assert sorted(NOTEBOOKS) == NAMES == sorted(SMALL)
    page = (HERE / "README.md").read_text()
    assert all(f"]({name}.ipynb)" in page for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_what_its_source_makes(name):
    notebook, source = read(name), made(name)
    told = [(cell.cell_type, cell.source, cell.metadata, cell.id) for cell in notebook.cells]
    assert told == [(cell.cell_type, cell.source, cell.metadata, cell.id) for cell in source.cells]
    assert notebook.metadata.kernelspec == source.metadata.kernelspec
    nbformat.validate(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_with_small_outputs_of_one_whole_run(name):
    notebook = read(name)
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert pictures(notebook)
    assert all(o.get("name") != "stderr" and o.output_type != "error" for o in outputs(notebook))
    text = (HERE / f"{name}.ipynb").read_text()
    assert len(text) < 300_000
    assert not re.search(r"/(home|tmp|root|work|Users)/", text), "a path of one machine"


def test_the_quickstart_uses_the_library_and_defines_nothing():
    defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
    for cell in code(read("quickstart")):
        assert not any(isinstance(node, defined) for node in ast.walk(ast.parse(cell.source)))


def test_the_quickstart_runs(tmp_path, monkeypatch):
    notebook = small_run("quickstart", tmp_path, monkeypatch)
    # the pool, its classes, two images of either query, the curve
    assert [picture.std() > 5 for picture in pictures(notebook)] == [True] * 7
    with (tmp_path / "run" / "rounds.csv").open(newline="") as file:
        rounds = list(csv.DictReader(file))
    assert len(rounds) == 2
    # the query one looks at is the one that the run then buys
    text = printed(notebook)
    assert f"query, {rounds[0]['units']} answered\n{rounds[0]['clicks']} clicks, " in text
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.slow
def test_label_your_own_runs(tmp_path, monkeypatch):
    notebook = small_run("label_your_own", tmp_path, monkeypatch)
    assert [picture.std() > 5 for picture in pictures(notebook)] == [True] * 4
    text = printed(notebook)
    assert "answers.csv, line 3: unknown class 'rode'; did you mean 'road'" in text
    assert re.findall(r"round (\d) answered, status (\d)", text) == [
        *zip("012", "330", strict=True)
    ]
    assert "36 clicks, 9 in each of 4 images" in text
    answers = (tmp_path / "run" / "round_002" / "answers_read.csv").read_text().splitlines()
    assert len(answers) == 13


@pytest.mark.slow
def test_own_acquisition_runs(tmp_path, monkeypatch):
    notebook = small_run("own_acquisition", tmp_path, monkeypatch)
    assert len(pictures(notebook)) == 4
    assert "tensor([1.0000, 0.3333, 0.0000])" in [data["text/plain"] for data in shown(notebook)]
    asked = [
        [Query.load(tmp_path / f"own/{name}/round_00{round}/query.npz") for round in range(2)]
        for name in ("tie", "random")
    ]
    (first, later), (first_too, drawn) = asked
    assert np.array_equal(first.unit, first_too.unit)  # nothing is trained yet
    assert not np.array_equal(later.unit, drawn.unit)


@pytest.mark.slow
def test_compare_runs(tmp_path, monkeypatch):
    notebook = small_run("compare", tmp_path, monkeypatch)
    assert len(pictures(notebook)) == 2
    tables = [data["text/markdown"] for data in shown(notebook) if "text/markdown" in data]
    assert any("margin against random" in table for table in tables)
    assert "2 seeds can at best give p = 0.5" in printed(notebook)
    assert (tmp_path / "runs" / "comparison" / "index.html").is_file()
