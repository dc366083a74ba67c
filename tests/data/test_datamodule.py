from dataclasses import replace

import numpy as np
import pytest
import torch

from alseg.active.stage import Fit
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.data.datamodule import TrainItems, WholeImages
from alseg.data.transforms import EvalTransform, TrainTransform
from alseg.labels.supervision import Target
from tests.toys import BlockMaps, ToyImages, toy_run


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
    batch = items[[(0, 11), (1, 12)]]
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
    first = items.item(0, 5)["image"]
    items.item(1, 9)
    assert torch.equal(first, items.item(0, 5)["image"])
    assert not torch.equal(first, items.item(0, 6)["image"])


def test_a_fit_may_change_the_transform(tmp_path):
    run = toy_run(tmp_path)
    supervision, module = Truth(run.splits.train), run.datamodule
    module.train_transform = replace(module.train_transform, blur=1.0, scale=(1.0, 1.0))
    read = {}
    for name, augment in (("blurred", {}), ("sharp", {"blur": 0.0})):
        module.begin_fit(Fit(3, 2, 3, augment=augment), supervision, (0,))
        read[name] = torch.cat([batch["image"] for batch in module.train_dataloader()])
    plain = replace(module.train_transform, blur=0.0)
    module.train_transform = plain
    module.begin_fit(Fit(3, 2, 3), supervision, (0,))
    again = torch.cat([batch["image"] for batch in module.train_dataloader()])
    assert torch.equal(read["sharp"], again)
    assert not torch.equal(read["blurred"], again)


def test_whole_images_come_with_regions_or_truth():
    images = ToyImages(4)
    maps = BlockMaps([(32, 48)] * 4)
    item = WholeImages(images, np.array([2, 0]), EvalTransform(), maps)[0]
    assert item["index"] == 2
    assert np.array_equal(item["maps"]["regions"].numpy(), maps[2])
    assert set(item["maps"]) == {"regions"}
    item = WholeImages(images, np.array([2, 0]), EvalTransform(), truth=True)[1]
    assert np.array_equal(item["maps"]["target"].numpy(), images.truth(0))


class OneOf:
    """Stands for a trainer of several processes."""

    def __init__(self, rank, world):
        self.global_rank, self.world_size = rank, world


def predicted(run, rank=0, world=1):
    run.datamodule.trainer = OneOf(rank, world)
    return list(run.datamodule.predict_dataloader())


def test_a_pass_serves_the_truth_where_it_was_asked_for(tmp_path):
    run = toy_run(tmp_path)
    images = np.array([4, 1, 2])
    run.datamodule.begin_pass(images, "blocks")
    (batch,) = predicted(run)
    assert batch.keys() == {"index", "image", "regions"}
    run.datamodule.begin_pass(images, "blocks", truth=True)
    (batch,) = predicted(run)
    assert batch.keys() == {"index", "image", "regions", "target"}
    assert batch["index"].tolist() == [4, 1, 2]
    for index, target in zip(images, batch["target"].numpy(), strict=True):
        assert np.array_equal(target, run.splits.train.truth(index))
    run.datamodule.begin_pass(images, "blocks")
    assert "target" not in predicted(run)[0], "the next pass is another"


def test_a_process_without_an_image_repeats_one_without_its_truth(tmp_path):
    run = toy_run(tmp_path)
    run.datamodule.begin_pass(np.array([3]), "blocks", truth=True)
    (own,), (repeated,) = (predicted(run, rank, 2) for rank in (0, 1))
    assert own["index"].tolist() == repeated["index"].tolist() == [3]
    assert (own["target"] != VOID).any()
    assert (repeated["target"] == VOID).all()
    assert torch.equal(own["image"], repeated["image"])


class Everything:
    """Supervision by the ground truth of all images."""

    def __init__(self, images):
        self.data = images
        self.images = np.arange(len(images))

    def __call__(self, image):
        return Target({"target": self.data.truth(image)}, {})


def test_whole_passes_are_shared_by_more_processes_than_images(tmp_path):
    run = toy_run(tmp_path)
    supervision = Everything(run.splits.train)
    run.datamodule.begin_fit(Fit.passes(1, 6, 1), supervision, (0,))
    run.datamodule.trainer = OneOf(0, 2)
    assert len(run.datamodule.train_dataloader()) == 6
    run.datamodule.begin_fit(Fit(6, batch_size=3), supervision, (0,))
    with pytest.raises(UserError, match="3 images per batch, which 2 devices cannot share"):
        run.datamodule.train_dataloader()
