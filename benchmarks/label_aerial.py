"""Labels aerial tiles through the page: five methods from questions to predictions.

A run is started with ``oracle=browser``; a browser is driven by a person who always knows the
answer and takes a fixed time for every key and click (see `benchmarks.person`). The tiles are those
of ``experiments/aerial``: folders ``tile_1/images``, ``tile_1/masks`` and so on.

    python -m benchmarks.label_aerial DATA [METHOD ...] [--key 0.6] [--weights PATH] [--out DIR]

Needs ``alseg[label,dev]`` and a Chromium; ``CHROMIUM`` names one that playwright did not install.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from alseg.cli import compose
from alseg.labels.tables import Answers
from benchmarks.person import Person

#: Windows of one tile to choose from, those of another to measure on: through in minutes.
COMMON = (
    "data=folder",
    "data.images=*/images",
    "data.masks=*/masks",
    "data.train=tile_1/*",
    "data.val=tile_6/image_part_001",
    "data.scale=0.5",  # the page shows the files as they are
    "data.window=[160,160]",
    "data.colors={Water:[226,169,41],Land:[132,41,246],Road:[110,193,228],"
    "Building:[60,16,152],Vegetation:[254,221,58],Unlabeled:[155,155,155]}",
    'data.ignore=[Unlabeled,"#000000"]',
    "network.encoder=tu-tf_efficientnet_lite0",
    "augment.flip=0.5",
    "method.batch_size=8",
    "pictures=2",
    "workers=0",
    "trainer.enable_progress_bar=false",
)
#: What a person is asked in a round, and how long the model learns.
METHODS = {
    "mulquery": (
        "regions=slic", "regions.region_size=600", "budget.amount=40", "method.steps=20",
        "method.stage_two_steps=20", "method.stage_two_batch_size=8", "method.epoch_steps=10",
        "method.lr=1e-3", "method.stage_two_lr=1e-3", "method.head_factor=1",
    ),
    "pixelpick": (  # a pixel of every image
        "budget.amount=81", "method.steps=20", "method.epoch_steps=10", "method.lr=1e-3",
    ),
    "equal": (  # it trains on one image at a time
        "network.architecture=FPN",
        "regions=grid", "regions.size=[40,40]", "budget.amount=10", "budget.axis=units",
        "method.final_epochs=2", "method.lr=1e-3",
    ),
    "classbal": (
        "regions=slic", "regions.region_size=600", "budget.amount=40", "method.steps=20",
        "method.epoch_steps=10", "method.lr=1e-3", "method.head_factor=1",
    ),
    "als4gan": (
        "method.ratio=0.05", "method.steps=20", "method.epoch_steps=10",
        "method.classifier=tu-mobilenetv3_small_100", "method.classifier_weights=null",
        "method.classifier_passes=1", "method.lr=1e-3", "method.discriminator_width=16",
        "method.self_training_start=10",
    ),
}  # fmt: skip
#: Seconds a person waits for a run to start, or to ask again.
PATIENCE = 900


class Run:
    """A run in a process of its own, and the link that it prints."""

    def __init__(self, words: list[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self._file = log.open("w", encoding="utf-8")
        command = [sys.executable, "-u", "-m", "alseg.run", *words]
        self.process = subprocess.Popen(command, stdout=self._file, stderr=subprocess.STDOUT)

    def link(self) -> str:
        """Where the page is, as soon as it is said."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = re.search(r"http://\S+token=\S+", self.log.read_text("utf-8"))
            if found:
                return found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise SystemExit(f"the run asked nothing; see {self.log}")


def answer_all(browser, run: Run, person: Person) -> None:
    """Answer every round of a run, until it ends."""
    page = person.page
    page.set_default_timeout(30000)
    page.goto(run.link())
    page.wait_for_selector("#canvas")  # the link leads on to it
    while run.process.poll() is None:
        row = person.row
        busy = page.evaluate("document.body.dataset.busy")
        if row is not None and not busy:
            number = page.evaluate("+document.getElementById('round').textContent.split(' ')[1]")
            person.answer(number, row)
        elif page.locator("#end-title:has-text('All is answered')").is_visible():
            person.press("Enter")
            page.wait_for_function("() => !document.body.dataset.busy")
        else:
            time.sleep(0.5)


def label(browser, method: str, words: list[str], out: Path, key_s: float) -> dict[str, str]:
    """Start a run, answer it, and say what it took."""
    folder = out / method
    images = compose.options(*words).components["data"].splits().train
    start = time.perf_counter()
    own = ["oracle=browser", "oracle.open_browser=false", f"run_dir={folder}"]
    run = Run([*words, *own], out / f"{method}.log")
    page = browser.new_context(viewport={"width": 1400, "height": 900}).new_page()
    person = Person(page, folder, images, key_s)
    try:
        answer_all(browser, run, person)
    finally:
        if run.process.poll() is None:
            run.process.kill()
        run.process.wait()
        page.context.close()
    if run.process.returncode:
        raise SystemExit(f"the run failed; see {run.log}")
    took = time.perf_counter() - start
    seconds = [Answers.load(path).seconds for path in sorted(folder.glob("round_*/answers.npz"))]
    active = float(sum(np.nansum(one) for one in seconds))
    lines = (folder / "rounds.csv").read_text("utf-8").splitlines()
    last = dict(zip(lines[0].split(","), lines[-1].split(","), strict=True))
    predict(folder, out / f"{method}_predicted", images)
    return {
        "method": method,
        "rounds": str(len(lines) - 1),
        "answers": str(person.answered),
        "keys": str(person.presses),
        "active min": f"{active / 60:.1f}",
        "answers/min": f"{60 * person.answered / active:.1f}",
        "whole min": f"{took / 60:.1f}",
        "mIoU": last["miou"],
    }


def predict(folder: Path, out: Path, images) -> None:
    """Predict a few whole files with what a run has learnt, as a user would."""
    found = sorted(folder.glob("round_*/*/last.ckpt"), key=lambda path: path.stat().st_mtime)
    files = sorted({images.origin(index).path for index in range(len(images))})[:2]
    for checkpoint in reversed(found):
        words = [f"checkpoint={checkpoint}", f"images={files[0].parent}", f"out={out}"]
        command = [sys.executable, "-m", "alseg.predict", *words]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return
    raise SystemExit(f"no checkpoint of {folder} predicts")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of the tiles")
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--out", type=Path, default=Path("runs/aerial_by_hand"))
    parser.add_argument("--key", type=float, default=0.6, help="seconds a key takes the person")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--weights", default="null", help="of the network; a file, or imagenet")
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = os.environ.get("CHROMIUM")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for method in options.methods:
            words = [f"method={method}", *COMMON, *METHODS[method]]
            words += [f"data.root={options.data}", f"network.weights={options.weights}"]
            if method != "als4gan":  # it asks once
                words.append(f"rounds={options.rounds}")
            told = label(browser, method, words, options.out, options.key)
            print(" | ".join(f"{name} {value}" for name, value in told.items()), flush=True)
        browser.close()


if __name__ == "__main__":
    main()
