"""The command: ``python -m alseg.predict checkpoint=… images=… out=…``.

In a notebook: `load_segmenter` a checkpoint, then `predict_labels` of arrays.
"""

import csv
import hashlib
import io
import json
import logging
import math
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from alseg.active.quality import class_iou, confusion
from alseg.data.checks import Problems, check_images
from alseg.data.files import FileImages, ImageFile
from alseg.data.find import find_files
from alseg.data.labelmaps import read_label_map, read_origin, write_label_map
from alseg.data.loose import find_images
from alseg.data.masks import MaskReader, read_masks_by_color, read_masks_by_id
from alseg.errors import UserError, unknown_name
from alseg.files import write_atomic
from alseg.images import VOID, ClassTable
from alseg.run import option_texts
from alseg.trained import (
    DEVICES,
    PRECISIONS,
    TrainedSegmenter,
    load_segmenter,
    predict_labels,
    seen_factor,
)

__all__ = ["PredictOptions", "load_segmenter", "main", "predict", "predict_labels"]

log = logging.getLogger(__name__)

#: Height and width of the windows of images over ``max_pixels``, in pixels the network sees.
WINDOW = (1024, 1024)
#: Images of more pixels are not decoded several at once.
HUGE = 1 << 26


@dataclass(frozen=True)
class PredictOptions:
    """Predicts images with the network of a checkpoint, of any method and any stage.

    FOLDER/labels gets a PNG per image, whose pixels are class ids and whose palette shows the
    classes' colours; FOLDER/overlays a JPEG with a legend. Both keep the image's path below the
    folder of images. What is there is not predicted again: a stopped command goes on where it was.

    Attributes:
        checkpoint: The last.ckpt or best.ckpt of a stage, in its run folder or copied elsewhere.
        images: An image, a folder (searched with all folders in it), or a .txt file with one path
            per line, absolute or relative to that file.
        out: Folder of the results.
        masks: Folder of ground truth under the names of the images, class ids or the classes'
            colours. Prints mean and per-class IoU and writes metrics.json and metrics.csv.
        ignore: What else than id 255 is void in the masks: ids, or colours such as "#000000", that
            stand for no class.
        overlay: Draw the pictures.
        overwrite: Predict again what is there.
        window: Height and width of windows in pixels of the image; null = the whole image.
        overlap: Share of a window that its neighbour covers too, 0 to below 1.
        max_pixels: Images of which the network would see more pixels are predicted by windows.
        scales: Factors on the size of what the network sees; probabilities are averaged.
        flip: Average with the mirror image too.
        resize: Show images to the network at the size the run loaded its own at (data.size,
            data.scale). Results have the size of the file in any case.
        device: auto, cpu or cuda.
        precision: 32-true, or bf16 for mixed precision.
        progress: Show a progress bar.
    """

    checkpoint: str
    images: str
    out: str
    masks: str | None = None
    ignore: list[str] = field(default_factory=list)
    overlay: bool = True
    overwrite: bool = False
    window: tuple[int, int] | None = None
    overlap: float = 0.25
    max_pixels: int = 16_000_000
    scales: list[float] = field(default_factory=lambda: [1.0])
    flip: bool = False
    resize: bool = True
    device: str = "auto"
    precision: str = "32-true"
    progress: bool = True

    def __post_init__(self) -> None:
        for option in ("checkpoint", "images", "out"):
            if not getattr(self, option):
                raise UserError(f"{option} is empty; give {option}=PATH.")
        if self.window is not None and (len(self.window) != 2 or min(self.window) < 1):
            raise UserError(f"window is {list(self.window)}; give [height,width] in pixels.")
        if not 0 <= self.overlap < 1:
            raise UserError(f"overlap is {self.overlap}; it is a share of a window, 0 to below 1.")
        if self.max_pixels < 1:
            raise UserError(f"max_pixels is {self.max_pixels}; give at least 1.")
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise UserError(f"scales is {list(self.scales)}; give one or more factors > 0.")
        for option, known in (("device", DEVICES), ("precision", PRECISIONS)):
            if getattr(self, option) not in known:
                raise unknown_name(option, getattr(self, option), known)

    def label_map(self, name: str) -> Path:
        """File of the label map of an image."""
        return Path(self.out).expanduser() / "labels" / f"{name}.png"

    def picture(self, name: str) -> Path:
        """File of the picture of an image."""
        return Path(self.out).expanduser() / "overlays" / f"{name}.jpg"


def predict(options: PredictOptions) -> dict[str, Any] | None:
    """Do what is left to do of a command.

    Returns:
        What ``metrics.json`` holds; None without masks.

    Raises:
        UserError: For input that cannot be used.
    """
    with _images_of_any_size():
        model = load_segmenter(options.checkpoint, options.device, options.precision)
        images = _find(options, model.classes)
        origin = _origin(options)
        todo = _to_predict(options, images, origin)
        _check(options, images, todo)
        _predict_all(options, model, images, todo, origin)
        skipped = len(images) - len(todo)
        note = " (there already; overwrite=true predicts them again)" if skipped else ""
        print(f"{len(todo)} predicted, {skipped} skipped{note}: {options.label_map('*')}")
        if options.overlay:
            print(f"Pictures: {options.picture('*')}")
        return _evaluate(options, images) if options.masks is not None else None


def _find(options: PredictOptions, classes: ClassTable) -> FileImages:
    """The images with their masks."""
    out = Path(options.out).expanduser().resolve()
    problems = Problems(f"images={options.images}")
    found = find_images(Path(options.images).expanduser(), problems)
    masks: dict[str, Path] = {}
    if options.masks is not None:
        folder = Path(options.masks).expanduser()
        if not folder.is_dir():
            raise UserError(f"masks={folder} is not a folder; give the folder of the masks.")
        masks = find_files(folder, "", problems)
        for name in sorted(found.keys() - masks.keys()):
            problems.add("images without a mask", str(found[name]))
    for option in ("images", "masks"):
        folder = Path(getattr(options, option) or "").expanduser()
        if getattr(options, option) and folder.is_dir() and out.is_relative_to(folder.resolve()):
            raise UserError(
                f"out={options.out} lies in {option}={folder}, where the next start would take the "
                f"results for {option}; give a folder outside of it."
            )
    problems.raise_any()
    files = [ImageFile(name, path, masks.get(name)) for name, path in found.items()]
    return FileImages(files, classes, _reader(options, classes, files[0].mask))


def _reader(options: PredictOptions, classes: ClassTable, mask: Path | None) -> MaskReader:
    """How masks are read: as colours if the first one holds colours, else as ids."""
    mode = "L"
    if mask is not None:
        try:
            with Image.open(mask) as file:
                mode = file.mode
        except OSError:
            log.debug("%s cannot be read, as the check will tell", mask)
    if mode in ("L", "P", "1"):
        reader = read_masks_by_id(dict(enumerate(classes.names)), options.ignore)
    else:
        colors = np.asarray(classes.colors).tolist()
        table = {name: (r, g, b) for name, (r, g, b) in zip(classes.names, colors, strict=True)}
        reader = read_masks_by_color(table, options.ignore)
    if sum(entry.label != VOID for entry in reader.entries) < len(classes):
        raise UserError(
            f"ignore={list(options.ignore)} names a class of the network; give only ids or colours "
            f"that stand for no class."
        )
    return reader


def _origin(options: PredictOptions) -> str:
    """Digest of what, besides the image, decides a label map."""
    with Path(options.checkpoint).expanduser().open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    deciding = ("window", "overlap", "max_pixels", "scales", "flip", "resize", "precision")
    values = {name: getattr(options, name) for name in deciding}
    digest.update(json.dumps(values).encode())
    return digest.hexdigest()


def _to_predict(options: PredictOptions, images: FileImages, origin: str) -> dict[int, int]:
    """Images without a label map, or all; each with its position among them.

    Raises:
        UserError: If there is a label map that was made by something else.
    """
    todo, foreign = [], []
    for index, name in enumerate(images.names):
        path = options.label_map(name)
        if options.overwrite or not path.exists():
            todo.append(index)
        elif read_origin(path) != origin:
            foreign.append(path)
    if foreign:
        raise UserError(
            f"{len(foreign)} label maps in out, such as {foreign[0]}, were not predicted by this "
            f"checkpoint with these options; give another out, or overwrite=true."
        )
    return {index: position for position, index in enumerate(todo)}


def _check(options: PredictOptions, images: FileImages, todo: dict[int, int]) -> None:
    """Find everything that is wrong with the files before the work."""
    problems = Problems(f"images={options.images}")
    wanted = range(len(images)) if options.masks is not None else todo
    # huge ones are found out one by one: several at once would take too much memory
    files = [images.files[index] for index in wanted if not _is_huge(images.files[index].image)]
    check_images(files, images.masks, problems, progress=options.progress)
    problems.raise_any()


def _is_huge(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.width * image.height > HUGE
    except OSError:
        return False  # the check tells


def _predict_all(
    options: PredictOptions,
    model: TrainedSegmenter,
    images: FileImages,
    todo: dict[int, int],
    origin: str,
) -> None:
    """Write what is missing; an image's label map comes last and says that it is done."""
    pixels = sum(math.prod(images.size(index)) for index in todo)
    hidden = not options.progress or not todo
    with tqdm(total=pixels, unit="px", unit_scale=True, disable=hidden) as bar:
        for index, name in enumerate(images.names):
            if index in todo:
                bar.set_description(f"{name} ({todo[index] + 1}/{len(todo)})")
                image = images.image(index)
                labels = _predicted(options, model, image, name, bar.update)
                if options.overlay:
                    _draw(options.picture(name), image, labels, model.classes)
                path = options.label_map(name)
                write_label_map(path, labels, np.asarray(model.classes.colors), origin)
            elif options.overlay and not options.picture(name).exists():
                labels = read_label_map(options.label_map(name))
                _draw(options.picture(name), images.image(index), labels, model.classes)


def _predicted(
    options: PredictOptions,
    model: TrainedSegmenter,
    image: NDArray[np.uint8],
    name: str,
    done: Callable[[int], object],
) -> NDArray[np.uint8]:
    import torch

    size = (image.shape[0], image.shape[1])
    factor = seen_factor(model, size, options.resize)
    seen = math.prod(size) * math.prod(factor) * max(options.scales) ** 2
    window = options.window
    if window is None and seen > options.max_pixels:
        window = (math.ceil(WINDOW[0] / factor[0]), math.ceil(WINDOW[1] / factor[1]))
        log.info(
            "%s: %.3g million pixels are more than max_pixels=%d; predicted by windows of %d x %d",
            name,
            seen / 1e6,
            options.max_pixels,
            *window,
        )
    try:
        return predict_labels(
            model,
            image,
            window=None if window is None else (window[0], window[1]),
            overlap=options.overlap,
            scales=options.scales,
            flip=options.flip,
            resize=options.resize,
            done=done,
        )
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{name} does not fit into the memory of the GPU; give window=[512,512], or device=cpu."
        ) from error


def _draw(
    path: Path, image: NDArray[np.uint8], labels: NDArray[np.uint8], classes: ClassTable
) -> None:
    """Lay the colours over an image, with a legend of the classes that occur."""
    from alseg.report.pictures import label_overlay, save_picture, with_legend

    there = np.flatnonzero(np.bincount(labels.ravel(), minlength=len(classes)))
    picture = label_overlay(image, labels, classes.colors)
    names = [classes.names[label] for label in there]
    save_picture(path, with_legend(picture, names, classes.colors[there]))


def _evaluate(options: PredictOptions, images: FileImages) -> dict[str, Any]:
    """Print and write the IoU of one confusion matrix over all images."""
    names = images.classes.names
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    hidden = not options.progress
    for index in tqdm(range(len(images)), "comparing", unit="image", disable=hidden):
        labels, truth = read_label_map(options.label_map(images.names[index])), images.truth(index)
        if labels.shape != truth.shape:
            raise UserError(
                f"{images.files[index].mask} is {truth.shape[0]} x {truth.shape[1]}, its image "
                f"{labels.shape[0]} x {labels.shape[1]} (height x width); export both at the same "
                f"size."
            )
        counts += confusion(labels, truth, len(names))
    iou = class_iou(counts)
    mean = float(np.nanmean(iou)) if not np.isnan(iou).all() else math.nan
    values = [None if math.isnan(value) else value for value in [mean, *iou.tolist()]]
    width = max(map(len, ("mIoU", *names)))
    for name, value in zip(("mIoU", *names), values, strict=True):
        print(f"{name:{width}}  " + ("absent" if value is None else f"{value:.4f}"))
    metrics = {
        "images": len(images),
        "pixels": int(counts.sum()),
        "miou": values[0],
        **{f"iou_{name}": value for name, value in zip(names, values[1:], strict=True)},
    }
    out = Path(options.out).expanduser()
    write_atomic(out / "metrics.json", json.dumps(metrics, indent=1, ensure_ascii=False) + "\n")
    table = io.StringIO()
    writer = csv.DictWriter(table, list(metrics), lineterminator="\n")
    writer.writeheader()
    writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in metrics.items()})
    write_atomic(out / "metrics.csv", table.getvalue())
    return metrics


@contextmanager
def _images_of_any_size() -> Iterator[None]:
    """Let Pillow open what it would take for an attack: these images are the user's own."""
    most = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = most


def options_from(arguments: Sequence[str]) -> PredictOptions:
    """Read words ``name=value``: texts as they are, so that paths need no quotes, the rest as YAML.

    Raises:
        UserError: For an argument that is none, an unknown or missing option, or a value of the
            wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = {option.name: option for option in fields(PredictOptions)}
    config = OmegaConf.structured(PredictOptions)
    OmegaConf.set_readonly(config, None)  # frozen dataclasses are read-only by default
    for argument in arguments:
        name, is_option, text = argument.partition("=")
        if not is_option:
            raise UserError(f"cannot read {argument!r}; options are written name=value.")
        if name not in known:
            raise unknown_name("option", name, known)
        is_text = known[name].type in (str, str | None) and text != "null"
        try:
            config[name] = text if is_text else yaml.safe_load(text)
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise UserError(f"cannot use {argument}: {str(error).splitlines()[0]}.") from error
    missing = [name for name in known if OmegaConf.is_missing(config, name)]
    if missing:
        raise UserError(f"{missing[0]} has no default; give {missing[0]}=PATH.")
    options: Any = OmegaConf.to_object(config)
    return options


def help_text() -> str:
    """What ``--help`` prints."""
    summary, _, rest = (PredictOptions.__doc__ or "").partition("\n")
    lines = [
        "usage: python -m alseg.predict checkpoint=FILE images=PATH out=FOLDER [option=value ...]",
        "",
        summary,
        textwrap.dedent(rest.partition("Attributes:")[0]).rstrip(),
        "",
        "Options:",
    ]
    texts = option_texts(PredictOptions)
    indent = " " * 6
    for option in fields(PredictOptions):
        default = option.default
        if option.default_factory is not MISSING:
            default = option.default_factory()
        lines.append(f"  {option.name} = {'(required)' if default is MISSING else _shown(default)}")
        lines += textwrap.wrap(
            texts[option.name], 92, initial_indent=indent, subsequent_indent=indent
        )
    lines += [
        "",
        "examples:",
        "  python -m alseg.predict checkpoint=runs/first/round_004/stage_two/last.ckpt "
        "images=photos out=predicted",
        "  python -m alseg.predict checkpoint=last.ckpt images=tile.tif out=predicted "
        "'window=[512,512]' 'scales=[0.75,1,1.25]' flip=true",
    ]
    return "\n".join(lines)


def _shown(default: Any) -> str:
    return default if isinstance(default, str) else json.dumps(default)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status: 0, or 2 for bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or {"-h", "--help"} & set(given):
        print(help_text())
        return 0
    logging.basicConfig(format="%(message)s")
    logging.getLogger("alseg").setLevel(logging.INFO)
    try:
        predict(options_from(given))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
