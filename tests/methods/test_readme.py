"""The worked example of `alseg/methods/README.md` is a package that works."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import alseg.methods
from alseg.active.driver import drive
from alseg.cli.compose import options
from alseg.cli.help import help_text
from alseg.labels.tables import Query
from alseg.methods import METHODS
from tests.toys import toy_run

README = Path(alseg.methods.__file__).with_name("README.md")
BLOCK = re.compile(r"```python\n# alseg/methods/(?P<path>\S+)\n(?P<code>.*?)```", re.DOTALL)
SHORT = ("method.steps=4", "method.batch_size=2", "method.lr=1e-3")


@pytest.fixture(scope="module", autouse=True)
def example(tmp_path_factory):
    """Write the blocks where the README says and register the methods as it says."""
    blocks = {block["path"]: block["code"] for block in BLOCK.finditer(README.read_text())}
    assert sorted(blocks) == ["dominant/doubtful.py", "dominant/method.py", "dominant/module.py"]
    root = tmp_path_factory.mktemp("methods")
    for path, code in blocks.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alseg.methods, "__path__", [*alseg.methods.__path__, str(root)])
        patch.setattr(METHODS, "_entries", dict(METHODS._entries))
        from alseg.methods.dominant.doubtful import Doubtful
        from alseg.methods.dominant.method import Dominant

        METHODS.register("dominant", Dominant)
        METHODS.register("doubtful", Doubtful)
        yield
    for name in [name for name in sys.modules if name.startswith("alseg.methods.dominant")]:
        del sys.modules[name]
    del alseg.methods.dominant


def chosen(name: str):
    return options(f"method={name}", *SHORT).components["method"]


def run_of(name: str, root: Path):
    """Two rounds of a method: the run, and the units bought in each round."""
    run = toy_run(root, rounds=2, method=chosen(name))
    rows = drive(run)
    assert [row["units"] for row in rows] == [11, 22]  # one click each, until 10 are exceeded
    assert all(0 <= row["miou"] <= 1 for row in rows)
    assert {answers.answer for answers in run.pool.history} == {"dominant"}
    bought = [set(zip(a.image.tolist(), a.unit.tolist(), strict=True)) for a in run.pool.history]
    assert len(bought[0]) == len(bought[1]) == 11
    assert not bought[0] & bought[1]
    return run, bought


def test_the_example_runs(tmp_path):
    run_of("dominant", tmp_path / "run")


def test_the_doubtful_regions_are_asked(tmp_path):
    run, bought = run_of("doubtful", tmp_path / "run")
    query = Query.load(tmp_path / "run" / "round_001" / "query.npz")
    # the same from the model that was kept, region by region
    context = run.context(0)
    (stage,) = run.method.stages(run.context(0))
    module = run.method.module(stage, context).eval()
    kept = torch.load(context.checkpoint(stage), weights_only=True)["state_dict"]
    module.load_state_dict(kept)
    doubt = {}
    for image in range(6):
        pixels = run.datamodule.eval_transform(run.splits.train.image(image), {})[0]
        with torch.no_grad():
            p = module.network(pixels[None])[0].double().softmax(0).numpy()
        entropy = -(p * np.log(p)).sum(0)
        regions = run.pool.maps["blocks"][image]
        for unit in range(24):
            if (image, unit) not in bought[0]:
                doubt[image, unit] = entropy[regions == unit].mean()
    best = sorted(doubt.values(), reverse=True)[: len(query)]
    np.testing.assert_allclose(query.score, best, rtol=1e-4)
    named = [doubt[pair] for pair in zip(query.image.tolist(), query.unit.tolist(), strict=True)]
    np.testing.assert_allclose(named, best, rtol=1e-4)


def test_the_docstring_is_the_help():
    text = help_text(["method=dominant"])
    assert text.splitlines()[1] == "Ask for the dominant class of random regions."
    assert "method.lr = 0.0001\n      Encoder's learning rate" in text
