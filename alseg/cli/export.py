"""The command: ``python -m alseg.export checkpoint=FILE out=FOLDER [--onnx]``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alseg.cli import command
from alseg.cli.folders import separate
from alseg.cli.help import explain
from alseg.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Writes the network of a checkpoint so that others can use it, or put it on a hub.

    FOLDER gets model.safetensors, which alseg.load_segmenter and alseg.predict take in the place of
    a checkpoint, config.json, and README.md: classes, colours, normalisation, what was paid for the
    labels, and the IoU, as far as the run folder tells.

    Attributes:
        checkpoint: The last.ckpt or best.ckpt of a stage, in its run folder or copied elsewhere.
        out: Folder of the results; what is there is replaced.
        title: Headline of README.md; null = the names of method and data.
        onnx: Write model.onnx as well, from the numbers of a picture to probabilities, checked
            against PyTorch. Also written --onnx.
    """

    checkpoint: str
    out: str
    title: str | None = None
    onnx: bool = False


def export(options: ExportOptions) -> list[Path]:
    """Export a network.

    Returns:
        The files.

    Raises:
        UserError: For a checkpoint or folder that cannot be used.
    """
    from alseg.inference.exported import ONNX, write_model
    from alseg.inference.trained import load_segmenter, read_checkpoint

    if options.onnx:
        from alseg.inference.onnxfile import check_installed, write_onnx

        check_installed()
    found = read_checkpoint(options.checkpoint)
    model = load_segmenter(options.checkpoint, "cpu")  # the weights fit the description
    out = Path(options.out).expanduser()
    files = write_model(found, out, facts_of(found.path, options.title))
    if options.onnx:
        gap = write_onnx(model, found, out / ONNX)
        print(f"{out / ONNX} differs from PyTorch by at most {gap:.2g} in probability.")
        files.append(out / ONNX)
    return files


def facts_of(checkpoint: Path, title: str | None) -> Any:
    """What the run folder around a checkpoint says of it; little where there is none.

    Args:
        checkpoint: ``RUN_DIR/round_NNN/STAGE/last.ckpt``, or a file anywhere.
        title: Headline, if one is given.
    """
    from alseg.inference.exported import Facts
    from alseg.labels.budget import AXES
    from alseg.report.folder import read_run

    name = checkpoint.absolute().parent.parent.name
    root = checkpoint.absolute().parents[2] if len(checkpoint.absolute().parents) > 2 else None
    number = name.removeprefix("round_")
    if root is None or not number.isdecimal() or not (root / "rounds.csv").is_file():
        return Facts(title or f"A network trained with alseg ({checkpoint.name})")
    run = read_run(root)
    if int(number) not in run.rounds:
        return Facts(title or f"A network trained with alseg ({root.name})")
    row = run.rounds.index(int(number))
    chosen = (run.config.get(group) for group in ("method", "data"))
    method, data = (str(one.get("name", "")) if isinstance(one, dict) else "" for one in chosen)
    paid = {axis: float(run.table[axis][row]) for axis in AXES if axis in run.table}
    iou = {name: float(values[row]) for name, values in run.ious.items()}
    return Facts(
        title=title or run.about.title or f"{method} on {data}",
        method=method,
        data=data,
        paid={axis: amount for axis, amount in paid.items() if amount == amount},
        miou=None if (miou := float(run.table["miou"][row])) != miou else miou,
        iou={name: value for name, value in iou.items() if value == value},
    )


def help_text() -> str:
    """What ``--help`` prints."""
    return explain(
        ExportOptions,
        "python -m alseg.export checkpoint=FILE out=FOLDER [option=value ...]",
        [
            "python -m alseg.export checkpoint=runs/a/round_004/train/last.ckpt out=model --onnx",
            "python -m alseg.predict checkpoint=model images=photos out=predicted",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def work(words: list[str]) -> None:
        others, options = separate(ExportOptions, words)
        if others:
            raise UserError(f"{others[0]!r} is no option; give checkpoint=FILE out=FOLDER.")
        for file in export(options):
            print(file)

    return command.main(arguments, lambda words: help_text(), work)
