"""What a training step costs the host besides the network: a fit beside a plain loop.

The network is so small that hardly anything else is measured, and the clock is that of the
process, which other programs do not disturb much. The border of an epoch is by the clock of the
wall: from its last batch to the first of the next, with two processes that load.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from alseg.active.callbacks import Reseed, Stopwatch
from alseg.active.checkpoints import LastCheckpoint
from alseg.active.finite import FiniteNumbers
from alseg.active.fits import make_trainer
from alseg.active.module import CrossEntropyModule
from alseg.active.stage import Fit
from alseg.cli.options import TrainerOptions
from alseg.data.loaders import FitLoader
from alseg.data.samplers import OnePlace, TrainStream
from alseg.nn.interface import LinearClassifier, Segmenter
from alseg.nn.recipe import Recipe
from alseg.nn.segmenter import build_segmenter


class Clock(L.Callback):
    """Seconds of the processor between the first and the last batch of the epoch."""

    def on_train_epoch_start(self, *args: Any) -> None:
        self.seconds = -process_time()

    def on_train_epoch_end(self, *args: Any) -> None:
        self.seconds += process_time()


class Bare(L.LightningModule):
    """The same loss and optimiser in a module with nothing else."""

    def __init__(self, inner: CrossEntropyModule) -> None:
        super().__init__()
        self.network, self.inner = inner.network, [inner]

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        return self.inner[0].loss(batch)["loss"]

    def configure_optimizers(self) -> Any:
        return self.inner[0].configure_optimizers()


class Borders(L.Callback):
    """Seconds from the last batch of an epoch to the first of the next."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_batch_end(self, *args: Any) -> None:
        self._last = perf_counter()

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.current_epoch and trainer.fit_loop.epoch_loop.batch_idx == 0:
            self.seconds.append(perf_counter() - self._last)


class Batches(Dataset[dict[str, torch.Tensor]]):
    """Batches of two small images, made in an instant."""

    def __getitem__(self, items: Any) -> dict[str, torch.Tensor]:
        return batch()


def module(steps: int, real: bool = False) -> CrossEntropyModule:
    torch.manual_seed(0)
    if real:
        network = build_segmenter("DeepLabV3Plus", "mobilenet_v2", None, 3)
    else:
        network = Segmenter(
            nn.Conv2d(3, 4, 3, 2, 1), nn.Identity(), LinearClassifier(4, 3, 1), multiple=2
        )
    return CrossEntropyModule(network=network, num_classes=3, steps=steps, recipe=Recipe(1e-3))


def batch(side: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randn(2, 3, side, side, generator=generator),
        "target": torch.randint(0, 3, (2, side, side), generator=generator).to(torch.uint8),
        "index": torch.tensor([0, 1]),
    }


def batches(steps: int, real: bool = False) -> DataLoader[Any]:
    one = batch(256 if real else 16)
    return DataLoader([one] * steps, batch_size=None)  # type: ignore[arg-type]


def border(epochs: int, ahead: bool) -> float:
    """Median seconds of a border; without `ahead` each epoch starts processes of its own."""
    fit = Fit(steps=epochs * 20, batch_size=2, epoch_steps=20)
    stream = TrainStream(8, fit, (0, "borders"), OnePlace())
    kind = FitLoader if ahead else DataLoader
    loader: DataLoader[Any] = kind(Batches(), batch_size=None, sampler=stream, num_workers=2)
    borders = Borders()
    off = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = L.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=[borders], **off)  # type: ignore[arg-type]
    trainer.fit(Bare(module(fit.steps)), loader)
    return median(borders.seconds)


def plain(steps: int, real: bool = False) -> float:
    made = module(steps, real).train()
    configured = made.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    start = process_time()
    for batch in batches(steps, real):
        loss = made.loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        loss.item()
    return process_time() - start


def lightning(steps: int) -> float:
    clock = Clock()
    off = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", callbacks=[clock], **off)  # type: ignore[arg-type]
    trainer.fit(Bare(module(steps)), batches(steps))
    return clock.seconds


def ours(steps: int, bar: bool = False, real: bool = False) -> float:
    run: Any = SimpleNamespace(trainer=TrainerOptions(accelerator="cpu").keywords, loggers=[])
    watched = patch("alseg.active.fits.is_watched", lambda: bar)
    with watched, redirect_stdout(StringIO()), tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        callbacks = [
            Reseed((0,)),
            Stopwatch(),
            FiniteNumbers("step"),
            clock,
            LastCheckpoint(Path(folder), None, filename="last", every_n_epochs=1),
        ]
        settings = {"max_epochs": 1, "limit_val_batches": 0, "log_every_n_steps": 50}
        trainer = make_trainer(run, Path(folder), "step", callbacks, **settings)
        trainer.fit(module(steps, real), batches(steps, real))
    return clock.seconds


def of_a_network(steps: int, turns: int) -> str:
    """A step of DeepLabV3+ on MobileNetV2 with two crops of 256x256, in turns."""
    found: list[tuple[float, float]] = []
    for turn in range(turns):
        way = [lambda: plain(steps, real=True), lambda: ours(steps, real=True)]
        order = [1, 0] if turn % 2 else [0, 1]
        times = {place: way[place]() / steps for place in order}
        found.append((times[0], times[1]))
    base, made = (median(times) for times in zip(*found, strict=True))
    ratio = median(two / one for one, two in found)
    return (
        f"\n| step of DeepLabV3+ on MobileNetV2, 2 crops of 256x256, {steps} steps, {turns} runs | "
        f"processor time | beside a plain loop |\n| --- | ---: | ---: |\n"
        f"| a plain loop | {base * 1e3:.0f} ms | |\n| alseg | {made * 1e3:.0f} ms | {ratio:.3f} |"
    )


def main(quick: bool) -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    steps, turns = (5, 1) if quick else (300, 5)
    ways: dict[str, Callable[[int], float]] = {
        "a plain loop": plain,
        "Lightning alone": lightning,
        "alseg": ours,
        "alseg with its bar": lambda count: ours(count, bar=True),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns):
        for name in list(ways)[:: -1 if turn % 2 else 1]:
            times[name].append(ways[name](steps) / steps)
    base = median(times["a plain loop"])
    print(
        f"| task | processor time of a step, {steps} steps, {turns} runs | more than a plain loop |"
    )
    print("| --- | ---: | ---: |")
    for name, found in times.items():
        print(f"| {name} | {median(found) * 1e3:.2f} ms | {(median(found) - base) * 1e3:.2f} ms |")
    print(of_a_network(*((1, 1) if quick else (15, 5))))
    epochs = 2 if quick else 11
    print("\n| border of an epoch, 2 processes that load | time |\n| --- | ---: |")
    for name, ahead in (("processes of the epoch", False), ("of the fit, as alseg", True)):
        print(f"| {name} | {border(epochs, ahead) * 1e3:.0f} ms |")
