"""Every command of the README is run as it stands, on a few small images and for a few steps."""

import glob
import importlib
import re
import shutil
import sys

import numpy as np
import pytest

from alseg.cli.command import WAITING
from alseg.data import ucmerced
from tests.data.layouts import camvid, cityscapes
from tests.data.make import ids, picture, save
from tests.documents import ROOT, commands, words_of
from tests.serving import page_of

pytestmark = pytest.mark.slow

COMMANDS = list(commands((ROOT / "README.md").read_text()))
#: What makes a run short, added to its words.
SHORT = [
    *("rounds=2", "workers=0", "pictures=1", "trainer.enable_progress_bar=false"),
    *("trainer.accelerator=cpu", "cache=cache"),
    *("method.steps=1", "method.batch_size=2", "method.epoch_steps=1", "budget.amount=6"),
]
SMALL = ["network.encoder=resnet18", "network.weights=null"]
TWO = ["method.stage_two_steps=1", "method.stage_two_batch_size=2"]
PAINTED = ["data.train=4", "data.val=2", "data.size=[96,128]"]
CROP = ["augment.crop=[65,97]", "regions.num_regions=12"]
DEMO = [*SHORT, "rounds=3", *PAINTED]
#: A beginning of each command, and the words that make it short.
ADDED = {
    "run preset=demo/pixelpick": DEMO,
    "run method=mulquery data=camvid": [*SHORT, *SMALL, *TWO, *CROP],
    "run method=mulquery": [*SHORT, *SMALL, *TWO, *PAINTED, *CROP[1:]],
    "run preset=experiments/mulquery": [*SHORT, *TWO, *CROP, "network.weights=null"],
    "run data=folder": [*SHORT, *SMALL, *TWO, "augment.crop=[64,96]", *CROP[1:]],
    "sweep method=": [*SHORT, *SMALL, *PAINTED],
    "sweep --status": [],
    "report": [],
    "compare": [],
    "predict": [],
    "evaluate": [],
    "exchange export": [],
    "export": [],
}
#: Places the README names that are elsewhere here, and a grid of two runs: each is a process.
ELSEWHERE = {
    "/data/cityscapes": "cityscapes",
    "RUN_DIR": "runs/asked",
    "method=random,margin,pixelpick": "method=random,margin",
    "seed=0,1,2": "seed=0",
}


def do(*words, module="run", status=0):
    assert importlib.import_module(f"alseg.cli.{module}").main(list(words)) == status


def folder(root, seeds):
    for n in seeds:
        save(root / "images" / f"{n}.png", picture(96, 128, n))
        save(root / "masks" / f"{n}.png", ids(96, 128, n, 10))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The data sets and runs the README speaks of, in small."""
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "argv", list(sys.argv))
        patch.setenv("XDG_CACHE_HOME", str(root / "home"))
        (root / "experiments").symlink_to(ROOT / "experiments")
        camvid(root / "CamVid", (96, 128))
        cityscapes(root / "cityscapes", (96, 128))
        for name, n in (("beach00", 1), ("river00", 2), ("forest00", 3)):
            save(root / f"UCMerced/UCMerced_Images/{name}.tif", picture(96, 128, n))
            save(root / f"UCMerced/UCMerced_Labels/{name}.png", ids(96, 128, n, 17) + 1)
        for part, name in (("train", "beach00"), ("val", "river00"), ("test", "forest00")):
            (root / f"{part}.txt").write_text(name)
        patch.setattr(ucmerced, "list_file", lambda part: root / f"{part}.txt")
        folder(root / "val", (0, 1, 2))
        folder(root / "test", (3, 4))
        for name in ("a", "b", "test_c"):
            colours = np.array([[128, 64, 128], [0, 0, 142]], np.uint8)[ids(96, 128, 5, 2)]
            save(root / f"own/photos/images/{name}.png", picture(96, 128, ord(name[-1])))
            save(root / f"own/photos/labels/{name}.png", colours)
        for name in ("a", "b"):
            save(root / f"photos/{name}.png", picture(128, 160, ord(name)))
            save(root / f"labels/{name}.png", ids(128, 160, ord(name), 10))
        do("preset=demo/pixelpick", "run_dir=runs/demo/pixelpick", *DEMO)
        shutil.copy("runs/demo/pixelpick/round_002/train/last.ckpt", "last.ckpt")
        quick = [*SHORT, *SMALL, *PAINTED]
        for method in ("random", "margin"):
            do(f"method={method}", f"run_dir=runs/{method}_0", *quick)
        own = ["data=camvid", "data.root=CamVid", *SHORT, *SMALL, *TWO, *CROP]
        do("method=mulquery", *own, "method.acquisition=random", "run_dir=runs/camvid_random")
        merced = ["data=ucmerced", "data.root=UCMerced", "data.size=[96,128]", *SHORT, *SMALL]
        do("method=random", *merced, "rounds=1", "run_dir=runs/uc")
        asked = [*SHORT, *SMALL, *PAINTED, "oracle=human", "run_dir=runs/asked"]
        do("method=random", *asked, status=WAITING)
        yield root


def in_small(command):
    """The words of a command as a shell gives them here, and those that make it short."""
    module, words = words_of(command)
    line = f"{module.partition('.')[2]} {' '.join(words)}"
    for there, here in ELSEWHERE.items():
        words = [word.replace(there, here) for word in words]
    words = [found for word in words for found in sorted(glob.glob(word)) or [word]]
    begins = [beginning for beginning in ADDED if line.startswith(beginning)]
    assert begins, f"how is this made short: {line}"
    return line.split()[0], words + ADDED[max(begins, key=len)]


@pytest.mark.parametrize("command", [c for c in COMMANDS if "alseg.label" not in c])
def test_a_command_of_the_readme(command, world, monkeypatch, capfd):
    own = "data=folder" in command
    monkeypatch.chdir(world / "own" if own else world)
    if "runs/camvid " in command and "report" in command and not (world / "runs/camvid").exists():
        pytest.skip("the command before it makes its run")
    module, words = in_small(command)
    if "data=ucmerced" in command:
        words.append("data.size=[96,128]")
    assert importlib.import_module(f"alseg.cli.{module}").main(words) == 0, capfd.readouterr().err
    for option in ("out", "run_dir"):
        if made := re.search(rf"\b{option}[= ](\S+)", command):
            assert (world / made.group(1)).exists()


def test_the_label_page_of_the_readme(world):
    (command,) = [c for c in COMMANDS if "alseg.label" in c]
    _, words = words_of(command.replace("RUN_DIR", "runs/asked"))
    assert 'src="/page.js"' in page_of(words, world)
