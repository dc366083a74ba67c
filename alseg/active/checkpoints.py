"""Checkpoints of a run's stages: written whole or not at all, and what is read out of them."""

import contextlib
import logging
import os
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from alseg.core.errors import UserError, first_line
from alseg.core.files import require_file
from alseg.nn.segmenter import Segmenter

log = logging.getLogger(__name__)

#: What a fit goes on from.
_PARTS = ("loops", "callbacks", "optimizer_states", "lr_schedulers", "global_step")
#: Beginning and end of the name of a checkpoint that is being written.
PARTIAL = (".writing-", ".ckpt.part")


class WholeFiles(TorchCheckpointIO):
    """Writes beside the target and renames, so that no reader ever sees half a checkpoint.

    A crash at any instant leaves the old checkpoint or the new one. Lightning's own goes through
    the system's temporary folder, and copies where that is another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What to write.
            path: The file; missing parent folders are made.
            storage_options: Unused.

        Raises:
            UserError: If there is no room for it, or the folder cannot be written.
        """
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(PARTIAL[1], PARTIAL[0], target.parent)
        except OSError as error:
            raise unwritable(target, error) from error
        partial = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.chmod(0o644)  # mkstemp gives 0600, which hides the file from a shared run
            os.replace(partial, target)
        except BaseException as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            cause = system_error(error)
            if cause is None and "PytorchStreamWriter" not in str(error):
                raise
            raise unwritable(target, cause or error) from error


def system_error(error: BaseException | None) -> OSError | None:
    """The error of the operating system that another one came of; None if of none.

    torch's writer fails a second time while it closes what it could not write.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def unwritable(path: Path, error: BaseException) -> UserError:
    """The sentence for a checkpoint that could not be written."""
    cause = getattr(error, "strerror", None) or first_line(error)
    return UserError(
        f"the checkpoint {path} could not be written ({cause}); make room, or mend the folder, and "
        f"give the same command again: it goes on from the checkpoint before."
    )


def clear_partial(root: Path) -> None:
    """Delete what processes left that died while they wrote a checkpoint."""
    for path in root.rglob(f"{PARTIAL[0]}*{PARTIAL[1]}"):
        log.info("removing %s, a checkpoint that was never finished", path)
        path.unlink(missing_ok=True)


def read_checkpoint(path: Path, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint of a stage.

    Args:
        path: The file.
        mmap: Leave tensors on disk until they are used.

    Raises:
        UserError: If it is damaged, or was not written by a run.
    """
    try:
        require_file(path)
        content = torch.load(path, map_location="cpu", mmap=mmap, weights_only=True)
        if not isinstance(content, dict) or not (
            isinstance(content.get("state_dict"), dict) and isinstance(content.get("epoch"), int)
        ):
            raise ValueError("it is no checkpoint of a stage")
        return content
    except Exception as error:  # every part of a damaged file has errors of its own
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> UserError:
    """The sentence for a checkpoint that cannot be used."""
    cause = first_line(error)
    return UserError(
        f"the checkpoint {path} cannot be read ({cause[:200]}); restore it from a copy, or delete "
        f"it: its stage is then trained again."
    )


def check_resumable(module: L.LightningModule, path: Path) -> None:
    """Find out whether a fit can go on from a checkpoint: by one step of a copy, with no gradient.

    Args:
        module: Of the stage, as it was made; not changed.
        path: The checkpoint.

    Raises:
        UserError: If it holds weights, or states of optimisers, that are not those of the module.
    """
    content = read_checkpoint(path)
    missing = [name for name in _PARTS if name not in content]
    if missing:
        raise damaged(path, ValueError(f"it has no {missing[0]}"))
    copy = deepcopy(module)
    try:
        copy.load_state_dict(content["state_dict"])
        check_optimizers(copy, content["optimizer_states"])
    except Exception as error:  # every part of a damaged file has errors of its own
        raise damaged(path, error) from error


def check_optimizers(module: L.LightningModule, states: Any) -> None:
    """Step the optimisers of a module once with what they are to go on from, and no gradient.

    Args:
        module: Its weights are changed.
        states: One for each of its optimisers.

    Raises:
        ValueError: If they are not theirs; optimisers raise errors of their own, too.
    """
    try:
        optimizers = optimizers_of(module)
    except Exception:  # a module of somebody's own may make them with what the Trainer knows
        return
    if not isinstance(states, list) or len(states) != len(optimizers):
        raise ValueError(f"it does not have the states of {len(optimizers)} optimisers")
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(state)
        check_state(optimizer)
        for parameter in optimizer.state:  # frozen weights have none, and get none
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()


def check_state(optimizer: torch.optim.Optimizer) -> None:
    """Refuse a state that cannot be that of its weights.

    Raises:
        ValueError: Saying what is wrong.
    """
    if len({tuple(sorted(state)) for state in optimizer.state.values()}) > 1:
        raise ValueError("the state of an optimiser lacks a part")
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f"an optimiser's {name} is of {tuple(value.shape)}, and its weights of "
                    f"{tuple(parameter.shape)}"
                )


def optimizers_of(module: L.LightningModule) -> list[torch.optim.Optimizer]:
    """The optimisers of a module that no Trainer has, in the order of its checkpoints."""
    found: Any = module.configure_optimizers()
    if isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], list):
        found = found[0]
    several = found if isinstance(found, list | tuple) else [found]
    optimizers = [one["optimizer"] if isinstance(one, dict) else one for one in several]
    if not all(isinstance(one, torch.optim.Optimizer) for one in optimizers):
        raise TypeError("these are no optimisers")
    return optimizers


def epochs_done(
    folder: Path, keep: str, module: L.LightningModule | None = None, epochs: int = 0
) -> int:
    """Epochs a stage has finished, by its last checkpoint; 0 without one.

    A checkpoint that cannot be read is set aside, and the stage starts again: what it computes
    follows from its seed, so that nothing but time is lost.

    Args:
        folder: Of the stage.
        keep: ``last``, or ``best`` where that checkpoint has to be sound, too.
        module: Of the stage; before the last of its epochs it has to be able to go on.
        epochs: How many the stage has.
    """
    last, kept = folder / "last.ckpt", folder / f"{keep}.ckpt"
    if not last.exists():
        return 0
    try:
        done = int(read_checkpoint(last, mmap=True)["epoch"]) + 1
        if kept != last and kept.exists():
            read_checkpoint(kept, mmap=True)
        if module is not None and done < epochs:
            check_resumable(module, last)
        return done
    except UserError as error:
        log.warning("%s", error)
        for path in {last, kept}:
            if path.exists():
                aside = path.with_suffix(".ckpt.damaged")
                os.replace(path, aside)
                log.warning("It is set aside as %s, and its stage starts again.", aside.name)
        return 0


class KeptCheckpoint(ModelCheckpoint):
    """Lightning's, which goes on in a folder that was moved or copied.

    Lightning forgets the best score so far when the folder has another name.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state, with its paths in the folder as it is now."""
        here = Path(str(self.dirpath))

        def moved(path: str) -> str:
            return str(here / Path(path).name) if path else path

        state = {**state_dict, "dirpath": self.dirpath}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = moved(state.get(name, ""))
        state["best_k_models"] = {
            moved(path): score for path, score in state.get("best_k_models", {}).items()
        }
        super().load_state_dict(state)


class LastCheckpoint(KeptCheckpoint):
    """Written after every epoch: where it is validated after that, so that both go together.

    Args:
        folder: Where it is written.
        validate_every: Epochs between two validations; None without any.
        **options: Of Lightning's callback.
    """

    def __init__(self, folder: Path, validate_every: int | None, **options: Any) -> None:
        super().__init__(folder, **options)
        self.validate_every = validate_every

    def _should_save_on_train_epoch_end(self, trainer: L.Trainer) -> bool:
        every = self.validate_every
        return every is None or (trainer.current_epoch + 1) % every != 0


def load_weights(module: L.LightningModule, path: Path, part: bool = False) -> None:
    """Load weights into a module.

    Args:
        module: Changed in place.
        path: A checkpoint.
        part: The checkpoint may be of a part of the module; else it must have all its weights.

    Raises:
        UserError: If the file is damaged, or of another network.
        RuntimeError: If the checkpoint holds weights the module lacks.
    """
    state = read_checkpoint(path)["state_dict"]
    try:
        stray = module.load_state_dict(state, strict=not part).unexpected_keys
    except (RuntimeError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    if stray:
        raise RuntimeError(f"{path} holds {stray[0]!r}, which the stage that starts from it lacks")


def load_network(network: Segmenter, path: Path) -> None:
    """Load the weights of the network alone out of a module's checkpoint.

    Raises:
        UserError: If the file is damaged.
    """
    state = read_checkpoint(path)["state_dict"]
    prefix = "network."
    network.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )
