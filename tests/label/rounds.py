"""Rounds of every kind that wait for answers, and a person who answers by the truth."""

from dataclasses import replace

import numpy as np

from alseg.label.board import rolled
from alseg.label.session import read_session, write_session
from alseg.labels.budget import Budget
from alseg.labels.oracle import SimulatedOracle, answer_from_truth
from alseg.labels.pool import LabelPool
from alseg.labels.tables import PIXELS, Query
from tests.toys import BlockMaps, ToyImages, WholeMaps

#: name -> kind of unit, what is asked, side of the blocks.
KINDS = {
    "pixel": ("pixel", "class", None),
    "superpixel": ("region", "dominant", 8),
    "class_set": ("region", "class_set", 8),
    "correct": ("region", "correct", 8),
    "scene": ("image", "scene", None),
    "patch_mask": ("patch", "mask", 16),
    "image_mask": ("image", "mask", None),
}


class Asked:
    """A query about toy images, written as a waiting round."""

    def __init__(self, folder, name, rows=20, images=None, budget=None, seed=0, write=True):
        self.kind, self.answer, side = KINDS[name]
        whole = self.kind == "image"
        scenes = ("beach", "forest", "harbor") if self.answer == "scene" else ()
        self.images = images or ToyImages(rows if whole else 4, seed=seed, scenes=scenes)
        sizes = np.array([self.images.size(i) for i in range(len(self.images))])
        maps = []
        regions = PIXELS
        if whole:
            maps = [WholeMaps(sizes)]
        elif side:
            maps = [BlockMaps(sizes, side)]
        if maps:
            regions = maps[0].version
        self.pool = LabelPool(sizes, len(self.images.classes), budget or Budget(1e9), maps)
        rng = np.random.default_rng(seed)
        counts = self.pool.num_units(regions)
        every = [(i, u) for i, n in enumerate(counts.tolist()) for u in range(n)]
        drawn = rng.permutation(len(every))[:rows]
        image, unit = np.array([every[k] for k in drawn.tolist()], dtype=np.int64).T
        score = np.linspace(1, 0, len(drawn), dtype=np.float32)
        suggested = None
        if self.answer == "correct":  # some are right, some are not, some are void
            suggested = rng.choice(np.array([0, 1, 2, 255], np.uint8), len(drawn))
        self.query = Query(0, self.kind, self.answer, regions, image, unit, score, suggested)
        if self.kind == "image" and self.answer == "mask":  # some are in no hurry
            self.query = replace(self.query, score=score[::-1].copy())
        self.round = folder / "round_000"
        if write:
            self.session = write_session(self.query, self.pool, self.images, self.round)
            self.query.save(self.round / "query.npz")

    def read(self):
        return read_session(self.round)

    def truth(self):
        """What `SimulatedOracle` says of every row, whatever it costs."""
        return answer_from_truth(self.query, self.pool, self.images, trim=5, vote_void=True)

    def suggested(self, row):
        """What a row of the query suggests, in the form the page sends; "" where it does not."""
        if self.query.suggested is None:
            return ""
        label = int(self.query.suggested[row])
        return None if label == 255 else label

    def bought(self):
        """What `SimulatedOracle` answers."""
        return SimulatedOracle().answer(self.query, self.pool, self.images, self.round)

    def values(self):
        """The true answers in the form the page sends."""
        truth = self.truth()
        if self.answer == "mask":
            return [rolled(mask) for mask in truth.masks]
        if self.answer == "class_set":
            return [np.flatnonzero(row).tolist() for row in truth.members()]
        return [None if label == 255 else int(label) for label in truth.label]


def same(answers, others):
    """Whether two tables of answers say the same, seconds apart."""
    for name in ("round", "kind", "answer", "regions", "num_classes"):
        if getattr(answers, name) != getattr(others, name):
            return False
    for name in ("image", "unit", "label", "sets"):
        a, b = getattr(answers, name), getattr(others, name)
        if (a is None) != (b is None) or (a is not None and not np.array_equal(a, b)):
            return False
    masks = zip(answers.masks or (), others.masks or (), strict=True)
    return all(np.array_equal(a, b) for a, b in masks)
