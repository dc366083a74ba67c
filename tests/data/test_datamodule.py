import numpy as np
import torch

from alseg.active.method import Target
from alseg.data.datamodule import TrainItems, WholeImages, collate
from alseg.data.transforms import EvalTransform, TrainTransform
from alseg.images import VOID
from tests.toys import BlockMaps, ToyImages


class Truth:
    """Supervision by the ground truth and by tables of different lengths."""

    def __init__(self, images):
        self.data = images
        self.images = np.array([3, 1])

    def __call__(self, image):
        rows = np.ones((image, 2), dtype=bool)
        return Target({"target": self.data.truth(image)}, {"sets": rows})


def transform():
    return TrainTransform(
        crop=(32, 48), scale=(1.0, 1.0), flip=0.0, pad_maps={"target": VOID, "regions": -1}
    )


def test_training_items_pair_images_with_their_targets():
    images = ToyImages(4)
    items = TrainItems(images, Truth(images), transform())
    batch = collate([items[0, 11], items[1, 12]])
    assert batch["index"].tolist() == [3, 1]
    assert batch["image"].shape == (2, 3, 32, 48)
    assert np.array_equal(batch["target"][0].numpy(), images.truth(3))
    assert np.array_equal(batch["target"][1].numpy(), images.truth(1))
    assert batch["sets"].shape == (2, 3, 2)
    assert batch["sets"].dtype == torch.bool
    assert batch["sets"].sum(dim=(1, 2)).tolist() == [6, 2]


def test_an_item_depends_on_its_seed_alone():
    images = ToyImages(4)
    augment = TrainTransform(crop=(24, 24), pad_maps={"target": VOID})
    items = TrainItems(images, Truth(images), augment)
    first = items[0, 5]["image"]
    items[1, 9]
    assert torch.equal(first, items[0, 5]["image"])
    assert not torch.equal(first, items[0, 6]["image"])


def test_whole_images_come_with_regions_or_truth():
    images = ToyImages(4)
    maps = BlockMaps([(32, 48)] * 4)
    item = WholeImages(images, np.array([2, 0]), EvalTransform(), maps)[0]
    assert item["index"] == 2
    assert np.array_equal(item["maps"]["regions"].numpy(), maps[2])
    assert set(item["maps"]) == {"regions"}
    item = WholeImages(images, np.array([2, 0]), EvalTransform(), truth=True)[1]
    assert np.array_equal(item["maps"]["target"].numpy(), images.truth(0))
