"""Scene classes, which the classifier learns: one per image."""

import re
from collections.abc import Sequence

from alseg.errors import unknown_name

#: Scenes of UC Merced, in the order of their ids.
UCMERCED = (
    *("agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral"),
    *("denseresidential", "forest", "freeway", "golfcourse", "harbor", "intersection"),
    *("mediumresidential", "mobilehomepark", "overpass", "parkinglot", "river", "runway"),
    *("sparseresidential", "storagetanks", "tenniscourt"),
)


def scene_of_name(name: str, scenes: Sequence[str] = UCMERCED) -> int:
    """Scene class of an image: the letters its file name starts with.

    Args:
        name: Name of an image; folders before it do not count.
        scenes: Names of the scenes, in the order of their ids.

    Raises:
        UserError: If the name starts with no scene.

    >>> scene_of_name("UCMerced_Images/beach07")
    3
    """
    letters = re.match("[a-z]*", name.rpartition("/")[2].lower())
    scene = letters[0] if letters else ""
    if scene not in scenes:
        raise unknown_name(f"scene of image {name!r}:", scene, scenes)
    return scenes.index(scene)
