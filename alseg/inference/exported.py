"""Trained networks in files that others can open: safetensors with a model card, and ONNX.

An exported folder holds ``model.safetensors``, which describes itself as a checkpoint does,
``config.json`` with the same description to read, ``README.md``, and ``model.onnx`` if wanted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.core.errors import UserError
from alseg.core.files import write_atomic

if TYPE_CHECKING:
    from alseg.inference.checkpoint import Checkpoint

#: Files of an exported folder.
WEIGHTS, CONFIG, CARD, ONNX = "model.safetensors", "config.json", "README.md", "model.onnx"
#: Under this name files hold their description, as JSON.
ABOUT = "alseg"


@dataclass(frozen=True)
class Facts:
    """What a model card says besides what the checkpoint says.

    Attributes:
        title: Headline.
        method: Name of the method; empty = not known.
        data: Name of the data set; empty = not known.
        paid: What was paid for the labels: name of the axis -> amount.
        miou: Mean IoU on the validation images, 0..1; None = not measured.
        iou: Class name -> IoU, 0..1.
    """

    title: str
    method: str = ""
    data: str = ""
    paid: Mapping[str, float] = field(default_factory=dict)
    miou: float | None = None
    iou: Mapping[str, float] = field(default_factory=dict)


def description(found: "Checkpoint") -> dict[str, Any]:
    """What a checkpoint says of itself, as JSON values, in the form checkpoints have."""
    about = {
        "network": dict(found.network),
        "network_at": "",
        "num_classes": found.num_classes,
        "temperature": found.temperature,
        "images": dict(found.images),
        "batches": found.batches,
    }
    plain: dict[str, Any] = json.loads(json.dumps(about, default=_listed))
    return plain


def _listed(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else list(value)


def write_model(found: "Checkpoint", out: Path, facts: Facts) -> list[Path]:
    """Write weights, description and model card of a checkpoint into a folder.

    Args:
        found: The checkpoint.
        out: The folder; it is made. Files in it are replaced.
        facts: For the card.

    Returns:
        The files.
    """
    from safetensors.torch import save

    about = description(found)
    state = {name: tensor.contiguous() for name, tensor in found.state.items()}
    files: dict[Path, bytes | str] = {
        out / WEIGHTS: save(state, {ABOUT: json.dumps(about)}),
        out / CONFIG: json.dumps(about, indent=1, ensure_ascii=False) + "\n",
        out / CARD: card(found, facts),
    }
    for path, content in files.items():
        write_atomic(path, content)
    return list(files)


def read_model(path: Path) -> dict[str, Any]:
    """An exported file in the form a checkpoint has, see `alseg.inference.checkpoint`.

    Raises:
        UserError: If it is no file of safetensors, or was not written by alseg.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {}).get(ABOUT, "null"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read as safetensors ({error}); give the {WEIGHTS} that "
            f"alseg.export wrote."
        ) from error
    if not isinstance(about, dict):
        raise UserError(
            f"{path} does not describe a network of alseg; give the {WEIGHTS} that alseg.export "
            f"wrote, or weights of an encoder to network.weights."
        )
    batches = {"total": {"processed": about.get("batches")}}
    loops = {"fit_loop": {"epoch_loop.batch_progress": batches}}
    return {"state_dict": state, "alseg": about, "loops": loops}


def card(found: "Checkpoint", facts: Facts) -> str:
    """A model card in Markdown, with the metadata that model hubs read."""
    classes, images = found.classes(), found.images
    lines = [
        "---",
        "library_name: alseg",
        "pipeline_tag: image-segmentation",
        "tags: [active-learning, semantic-segmentation]",
        "---",
        f"# {facts.title}",
        "",
        f"{found.network['architecture']} with {found.network['encoder']}, trained by "
        f"[active learning](https://en.wikipedia.org/wiki/Active_learning_(machine_learning))"
        f"{f' ({facts.method})' if facts.method else ''}"
        f"{f' on {facts.data}' if facts.data else ''}.",
        "",
        "```python",
        "from alseg import load_segmenter, predict_labels",
        "",
        f'model = load_segmenter("{WEIGHTS}")',
        "labels = predict_labels(model, image)  # (H, W, 3) uint8, RGB -> class ids, (H, W) uint8",
        "```",
        "",
        "| id | class | colour | IoU |",
        "| ---: | --- | --- | ---: |",
    ]
    for number, name in enumerate(classes.names):
        color = ", ".join(str(int(part)) for part in classes.colors[number])
        iou = facts.iou.get(name)
        lines.append(f"| {number} | {name} | {color} | {'' if iou is None else f'{iou:.4f}'} |")
    measured = (
        "not measured" if facts.miou is None else f"{facts.miou:.4f} on the validation images"
    )
    lines += ["", f"- **Mean IoU**: {measured}."]
    if facts.paid:
        paid = ", ".join(f"{amount:,.0f} {axis}" for axis, amount in facts.paid.items())
        lines.append(f"- **Labels paid for**: {paid}.")
    if "mean" in images:
        mean, std = (", ".join(f"{v:g}" for v in images[name]) for name in ("mean", "std"))
        lines.append(f"- **Normalisation**: (image / 255 - [{mean}]) / [{std}], RGB.")
    if images.get("size"):
        height, width = images["size"]
        lines.append(f"- **Size**: images were loaded at {height} x {width}.")
    elif images.get("scale", 1.0) != 1.0:
        lines.append(f"- **Size**: images were loaded at {images['scale']:g} of their size.")
    if found.batches is not None:
        lines.append(f"- **Batches trained on**: {found.batches}.")
    return "\n".join(lines) + "\n"
