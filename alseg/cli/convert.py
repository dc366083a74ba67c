"""The command: ``python -m alseg.convert checkpoint=FILE out=FILE.ckpt preset=… data.root=…``."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.cli import command
from alseg.cli.folders import separate
from alseg.cli.help import explain
from alseg.core.errors import UserError
from alseg.core.files import read_text, write_atomic

if TYPE_CHECKING:
    from alseg.cli.compose import Options
    from alseg.inference.foreign import Table

#: Endings of checkpoints that a folder is searched for.
ENDINGS = (".pth", ".tar", ".pt", ".pkl", ".bin", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """Makes a checkpoint of alseg of one that other code wrote, such as that of a paper's authors.

    The other words are those of alseg.run, a preset mostly: they say which network it is of, how
    its images are normalised and what its classes are called. Networks whose parts are named as in
    torchvision, segmentation-models-pytorch, common DeepLabV3+ and DeepLabv2 code, or alseg are
    known; of all others names=FILE.yaml says which part is which, by the beginnings of names:

        backbone: encoder
        head.aspp: decoder.aspp
        head.last: [decoder.join, classifier]

    Inside a part, tensors are matched by name, or in their order where kind and shape of each
    agree. Every tensor on both sides has to find its place. Only tensors are read of a file: one
    that holds more than these, as code, is refused.

    Attributes:
        checkpoint: The file (.pth, .tar, .pt, .safetensors), or a folder of such.
        out: The file that is written (.ckpt), or the folder of these, under the same names. For
            alseg.evaluate, names end in a number, of the step or the round.
        names: A YAML file of parts, see above; null = the common ones.
        unused: Names in the file that are left out, with * for any text, such as *loss_pred*.
        outputs: Which outputs of the file are those here, in the order of the classes here, void
            last; null = all of them as they are.
        cosine: Whether the classifier takes cosines; null = as the method does.
    """

    checkpoint: str
    out: str
    names: str | None = None
    unused: list[str] = field(default_factory=list)
    outputs: list[int] | None = None
    cosine: bool | None = None


def convert_files(words: Sequence[str], given: ConvertOptions) -> list[Path]:
    """Convert one or more files.

    Args:
        words: Those of a run.
        given: The other options.

    Returns:
        The files that were written.

    Raises:
        UserError: For words, options or files that cannot be used.
    """
    from alseg.cli.compose import options

    composed = options(*words)
    table = None if given.names is None else _table(Path(given.names).expanduser())
    source, out = Path(given.checkpoint).expanduser(), Path(given.out).expanduser()
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.suffix.lower() in ENDINGS)
        if not files:
            raise UserError(f"{source} holds no file that ends in {', '.join(ENDINGS)}.")
        pairs = [(path, out / f"{path.stem}.ckpt") for path in files]
    elif not source.is_file():
        raise UserError(f"there is no {source}; give checkpoint=FILE, or a folder of files.")
    elif out.suffix != ".ckpt":
        raise UserError(f"out is {out}; give a file that ends in .ckpt.")
    else:
        pairs = [(source, out)]
    about = _images(composed)
    for path, target in pairs:
        _convert(path, target, composed, given, table, about)
    return [target for _, target in pairs]


def _convert(
    path: Path,
    target: Path,
    composed: "Options",
    given: ConvertOptions,
    table: "Table | None",
    about: dict[str, Any],
) -> None:
    """Convert a file, and say how."""
    import torch

    from alseg.inference.foreign import convert

    part = composed.components
    method = part["method"]
    cosine = bool(getattr(method, "cosine", False)) if given.cosine is None else given.cosine
    plain = replace(part["network"], weights=None, weights_bgr=False).reading(len(about["mean"]))
    network, found = convert(
        path,
        lambda outputs: plain.build(outputs, cosine),
        len(about["classes"]),
        table,
        given.unused,
        given.outputs,
    )
    content = {
        "state_dict": {f"network.{name}": tensor for name, tensor in network.state_dict().items()},
        "alseg": {
            "network": network.description,
            "network_at": "network",
            "num_classes": len(about["classes"]),
            "temperature": float(getattr(method, "temperature", 1.0)) if cosine else 1.0,
            "images": about,
        },
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomic(target, buffer.getvalue())
    order = f", in order: {'; '.join(found.by_order)}" if found.by_order else ""
    unused = [name for name in found.unused if not name.endswith("num_batches_tracked")]
    left = f"; {len(unused)} left out, such as {unused[0]}" if unused else ""
    print(f"{target}: {len(found.found)} tensors of {path.name}{order}{left}")


def _images(composed: "Options") -> dict[str, Any]:
    """What a checkpoint says of the images."""
    from alseg.cli.run import cache_folder
    from alseg.data.datamodule import describe

    images = composed.components["data"].splits(progress=True, cache=cache_folder(None)).train
    return describe(images, composed.components["augment"].plain())


def _table(path: Path) -> "Table":
    """The parts a YAML file names.

    Raises:
        UserError: If it does not.
    """
    import yaml

    try:
        content = yaml.safe_load(read_text(path))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"cannot read names={path} ({error}).") from error
    parts: dict[str, Any] = content if isinstance(content, dict) else {}
    table = {key: [one] if isinstance(one, str) else one for key, one in parts.items()}
    words = [*table, *(word for one in table.values() if isinstance(one, list) for word in one)]
    lists = all(isinstance(one, list) and one for one in table.values())
    if not table or not lists or not all(isinstance(word, str) for word in words):
        raise UserError(
            f"{path} says of no part what it is; write lines such as 'backbone: encoder'."
        )
    return table


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        ConvertOptions,
        "python -m alseg.convert checkpoint=FILE out=FILE.ckpt [options of alseg.run]",
        [
            "python -m alseg.convert checkpoint=stage2_checkpoint01.tar out=theirs/round_1.ckpt "
            "preset=experiments/mulquery/voc_resnet50.yaml data.root=voc",
            "python -m alseg.evaluate checkpoints=theirs data=voc data.root=voc data.centre=513 "
            "out=measured",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def work(words: list[str]) -> None:
        others, given = separate(ConvertOptions, words)
        convert_files(others, given)

    return command.main(arguments, lambda words: help_text(), work)
