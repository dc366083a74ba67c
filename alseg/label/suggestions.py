"""What the model of the round before would answer, shown if it is asked for."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.files import write_atomic
from alseg.core.images import VOID
from alseg.label.session import Session
from alseg.labels.agreement import implied
from alseg.labels.pool import rows_by_image
from alseg.labels.tables import load_arrays

#: A class id or None for void, the ids of a set, or the labels of a unit's pixels.
Suggestion = Any


class Suggestions:
    """Suggested answers, by row.

    Args:
        rows: The suggestions, in the order of the query.
    """

    def __init__(self, rows: list[Suggestion]) -> None:
        self.rows = rows

    def __getitem__(self, row: int) -> Suggestion:
        return self.rows[row]


def of_query(session: Session) -> Suggestions | None:
    """What the query itself suggests, None if it suggests nothing."""
    labels = session.query.suggested
    if labels is None:
        return None
    return Suggestions([None if label == VOID else label for label in labels.tolist()])


def make_suggestions(session: Session, predict: Callable[[int], NDArray[np.uint8]]) -> Suggestions:
    """Suggest an answer to every row, and keep them beside the session.

    Args:
        session: What is asked.
        predict: Predicted classes of an image at the size the run loads it, (H, W), uint8.

    Raises:
        UserError: For scenes, which a segmentation says nothing of.
    """
    if not session.kind.covers_pixels:
        raise UserError(
            "suggestions come from the segmentation model, which does not know scenes; leave them "
            "off."
        )
    rows: list[Suggestion] = [None] * len(session)
    for image, numbers in rows_by_image(session.query.image):
        labels = predict(image)
        if labels.shape != session.pictures[image].size:
            raise ValueError(f"a prediction of {labels.shape} for {session.pictures[image].size}")
        for row in numbers.tolist():
            top, left, bottom, right = session.boxes[row].tolist()
            inside = labels[top:bottom, left:right][session.mask(row)]
            rows[row] = implied(inside, session.column, session.num_classes)
    write_suggestions(session, rows)
    return Suggestions(rows)


def write_suggestions(session: Session, rows: list[Suggestion]) -> None:
    """Keep suggestions in ``suggestions.npz``."""
    arrays: dict[str, Any] = {"digest": np.frombuffer(session.digest.encode(), np.uint8)}
    if session.column == "masks":
        arrays["masks"] = np.concatenate([np.zeros(0, np.uint8), *rows])
    else:
        text = json.dumps(rows).encode()
        arrays["rows"] = np.frombuffer(text, np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_atomic(session.folder / "suggestions.npz", buffer.getvalue())


def read_suggestions(session: Session) -> Suggestions | None:
    """What `write_suggestions` kept for these questions, or None."""
    path = session.folder / "suggestions.npz"
    if not path.exists():
        return None
    arrays = load_arrays(path)
    if arrays["digest"].tobytes().decode() != session.digest:
        return None
    if "masks" in arrays:
        return Suggestions(np.split(arrays["masks"], np.cumsum(session.pixels)[:-1]))
    return Suggestions(json.loads(arrays["rows"].tobytes()))


def suggest_from_run(session: Session, run_dir: Path) -> Suggestions:
    """Suggestions of the model that the run trained last before it asked.

    Raises:
        UserError: In round 0, or where its checkpoint is gone.
    """
    kept = of_query(session) or read_suggestions(session)
    if kept is not None:
        return kept
    from alseg.inference.trained import newest_segmenter, predict_labels

    if session.query.round == 0:
        raise UserError("there is no model to suggest answers in round 0; leave suggestions off.")
    before = run_dir / f"round_{session.query.round - 1:03d}"
    model = newest_segmenter(before)
    if model is None:
        raise UserError(f"{before} holds no checkpoint to suggest answers with; leave them off.")
    if model.classes.names != session.names:
        raise UserError(f"the model of {before} knows other classes than the run asks about.")

    def predict(image: int) -> NDArray[np.uint8]:
        from alseg.label.pictures import Pictures

        pixels = Pictures(session).whole(image)
        labels = predict_labels(model, pixels, resize=False)
        return np.where(labels < session.num_classes, labels, VOID).astype(np.uint8)

    return make_suggestions(session, predict)
