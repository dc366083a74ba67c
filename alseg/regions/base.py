"""What it takes to cut images into units."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.regions.runs import Runs

#: What one region of a map is called.
Unit = Literal["pixel", "patch", "region", "image"]

_NAMED = 50  # more names do not make an error clearer


class RegionSource(Protocol):
    """A way to cut one image into regions. Sources are frozen dataclasses and can be pickled.

    A source that looks at the labels has ``reads_truth`` and, instead of `__call__`, a method
    ``of_truth(labels)``, see `alseg.regions.components`.

    Attributes:
        unit: What one region is.
    """

    unit: ClassVar[Unit]

    def parameters(self) -> dict[str, Any]:
        """Everything that decides the result, as JSON: at least ``name``, the source's name.

        Maps with equal parameters of one image are equal, so this is a part of the cache key.
        """
        ...

    def check(self, images: ImageSet) -> None:
        """Find out, cheaply and before any long work, whether these images can be cut.

        Raises:
            UserError: If not; the sentence names all the images at fault.
        """
        ...

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        """Cut an image.

        Args:
            image: (H, W, 3), uint8, RGB.
            name: Name of the image in its `ImageSet`.

        Returns:
            Region id of each pixel, (H, W), int32: 0..R-1, or -1 for pixels in no region. Ids may
            have holes: an id without a pixel is no region.
        """
        ...


class Maps(Protocol):
    """The region maps of all pool images, one version of them (see `alseg.regions`).

    Maps that can tell without unpacking pixels have methods ``runs(index)`` and
    ``region_sizes(index)``, see `runs_of` and `sizes_of`.
    """

    version: str
    num_regions: NDArray[np.int64]

    def __getitem__(self, index: int) -> NDArray[np.int32]:
        """Region ids of an image, (H, W), int32, -1 = in no region."""
        ...


def runs_of(maps: Maps, index: int) -> Runs:
    """The map of an image as runs of equal ids."""
    own = getattr(maps, "runs", None)
    runs: Runs = Runs.of(maps[index]) if own is None else own(index)
    return runs


def sizes_of(maps: Maps, index: int) -> NDArray[np.int64]:
    """Pixels of every region of an image, (R,), int64; 0 for ids without a pixel."""
    own = getattr(maps, "region_sizes", None)
    if own is not None:
        return np.asarray(own(index))
    return runs_of(maps, index).sizes(int(maps.num_regions[index]))


def reads_truth(source: RegionSource) -> bool:
    """Whether regions are cut by the ground truth."""
    return bool(getattr(source, "reads_truth", False))


def map_version(parameters: Mapping[str, Any]) -> str:
    """Name of the maps that a source with these parameters makes, such as ``seeds-3f2a91c0``.

    >>> map_version({"name": "grid", "rows": 5, "cols": 5})
    'grid-d305d320'
    """
    text = json.dumps(parameters, sort_keys=True)
    return f"{parameters['name']}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def listed(problems: Sequence[str]) -> str:
    """Join problems for an error, the first 50 in full."""
    more = [f"and {len(problems) - _NAMED} more"] if len(problems) > _NAMED else []
    return "; ".join([*problems[:_NAMED], *more])


def positive(field: str, value: int | None) -> None:
    """Check an option that counts something.

    Raises:
        UserError: If the value is below 1.
    """
    if value is not None and value < 1:
        raise UserError(f"regions.{field} is {value}; give a whole number of at least 1.")
