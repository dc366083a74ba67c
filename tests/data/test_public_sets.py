import numpy as np
import pytest
from PIL import Image

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.data import DATASETS
from alseg.data.camvid import CamVid
from alseg.data.cityscapes import Cityscapes
from alseg.data.voc import VOC
from tests.data.make import ids, palette_png, picture, save


@pytest.fixture
def camvid(tmp_path):
    for part, count in (("train", 2), ("val", 1)):
        for i in range(count):
            ending = ".png" if i else ".jpg"
            save(tmp_path / part / f"0001_{i}{ending}", picture(seed=i))
            save(tmp_path / f"{part}annot" / f"0001_{i}.png", ids(seed=i, classes=12))
    return tmp_path


def test_camvid(camvid):
    data = CamVid(str(camvid)).splits(progress=False)
    assert data.train.names == ("0001_0", "0001_1")
    assert len(data.val) == 1
    labels = ids(classes=12)
    np.testing.assert_array_equal(data.train.truth(0), np.where(labels == 11, VOID, labels))
    names = data.train.classes.names
    assert len(names) == 11
    assert names[3] == "road"
    assert data.train.classes.colors[3].tolist() == [128, 64, 128]


def test_camvid_without_test_folders(camvid):
    with pytest.raises(
        UserError, match=r"CamVid in .* has 2 problems(?s:.*)nothing fits .*testannot"
    ):
        CamVid(str(camvid), evaluate="test").splits(progress=False)
    with pytest.raises(UserError, match="evaluate is 'tets'"):
        CamVid(str(camvid), evaluate="tets")


def test_camvid_chooses_on_other_images_than_it_is_scored_on(camvid):
    for n in range(2):
        save(camvid / "test" / f"0003_{n}.png", picture(seed=7 + n))
        save(camvid / "testannot" / f"0003_{n}.png", ids(seed=7 + n, classes=12))
    data = CamVid(str(camvid), evaluate="test", choose_on="val").splits(progress=False)
    assert data.val.names == ("0003_0", "0003_1")
    assert data.choice.names == ("0001_0",)
    np.testing.assert_array_equal(
        data.choice.image(0), CamVid(str(camvid)).splits(False).val.image(0)
    )
    assert CamVid(str(camvid), choose_on="val").splits(progress=False).choice is None
    with pytest.raises(UserError, match="choose_on is 'test'"):
        CamVid(str(camvid), choose_on="test")


def test_camvid_with_foreign_ids(camvid):
    save(camvid / "trainannot" / "0001_0.png", np.full((24, 32), 12, np.uint8))
    with pytest.raises(UserError, match=r"  12  100 % of the pixels(?s:.*)void .* 11  void"):
        CamVid(str(camvid)).splits(progress=False)


def test_cityscapes(tmp_path):
    # label ids and training ids as the benchmark defines them
    train_ids = dict(
        zip([7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33], range(19), strict=True)
    )
    labels = np.arange(34, dtype=np.uint8).repeat(2).reshape(4, 17)
    for part, city in (("train", "aachen"), ("train", "bochum"), ("val", "lindau")):
        stem = f"{city}_000000_000019"
        image = tmp_path / "leftImg8bit" / part / city / f"{stem}_leftImg8bit.png"
        save(image, picture(4, 17))
        truth = tmp_path / "gtFine" / part / city
        save(truth / f"{stem}_gtFine_labelIds.png", labels)
        save(truth / f"{stem}_gtFine_instanceIds.png", labels.astype(np.uint16))
        save(truth / f"{stem}_gtFine_color.png", picture(4, 17))
    data = Cityscapes(str(tmp_path)).splits(progress=False)
    assert data.train.names == ("aachen/aachen_000000_000019", "bochum/bochum_000000_000019")
    assert data.val.names == ("lindau/lindau_000000_000019",)
    expected = np.array([train_ids.get(i, VOID) for i in range(34)])[labels]
    np.testing.assert_array_equal(data.train.truth(0), expected)
    names = data.train.classes.names
    assert (names[0], names[10], names[18], len(names)) == ("road", "sky", "bicycle", 19)
    assert data.train.classes.colors[0].tolist() == [128, 64, 128]
    assert data.train.classes.colors[18].tolist() == [119, 11, 32]
    (tmp_path / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(UserError, match=r"images without a mask \(1\)"):
        Cityscapes(str(tmp_path)).splits(progress=False)


def test_voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    palette = np.random.default_rng(0).permutation(256)[:, None].repeat(3, axis=1)
    labels = ids(classes=21)
    labels[0] = VOID
    for name in ("a", "b", "c"):
        save(root / "JPEGImages" / f"{name}.jpg", picture())
    for name in ("a", "b"):
        palette_png(root / "SegmentationClass" / f"{name}.png", labels, palette)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\n")
    (lists / "val.txt").write_text("b\n")
    data = VOC(str(tmp_path)).splits(progress=False)
    assert (data.train.names, data.val.names) == (("a",), ("b",))
    np.testing.assert_array_equal(data.train.truth(0), labels)
    assert data.train.classes.names[15] == "person"
    assert data.train.classes.colors[15].tolist() == [192, 128, 128]
    assert len(data.train.classes) == 21
    (lists / "train.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError) as error:
        VOC(str(tmp_path)).splits(progress=False)
    assert "images in both splits (1)" in str(error.value)
    assert "images without a mask (1)" in str(error.value)
    with pytest.raises(UserError, match=r"trainaug\.txt cannot be read as a list"):
        VOC(str(tmp_path), train="trainaug").splits(progress=False)
    with pytest.raises(UserError, match=r"data\.train and data\.val are both 'val'"):
        VOC(str(tmp_path), train="val")


def test_voc_with_the_masks_of_sbd(tmp_path):
    """Grey masks of a longer list to train on, VOC's own, with void along borders, to score on."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    palette = np.arange(256)[:, None].repeat(3, axis=1)
    theirs = {name: ids(classes=21, seed=n) for n, name in enumerate("abc")}
    for name, labels in theirs.items():
        save(root / "JPEGImages" / f"{name}.jpg", picture())
        save(root / "SegmentationClassAug" / f"{name}.png", labels)
    own = ids(classes=21, seed=9)
    own[0] = VOID
    palette_png(root / "SegmentationClass" / "c.png", own, palette)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "trainaug.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    given = VOC(str(tmp_path), train="trainaug", masks="SegmentationClassAug")
    data = given.splits(progress=False)
    for index, name in enumerate("ab"):
        np.testing.assert_array_equal(data.train.truth(index), theirs[name])
    np.testing.assert_array_equal(data.val.truth(0), own)
    with pytest.raises(UserError, match=r"images without a mask \(2\)"):
        VOC(str(tmp_path), train="trainaug").splits(progress=False)


@pytest.mark.parametrize("kind", [CamVid, Cityscapes, VOC])
def test_a_root_that_is_not_there(kind, tmp_path):
    with pytest.raises(UserError, match=r"is not a folder; set data.root to the folder that holds"):
        kind(str(tmp_path / "gone")).splits(progress=False)
    with pytest.raises(UserError, match="write a factor"):
        kind("x", scale=0)


def test_resizing_is_the_same_for_all(camvid):
    data = CamVid(str(camvid), size=(12, 16)).splits(progress=False)
    assert data.train.image(0).shape == (12, 16, 3)
    small = Image.fromarray(ids(classes=12)).resize((16, 12), Image.Resampling.NEAREST)
    expected = np.where(np.asarray(small) == 11, VOID, np.asarray(small))
    np.testing.assert_array_equal(data.train.truth(0), expected)


def test_all_names_lead_to_a_data_set():
    for name in DATASETS:
        assert callable(DATASETS.resolve(name).splits)
