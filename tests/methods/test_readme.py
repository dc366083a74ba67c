"""The worked examples of `alseg/methods/README.md` are plugins that work."""

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
BLOCK = re.compile(r"```python\n# (?P<path>\w+\.py)\n(?P<code>.*?)```", re.DOTALL)
SHORT = ("method.steps=4", "method.batch_size=2", "method.lr=1e-3")
PLUGINS = ("mine", "power_bald", "dominant")


@pytest.fixture(scope="module", autouse=True)
def example(tmp_path_factory):
    """Write the blocks into a folder, which is then on the path as the user's own is."""
    blocks = {block["path"]: block["code"] for block in BLOCK.finditer(README.read_text())}
    assert sorted(blocks) == [*sorted(f"{name}.py" for name in ("dominant", "dominant_module")),
                              "mine.py", "power_bald.py"]  # fmt: skip
    root = tmp_path_factory.mktemp("own")
    for path, code in blocks.items():
        (root / path).write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        patch.setattr(METHODS, "_entries", dict(METHODS._entries))
        yield blocks
    for name in (*PLUGINS, "dominant_module"):
        sys.modules.pop(name, None)


def chosen(name: str, *more: str):
    words = (f"plugins={','.join(PLUGINS)}", f"method={name}", *SHORT, *more)
    return options(*words).components["method"]


def run_of(name: str, root: Path, *more: str):
    """Two rounds of a method: the run, and the units bought in each round."""
    run = toy_run(root, rounds=2, method=chosen(name, *more))
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


def score(name, p):
    return {"doubtful": -(p * np.log(p)).sum(0), "gini": 1 - (p * p).sum(0)}[name]


@pytest.mark.parametrize(("name", "more"), [("doubtful", []), ("gini", ["method.epoch_steps=2"])])
def test_the_regions_of_highest_score_are_asked(tmp_path, name, more):
    run, bought = run_of(name, tmp_path / "run", *more)
    query = Query.load(tmp_path / "run" / "round_001" / "query.npz")
    # the same from the model that was kept, region by region
    (stage,) = run.method.stages(run.context(0))
    module = stage.trained().eval()
    doubt = {}
    for image in range(6):
        pixels = run.datamodule.eval_transform(run.splits.train.image(image), {})[0]
        with torch.no_grad():
            p = module.network(pixels[None])[0].double().softmax(0).numpy()
        scored = score(name, p)
        regions = run.pool.maps["blocks"][image]
        for unit in range(24):
            if (image, unit) not in bought[0]:
                doubt[image, unit] = scored[regions == unit].mean()
    best = sorted(doubt.values(), reverse=True)[: len(query)]
    np.testing.assert_allclose(query.score, best, rtol=1e-4)
    named = [doubt[pair] for pair in zip(query.image.tolist(), query.unit.tolist(), strict=True)]
    np.testing.assert_allclose(named, best, rtol=1e-4)


def test_a_variation_is_ten_lines(tmp_path, example):
    lines = [line for line in example["power_bald.py"].splitlines() if line.strip()]
    assert len(lines) <= 10
    method = chosen("power_bald", "method.passes=3", "method.epoch_steps=2")
    assert (method.power, method.passes) == (1.0, 3)
    run_of("power_bald", tmp_path / "run", "method.passes=3", "method.epoch_steps=2")


def test_the_docstring_is_the_help():
    text = help_text(["method=dominant"])
    assert text.splitlines()[1] == "Ask for the dominant class of random regions."
    assert "method.lr = 0.0001\n      Encoder's learning rate" in text
