"""The fits of a round: what a stage starts from, what it leaves behind, the Trainer it runs in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger

from alseg.active.loop import CarriedOptimizers, Reseed, Stopwatch, on_rank_zero
from alseg.active.method import RoundContext, Stage
from alseg.active.run import Run
from alseg.core.errors import UserError
from alseg.core.seeds import derive


def train(run: Run, context: RoundContext) -> dict[str, L.LightningModule]:
    """Train the stages of a round, or load those that are finished; modules by stage name."""
    modules: dict[str, L.LightningModule] = {}
    for stage in run.method.stages(context):
        key = (run.seed, context.round, stage.name)
        L.seed_everything(derive(*key), workers=True, verbose=False)
        module = modules[stage.name] = run.method.module(stage, context)
        folder = context.stage_folder(stage.name)
        done = on_rank_zero(lambda f=folder: _epochs_done(f))  # type: ignore[misc]
        if done < stage.epochs:
            _prepare(run, context, stage)
            origin = _origin(run, context, stage)
            if origin is not None:
                _load(module, origin, part=True)
            carried = origin if stage.start and stage.start.optimizer and not done else None
            _fit(run, context, stage, module, resume=done > 0, carried=carried)
        _load(module, folder / f"{stage.keep}.ckpt")
    return modules


def _epochs_done(folder: Path) -> int:
    """Epochs in a stage's last checkpoint, 0 without one."""
    path = folder / "last.ckpt"
    if not path.exists():
        return 0
    return int(torch.load(path, map_location="cpu", mmap=True, weights_only=True)["epoch"]) + 1


def _load(module: L.LightningModule, path: Path, part: bool = False) -> None:
    """Load weights; those of another stage may be a part of the module's."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    stray = module.load_state_dict(state, strict=not part).unexpected_keys
    if stray:
        raise RuntimeError(f"{path} holds {stray[0]!r}, which the stage that starts from it lacks")


def _prepare(run: Run, context: RoundContext, stage: Stage) -> None:
    preparation = run.method.prepare(stage, context)
    if preparation is None or not len(preparation.images):
        return
    run.datamodule.begin_pass(preparation.images, run.regions)
    trainer = make_trainer(run, context.stage_folder(stage.name), f"{stage.name}: preparing", [])
    trainer.predict(preparation.module, datamodule=run.datamodule, return_predictions=False)
    trainer.strategy.barrier("prepared")


def _origin(run: Run, context: RoundContext, stage: Stage) -> Path | None:
    """The checkpoint a stage starts from, None to start from scratch."""
    start = stage.start
    round = context.round - 1 if start and start.previous_round else context.round
    if start is None or round < 0:
        return None
    kept = {s.name: s.keep for s in run.method.stages(context)}.get(start.stage, "last")
    name = "last" if start.optimizer or start.previous_round else kept
    return run.ledger.stage(round, start.stage) / f"{name}.ckpt"


def _fit(
    run: Run,
    context: RoundContext,
    stage: Stage,
    module: L.LightningModule,
    resume: bool,
    carried: Path | None,
) -> None:
    folder = context.stage_folder(stage.name)
    key = (run.seed, context.round, stage.name)
    supervision = run.method.supervision(stage, context)
    if not len(supervision.images):
        raise UserError(
            f"round {context.round}: nothing answered so far can train stage {stage.name!r} (every "
            f"unit asked is void); raise budget.amount, or look at the answers in {run.root}."
        )
    run.datamodule.begin_stage(stage, supervision, key)
    best = stage.keep == "best"
    callbacks: list[L.Callback] = [Reseed(key), Stopwatch()]
    if carried is not None:
        callbacks.append(CarriedOptimizers(carried))
    if best:
        callbacks.append(
            ModelCheckpoint(
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
        ModelCheckpoint(
            folder,
            filename="last",
            every_n_epochs=1,
            save_on_train_epoch_end=not best,  # after validation where there is one
            enable_version_counter=False,
        )
    )
    trainer = make_trainer(
        run,
        folder,
        f"round {context.round} {stage.name}",
        callbacks,
        stage.trainer,
        **{
            # not max_steps: Lightning resumes an epoch late when a fit is counted in steps
            "max_epochs": stage.epochs,
            "limit_val_batches": 1.0 if best else 0,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": min(50, stage.epoch_batches, max(1, stage.steps // 10)),
        },
    )
    if trainer.gradient_clip_val and not module.automatic_optimization:
        raise UserError(
            f"trainer.gradient_clip is {trainer.gradient_clip_val}, but stage {stage.name} steps "
            f"its optimisers itself and does not clip; leave it out."
        )
    last = folder / "last.ckpt"
    trainer.fit(module, datamodule=run.datamodule, ckpt_path=last if resume else None)


class _Progress(TQDMProgressBar):
    """Lightning's bar, named after what it is doing."""

    def __init__(self, title: str) -> None:
        super().__init__(refresh_rate=1)
        self.title = title

    @property
    def predict_description(self) -> str:
        return self.title

    @property
    def test_description(self) -> str:
        return self.title

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(
            f"{self.title} {trainer.current_epoch + 1}/{trainer.max_epochs}"
        )


def make_trainer(
    run: Run,
    folder: Path,
    title: str,
    callbacks: Sequence[L.Callback],
    needs: Mapping[str, Any] | None = None,
    **settings: Any,
) -> L.Trainer:
    """A fresh Trainer; re-using one would train zero steps in its second fit."""
    options = run.trainer(needs or {})
    if options.get("enable_progress_bar", True):
        callbacks = [_Progress(title), *callbacks]
    fitting = "max_epochs" in settings
    return L.Trainer(
        default_root_dir=folder,
        callbacks=list(callbacks),
        logger=[CSVLogger(folder, name="log"), *run.loggers] if fitting else False,
        enable_checkpointing=fitting,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
        **options,
    )
