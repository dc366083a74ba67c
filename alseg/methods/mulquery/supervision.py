"""What the two stages learn from."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alseg.labels.pool import LabelPool
from alseg.labels.supervision import Target


@dataclass(frozen=True)
class ClassSets:
    """Stage 1: the class sets of the asked regions.

    Attributes:
        pool: Labels bought so far.
        regions: Version of the region maps.
        undefined: Whether void is a class of its own, the last one.
        images: Images with at least one set that is not empty.
    """

    pool: LabelPool
    regions: str
    undefined: bool
    images: NDArray[np.int64]

    @classmethod
    def of(cls, pool: LabelPool, regions: str, undefined: bool) -> "ClassSets":
        """Collect the images there is something to learn from."""
        every = cls(pool, regions, undefined, pool.images())
        usable = [i for i in every.images if len(every.sets(int(i))[0])]
        return cls(pool, regions, undefined, np.array(usable, dtype=np.int64))

    def sets(self, image: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Asked regions of an image that have a class, and their class sets.

        Returns:
            Region ids (K,) and members (K, C'), where C' = C + 1 with `undefined`, else C.
        """
        ids, members = [np.zeros(0, np.int64)], [np.zeros((0, self.num_outputs), bool)]
        for answers, rows in self.pool.answers(image):
            if answers.regions == self.regions:
                ids.append(answers.unit[rows])
                members.append(answers.members(rows)[:, : self.num_outputs])
        every, sets = np.concatenate(ids), np.concatenate(members)
        classed = sets.any(axis=1)
        return every[classed], sets[classed]

    @property
    def num_outputs(self) -> int:
        """C', the length of a class set."""
        return self.pool.num_classes + int(self.undefined)

    def __call__(self, image: int) -> Target:
        """``regions`` numbers the asked regions 0..K-1, -1 elsewhere; ``sets`` is (K, C'), bool."""
        ids, members = self.sets(image)
        maps = self.pool.maps[self.regions]
        number = np.full(int(maps.num_regions[image]) + 1, -1, dtype=np.int32)  # last: region -1
        number[ids] = np.arange(len(ids))
        return Target({"regions": number[maps[image]]}, {"sets": members})
