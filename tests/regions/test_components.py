import numpy as np
import pytest

from alseg.cli.compose import options
from alseg.core.errors import UserError
from alseg.core.images import VOID, WithoutTruth
from alseg.regions.components import Components
from alseg.regions.maps import extract_regions
from tests.toys import ToyImages

LABELS = np.array(
    [
        [0, 0, 1, 1],
        [2, 0, 1, 0],
        [0, 2, 2, VOID],
        [0, 0, 2, VOID],
    ],
    dtype=np.uint8,
)
#: A corner connects nothing.
PIECES = [
    [0, 0, 1, 1],
    [2, 0, 1, 3],
    [4, 5, 5, 6],
    [4, 4, 5, 6],
]


class Relabelled(ToyImages):
    """The same pictures with other labels."""

    def truth(self, index):
        return np.roll(super().truth(index), 3, axis=1)


def test_pieces_by_hand():
    found = Components(reads_truth=True).of_truth(LABELS)
    assert found.tolist() == PIECES
    assert found.dtype == np.int32


def test_maps_are_of_the_labels_and_follow_them(tmp_path):
    source = Components(reads_truth=True)
    images = ToyImages(2)
    maps = extract_regions(source, images, tmp_path, 0, progress=False)
    for index in range(2):
        truth = images.truth(index)
        for region in range(int(maps.num_regions[index])):
            assert len(np.unique(truth[maps[index] == region])) == 1
        assert (maps[index] >= 0).all()
    others = extract_regions(source, Relabelled(2), tmp_path, 0, progress=False)
    assert np.array_equal(others[0], source.of_truth(Relabelled(2).truth(0)))
    assert not np.array_equal(others[0], maps[0]), "kept maps of other labels are not taken"


def test_are_refused_unless_it_is_said_that_truth_is_read():
    with pytest.raises(UserError, match=r"give regions\.reads_truth=true for an experiment"):
        Components().check(ToyImages(1))
    with pytest.raises(UserError, match="these have none"):
        Components(reads_truth=True).check(WithoutTruth(ToyImages(1)))
    with pytest.raises(UserError, match="a is a picture without any"):
        Components(reads_truth=True)(np.zeros((2, 2, 3), np.uint8), "a")
    Components(reads_truth=True).check(ToyImages(1))
    made = options("regions=components", "regions.reads_truth=true")
    assert made.components["regions"] == Components(reads_truth=True)
