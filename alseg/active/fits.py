"""The fits of a round: what a stage starts from, what it leaves behind, the Trainer it runs in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import CSVLogger

from alseg.active.callbacks import CarriedOptimizers, Reseed, StopAtBatch, Stopwatch
from alseg.active.checkpoints import (
    KeptCheckpoint,
    LastCheckpoint,
    WholeFiles,
    epochs_done,
    load_weights,
)
from alseg.active.compiled import Compiled
from alseg.active.context import RoundContext
from alseg.active.finite import FiniteNumbers, require_finite_weights
from alseg.active.launch import explained
from alseg.active.module import CheckedModule
from alseg.active.progress import Bar, Lines
from alseg.active.ranks import on_rank_zero
from alseg.active.run import Run
from alseg.active.stage import Stage
from alseg.core.errors import UserError
from alseg.core.progress import is_watched
from alseg.core.seeds import derive


def train(run: Run, context: RoundContext) -> dict[str, L.LightningModule]:
    """Train the stages of a round, or load those that are finished; modules by stage name."""
    modules: dict[str, L.LightningModule] = {}
    stages = run.method.stages(context)
    for stage in stages:
        L.seed_everything(derive(*stage.key), workers=True, verbose=False)
        module = modules[stage.name] = made(run, stage)
        done = on_rank_zero(
            lambda s=stage, m=module: epochs_done(s.folder, s.fit.keep, m, s.fit.epochs)  # type: ignore[misc]
        )
        if done < stage.fit.epochs:
            _prepare(run, stage)
            origin = _origin(stage, stages)
            if origin is not None:
                load_weights(module, origin, part=True)
            carried = origin if stage.start and stage.start.optimizer and not done else None
            _fit(run, stage, module, resume=done > 0, carried=carried)
        load_weights(module, stage.checkpoint)
        require_finite_weights(place(run, context.round, stage.name), module, stage.fit.steps)
    return modules


def made(run: Run, stage: Stage) -> L.LightningModule:
    """The module of a stage as it was made, laid out in memory as the run wants it."""
    module = stage.module()
    if run.channels_last:
        # the network's own outputs follow its weights; images are laid out by its first layer
        module.to(memory_format=torch.channels_last)
    return module


def place(run: Run, round: int, stage: str) -> str:
    """What is at work, for messages."""
    return f"round {round}, stage {stage} of {type(run.method).__name__}"


def _prepare(run: Run, stage: Stage) -> None:
    preparation = stage.prepare()
    if preparation is None or not len(preparation.images):
        return
    run.datamodule.begin_pass(preparation.images, run.regions)
    title, where = f"{stage.name}: preparing", place(run, stage.context.round, stage.name)
    predict(run, preparation.module, stage.folder, title, where).strategy.barrier("prepared")


def predict(
    run: Run,
    module: L.LightningModule,
    folder: Path,
    title: str,
    where: str,
    callbacks: Sequence[L.Callback] = (),
) -> L.Trainer:
    """Go over the images of the pass that the data module has begun, in at least float32.

    What units are compared by does not follow ``trainer.precision``: half precision moves scores by
    more than the best ones differ, and another choice would be made from the same weights.

    Args:
        run: The run.
        module: Its ``predict_step`` is called; weights in half precision are widened in place.
        folder: Root of what the Trainer writes.
        title: Of the progress bar.
        where: What is at work, for messages.
        callbacks: Of the Trainer.

    Returns:
        The Trainer.
    """
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in module.parameters()):
        module.float()
    callbacks = [FiniteNumbers(where), *callbacks]
    trainer = make_trainer(run, folder, title, callbacks, whole=True)
    trainer.predict(module, datamodule=run.datamodule, return_predictions=False)
    return trainer


def _origin(stage: Stage, stages: Sequence[Stage]) -> Path | None:
    """The checkpoint a stage starts from, None to start from scratch."""
    start, context = stage.start, stage.context
    if start is None:
        return None
    if start.previous_round:
        if not context.round:
            return None
        return context.before.stage_folder(start.stage) / "last.ckpt"
    kept = {s.name: s.fit.keep for s in stages}.get(start.stage, "last")
    name = "last" if start.optimizer else kept
    return context.stage_folder(start.stage) / f"{name}.ckpt"


def _fit(
    run: Run, stage: Stage, module: L.LightningModule, resume: bool, carried: Path | None
) -> None:
    fit, folder, round = stage.fit, stage.folder, stage.context.round
    supervision = stage.supervision()
    if not len(supervision.images):
        raise UserError(
            f"round {round}: nothing answered so far can train stage {stage.name!r} (every "
            f"unit asked is void); raise budget.amount, or look at the answers in {run.root}."
        )
    run.datamodule.begin_fit(fit, supervision, stage.key)
    where = place(run, round, stage.name)
    if isinstance(module, CheckedModule):
        module.where = where
    best = fit.keep == "best"
    callbacks: list[L.Callback] = [Reseed(stage.key), Stopwatch(), FiniteNumbers(where)]
    if run.compile:
        callbacks.append(Compiled())
    if carried is not None:
        callbacks.append(CarriedOptimizers(carried))
    if best:
        callbacks.append(
            KeptCheckpoint(
                folder,
                filename="best",
                monitor="val/miou",
                mode="max",
                save_weights_only=True,
                save_on_train_epoch_end=False,  # with `last`, before a kill can come between them
                enable_version_counter=False,
            )
        )
    callbacks.append(  # the last callback, so that the others' states are those after the epoch
        LastCheckpoint(
            folder,
            filename="last",
            every_n_epochs=1,
            validate_every=fit.validate_every if best else None,
            enable_version_counter=False,
        )
    )
    settings: dict[str, Any] = {
        # not max_steps: Lightning resumes an epoch late when a fit is counted in steps
        "max_epochs": fit.epochs,
        "limit_val_batches": 1.0 if best else 0,
        "check_val_every_n_epoch": fit.validate_every if best else 1,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": min(50, fit.epoch_batches, max(1, fit.steps // 10)),
    }
    trainer = make_trainer(
        run,
        folder,
        f"round {round} {stage.name}",
        callbacks,
        stage.trainer,
        **settings,
    )
    if trainer.gradient_clip_val and not module.automatic_optimization:
        raise UserError(
            f"trainer.gradient_clip is {trainer.gradient_clip_val}, but stage {stage.name} steps "
            f"its optimisers itself and does not clip; leave it out."
        )
    last = folder / "last.ckpt"
    with explained(where):
        trainer.fit(module, datamodule=run.datamodule, ckpt_path=last if resume else None)


def make_trainer(
    run: Run,
    folder: Path,
    title: str,
    callbacks: Sequence[L.Callback],
    needs: Mapping[str, Any] | None = None,
    whole: bool = False,
    **settings: Any,
) -> L.Trainer:
    """A fresh Trainer; re-using one would train zero steps in its second fit.

    Args:
        run: Says where and how it computes.
        folder: Root of what it writes.
        title: Of the progress bar.
        callbacks: Of the Trainer.
        needs: Options a stage needs.
        whole: Compute in at least float32.
        **settings: More keyword arguments; with ``max_epochs`` it is a fit.
    """
    options = run.trainer(needs or {})
    if whole and not str(options.get("precision", "32-true")).startswith("64"):
        options["precision"] = "32-true"
    options["plugins"] = [*options.get("plugins", []), WholeFiles()]
    if options.get("enable_progress_bar", True):
        options["enable_progress_bar"] = is_watched()
        bars = [Bar(title)] if is_watched() else []
        callbacks = [*bars, Lines(title), *callbacks]
    fitting = "max_epochs" in settings
    return L.Trainer(
        default_root_dir=folder,
        callbacks=[StopAtBatch(), *callbacks],
        logger=[CSVLogger(folder, name="log"), *run.loggers] if fitting else False,
        enable_checkpointing=fitting,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
        **options,
    )
