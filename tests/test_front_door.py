"""What ``import alseg`` offers, and the first block of the README, run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import alseg
from alseg.core.errors import UserError
from alseg.labels.tables import Query

ROOT = Path(__file__).parents[1]
#: A quarter of a minute instead of one and a half.
SMALL = {
    "train=60, val=20": "train=8, val=2, size=(64, 96)",
    "(128, 160)": "(64, 96)",
    "Budget(300)": "Budget(20)",
    "max_epochs=5": "max_epochs=1",
    '"resnet18"': '"tu-test_resnet"',
}


def block():
    """The first Python block of the README."""
    return re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)


def smaller(code):
    for old, new in SMALL.items():
        assert old in code, old
        code = code.replace(old, new)
    return code


def run(code, folder):
    script = folder / "notebook.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_first_block_of_the_readme(tmp_path):
    out = run(smaller(block()) + "\nprint(pool, loop.query.round)", tmp_path)
    assert re.search(r"LabelPool\(8 images, \d+ regions, 84 answered\) 3", out)
    assert not list(tmp_path.glob("alseg*")), "nothing is left in the folder but Lightning's logs"


def test_the_first_cell_of_the_notebook_is_the_first_block_of_the_readme():
    text = (ROOT / "notebooks" / "quickstart.py").read_text()
    first = re.search(r"^# %%\n(import.*?)\n# %%", text, re.S | re.M).group(1)
    assert first.strip() == block().strip()


@pytest.mark.slow
def test_the_first_block_of_the_readme_as_it_stands(tmp_path):
    out = run(block() + "\nprint(pool)", tmp_path)
    assert re.search(r"LabelPool\(60 images, [\d ]+ regions, 1204 answered\)", out)


@pytest.mark.slow
def test_two_processes_choose_what_one_chooses(tmp_path):
    """The same weights: one process trains and keeps them, one and two choose with them."""
    code = smaller(block())
    head, _, loop = code.partition("for round in range(3):\n")
    fit, predict, buy = loop.splitlines()[0], loop.splitlines()[1:3], loop.splitlines()[3]
    assert "fit(" in fit
    assert "commit(" in buy
    imports = "import os\nfrom pathlib import Path\nimport torch\n"
    train = fit.strip() + "\ntorch.save(model.state_dict(), 'weights.pt')\n"
    run(f"{imports}{head}\n{train}", tmp_path)
    for world in (1, 2):
        choose = "\n".join(line.strip() for line in predict).replace(
            "devices=1", f"devices={world}"
        )
        choose = choose.replace("L.Trainer(", 'L.Trainer(accelerator="cpu", strategy="STRATEGY", ')
        choose = choose.replace("STRATEGY", "ddp" if world == 2 else "auto")
        load = "model.load_state_dict(torch.load('weights.pt'))\n"
        save = f"loop.query.save(Path(f'query_{world}_' + os.environ.get('LOCAL_RANK', '0')))\n"
        run(f"{imports}{head}\n{load}{choose}\n{save}", tmp_path)
    one = Query.load(tmp_path / "query_1_0")
    for rank in range(2):
        two = Query.load(tmp_path / f"query_2_{rank}")
        assert np.array_equal(one.image, two.image)
        assert np.array_equal(one.unit, two.unit)


def test_every_public_name_is_there_and_says_what_it_is():
    for name in set(alseg.__all__) - {"__version__"}:
        thing = getattr(alseg, name)
        assert thing.__doc__, name
    assert set(alseg.__all__) <= set(dir(alseg))
    with pytest.raises(AttributeError, match="no attribute 'Poool'"):
        alseg.Poool  # noqa: B018


def test_import_is_quick_and_without_torch():
    script = "import sys, alseg; print(sorted({'torch', 'numpy', 'lightning'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_old_names_of_modules_still_import():
    script = (
        "import warnings; warnings.simplefilter('error', ImportWarning)\n"
        "from alseg.errors import UserError\nfrom alseg.active.pool import LabelPool\n"
        "import alseg.labels.pool, alseg.core.errors\n"
        "assert alseg.labels.pool.LabelPool is LabelPool\n"
        "assert alseg.core.errors.UserError is UserError\nprint(alseg.core.errors.__spec__.name)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "alseg.core.errors", done.stderr


def test_the_command_can_be_called(tmp_path):
    from tests.cli.test_run import TINY

    words = [*TINY, "method.stage_two=false", "rounds=1", f"run_dir={tmp_path / 'run'}"]
    assert alseg.run(*words, f"cache={tmp_path / 'cache'}") == 0
    assert (tmp_path / "run" / "rounds.csv").exists()
    with pytest.raises(UserError, match="did you mean 'random'"):
        alseg.run("method=randon")
