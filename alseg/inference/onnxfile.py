"""Trained networks as ONNX: written with their normalisation inside, checked, and read again."""

import io
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from alseg.core.errors import UserError, first_line
from alseg.core.files import write_atomic
from alseg.data.files import Resize
from alseg.inference.checkpoint import Checkpoint, TrainedSegmenter, checkpoint_of, normalisation
from alseg.inference.exported import ABOUT, ONNX, description
from alseg.inference.views import class_probabilities

#: Largest difference of probabilities that an export may have.
_TOLERANCE = 1e-3


class Probabilities(nn.Module):
    """From the numbers of a picture to the probabilities of its classes.

    Args:
        model: A trained network.
    """

    def __init__(self, model: TrainedSegmenter) -> None:
        super().__init__()
        self.network = model.network
        self.num_classes = len(model.classes)
        self.temperature = model.temperature
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(model, name))[None, :, None, None])

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W), float32, 0..255, to (B, classes, H, W)."""
        scores, _, _ = self.network.features((image / 255 - self.mean) / self.std)
        # not the network's own enlarging, whose sizes would be written down as numbers
        aligned = self.network.align_corners
        size = image.shape[-2:]
        scores = F.interpolate(scores, size=size, mode="bilinear", align_corners=aligned)
        return class_probabilities(scores, self.num_classes, self.temperature)


@dataclass(frozen=True)
class OnnxSegmenter(TrainedSegmenter):
    """A `TrainedSegmenter` whose network runs in onnxruntime.

    Attributes:
        session: The network in it.
        multiple: Input sides are padded to multiples of this many pixels, and outputs cropped.
        remainder: They are padded to so many pixels more than that.
    """

    session: Any = None
    multiple: int = 1
    remainder: int = 0

    @property
    def device(self) -> torch.device:
        """Where images are handed over."""
        return torch.device("cpu")

    def normalized(self, image: NDArray[np.uint8]) -> Tensor:
        """An image, (H, W, C), uint8, as the network wants it, which normalises itself."""
        return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None].float()

    def __call__(self, images: Tensor) -> Tensor:
        """Probabilities of the classes, (B, C, H, W), float32, of images of `normalized`."""
        height, width = images.shape[-2:]
        more = [(self.remainder - side) % self.multiple for side in (width, height)]
        pad = (0, more[0], 0, more[1])
        padded = F.pad(images, pad, mode="replicate") if any(pad) else images
        found = _run(self.session, padded.numpy())
        return torch.from_numpy(found)[..., :height, :width]

    def logits(self, images: Tensor) -> Tensor:
        """Logarithms of the probabilities, (B, C, H, W), which are logits.

        They differ from the network's own by one number per pixel, which changes no argmax of a
        mean of views. Probabilities that are 0 in float32 count as the smallest positive number.
        """
        return self(images).clamp_min(torch.finfo(torch.float32).tiny).log()


def check_installed() -> None:
    """Raise `UserError` where what ONNX takes is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX takes {error.name}, which is not installed; give pip install 'alseg[export]'."
        ) from error


def load_onnx(path: Path) -> OnnxSegmenter:
    """Read a file that `write_onnx` wrote; it runs where onnxruntime finds it best.

    Raises:
        UserError: If it is not installed, or the file is none of alseg.
    """
    check_installed()
    try:
        session = _session(path)
        about = json.loads(session.get_modelmeta().custom_metadata_map[ABOUT])
        multiple, remainder = int(about["multiple"]), int(about.get("remainder", 0))
    except Exception as error:  # onnxruntime has a class of errors for each reason
        reason = first_line(error)[:200]
        raise UserError(
            f"{path} cannot be used ({reason}); give the {ONNX} that alseg.export wrote."
        ) from error
    found = checkpoint_of(path, {"state_dict": None, "alseg": about})
    return OnnxSegmenter(
        network=nn.Identity(),  # type: ignore[arg-type]
        classes=found.classes(),
        **normalisation(path, found.images),  # type: ignore[arg-type]
        resize=Resize.from_options(found.images.get("size"), found.images.get("scale", 1.0)),
        temperature=found.temperature,
        masks=found.masks,
        reading=found.reading,
        session=session,
        multiple=multiple,
        remainder=remainder,
    )


def write_onnx(model: TrainedSegmenter, found: Checkpoint, path: Path) -> float:
    """Write a network as ONNX, its normalisation inside, and compare it with the original.

    Its input ``image`` is (B, C, H, W), float32, 0..255, of any height and width that are
    multiples of the number the file's description gives as ``multiple``, plus its ``remainder``;
    its output ``probabilities`` is (B, classes, H, W).

    Args:
        model: The network, on the CPU.
        found: The checkpoint it is from.
        path: The file.

    Returns:
        The largest difference of probabilities between the two, on a random image of a size that
        was not used for the export.

    Raises:
        UserError: If what this takes is not installed, the network cannot be exported, or the
            two differ.
    """
    check_installed()
    import onnx

    channels, multiple, extra = len(model.mean), model.network.multiple, model.network.remainder
    side = multiple * -(-32 // multiple)  # so large that no grid has another's size by chance
    wrapped = Probabilities(model).eval()  # the exporter puts back the mode of the whole
    sizes = {0: "batch", 2: "height", 3: "width"}
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about numbers that a trace takes as constants
            # the exporter by tracing: that by torch.export takes minutes with sizes left open
            torch.onnx.export(
                wrapped,
                (torch.zeros(2, channels, 3 * side + extra, 4 * side + extra),),
                buffer,  # type: ignore[arg-type]
                input_names=["image"],
                output_names=["probabilities"],
                dynamic_axes={"image": sizes, "probabilities": sizes},
                opset_version=18,
                dynamo=False,
            )
    except Exception as error:  # every network fails in its own way
        reason = first_line(error)[:200]
        raise UserError(
            f"{found.path} cannot be exported to ONNX ({reason}); leave onnx=true out."
        ) from error
    content = onnx.load_from_string(buffer.getvalue())
    about = description(found) | {"multiple": multiple, "remainder": extra}
    onnx.helper.set_model_props(content, {ABOUT: json.dumps(about)})
    write_atomic(path, content.SerializeToString())
    generator = torch.Generator().manual_seed(0)
    size = (5 * side + extra, 2 * side + extra)
    image = 255 * torch.rand(1, channels, *size, generator=generator)
    with torch.inference_mode():
        wanted = wrapped(image).numpy()
    gap = float(np.abs(_run(_session(path), image.numpy()) - wanted).max())
    if not gap <= _TOLERANCE:
        path.unlink()
        raise UserError(
            f"the ONNX of {found.path} differs from it by {gap:.3g} in probability; leave "
            f"onnx=true out."
        )
    return gap


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())


def _run(session: Any, image: NDArray[np.float32]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return found
