"""What the report of a run that people answer shows of its model, round by round."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import DataSplits, ImageSet, shown
from alseg.inference.trained import newest_segmenter, predict_labels
from alseg.labels.agreement import agreement, implied
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.mask import pixels_of
from alseg.labels.pool import LabelPool, rows_by_image
from alseg.labels.tables import PIXELS, Answers
from alseg.report.folder import PictureEntry
from alseg.report.pictures import label_overlay

#: Images a round's answers are compared on at most: predicting takes time.
_MOST_COMPARED = 40

#: Predicted classes of an image of a set, (H, W), uint8.
Predict = Callable[[ImageSet, int], NDArray[np.uint8]]


def predictor(folder: Path) -> Predict | None:
    """The model that a round trained last, None where no checkpoint of one is there.

    Args:
        folder: Folder of the round.
    """
    model = newest_segmenter(folder)
    if model is None:
        return None
    kept: dict[tuple[int, int], NDArray[np.uint8]] = {}

    def predict(images: ImageSet, index: int) -> NDArray[np.uint8]:
        key = id(images), index
        if key not in kept:
            kept[key] = predict_labels(model, images.image(index), resize=False)
        return kept[key]

    return predict


def compare(
    answers: Answers, pool: LabelPool, images: ImageSet, predict: Predict
) -> dict[str, Any] | None:
    """How often the model, after it was trained on answers, says the same.

    Args:
        answers: Of one round.
        pool: Knows the region maps.
        images: The pool's images.
        predict: The model.

    Returns:
        See `alseg.labels.agreement.Agreement.described`; rows are what people said, columns the
        model. Besides, ``images`` that were compared, ``of`` all that were asked about. Units
        nobody was sure of are left out. None for answers that say nothing of pixels.
    """
    kind = KINDS[answers.answer]
    if not kind.covers_pixels:
        return None
    sure = ~answers.content.unsure
    said: list[NDArray[Any]] = []
    predicted: list[NDArray[Any]] = []
    groups = sorted(rows_by_image(answers.image), key=lambda group: -len(group[1]))
    for image, rows in groups[:_MOST_COMPARED]:
        rows = rows[sure[rows]]
        labels = predict(images, image).ravel()
        for row, where in zip(rows.tolist(), _places(answers, pool, image, rows), strict=True):
            said.append(_said(answers, row))
            found = implied(labels[where], kind.column, answers.num_classes)
            predicted.append(_members(found, answers.num_classes) if kind.column == "sets"
                             else np.asarray(found))  # fmt: skip
    alike = agreement(kind.column, said, predicted, answers.num_classes)
    names = [*images.classes.names, "void"]
    compared = {"images": min(len(groups), _MOST_COMPARED), "of": len(groups)}
    return {**alike.described(names, answers.answer), **compared}


def predicted_entries(
    pool: LabelPool, splits: DataSplits, predict: Predict, most: int
) -> list[PictureEntry]:
    """Predictions on images the model was not trained on: held out, and not labelled yet.

    Args:
        pool: Knows what was asked about.
        splits: The images.
        predict: The model.
        most: Images of either kind.
    """
    asked = set(pool.images().tolist())
    fresh = [index for index in range(len(splits.train)) if index not in asked]
    return [
        _predicted(images, index, predict, caption)
        for images, indices, caption in (
            (splits.val, list(range(len(splits.val))), "held out, not for training"),
            (splits.train, fresh, "nothing asked here yet"),
        )
        for index in _spread(indices, most)
    ]


def _predicted(images: ImageSet, index: int, predict: Predict, caption: str) -> PictureEntry:
    colors: NDArray[np.uint8] = np.asarray(images.classes.colors)
    pixels = shown(images.image(index))
    pictures = {
        "image": pixels,
        "prediction": label_overlay(pixels, predict(images, index), colors),
    }
    if images.has_truth:
        pictures["truth"] = label_overlay(pixels, images.truth(index), colors)
    return PictureEntry(images.names[index], caption, pictures)


def _spread(indices: Sequence[int], most: int) -> list[int]:
    """As many as wanted, from the first to the last."""
    if len(indices) <= most:
        return list(indices)
    return [indices[round(place)] for place in np.linspace(0, len(indices) - 1, most)]


def _places(
    answers: Answers, pool: LabelPool, image: int, rows: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Positions ``y * W + x`` of the pixels of units of an image."""
    if answers.regions == PIXELS:
        return list(answers.unit[rows][:, None])
    return pixels_of(pool.units_of(answers.regions, image, answers.unit[rows]))


def _said(answers: Answers, row: int) -> NDArray[Any]:
    if answers.masks is not None:
        return answers.masks[row]
    if answers.label is not None:
        return answers.label[row : row + 1]
    return answers.members(np.array([row]))[0]


def _members(ids: Any, num_classes: int) -> NDArray[np.bool_]:
    members = np.zeros(num_classes + 1, dtype=bool)
    members[ids] = True
    return members
