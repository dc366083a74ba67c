"""The sheets of a round: what is shown to a tool, and where a unit lies on it."""

import io
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.images import VOID, shown
from alseg.exchange.model import Box, Question, Sheet, Task
from alseg.exchange.place import Place
from alseg.label.pictures import Pictures
from alseg.label.session import Picture, Session
from alseg.label.suggestions import Suggestions
from alseg.labels.answerfile import VOID_WORD
from alseg.labels.pool import rows_by_image

#: Digits of a round's digest that are part of the names of its sheets.
_DIGITS = 8


def make_task(
    session: Session, rows: Sequence[int], crops: bool, suggestions: Suggestions | None = None
) -> Task:
    """What a tool is to show of some rows.

    Args:
        session: The round that waits.
        rows: Numbers of the rows.
        crops: A crop of about twice its size for each row, in the place of whole images.
        suggestions: What a model would answer.
    """
    pictures = Pictures(session)
    sheets = []
    asked = np.array(sorted(rows), dtype=np.int64)
    for image, places in rows_by_image(session.query.image[asked]):
        numbers = asked[places].tolist()
        for group in [[row] for row in numbers] if crops else [numbers]:
            sheets.append(_sheet(session, pictures, image, group, crops, suggestions))
    if crops:
        sheets.sort(key=lambda sheet: sheet.questions[0].row)
    files = {image: str(session.path(image)) for image in {sheet.image for sheet in sheets}}
    query = session.query
    return Task(query.answer, query.kind, session.names, session.colors, tuple(sheets), files)


def _place_of(session: Session, row: int, crops: bool, pictures: Pictures) -> tuple[Place, Box]:
    """Where an image lies on the sheet of a row, and the part of the file that the sheet shows.

    An image that the run enlarges is shown as the run loads it: its sheet is no part of the file,
    and the box is that of the loaded image.
    """
    picture = session.pictures[int(session.query.image[row])]
    if min(picture.scale) < 1:
        return Place((0.0, 0.0), (1.0, 1.0), picture.size), Box(0, 0, *picture.size)
    if crops:
        crop = pictures.crop(row)
        part = Box(crop.top, crop.left, crop.top + crop.height, crop.left + crop.width)
    else:
        part = _whole(picture)
    offset = (picture.box[0] - part.top, picture.box[1] - part.left)
    return Place(offset, picture.scale, (part.height, part.width)), part


def _whole(picture: Picture) -> Box:
    """The pixels of a file that an image touches."""
    top, left = (math.floor(side + 1e-6) for side in picture.box[:2])
    bottom, right = (
        min(math.ceil(side - 1e-6), most)
        for side, most in zip(picture.box[2:], picture.file_size, strict=True)
    )
    return Box(top, left, bottom, right)


def _sheet(
    session: Session,
    pictures: Pictures,
    image: int,
    rows: Sequence[int],
    crops: bool,
    suggestions: Suggestions | None,
) -> Sheet:
    place, part = _place_of(session, rows[0], crops, pictures)
    number = f"row_{rows[0]:06d}" if crops else f"image_{image:06d}"
    enlarged = min(session.pictures[image].scale) < 1
    make: Callable[[], bytes] = partial(_picture, pictures, image, None if enlarged else part)
    return Sheet(
        name=f"round_{session.query.round:03d}_{session.digest[:_DIGITS]}_{number}",
        image=image,
        place=place,
        corner=None if enlarged else (part.top, part.left),
        questions=tuple(_question(session, row, place, suggestions) for row in rows),
        picture=make,
    )


def _picture(pictures: Pictures, image: int, part: Box | None) -> bytes:
    pixels = pictures.whole(image) if part is None else pictures.part(image, *part)
    buffer = io.BytesIO()
    Image.fromarray(shown(pixels)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _question(
    session: Session, row: int, place: Place, suggestions: Suggestions | None
) -> Question:
    top, left, bottom, right = session.boxes[row].tolist()
    y0, y1 = place.span(0, top, bottom)
    x0, x1 = place.span(1, left, right)
    y = np.clip(place.loaded(0, y0, y1) - top, 0, bottom - top - 1)
    x = np.clip(place.loaded(1, x0, x1) - left, 0, right - left - 1)
    inside = session.mask(row)
    words, labels = _suggested(session, row, suggestions)
    if labels is not None:
        labels = labels[np.ix_(y, x)]
    return Question(
        row=row,
        box=Box(y0, x0, y1, x1),
        mask=inside[np.ix_(y, x)],
        point=place.point((top + bottom) / 2, (left + right) / 2),
        words=words,
        labels=labels,
    )


def _suggested(
    session: Session, row: int, suggestions: Suggestions | None
) -> tuple[tuple[str, ...], NDArray[np.uint8] | None]:
    """What is suggested: words, or the labels of the pixels of a row's loaded box."""
    query, known = session.query, [*session.names, VOID_WORD]
    if query.suggested is not None:
        return (known[min(int(query.suggested[row]), len(session.names))],), None
    if suggestions is None:
        return (), None
    hint = suggestions[row]
    if query.answer == "mask":
        inside = session.mask(row)
        labels = np.full(inside.shape, VOID, dtype=np.uint8)
        labels[inside] = hint
        return (), labels
    ids = hint if isinstance(hint, list) else [hint]
    return tuple(known[min(int(label), len(session.names))] for label in ids), None
