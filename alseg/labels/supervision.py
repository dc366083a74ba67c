"""The supervision most methods share: label maps, painted from the answers or read from files."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alseg.core.images import VOID
from alseg.labels.imagefiles import ImageFiles
from alseg.labels.pool import LabelPool
from alseg.labels.tables import PIXELS, AnswerKind


class Target(NamedTuple):
    """What is known about one training image, for a batch.

    Attributes:
        maps: Integer maps (H, W) that are augmented together with the image: ``regions``, -1
            where there is nothing, or ``target``, VOID where there is nothing.
        tables: Arrays whose first axis differs between images; padded with zeros in a batch.
    """

    maps: dict[str, NDArray[Any]]
    tables: dict[str, NDArray[Any]]


class Supervision(Protocol):
    """What a stage learns from. Picklable: loader workers call it."""

    @property
    def images(self) -> NDArray[np.int64]:
        """Pool images to train on; a pass over them is shuffled, and follows upon a pass."""
        ...

    def __call__(self, image: int) -> Target:
        """Target of one of the images."""
        ...


@dataclass(frozen=True)
class LabelMaps:
    """Label maps of everything that was answered, see `LabelPool.render`.

    Attributes:
        pool: Labels bought so far.
        kinds: Kinds of answers that count; None = all.
    """

    pool: LabelPool
    kinds: tuple[AnswerKind, ...] | None = None

    @property
    def images(self) -> NDArray[np.int64]:
        """Images with answers."""
        return self.pool.images(self.kinds)

    def __call__(self, image: int) -> Target:
        """``target`` is the label map, (H, W), uint8, VOID where nothing is known."""
        return Target({"target": self.pool.render(image, self.kinds)}, {})


@dataclass(frozen=True)
class LabelsAndVoid(LabelMaps):
    """Label maps in which pixels answered with void have a number of their own.

    Whoever could not tell counts as having said void: such a click teaches as little.
    """

    def __call__(self, image: int) -> Target:
        """``target``: label map, (H, W), uint8, C where the answer was void, VOID if unknown."""
        labels, kinds = self.pool.render(image, self.kinds), self.kinds
        for answers, rows in self.pool.answers(image):
            counts = kinds is None or answers.answer in kinds
            if answers.regions == PIXELS and counts and answers.label is not None:
                void = answers.unit[rows][answers.label[rows] == VOID]
                labels.reshape(-1)[void] = self.pool.num_classes
        return Target({"target": labels}, {})


@dataclass(frozen=True)
class LabelFiles:
    """Label maps that the preparation of a stage wrote.

    Attributes:
        folder: Holds one ``<image index>.png`` per image, uint8, VOID = no label.
        images: The images, ascending, (n,), int64.
    """

    folder: Path
    images: NDArray[np.int64]

    @property
    def files(self) -> ImageFiles:
        """The files."""
        return ImageFiles(self.folder, ending="png")

    def path(self, image: int) -> Path:
        """File of an image."""
        return self.files.path(image)

    def missing(self) -> NDArray[np.int64]:
        """Images whose file is not there yet."""
        return self.files.missing(self.images)

    def write(self, image: int, labels: NDArray[np.uint8]) -> None:
        """Write the label map of an image, (H, W), uint8: the whole file or none."""
        buffer = io.BytesIO()
        Image.fromarray(labels).save(buffer, "PNG")
        self.files.save(image, buffer.getvalue())

    def __call__(self, image: int) -> Target:
        """``target`` is the label map, (H, W), uint8."""
        with Image.open(self.path(image)) as file:
            return Target({"target": np.asarray(file)}, {})


@dataclass(frozen=True)
class Streams:
    """Several supervisions of one stage, such as images with labels and images without.

    A batch of the stage is one batch of each, by its name, and each has an order of its own.

    Attributes:
        streams: What each stream learns from. Two may be the same.
    """

    streams: Mapping[str, Supervision]

    @property
    def images(self) -> NDArray[np.int64]:
        """All images; none if a stream has none, for then there is nothing to train on."""
        parts = [stream.images for stream in self.streams.values()]
        if not all(len(part) for part in parts):
            return np.zeros(0, dtype=np.int64)
        return np.unique(np.concatenate(parts))

    def __call__(self, image: int) -> Target:
        """Refused: a target is one stream's."""
        raise TypeError("a target belongs to one of the streams")


@dataclass(frozen=True)
class Unlabelled:
    """Images without anything that is known about them.

    Attributes:
        images: The images, (n,), int64.
        sizes: Height and width of every pool image, (N, 2).
    """

    images: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __call__(self, image: int) -> Target:
        """``inside`` is 1 on the picture, (H, W), uint8, and 0 where a batch pads it."""
        height, width = self.sizes[image]
        return Target({"inside": np.ones((height, width), dtype=np.uint8)}, {})
