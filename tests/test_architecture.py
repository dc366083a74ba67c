"""The house rules a reader relies on, checked on the imports themselves."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from alseg.methods import METHODS

PACKAGE = Path(__file__).parents[1] / "alseg"
#: From the ground up; a room imports from its own floor and below.
FLOORS = [
    "core",
    "acquisition",
    "regions",
    "nn",
    "labels",
    "active",
    "data",
    "inference",
    "methods",
    "report",
    "label",
    "cluster",
    "exchange",
    "cli",
    "top",  # the commands, and the package itself
]


def floor(module: str) -> int:
    """Floor of ``alseg.x.y``."""
    room = module.split(".")[1] if "." in module else "top"
    room = "top" if module.endswith(".__main__") else room
    return FLOORS.index(room if room in FLOORS else "top")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "alseg" and "." in name}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {module_name(path).removesuffix(".__init__"): path for path in FILES}
#: Rooms that know no method.
SHARED = ("core", "acquisition", "regions", "nn", "labels", "active", "data", "inference", "report")


@pytest.mark.parametrize("path", FILES, ids=[module_name(path) for path in FILES])
def test_imports_go_down(path):
    own = floor(module_name(path))
    upwards = {name for name in imports(path) if floor(name) > own}
    assert not upwards


def needs(path: Path) -> set[str]:
    """Modules of the package a file imports when it runs, anywhere in it; not for types alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= modules or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(MODULES)


def test_no_two_modules_import_each_other():
    """Nor three in a circle, also by imports inside functions."""
    try:
        TopologicalSorter({name: needs(path) - {name} for name, path in MODULES.items()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_methods_never_import_each_other():
    for path in (PACKAGE / "methods").rglob("*.py"):
        parts = path.relative_to(PACKAGE / "methods").parts
        others = {
            name
            for name in imports(path)
            if name.startswith("alseg.methods.") and name.split(".")[2] != parts[0]
        }
        assert not others, path


def test_shared_rooms_branch_on_no_method():
    """A paper may be cited; a method's name may not decide anything."""
    # names of scores and of ways to keep units apart, too
    shared_words = {"random", "entropy", "least_confidence", "margin", "bvsb"}
    shared_words |= {"bald", "vote_entropy", "spread", "stratified"}
    names = set(METHODS) - shared_words
    assert "mulquery" in names
    for room in SHARED:
        for path in (PACKAGE / room).rglob("*.py"):
            strings = {
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            }
            assert not strings & names, path


@pytest.mark.parametrize(
    "registry",
    [
        "alseg.methods:METHODS",
        "alseg.data:DATASETS",
        "alseg.regions:REGIONS",
        "alseg.labels.oracle:ORACLES",
        "alseg.report.loggers:LOGGERS",
    ],
)
def test_components_import_without_torch(registry):
    """So that ``--help`` and every refused option answer at once."""
    module, name = registry.split(":")
    script = (
        f"import sys; from {module} import {name} as r\nfor n in r: r.resolve(n)\n"
        "print(sorted({'torch','lightning','skimage','cv2','faiss','timm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
