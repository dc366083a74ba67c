import numpy as np
import pytest
import torch

from alseg.active.segmentation import Segmentation
from alseg.core.errors import UserError
from alseg.data.arrays import ArrayImages
from alseg.data.datamodule import ActiveDataModule
from alseg.labels.budget import Budget
from alseg.labels.pool import LabelPool
from alseg.regions.simple import Grid
from tests.data.make import picture

IMAGES = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
MASKS = np.array([[[0, 1, 1, 255, 0]] * 4, [[1] * 5] * 4])


def test_arrays_are_an_image_set_and_two_splits():
    val = ArrayImages(IMAGES[:1], MASKS[:1], ["a", "b"])
    data = ArrayImages(IMAGES, MASKS, ["a", "b"], val=val)
    assert repr(data) == "ArrayImages(2 images with masks, 2 classes)"
    assert data.train is data
    assert data.val is val
    assert len(val.val) == 0
    assert data.size(1) == (4, 5)
    assert np.array_equal(data.image(1), IMAGES[1])
    assert data.truth(0).dtype == np.uint8
    assert np.array_equal(data.truth(0), MASKS[0])
    assert data.names == ("image_00000", "image_00001")
    assert data.fingerprint(0) != data.fingerprint(1)
    assert data.fingerprint(0) == val.fingerprint(0)
    data.image(0)[:] = 0
    assert data.image(0).any(), "what is handed out is a copy"


@pytest.mark.parametrize(
    ("images", "masks", "names", "sentence"),
    [
        (IMAGES[..., 0], None, None, r"give images \(H, W, 3\), uint8"),
        (IMAGES.astype(float), None, None, "is float64"),
        (IMAGES, MASKS[:1], None, "2 images cannot have 1 masks"),
        (IMAGES, MASKS[:, :3], None, r"integers\) of shape \(4, 5\)"),
        (IMAGES, MASKS + 2, None, "the mask of image_00000 holds the id 2"),
        (IMAGES, MASKS / 2, None, "is float64"),
        (IMAGES, None, ["x", "x"], "as many different names"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(images, masks, names, sentence):
    with pytest.raises(UserError, match=sentence):
        ArrayImages(images, masks, ["a", "b"], names=names)


def test_arrays_of_other_channels_reach_a_network():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 16, 24, 5), dtype=np.uint8)
    data = ArrayImages(images, np.zeros((2, 16, 24), int), ["a", "b"])
    assert data.channels == 5
    pool = LabelPool.of(data.train, Grid((8, 8)), Budget(2))
    module = ActiveDataModule(data, pool, crop=(32, 32))
    batch = module.train_transform(data.image(0), {}, 1)[0]
    assert batch.shape == (5, 32, 32)
    options = {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}
    model = Segmentation("Unet", "resnet18", 2, options=options, in_channels=5)
    with torch.no_grad():
        assert model.network.eval()(batch[None]).shape == (1, 2, 32, 32)
    with pytest.raises(UserError, match="image_00001 has 3 channels, image_00000 5"):
        ArrayImages([images[0], images[1, ..., :3]], None, ["a", "b"])


def test_no_masks_no_truth():
    with pytest.raises(UserError, match="have no masks"):
        ArrayImages(IMAGES, None, ["a"]).truth(0)


def test_classes_that_no_mask_shows_are_told(caplog):
    images = [picture(4, 4, seed) for seed in range(2)]
    bits = np.array([[0, 1], [1, 0]], np.uint8).repeat(2, 0).repeat(2, 1)
    ArrayImages(images, [bits, bits], ["bg", "object"])
    assert not caplog.text
    ArrayImages(images, [bits * 255, bits * 255], ["bg", "object"])
    assert "No mask of these arrays shows object, and 255 is read as void." in caplog.text
    with pytest.raises(UserError, match="the 1 masks hold nothing but void"):
        ArrayImages(images[:1], [np.full((4, 4), 255)], ["bg", "object"])
