"""Numbers that are none: found, and said where, before anything is measured with them."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from alseg.core.errors import UserError
from alseg.nn.segmenter import Segmenter

_MEND = (
    "lower the learning rate (method.lr or its like) or train with trainer.precision=32-true, in "
    "another run_dir: labels_from=THIS_RUN_DIR there owns what was answered here."
)
#: Images named in a message.
_SHOWN = 8
#: Passes of a network after which outputs on a GPU are looked at.
_READ_EVERY = 50


def not_finite(where: str, what: str, images: Sequence[int] | None = None) -> UserError:
    """The sentence for numbers that are none.

    Args:
        where: What was at work, e.g. ``round 1, stage train of Entropy``.
        what: The rest of the sentence, e.g. ``the loss is nan at step 3``.
        images: Indices of the images of the batch.

    >>> print(str(not_finite("round 1, stage train", "the loss is nan at step 3", [4]))[:65])
    round 1, stage train: the loss is nan at step 3 (images [4]); low
    """
    on = ""
    if images is not None:
        shown = ", ".join(map(str, images[:_SHOWN]))
        on = f" (images [{shown}{', ...' if len(images) > _SHOWN else ''}])"
    return UserError(f"{where}: {what}{on}; {_MEND}")


def require_finite(
    where: str, name: str, value: Tensor, step: int, images: Sequence[int] | None = None
) -> float:
    """The value of a loss.

    Args:
        where: See `not_finite`.
        name: What it is.
        value: One number.
        step: Training batches before this one.
        images: Indices of the images it was computed on.

    Raises:
        UserError: If it is not finite.
    """
    number = float(value.detach())
    if number != number or number in (float("inf"), float("-inf")):
        raise not_finite(where, f"the {name} is {number} at step {step}", images)
    return number


def require_finite_weights(where: str, module: nn.Module, step: int | None = None) -> None:
    """Refuse weights, or running statistics, that are not finite.

    Args:
        where: See `not_finite`.
        module: Its parameters and persistent buffers are looked at.
        step: Training batches they have seen; None = not known.

    Raises:
        UserError: Naming the first tensor.
    """
    for name, tensor in module.state_dict().items():
        if torch.is_floating_point(tensor) and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            at = "" if step is None else f" after step {step}"
            many = f"{count} of the {tensor.numel()} values of the tensor {name!r}"
            raise not_finite(where, f"{many} are not finite{at}")


class FiniteNumbers(L.Callback):
    """Refuses weights and outputs that are not finite, in fits, evaluations and passes.

    Weights are looked at before every epoch's checkpoint, validation, test and predict run; the
    outputs of networks in every batch that is not trained on, on a GPU those of many batches
    together: it would run idle while the host looks.

    Args:
        where: What is at work, e.g. ``round 1, stage train of Entropy``.
    """

    #: Passes of a network after which outputs are looked at; None = every one on a CPU, where it
    #: costs nothing, and 50 on other devices.
    read_every: int | None = None

    def __init__(self, where: str) -> None:
        self.where = where
        self._images: Tensor | None = None
        self._unread: list[tuple[str, Tensor, Tensor | None]] = []
        self._hooks: list[RemovableHandle] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the weights before they are kept."""
        require_finite_weights(self.where, pl_module, trainer.global_step)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the weights before they are measured, and from then on at outputs."""
        require_finite_weights(self.where, pl_module, trainer.global_step or None)
        self._watch(pl_module)

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Remember the images, for the message."""
        known = isinstance(batch, Mapping) and isinstance(batch.get("index"), Tensor)
        self._images = batch["index"] if known else None

    on_test_batch_start = on_validation_batch_start
    on_predict_batch_start = on_validation_batch_start

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at the last outputs before anything is made of them."""
        self._read()

    on_test_epoch_end = on_validation_epoch_end
    on_predict_epoch_end = on_validation_epoch_end

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Look at outputs no longer."""
        self._stop()

    on_test_end = on_validation_end
    on_predict_end = on_validation_end

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Look at outputs no longer."""
        self._stop()

    def _stop(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._unread.clear()

    def _watch(self, module: nn.Module) -> None:
        self._stop()
        for name, part in module.named_modules():
            if isinstance(part, Segmenter):
                # features() and others go past forward(), but not past the classifier
                name, part = f"{name}.classifier", part.classifier
                self._hooks.append(part.register_forward_hook(self._look(name)))

    def _look(self, name: str) -> Any:
        def look(part: nn.Module, arguments: Any, output: Tensor | tuple[Tensor, ...]) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            finite = torch.stack([torch.isfinite(one).all() for one in outputs]).all()
            self._unread.append((name, finite, self._images))
            every = self.read_every or (1 if finite.device.type == "cpu" else _READ_EVERY)
            if len(self._unread) >= every:
                self._read()

        return look

    def _read(self) -> None:
        """Look at the outputs since the last look."""
        unread, self._unread = self._unread, []
        if not unread or bool(torch.stack([finite for _, finite, _ in unread]).all()):
            return
        for name, finite, images in unread:
            if not bool(finite):
                shown = None if images is None else images.tolist()
                raise not_finite(self.where, f"the output of {name!r} is not finite", shown)
