"""Waiting rounds of every kind of answer, and what a person who knows everything says of them."""

from dataclasses import replace

import numpy as np

from alseg.core.images import VOID
from alseg.label.session import write_session
from alseg.labels.human import read_answers
from tests.label.rounds import Asked

KINDS = ("pixel", "superpixel", "class_set", "scene", "patch_mask", "image_mask", "correct")
#: Kinds whose answers are painted.
PAINTED = ("patch_mask", "image_mask")


class Waiting(Asked):
    """`tests.label.rounds.Asked`, and a round of labels to confirm or correct."""

    def __init__(self, folder, name, rows=8, images=None, seed=0):
        plain = "superpixel" if name == "correct" else name
        super().__init__(folder, plain, rows=rows, images=images, seed=seed, write=False)
        if name == "correct":
            suggested = self.truth().label.copy()
            suggested[::2] = 2
            self.query = replace(self.query, answer="correct", suggested=suggested)
            self.answer = "correct"
        self.session = write_session(self.query, self.pool, self.images, self.round)
        self.query.save(self.round / "query.npz")

    def words(self):
        """What is true of each row, in words; of masks nothing."""
        if self.answer == "mask":
            return {}
        truth, names = self.truth(), [*self.session.names, "void"]
        rows = [np.flatnonzero(row) for row in truth.members()]
        return {row: [names[label] for label in ids] for row, ids in enumerate(rows)}

    def labels(self, sheet):
        """What is true of the pixels of a sheet, at whatever size it is shown."""
        truth = self.images.truth(sheet.image)
        top, left = sheet.corner
        return truth[top : top + sheet.height, left : left + sheet.width]

    def read(self):
        """What the run reads of the answers file."""
        return read_answers(self.round / "answers.csv", self.query, self.pool, self.images)


def names_of(labels, names):
    """The words of labels."""
    return [
        ("void" if label == VOID else names[label], labels == label)
        for label in np.unique(labels).tolist()
    ]
