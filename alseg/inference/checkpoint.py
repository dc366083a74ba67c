"""What a checkpoint of a run holds and says, and the network it becomes."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, first_line
from alseg.core.images import VOID, ClassTable
from alseg.core.masks import MaskTable
from alseg.data.files import Resize
from alseg.data.masks import default_colors
from alseg.data.reading.images import AS_RGB, Reading
from alseg.inference.exported import WEIGHTS, read_model

if TYPE_CHECKING:  # torch takes seconds to import
    import torch

    from alseg.nn.segmenter import Segmenter

log = logging.getLogger(__name__)

Numbers = tuple[float, ...]

#: Ending of weights that were exported.
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class TrainedSegmenter:
    """A network ready to be used; called, it maps images to probabilities.

    Attributes:
        network: In evaluation mode, on its device. It may have more outputs than there are
            classes, the classes first.
        classes: Names and colours.
        mean: Subtracted from each channel of images in [0, 1].
        std: Each channel is divided by it.
        resize: The size at which the run loaded its images.
        temperature: Divides the scores.
        precision: ``32-true``, or ``bf16`` for mixed precision.
        masks: How the masks it was trained with were read; None if it does not say.
        reading: Bands and range in which the images of its training were read.
    """

    network: "Segmenter"
    classes: ClassTable
    mean: Numbers
    std: Numbers
    resize: Resize
    temperature: float
    precision: str = "32-true"
    masks: MaskTable | None = None
    reading: Reading = AS_RGB

    @property
    def device(self) -> "torch.device":
        """Where the network is."""
        return next(self.network.parameters()).device

    def normalized(self, image: NDArray[np.uint8]) -> "torch.Tensor":
        """An image, (H, W, C), uint8, as the network wants it: (1, C, H, W) on its device."""
        from alseg.data.transforms import EvalTransform

        tensor, _ = EvalTransform(self.mean, self.std)(image, {})
        return tensor[None].to(self.device)

    def __call__(self, images: "torch.Tensor") -> "torch.Tensor":
        """Probabilities of the classes, (B, C, H, W), float32, of normalised images."""
        import torch

        from alseg.inference.views import class_probabilities

        with torch.inference_mode():
            scores = self._scores(images)
            return class_probabilities(scores, len(self.classes), self.temperature, inplace=True)

    def logits(self, images: "torch.Tensor") -> "torch.Tensor":
        """Logits of the classes, (B, C, H, W), float32: what the softmax is taken of."""
        import torch

        from alseg.inference.views import class_logits

        with torch.inference_mode():
            return class_logits(self._scores(images), len(self.classes), self.temperature)

    def _scores(self, images: "torch.Tensor") -> "torch.Tensor":
        """All outputs of the network at the size of the images."""
        import torch

        mixed = self.precision == "bf16"
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=mixed),
        ):
            scores: torch.Tensor = self.network(images)
        return scores


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds and says.

    Attributes:
        path: The file.
        state: Weights of the segmenter by name, on the CPU, read from the file when they are used.
        network: Description of the network, see `alseg.nn.segmenter.Segmenter`.
        temperature: Divides the scores.
        images: Description of the images, as far as there is one.
        num_classes: C.
        batches: Batches trained on; None if it does not say.
    """

    path: Path
    state: Mapping[str, Any]
    network: Mapping[str, Any]
    temperature: float
    images: Mapping[str, Any]
    num_classes: int
    batches: int | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; empty if it names none."""
        names = tuple(self.images.get("classes", ()))
        return names if len(names) == self.num_classes else ()

    @property
    def reading(self) -> Reading:
        """Bands and range in which the images of its training were read."""
        return Reading.from_description(self.images)

    @property
    def masks(self) -> MaskTable | None:
        """How the masks it was trained with were read; None if it does not say."""
        plain = self.images.get("masks")
        return None if plain is None else MaskTable.from_plain(plain)

    def classes(self) -> ClassTable:
        """Names and colours; numbers if it names none, with a warning."""
        if self.class_names:
            return ClassTable(self.class_names, np.array(self.images["colors"], dtype=np.uint8))
        log.warning(
            "%s does not name its classes: they are numbered and coloured by their ids",
            self.path,
        )
        names = tuple(f"class {number}" for number in range(self.num_classes))
        return ClassTable(names, default_colors(self.num_classes + 1)[1:])


def read_checkpoint(checkpoint: str | Path) -> Checkpoint:
    """Read what a checkpoint says, without building its network.

    Raises:
        UserError: If the file is missing or no checkpoint of alseg.
    """
    path = Path(checkpoint).expanduser()
    if path.is_dir() and (path / WEIGHTS).is_file():
        path /= WEIGHTS
    return checkpoint_of(path, read_model(path) if path.suffix == SUFFIX else _read(path))


def checkpoint_of(path: Path, content: Mapping[str, Any]) -> Checkpoint:
    """What the content of a checkpoint says.

    Args:
        path: The file, for messages.
        content: Has ``state_dict``, None where the weights are elsewhere, and what alseg writes
            besides as ``alseg``.

    Raises:
        UserError: If it is no checkpoint of alseg.
    """
    about = content.get("alseg") or {}
    network = about.get("network") if isinstance(about, Mapping) else None
    if not network:
        raise UserError(
            f"{path} holds no segmentation network of alseg, or does not describe it; give the "
            f"last.ckpt or best.ckpt of a stage that trains one."
        )
    with described(path, "network"):
        weights, at = content["state_dict"], about.get("network_at", "network")
        state = {} if weights is None else _segmenter_state(path, weights, at)
        images, count = about.get("images") or {}, about["num_classes"]
        temperature = float(about.get("temperature", 1.0))
        if not (isinstance(count, int) and 1 <= count <= VOID):
            raise ValueError(f"{count!r} classes")
        if not (isinstance(images, Mapping) and 0 < temperature < float("inf")):
            raise ValueError(f"temperature {temperature}, images {type(images).__name__}")
        # not global_step: it counts the steps of every optimiser
        progress = content.get("loops", {}).get("fit_loop", {}).get("epoch_loop.batch_progress", {})
        batches = progress.get("total", {}).get("processed")
    return Checkpoint(path, state, network, temperature, images, count, batches)


def normalisation(path: Path, images: Mapping[str, Any]) -> dict[str, Numbers]:
    """Mean and standard deviation of a description; ImageNet's, with a warning, without them."""
    from alseg.data.transforms import IMAGENET_MEAN, IMAGENET_STD

    if "mean" in images and "std" in images:
        return {name: tuple(map(float, images[name])) for name in ("mean", "std")}
    log.warning(
        "%s does not say how its images were normalised: mean and standard deviation of ImageNet "
        "are taken; if augment.mean or augment.std were others, the predictions are wrong",
        path,
    )
    return {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


@contextmanager
def described(path: Path, what: str) -> Iterator[None]:
    """Make a sentence of whatever a description breaks that nobody here has written."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = first_line(error)[:200]
        raise UserError(
            f"{path} describes its {what} in a way that cannot be used ({reason}); give the "
            f"checkpoint as the run left it."
        ) from error


def _read(path: Path) -> dict[str, Any]:
    import torch

    if path.is_dir():
        found = sorted(path.rglob("*.ckpt"))
        hint = f", such as {found[-1]}" if found else ""
        raise UserError(f"checkpoint={path} is a folder; give a checkpoint file{hint}.")
    if not path.is_file():
        raise UserError(
            f"there is no checkpoint {path}; give one of RUN_DIR/round_NNN/STAGE/last.ckpt."
        )
    if not path.is_file():
        raise UserError(f"{path} is not a file; give the last.ckpt or best.ckpt of a stage.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # every broken file breaks in its own way
        raise UserError(
            f"{path} cannot be read as a checkpoint ({first_line(error)}); give the "
            f"last.ckpt or best.ckpt of a stage."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise UserError(
            f"{path} is no checkpoint of a run; give the last.ckpt or best.ckpt of a stage."
        )
    return content


def _segmenter_state(path: Path, state: Mapping[str, Any], at: str) -> dict[str, Any]:
    """The weights of the segmenter in a module, where the module says that it is."""
    prefix = f"{at}." if at else ""
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if not any(name.startswith("encoder.") for name in found):
        raise UserError(
            f"{path} holds no segmentation network of alseg; give the last.ckpt or best.ckpt of a "
            f"stage that trains one."
        )
    return found
