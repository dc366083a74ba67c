import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from alseg.core.centre import centre_square
from alseg.core.errors import UserError
from alseg.data.crops import CentreCrops
from alseg.data.voc import VOC
from tests.data.make import ids, palette_png, picture, save
from tests.toys import ToyImages


@pytest.mark.parametrize(
    ("size", "resized", "top", "left"),
    [
        ((375, 500), (513, 684), 0, 86),  # 85.5, to the even number
        ((500, 375), (684, 513), 86, 0),
        ((333, 500), (513, 770), 0, 128),  # 128.5, to the even number
        ((513, 513), (513, 513), 0, 0),
        ((200, 200), (513, 513), 0, 0),
    ],
)
def test_squares_by_hand(size, resized, top, left):
    assert centre_square(*size, 513) == (resized, top, left)


@pytest.mark.parametrize("size", [(32, 48), (50, 31)])
def test_pictures_and_labels_are_those_of_torchvision(size):
    images = ToyImages(2, size)
    crops = CentreCrops(images, 24)
    cut = v2.Compose([v2.Resize(24), v2.CenterCrop(24)])
    for index in range(2):
        expected = np.asarray(cut(Image.fromarray(images.image(index))))
        assert np.array_equal(crops.image(index), expected)
        assert crops.image(index).shape == (*crops.size(index), 3)
        nearest = v2.Resize(24, interpolation=v2.InterpolationMode.NEAREST_EXACT)
        labels = torch.from_numpy(images.truth(index))[None]
        assert np.array_equal(crops.truth(index), v2.CenterCrop(24)(nearest(labels))[0].numpy())
    assert len(crops) == 2
    assert crops.names == images.names
    assert crops.fingerprint(0) != images.fingerprint(0)
    assert crops.has_truth == images.has_truth
    assert crops.scenes == images.scenes


def test_voc_may_be_scored_on_its_centre(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    palette = np.arange(256)[:, None].repeat(3, axis=1)
    for name in ("a", "b"):
        save(root / "JPEGImages" / f"{name}.jpg", picture(24, 40))
        palette_png(root / "SegmentationClass" / f"{name}.png", ids(24, 40, classes=21), palette)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    splits = VOC(str(tmp_path), centre=12).splits(progress=False)
    assert splits.train.size(0) == (24, 40)
    assert splits.val.size(0) == (12, 12)
    assert np.array_equal(splits.val.truth(0), ids(24, 40, classes=21)[1::2, 9:33:2])
    with pytest.raises(UserError, match=r"data.centre is 0; give pixels"):
        VOC("x", centre=0)
