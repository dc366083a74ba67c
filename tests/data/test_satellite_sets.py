import json
from collections import Counter
from hashlib import blake2b

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.data import deepglobe, ucmerced
from alseg.data.deepglobe import DeepGlobe, read_class_map
from alseg.data.parts import Parts, split_by_name
from alseg.data.ucmerced import COLORS, LAYOUTS, SCENES, UCMerced, list_file, scene_of_name
from tests.data.make import ids, palette_png, picture, save

# UC Merced


PARTS = {"train": (0, 1), "val": (2,), "test": (3,)}


@pytest.fixture(autouse=True)
def short_lists(tmp_path_factory, monkeypatch):
    """Four images of each scene instead of a hundred."""
    folder = tmp_path_factory.mktemp("lists")
    for part, numbers in PARTS.items():
        names = [f"{scene}{number:02d}\n" for scene in SCENES for number in numbers]
        (folder / f"{part}.txt").write_text("".join(names))
    monkeypatch.setattr(ucmerced, "list_file", lambda part: folder / f"{part}.txt")


def write_ucmerced(root, layout, nested, labels, image=None):
    """84 images, all the same; 8 x 8 pixels unless another image is given."""
    for scene in SCENES:
        images, masks = (root / folder / scene if nested else root / folder for folder in layout)
        for number in range(4):
            save(images / f"{scene}{number:02d}.tif", picture(8, 8) if image is None else image)
            palette = [(0, 0, 0), *COLORS.values()]
            palette_png(masks / f"{scene}{number:02d}.png", labels, palette)
    return root


@pytest.fixture(scope="module")
def labels():
    """Every index of the palette, 0..17."""
    return np.resize(np.arange(18), (8, 8)).astype(np.uint8)


@pytest.fixture(scope="module")
def merced(tmp_path_factory, labels):
    return write_ucmerced(tmp_path_factory.mktemp("flat"), LAYOUTS[0], False, labels)


def splits(root, **options):
    return UCMerced(str(root), **{"size": None, **options}).splits(progress=False)


def test_classes_of_ucmerced(merced, labels):
    data = splits(merced)
    np.testing.assert_array_equal(data.train.truth(0), np.where(labels == 0, VOID, labels - 1.0))
    np.testing.assert_array_equal(data.train.image(0), picture(8, 8))
    classes = data.train.classes
    assert len(classes) == 17
    assert (classes.names[0], classes.names[9], classes.names[16]) == (
        "airplane",
        "mobile home",
        "water",
    )
    assert classes.colors[[0, 9, 16]].tolist() == [[166, 202, 240], [90, 87, 255], [0, 255, 255]]


def test_parts_of_ucmerced(merced):
    data, test = splits(merced), splits(merced, evaluate="test")
    paper = splits(merced, evaluate="test", val_in_pool=True)
    assert [len(part) for part in (data.train, data.val, test.val)] == [42, 21, 21]
    assert test.train.names == data.train.names
    assert test.val.names == paper.val.names
    apart = splits(merced, evaluate="test", choose_on="val")
    assert apart.val.names == test.val.names
    assert apart.choice.names == data.val.names
    assert apart.choice.scene(0) == data.val.scene(0)
    assert test.choice is paper.choice is None
    assert len(paper.train) == 63
    assert {*paper.train.names} == {*data.train.names} | {*data.val.names}
    for images, each in ((data.train, 2), (data.val, 1), (test.val, 1), (paper.train, 3)):
        assert images.scenes == SCENES
        scenes = Counter(images.scene(index) for index in range(len(images)))
        assert scenes == dict.fromkeys(range(21), each)
        for index in (0, len(images) // 2, len(images) - 1):
            assert images.names[index].startswith(SCENES[images.scene(index)])


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_other_layouts_of_ucmerced(merced, tmp_path, labels, layout):
    data = splits(write_ucmerced(tmp_path, layout, True, labels))
    assert data.train.names == splits(merced).train.names


def test_odd_images_of_ucmerced_are_resized_and_masks_must_fit(tmp_path, labels):
    root = write_ucmerced(tmp_path, LAYOUTS[0], False, labels, picture(9, 8))
    with pytest.raises(UserError, match=r"masks of another size than their image \(63\)"):
        splits(root)
    data = splits(root, size=[8, 8])
    assert data.train.size(0) == data.train.image(0).shape[:2] == (8, 8)
    np.testing.assert_array_equal(data.train.truth(0)[0, 1:], labels[0, 1:] - 1)
    name = data.train.names[0]
    save(root / "UCMerced_Labels" / f"{name}.png", ids(9, 8) + 1)  # as large as its image
    assert splits(root, size=[8, 8]).train.truth(0).shape == (8, 8)
    save(root / "UCMerced_Labels" / f"{name}.png", ids(8, 9) + 1)
    with pytest.raises(UserError, match=r"\(1\)(?s:.*)image 9 x 8, mask 8 x 9"):
        splits(root, size=[8, 8])


def test_ucmerced_that_is_not_all_there(merced, tmp_path, labels):
    with pytest.raises(UserError, match="holds no folders of images and of labels, which are: UCM"):
        splits(tmp_path)
    root = write_ucmerced(tmp_path, LAYOUTS[1], True, labels)
    images, masks = (root / folder / "beach" for folder in LAYOUTS[1])
    (images / "beach00.tif").unlink()
    (masks / "beach01.png").unlink()
    save(images / "deep" / "beach02.tif", picture(8, 8))
    save(masks / "beach03.png", np.full((8, 8), 18, np.uint8))
    with pytest.raises(UserError) as error:
        splits(root, evaluate="test", val_in_pool=True)
    for line in (
        "masks without an image (1)",
        "images without a mask (1)",
        "listed names without an image (1)",
        "names that occur twice (1)",
        "ids outside the class table (1)",
    ):
        assert line in str(error.value)


def test_ucmerced_is_loaded_at_256(tmp_path):
    assert UCMerced(str(tmp_path)).size == (256, 256)
    with pytest.raises(UserError, match="write height and width"):
        UCMerced(str(tmp_path), size=(256,))
    with pytest.raises(UserError, match=r"set data\.evaluate=test"):
        UCMerced(str(tmp_path), val_in_pool=True)


def test_the_lists_are_the_rule_within_each_scene():
    lists = Parts(*(list_file(part).read_text().split() for part in Parts._fields))
    for part in Parts._fields:
        expected = [
            name
            for scene in SCENES
            for name in getattr(split_by_name(f"{scene}{i:02d}" for i in range(100)), part)
        ]
        assert getattr(lists, part) == expected
        assert Counter(map(scene_of_name, getattr(lists, part))) == dict.fromkeys(
            range(21), {"train": 72, "val": 8, "test": 20}[part]
        )
    assert len({name for part in lists for name in part}) == 2100
    text = "\n".join(list_file(part).read_text() for part in Parts._fields)
    assert blake2b(text.encode(), digest_size=8).hexdigest() == "9d0197f108cfdcf1"


def test_scenes_of_names():
    for label, scene in enumerate(SCENES):
        assert scene_of_name(f"images/{scene}42.tif") == label
    with pytest.raises(UserError, match=r"scene of image 'beaches07'.*did you mean 'beach'"):
        scene_of_name("beaches07")
    with pytest.raises(UserError, match="unknown scene"):
        scene_of_name("07")


# DeepGlobe


MASK = np.array(
    [
        [(0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0)],
        [(0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 255, 255)],
    ],
    dtype=np.uint8,
)
MASK_LABELS = [[0, 1, 2, 3], [4, 5, VOID, VOID]]


def write_deepglobe(root, layout, count=50):
    images, masks = layout
    for number in range(count):
        save(root / images / f"{number}_sat.jpg", picture(2, 4, number))
        save(root / masks / f"{number}_mask.png", MASK)
    return root


@pytest.mark.parametrize("layout", deepglobe.LAYOUTS)
def test_deepglobe(tmp_path, layout):
    root = write_deepglobe(tmp_path, layout)
    save(root / "valid" / "77_sat.jpg", picture(2, 4))  # the other parts have no masks
    data = DeepGlobe(str(root), size=None).splits(progress=False)
    parts = split_by_name(map(str, range(50)))
    assert (list(data.train.names), list(data.val.names)) == (parts.train, parts.val)
    assert [len(data.train), len(data.val)] == [36, 4]
    for images in (data.train, data.val):
        np.testing.assert_array_equal(images.truth(0), MASK_LABELS)
        assert images.scenes == ()
    classes = data.train.classes
    assert classes.names == ("urban", "agriculture", "rangeland", "forest", "water", "barren")
    np.testing.assert_array_equal(classes.colors, MASK.reshape(-1, 3)[:6])
    paper = DeepGlobe(str(root), evaluate="test", val_in_pool=True).splits(progress=False)
    assert list(paper.val.names) == parts.test
    assert list(paper.train.names) == sorted(parts.train + parts.val)


def test_deepglobe_is_loaded_at_320(tmp_path):
    root = write_deepglobe(tmp_path, deepglobe.LAYOUTS[1])
    images = DeepGlobe(str(root)).splits(progress=False).train
    assert images.size(0) == (320, 320)
    truth = images.truth(0)
    assert truth.shape == (320, 320)
    # nearest: every label of the mask in a cell of its own, none between
    expected = np.array(MASK_LABELS).repeat(160, axis=0).repeat(80, axis=1)
    np.testing.assert_array_equal(truth, expected)


def test_deepglobe_that_is_not_all_there(tmp_path):
    with pytest.raises(UserError, match="holds neither DeepGlobe_Images"):
        DeepGlobe(str(tmp_path)).splits(progress=False)
    root = write_deepglobe(tmp_path, deepglobe.LAYOUTS[1])
    (root / "train" / "7_mask.png").unlink()
    save(root / "train" / "8_mask.png", np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(UserError) as error:
        DeepGlobe(str(root), evaluate="test", val_in_pool=True).splits(progress=False)
    assert "images without a mask (1)" in str(error.value)
    assert "masks of another size than their image (1)" in str(error.value)
    with pytest.raises(UserError, match=r"set data\.evaluate=test"):
        DeepGlobe(str(root), val_in_pool=True)


def test_scenes_of_deepglobe(tmp_path):
    root = write_deepglobe(tmp_path, deepglobe.LAYOUTS[1])
    path = tmp_path / "class_map.json"
    keys = ("{}", "{}_sat", "{}_sat.jpg")
    content = {keys[n % 3].format(n): [*deepglobe.COLORS][n % 6] for n in range(50)}
    path.write_text(json.dumps(content))
    data = DeepGlobe(str(root), class_map=str(path)).splits(progress=False)
    assert data.train.scenes == data.val.scenes == tuple(deepglobe.COLORS)
    for images in (data.train, data.val):
        assert [images.scene(i) for i in range(len(images))] == [int(n) % 6 for n in images.names]
    path.write_text(json.dumps({**content, "3": 5, "0": 2}))
    assert read_class_map(path, ["3", "0"]).of["3"] == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "is not an object"),
        ("{", "cannot be read as JSON"),
        ('{"1": "sea"}', "gives 1 the class 'sea'"),
        ('{"1": 6}', "gives 1 the class 6"),
        ('{"1": true}', "gives 1 the class True"),
        ('{"1": ["urban"]}', "gives 1 the class"),
        ('{"2": "urban"}', "has no class for 1 images, such as 1"),
    ],
)
def test_class_maps_that_are_none(tmp_path, content, words):
    path = tmp_path / "class_map.json"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        read_class_map(path, ["1"])
    with pytest.raises(UserError, match=r"gone\.json cannot be read"):
        read_class_map(tmp_path / "gone.json", [])
