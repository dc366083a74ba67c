"""What `pip install` brings: every file of the package, and nothing else; and that it is enough."""

import os
import re
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import alseg
from tests.data.make import picture, save
from tests.serving import page_of

ROOT = Path(__file__).parents[1]
#: Painted scenes and steps so few that a run takes seconds.
SHORT = [
    *("data.train=4", "data.val=2", "data.size=[64,96]", "budget.amount=6", "rounds=2"),
    *("method.steps=1", "method.batch_size=2", "method.epoch_steps=1", "workers=0"),
    *("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "cache=cache"),
]


def tree():
    """Files of the package in the checkout, without what Python and tools leave there."""
    files = (path.relative_to(ROOT) for path in (ROOT / "alseg").rglob("*") if path.is_file())
    return {
        path.as_posix()
        for path in files
        if not any(part == "__pycache__" or part.startswith(".") for part in path.parts)
    }


def test_the_package_is_what_the_tree_holds(monkeypatch):
    """As setuptools would build it; reads pyproject.toml and the folders, and builds nothing."""
    dist = pytest.importorskip("setuptools.dist", reason="setuptools comes with torch")
    monkeypatch.chdir(ROOT)
    package = dist.Distribution({"script_name": "setup.py"})
    package.parse_config_files()
    build = package.get_command_obj("build_py")
    build.ensure_finalized()
    modules = {Path(file).as_posix() for *_, file in build.find_all_modules()}
    data = {f"{source}/{name}" for _, source, _, names in build.data_files for name in names}
    assert modules | data == tree()


def test_every_file_says_the_same_version(monkeypatch):
    """pyproject.toml reads it from the package; the citation and the changes repeat it."""
    dist = pytest.importorskip("setuptools.dist", reason="setuptools comes with torch")
    monkeypatch.chdir(ROOT)
    package = dist.Distribution({"script_name": "setup.py"})
    package.parse_config_files()
    assert package.metadata.version == alseg.__version__
    assert f"\nversion: {alseg.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    number, is_dev, _ = alseg.__version__.partition(".dev")
    newest = re.search(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M).group(1)
    assert newest == (f"{number} (unreleased)" if is_dev else number)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder the wheel is unpacked into, and an empty one to work from."""
    root = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    source = root / "source"  # setuptools leaves its build folder beside what it builds
    for file in [*tree(), "pyproject.toml", "README.md", "LICENSE"]:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_bytes((ROOT / file).read_bytes())
    build = [*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", root, source]
    subprocess.run(build, check=True)
    (wheel,) = root.glob("*.whl")
    with ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    assert names == tree()
    install = [*pip, "install", "-q", "--no-deps", "--no-index", "--target", root / "site", wheel]
    subprocess.run(install, check=True)
    (root / "empty").mkdir()
    return root / "site", root / "empty"


def done(installed, *words, status=0):
    site, folder = installed
    process = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.returncode == status, process.stdout[-3000:]
    return process.stdout


@pytest.mark.slow
def test_the_wheel_from_an_empty_folder(installed):
    site, folder = installed
    (folder / "where.py").write_text("import alseg; print(alseg.__file__)")
    assert done(installed, "where").startswith(str(site))
    (folder / "where.py").unlink()
    # the demo, without its encoder's weights
    small = ["network.encoder=resnet18", "network.weights=null"]
    done(installed, "alseg.run", "preset=demo/pixelpick", "run_dir=runs/demo", *small, *SHORT)
    assert (folder / "runs/demo/report.html").exists()
    # prediction
    save(folder / "photos/a.png", picture(64, 96, 1))
    checkpoint = "checkpoint=runs/demo/round_001/train/last.ckpt"
    done(installed, "alseg.predict", checkpoint, "images=photos", "out=predicted")
    assert (folder / "predicted/labels/a.png").exists()
    # the label page
    asked = ["oracle=human", "run_dir=runs/asked", *small, *SHORT]
    done(installed, "alseg.run", "preset=demo/random", *asked, status=3)
    site_first = os.environ | {"PYTHONPATH": str(site)}
    assert 'src="/page.js"' in page_of(["runs/asked"], folder, site_first)
