"""Keeps the report of a run up to date while the loop turns."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from lightning.pytorch.loggers import Logger
from numpy.typing import NDArray

from alseg.active.ledger import Ledger
from alseg.active.owned import about_owned
from alseg.core.files import write_atomic
from alseg.core.images import VOID, DataSplits, ImageSet, shown
from alseg.labels.kinds import KINDS
from alseg.labels.oracle import SimulatedOracle
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.tables import PIXELS, Answers, Query, plural
from alseg.report.byhand import Predict, compare, predicted_entries, predictor
from alseg.report.folder import DISAGREEMENT, PictureEntry, save_pictures
from alseg.report.page import write_report
from alseg.report.pictures import (
    answered_picture,
    asked_picture,
    contact_sheet,
    groups_picture,
    heat_picture,
    label_overlay,
    regions_picture,
)
from alseg.report.questions import save_questions

#: Maps of an image worth a picture, by title.
Show = Callable[[int], Mapping[str, NDArray[Any]]]
#: Images on one contact sheet.
_MOST_TILES = 48


@dataclass
class Reporter:
    """Draws the pictures of every round and writes ``report.html``.

    Attributes:
        root: The run folder.
        splits: Images of the run.
        choices: Name of every component.
        values: All options.
        oracle: Who answers.
        loggers: Get one line of numbers per round.
        reads_truth: Whether the choice saw the ground truth.
        show: Maps of a round and an image that the method wants pictured, see
            `alseg.active.method.Method.show`.
    """

    root: Path
    splits: DataSplits
    choices: Mapping[str, str]
    values: Mapping[str, Any]
    oracle: Any
    loggers: Sequence[Logger] = field(default_factory=list)
    reads_truth: bool = False
    show: Callable[[int, int], Mapping[str, NDArray[Any]]] = lambda round, image: {}

    def waiting(self, query: Query, pool: LabelPool, folder: Path) -> None:
        """Draw the questions, numbered as in ``questions.csv``."""
        save_questions(query, pool, self.splits.train, folder / "questions")

    def round_closed(self, round: int, pool: LabelPool, rows: Sequence[Mapping[str, Any]]) -> None:
        """Draw what was asked and answered, and write the page anew."""
        for number in range(round + 1):  # a kill may have come before an earlier round's
            folder = self.root / f"round_{number:03d}" / "pictures"
            if not (folder / "index.json").exists():
                show: Show = partial(self.show, number)
                bought = pool.history[number]
                predict = predictor(folder.parent) if self._by_hand else None
                if predict is not None:
                    show = self._with_predictions(show, predict)
                    self._compare(bought, pool, predict, folder.parent)
                query = Ledger(self.root, writes=False).query(number)
                score = None if query is None else query.score[: len(bought)]
                entries = pictures_of(bought, pool, self.splits.train, self._most, show, score)
                if predict is not None:
                    entries += predicted_entries(pool, self.splits, predict, self._most)
                save_pictures(folder, entries)
        self._describe(pool)
        write_report(self.root)
        for logger in self.loggers:
            numbers = {f"al/{k}": v for k, v in rows[-1].items() if isinstance(v, int | float)}
            logger.log_metrics(numbers)  # with al/round as their own axis: steps start anew

    @property
    def _most(self) -> int:
        return int(self.values["pictures"])

    @property
    def _by_hand(self) -> bool:
        return not isinstance(self.oracle, SimulatedOracle)

    def _with_predictions(self, show: Show, predict: Predict) -> Show:
        return lambda image: {**show(image), "prediction": predict(self.splits.train, image)}

    def _compare(self, bought: Answers, pool: LabelPool, predict: Predict, folder: Path) -> None:
        found = compare(bought, pool, self.splits.train, predict) if len(bought) else None
        if found is not None:
            text = json.dumps(found, ensure_ascii=False) + "\n"
            write_atomic(folder / DISAGREEMENT, text)

    def _describe(self, pool: LabelPool) -> None:
        first = pool.history[0]
        classes = self.splits.train.classes
        named = {
            name: {"name": self.choices[name], **_plain(self.values[name])} for name in self.choices
        }
        config = {**_plain(dict(self.values)), **named, "run_dir": str(self.root)}
        write_atomic(self.root / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        kinds = {answers.answer for answers in pool.history if len(answers)} or {first.answer}
        sizes = {"images": len(pool)}
        if len(kinds) == 1:  # else units are of two kinds, and there is no whole of both
            sizes["units"] = int(pool.num_units(first.regions).sum())
            sizes["pixels"] = int(pool.sizes.prod(axis=1).sum())
        about = {
            "classes": list(classes.names),
            "colors": np.asarray(classes.colors).tolist(),
            "unit": first.kind,
            "answer": first.answer,
            "pool": sizes,
            "answered": answered_classes(pool.known, len(classes)),
            "notes": self._notes(),
        }
        write_atomic(self.root / "report.json", json.dumps(about, ensure_ascii=False) + "\n")

    def _notes(self) -> list[str]:
        owned = about_owned(self.root)
        notes = [] if owned is None else [f"{'. '.join(owned['account'])}."]
        if not self._by_hand:
            choice = (
                "the choice of what to ask saw it too, which no one could make who has to pay for "
                "labels."
                if self.reads_truth
                else "the choice of what to ask never sees it."
            )
            notes.append(
                f"The answers were read off the ground truth; {choice} Hours are estimates from "
                f"the price table, not measured."
            )
        if any(k.endswith("keep") and v == "best" for k, v in self.values["method"].items()):
            notes.append(
                "Of each stage the checkpoint with the best mIoU on the validation images was "
                "kept: the mIoU shown is on images that were looked at."
            )
        return notes


def answered_classes(history: Sequence[Answers], num_classes: int) -> list[int]:
    """How much was answered of each class, for an idea of which are rare.

    Args:
        history: The answers of all rounds.
        num_classes: C.

    Returns:
        C counts: pixels of masks, or units with one class; empty where neither was asked.
    """
    counts = np.zeros(VOID + 1, dtype=np.int64)
    for answers in history:
        if not KINDS[answers.answer].covers_pixels:  # classes of another table
            continue
        said = answers.masks if answers.masks is not None else [answers.label]
        for labels in said:
            if labels is not None:
                counts += np.bincount(np.asarray(labels).ravel(), minlength=VOID + 1)
    return counts[:num_classes].tolist() if counts.any() else []


def pictures_of(
    answers: Answers,
    pool: LabelPool,
    images: ImageSet,
    most: int,
    show: Callable[[int], Mapping[str, NDArray[Any]]] = lambda image: {},
    score: NDArray[np.float32] | None = None,
) -> list[PictureEntry]:
    """What was asked and answered in a round, on the images asked about most.

    Args:
        answers: Of the round.
        pool: Knows the region maps.
        images: The pool's images.
        most: Images pictured.
        show: More maps of an image worth a picture, by title, see
            `alseg.active.method.Method.show`.
        score: Why each was asked, (n,).
    """
    colors: NDArray[np.uint8] = np.asarray(images.classes.colors)
    entries = []
    if answers.kind == "image" and most and len(answers):
        entries.append(_sheet(answers, images, score))
    if not KINDS[answers.answer].covers_pixels:  # nothing of their pixels was answered
        return entries
    groups = sorted(rows_by_image(answers.image), key=lambda group: -len(group[1]))
    for image, rows in groups[:most]:
        regions = None if answers.regions == PIXELS else pool.maps[answers.regions][image]
        pixels, units = shown(images.image(image)), answers.unit[rows]
        said: Any = answers.members(rows) if answers.masks is None else None
        if answers.masks is not None:
            said = [answers.masks[row] for row in rows]
        pictures = {
            "asked": asked_picture(pixels, regions, units),
            "answered": answered_picture(pixels, regions, units, said, colors),
        }
        for title, values in show(image).items():
            pictures[title] = _picture_of(pixels, values, colors)
        if images.has_truth:
            pictures["truth"] = label_overlay(pixels, images.truth(image), colors)
        noun = answers.kind if len(rows) == 1 else plural(answers.kind)
        entries.append(PictureEntry(images.names[image], f"{len(rows)} {noun} asked", pictures))
    return entries


def _sheet(answers: Answers, images: ImageSet, score: NDArray[np.float32] | None) -> PictureEntry:
    """Whole images side by side, in the order they were asked, as many as a page bears."""
    first = answers.head(_MOST_TILES)
    words: list[list[str]] = [[] for _ in range(len(first))]
    if score is not None and score.any():
        words = [[f"{value:.3g}"] for value in score[: len(first)]]
    if first.label is not None:
        names = [*KINDS[first.answer].names(images), "void"]
        for said, label in zip(words, first.label.tolist(), strict=True):
            said.append(names[-1 if label == VOID else label])
    indices = first.image.tolist()
    texts = [
        " · ".join(said) or images.names[index] for index, said in zip(indices, words, strict=True)
    ]
    title = "1 image" if len(answers) == 1 else f"{len(answers)} images"
    caption = "asked" if len(answers) <= _MOST_TILES else f"asked, the first {_MOST_TILES}"
    picture = contact_sheet([shown(images.image(index)) for index in indices], texts)
    return PictureEntry(title, caption, {"asked": picture})


def _picture_of(
    image: NDArray[np.uint8], values: NDArray[Any], colors: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """A map by what its type says it is, see `alseg.active.method.Method.show`."""
    if values.dtype == np.uint8:
        return label_overlay(image, values, colors)
    if values.dtype == np.uint16:
        return groups_picture(image, values)
    if np.issubdtype(values.dtype, np.floating):
        return heat_picture(image, values)
    return regions_picture(image, values)


def _plain(value: Any) -> Any:
    """Containers and scalars YAML can write."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
