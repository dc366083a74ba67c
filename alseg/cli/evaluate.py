"""The command: ``python -m alseg.evaluate checkpoints=… images=… masks=… out=…``.

Checkpoints are chosen on validation images. Images of a test split are shown to the chosen one and
to the last one alone, after the choice: a number that was picked among many on the test split is no
test result.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from alseg.cli import command
from alseg.cli.candidates import Candidate, find_checkpoints
from alseg.cli.datawords import check_source, split_words
from alseg.cli.help import explain
from alseg.cli.run import cache_folder
from alseg.cli.words import read_options
from alseg.core.errors import UserError, unknown_name
from alseg.core.files import write_atomic
from alseg.core.images import ClassTable, ImageSet
from alseg.core.progress import progress_bar
from alseg.inference.inputs import (
    check_pairs,
    check_same_classes,
    checked_truth,
    contents,
    find_pairs,
    is_loaded,
    scored_images,
)
from alseg.inference.prediction import ViewOptions, csv_text, iou_row, labels_of
from alseg.inference.trained import Checkpoint, load_segmenter
from alseg.labels.quality import confusion
from alseg.report.chart import Chart, Series, layout
from alseg.report.page import write_chart

Row = dict[str, Any]

#: Splits that a checkpoint may be chosen on.
CHOICES = ("validation", "test")
#: Columns that are no measurements.
_HEAD = ("checkpoint", "step", "round", "chosen", "digest")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ViewOptions):
    """Measures all checkpoints of a folder, and chooses one on validation images.

    The one with the highest mean IoU on the validation images is marked best, the one that was
    trained longest last. Test images are shown to these two only, after the choice, so that their
    numbers choose nothing. Written to FOLDER: evaluation.csv and evaluation.json with a row per
    checkpoint, and curve.html. What is measured there is not measured again: a stopped command goes
    on where it was, and a growing folder of checkpoints can be followed.

    In the place of images and masks, data=NAME with the options that run takes (data.root=FOLDER
    and so on) measures on the validation images of a data set, with its own names, ids and splits,
    at the size they are loaded at. With data.evaluate=test, checkpoints are chosen on its
    validation images, and its test images are those for the best and the last. Where
    data.val_in_pool=true leaves none to choose on, the last one alone is measured.

    Some papers' scripts take the best of all checkpoints on the test images themselves; with
    choose_on=test this command does so too. Such a number is higher than that of a test, which the
    results say.

    Attributes:
        checkpoints: A folder of .ckpt files, which are ordered by how long they were trained; or a
            run folder, of which every round gives its best.ckpt, or last.ckpt without one.
        images: Validation images: a folder (searched with all folders in it), or a .txt file with
            one path per line, absolute or relative to that file.
        masks: Folder of ground truth under the names of the images, which hold classes as the masks
            did that the checkpoints were trained with (else see mask_values).
        out: Folder of the results.
        test_images: Test images, for the best and the last checkpoint.
        test_masks: Their ground truth.
        stage: Of a run folder: the stage whose checkpoints are measured, if there are several.
        choose_on: Images that all checkpoints are measured and the best is chosen on: validation,
            or test, see above.
    """

    checkpoints: str
    out: str
    images: str | None = None
    masks: str | None = None
    test_images: str | None = None
    test_masks: str | None = None
    stage: str | None = None
    choose_on: str = "validation"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("checkpoints", "out")
        if self.choose_on not in CHOICES:
            raise unknown_name("choose_on", self.choose_on, CHOICES)
        if bool(self.test_images) != bool(self.test_masks):
            raise UserError("test_images and test_masks belong together; give both, or none.")

    @property
    def folder(self) -> Path:
        """Folder of the results."""
        return Path(self.out).expanduser()


class Split(NamedTuple):
    """Images with masks."""

    name: str
    """What a progress bar calls it."""
    images: ImageSet
    origin: str
    """What decides its numbers, besides the checkpoint and its options."""
    resize: bool
    """Whether images are shown at the size the run loaded its own at."""


def evaluate(options: EvaluateOptions, data: Any = None) -> list[Row]:
    """Do what is left to do of a command.

    Args:
        options: Its options.
        data: A data set of `alseg.data.DATASETS` in the place of images and masks.

    Returns:
        What ``evaluation.json`` holds: a row per checkpoint, in the order of training.

    Raises:
        UserError: For input that cannot be used.
    """
    check_source(options, data, "images", "masks", "test_images")
    unit, candidates, known = find_checkpoints(
        Path(options.checkpoints).expanduser(), options.stage
    )
    first, test = _to_measure(options, *_splits(options, known, data))
    if first.name == "test" and options.choose_on == "validation":
        candidates = candidates[-1:]
    rows = _measured(options, unit, candidates, first)
    best = choose(rows)
    word = "best on test" if options.choose_on == "test" else "best"
    for row in rows:
        row["chosen"] = " ".join(
            name for name, chosen in ((word, rows[best]), ("last", rows[-1])) if row is chosen
        )
    _measure_test(options, candidates, rows, test)
    _write(options, rows)
    facts = [("Checkpoints", str(len(rows))), ("Best", rows[choose(rows)]["checkpoint"])]
    path = options.folder / "curve.html"
    write_chart(f"Checkpoints on {first.name} images", facts, curve(rows, unit, first.name), path)
    _print(rows, unit, first.name, tested=test is not None)
    print(f"\n{options.folder / 'evaluation.csv'}, {options.folder / 'curve.html'}")
    return rows


def choose(rows: Sequence[Row]) -> int:
    """Position of the row with the highest mean IoU, the first of equals.

    >>> choose([{"miou": 0.2}, {"miou": 0.5}, {"miou": None}, {"miou": 0.5}])
    1
    """
    values = [-1.0 if row["miou"] is None else row["miou"] for row in rows]
    return values.index(max(values))


def curve(rows: Sequence[Row], unit: str, split: str = "validation") -> Chart:
    """Mean IoU against training, the two chosen ones marked.

    Args:
        rows: See `evaluate`.
        unit: Column of the horizontal axis.
        split: Images that all were measured on.
    """

    def series(name: str, slot: int, some: Sequence[Row]) -> Series:
        x = np.array([row[unit] for row in some], dtype=np.float64)
        y = np.array([np.nan if row["miou"] is None else 100 * row["miou"] for row in some])
        return Series(name, slot, x, y, [f"{row['checkpoint']}: {_percent(row)}" for row in some])

    def mark(word: str, slot: int, row: Row) -> Series:
        return series(f"{word}: {unit} {row[unit]}, {_percent(row)}", slot, [row])

    best, last = rows[choose(rows)], rows[-1]
    lines = [series(f"mIoU on {split} images", 0, rows)]
    if last is best:
        lines.append(mark("best and last", 1, best))
    else:
        lines += [mark("best", 1, best), mark("last", 2, last)]
    label = "Batches trained on" if unit == "step" else "Round"
    return layout(unit, label, "mIoU, %", lines)


def _to_measure(
    options: EvaluateOptions, validation: Split | None, test: Split | None
) -> tuple[Split, Split | None]:
    """Images that all checkpoints are measured on, and those that the chosen ones are."""
    if options.choose_on == "test":
        if test is None:
            raise UserError(
                "choose_on=test, and there are no test images; give test_images and test_masks, or "
                "data.evaluate=test."
            )
        return test, None
    if validation is not None:
        return validation, test
    assert test is not None  # a data set has one of the two
    print(
        "The validation images are in the pool, so there is nothing to choose a checkpoint on: the "
        "last one alone is measured."
    )
    return test, None


def _splits(
    options: EvaluateOptions, known: Checkpoint, data: Any
) -> tuple[Split | None, Split | None]:
    """Images that checkpoints may be chosen on, and test images."""
    classes = known.classes()
    if data is None:
        options.require("masks")
        first = _split(options, "validation", known, classes, "images", "masks")
        if not options.test_images:
            return first, None
        second = _split(options, "test", known, classes, "test_images", "test_masks")
        _keep_apart(first.images, second.images)
        return first, second
    parts = scored_images(data, options.progress, cache_folder(None))
    splits = {}
    for name, images in parts.items():
        check_same_classes(images, classes, bool(known.class_names))
        resize = options.resize and not is_loaded(images)
        splits[name] = Split(name, images, f"{contents(images)}\n{resize}", resize)
    return splits.get("validation"), splits.get("test")


def _split(
    options: EvaluateOptions,
    name: str,
    known: Checkpoint,
    classes: ClassTable,
    images: str,
    masks: str,
) -> Split:
    given = {option: getattr(options, option) for option in (images, masks)}
    found = find_pairs(given, options, options.folder, classes, known.masks, known.reading)
    check_pairs(found, found.files, f"{images}={given[images]}", options.progress)
    return Split(name, found, contents(found), options.resize)


def _keep_apart(validation: ImageSet, test: ImageSet) -> None:
    """Refuse to test on images that were chosen on."""
    used = {validation.fingerprint(index) for index in range(len(validation))}
    for index, name in enumerate(test.names):
        if test.fingerprint(index) in used:
            raise UserError(
                f"{name} is among images= and test_images=, by its content; a checkpoint is chosen "
                f"on the first, so leave it out of the second."
            )


def _measured(
    options: EvaluateOptions, unit: str, candidates: Sequence[Candidate], split: Split
) -> list[Row]:
    """A row per checkpoint; rows are written as they come."""
    known = {row["digest"]: row for row in _known(options)}
    rows: list[Row] = []
    skipped = 0
    total = len(candidates) * len(split.images)
    with progress_bar(total=total, unit="image", hidden=not options.progress) as bar:
        for candidate in candidates:
            digest = options.digest(candidate.path, split.origin)
            head = {"checkpoint": candidate.name, unit: candidate.at, "chosen": ""}
            if row := known.get(digest):
                values = {name: row[name] for name in row if name not in _HEAD}
                rows.append({**head, **values, "digest": digest})
                bar.update(len(split.images))
                skipped += 1
            else:
                rows.append({**head, **_measure(options, candidate, split, bar), "digest": digest})
                known[digest] = rows[-1]
                done = {row["digest"] for row in rows}
                _write(options, rows + [row for row in known.values() if row["digest"] not in done])
    note = " (there already)" if skipped else ""
    print(f"{len(rows) - skipped} measured, {skipped} skipped{note}")
    return rows


def _measure_test(
    options: EvaluateOptions,
    candidates: Sequence[Candidate],
    rows: Sequence[Row],
    split: Split | None,
) -> None:
    """Add the numbers of the test images to the rows that are chosen, and to no other."""
    for candidate, row in zip(candidates, rows, strict=True):
        # of an earlier start, when others may have been chosen
        old = {name: row.pop(name) for name in list(row) if name.startswith("test_")}
        if not row["chosen"] or split is None:
            continue
        digest = options.digest(candidate.path, split.origin)
        if old.get("test_digest") == digest:
            row |= old
            continue
        hidden = not options.progress
        with progress_bar(total=len(split.images), unit="image", hidden=hidden) as bar:
            measured = _measure(options, candidate, split, bar)
        row |= {f"test_{name}": value for name, value in measured.items()}
        row["test_digest"] = digest


def _measure(options: EvaluateOptions, candidate: Candidate, split: Split, bar: tqdm) -> Row:
    """One confusion matrix over all images."""
    bar.set_description(f"{split.name}, {candidate.name}")
    model = load_segmenter(candidate.path, options.device, options.precision)
    count = len(model.classes)
    counts = np.zeros((count, count), dtype=np.int64)
    shown = replace(options, resize=split.resize)
    for index, name in enumerate(split.images.names):
        labels = labels_of(shown, model, split.images.image(index), name)
        counts += confusion(labels, checked_truth(split.images, index, labels), count)
        bar.update()
    return iou_row(counts, split.images)


def _known(options: EvaluateOptions) -> list[Row]:
    """Rows of an earlier start."""
    path = options.folder / "evaluation.json"
    if not path.exists():
        return []
    try:
        rows: list[Row] = json.loads(path.read_text("utf-8"))
        return [row for row in rows if row["digest"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as an earlier evaluation ({error!r}); delete it, or give "
            f"another out."
        ) from error


def _write(options: EvaluateOptions, rows: Sequence[Row]) -> None:
    text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
    write_atomic(options.folder / "evaluation.json", text)
    digests = ("digest", "test_digest")
    shown = [{name: row[name] for name in row if name not in digests} for row in rows]
    write_atomic(options.folder / "evaluation.csv", csv_text(shown))


def _percent(row: Row, column: str = "miou") -> str:
    value = row[column]
    return "no labelled pixel" if value is None else f"{100 * value:.2f} %"


def _print(rows: Sequence[Row], unit: str, split: str, tested: bool) -> None:
    """The table without the classes, and what was chosen."""
    width = max(len("checkpoint"), *(len(row["checkpoint"]) for row in rows))
    print(f"{'checkpoint':{width}}  {unit:>8}  {'mIoU':>8}")
    for row in rows:
        line = f"{row['checkpoint']:{width}}  {row[unit]:>8}  {_percent(row):>8}"
        print(f"{line}  {row['chosen']}".rstrip())
    for name, row in ((f"best on {split}", rows[choose(rows)]), ("last", rows[-1])):
        line = f"{name}: {row['checkpoint']}, {_percent(row)}"
        print(line + (f"; on the test images {_percent(row, 'test_miou')}" if tested else ""))
    if tested:
        print("The test images were shown to these two only; they chose nothing.")
    if split == "test" and len(rows) > 1:
        print(
            f"The best of {len(rows)} was chosen on the test images: its number is higher than "
            f"that of a test. The last one was not chosen."
        )


def options_from(arguments: Sequence[str]) -> EvaluateOptions:
    """Read the words of a command, see `alseg.cli.words.read_options`."""
    return read_options(EvaluateOptions, arguments)


def help_text() -> str:
    """What ``--help`` prints."""
    usage = "checkpoints=FOLDER images=PATH masks=FOLDER out=FOLDER [option=value ...]"
    data = "images=val/images masks=val/masks out=measured"
    return explain(
        EvaluateOptions,
        f"python -m alseg.evaluate {usage}",
        [
            f"python -m alseg.evaluate checkpoints=runs/first/round_004/train {data}",
            f"python -m alseg.evaluate checkpoints=runs/first stage=train {data} "
            f"test_images=test/images test_masks=test/masks",
            "python -m alseg.evaluate checkpoints=runs/first stage=train data=ucmerced "
            "data.root=ucmerced data.evaluate=test out=measured",
            "python -m alseg.evaluate checkpoints=runs/first stage=segment data=ucmerced "
            "data.root=ucmerced data.evaluate=test choose_on=test out=as_their_script",
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""

    def work(given: list[str]) -> None:
        words, data = split_words(given)
        evaluate(options_from(words), data)

    return command.main(arguments, lambda words: help_text(), work)
