"""Trained networks on data sets by name, and on masks in the encoding they were trained with."""

from hashlib import blake2b

import numpy as np
import pytest
import torch
from PIL import Image

from alseg.cli.datawords import split_words
from alseg.cli.evaluate import evaluate
from alseg.cli.evaluate import options_from as evaluate_options
from alseg.cli.predict import main as predict_main
from alseg.cli.predict import options_from as predict_options
from alseg.cli.predict import predict
from alseg.core.errors import UserError
from alseg.data import ucmerced
from alseg.inference.trained import load_segmenter, predict_labels
from alseg.nn.segmenter import build_segmenter
from tests.cli.test_predict import NETWORK
from tests.data.make import ids, palette_png, picture, save

SIZE = (16, 24)
#: The training ids of Cityscapes' label ids, as the benchmark defines them; the rest is void.
CITYSCAPES = dict(zip([7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33], range(19), strict=True))
DEEPGLOBE = [
    (0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255), (255, 255, 255),
]  # fmt: skip
VOID_RED = (255, 0, 0)


def cityscapes(root):
    """19 classes; pixels as label ids 0..33."""
    for part, city, seed in (("train", "aachen", 1), ("val", "lindau", 2), ("val", "ulm", 3)):
        stem = f"{city}_000000_000019"
        save(root / f"leftImg8bit/{part}/{city}/{stem}_leftImg8bit.png", picture(*SIZE, seed))
        truth = root / f"gtFine/{part}/{city}/{stem}_gtFine_labelIds.png"
        save(truth, ids(*SIZE, seed, classes=34))
    return ["leftImg8bit/val/*/*.png"], ["gtFine/val/*/*.png"], CITYSCAPES.get


def voc(root):
    """21 classes; ids, 255 for void."""
    folder = root / "VOCdevkit/VOC2012"
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        labels = ids(*SIZE, seed, classes=21)
        labels[:2] = 255
        save(folder / f"JPEGImages/{name}.png", picture(*SIZE, seed))
        palette = np.random.default_rng(0).integers(0, 256, (256, 3))
        palette_png(folder / f"SegmentationClass/{name}.png", labels, palette)
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a")
    (lists / "val.txt").write_text("b\nc")
    base = "VOCdevkit/VOC2012"
    parts = [f"{base}/JPEGImages/[bc].png"], [f"{base}/SegmentationClass/[bc].png"]
    return *parts, lambda value: value if value < 21 else None


def merced(root):
    """17 classes; ids 1..17, 0 for what has no label."""
    for name, seed in (("beach00", 1), ("river00", 2), ("forest00", 3)):
        save(root / f"UCMerced_Images/{name}.tif", picture(*SIZE, seed))
        labels = ids(*SIZE, seed, classes=18)
        palette_png(root / f"UCMerced_Labels/{name}.png", labels, [*np.ndindex(5, 5, 5)][:18])
    return (
        ["UCMerced_Images/river00.tif", "UCMerced_Images/forest00.tif"],
        ["UCMerced_Labels/river00.png", "UCMerced_Labels/forest00.png"],
        lambda value: value - 1 if value else None,
    )


def deepglobe(root):
    """6 classes; colours, red and others for void. 13 images are split 9 : 1 : 3 by their names."""
    table = np.array([*DEEPGLOBE, VOID_RED], np.uint8)
    for number in range(13):
        save(root / f"train/{number}_sat.jpg", picture(*SIZE, number), quality=95)
        save(root / f"train/{number}_mask.png", table[ids(*SIZE, number, classes=7)])
    order = sorted(map(str, range(13)), key=lambda n: blake2b(n.encode(), digest_size=16).digest())
    (val,) = order[9:10]
    return [f"train/{val}_sat.jpg"], [f"train/{val}_mask.png"], VALUES.get


VALUES = {color: number for number, color in enumerate(DEEPGLOBE)}
CLASSES = {cityscapes: 19, voc: 21, merced: 17, deepglobe: 6}
NAMES = {cityscapes: "cityscapes", voc: "voc", merced: "ucmerced", deepglobe: "deepglobe"}


@pytest.fixture(autouse=True)
def short_lists(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("lists")
    for part, name in (("train", "beach00"), ("val", "river00"), ("test", "forest00")):
        (folder / f"{part}.txt").write_text(name)
    monkeypatch.setattr(ucmerced, "list_file", lambda part: folder / f"{part}.txt")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def data_set(words):
    return split_words(words)[1]


def checkpoint(path, images, masks="own", seed=3):
    """A network with random weights, described as a run on these images describes it."""
    torch.manual_seed(seed)
    count = len(images.classes)
    network = build_segmenter(
        NETWORK.architecture, NETWORK.encoder, None, count, False, NETWORK.options
    )
    network.classifier.conv.weight.data *= 30  # an untrained network predicts one class only
    network.classifier.conv.bias.data.normal_(std=0.05)
    about = {
        "classes": list(images.classes.names), "colors": images.classes.colors.tolist(),
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "scale": 1.0,
        "masks": images.masks.to_plain() if masks == "own" else None,
    }  # fmt: skip
    content = {
        "state_dict": {f"network.{name}": value for name, value in network.state_dict().items()},
        "alseg": {
            "network": network.description, "network_at": "network", "num_classes": count,
            "temperature": 1.0, "images": about,
        },
        "loops": {"fit_loop": {"epoch_loop.batch_progress": {"total": {"processed": 7}}}},
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def slow_iou(path, images, masks, meaning, count):
    """IoU of every class, pixel by pixel, of files as NumPy finds them."""
    model = load_segmenter(path, "cpu")
    common, either = [0] * count, [0] * count
    for image, mask in zip(images, masks, strict=True):
        labels = predict_labels(model, np.array(Image.open(image)))
        values = np.array(Image.open(mask))
        for guess, value in zip(labels.ravel(), values.reshape(labels.size, -1), strict=True):
            key = tuple(value.tolist()) if len(value) > 1 else int(value[0])
            wanted = meaning(key)
            for number in {int(guess), wanted} if wanted is not None else ():
                either[number] += 1
                common[number] += guess == wanted
    return [a / b if b else None for a, b in zip(common, either, strict=True)]


@pytest.mark.parametrize("write", CLASSES)
def test_published_sets_are_measured_by_their_own_ids_and_splits(write, tmp_path):
    images, masks, meaning = write(tmp_path / "data")
    files = [
        sorted(path for pattern in some for path in (tmp_path / "data").glob(pattern))
        for some in (images, masks)
    ]
    words = [f"data={NAMES[write]}", f"data.root={tmp_path / 'data'}"]
    if write in (merced, deepglobe):
        words.append("data.size=[16,24]")
    if write is merced:
        files = [[p for p in some if "river" in p.name] for some in files]
    data = data_set(words)
    path = checkpoint(tmp_path / "checkpoints" / "a.ckpt", data.splits(progress=False).train)
    expected = slow_iou(path, *files, meaning, CLASSES[write])
    assert len({*expected} - {None, 0}) > 2
    given = [f"checkpoints={path.parent}", "device=cpu", "progress=false"]
    (row,) = evaluate(evaluate_options([*given, f"out={tmp_path / 'a'}"]), data)
    names = data.splits(progress=False).train.classes.names
    found = [row[f"iou_{name}"] for name in names]
    assert found == pytest.approx(expected, abs=1e-12)
    assert row["miou"] == pytest.approx(np.mean([v for v in expected if v is not None]), abs=1e-12)
    assert row["images"] == len(files[0])
    if write in (merced, voc):  # the same files as images and masks: the table is in the checkpoint
        (tmp_path / "list.txt").write_text("\n".join(map(str, files[0])))
        pairs = [f"images={tmp_path / 'list.txt'}", f"masks={files[1][0].parent}"]
        (same,) = evaluate(evaluate_options([*given, *pairs, f"out={tmp_path / 'b'}"]))
        assert [same[f"iou_{name}"] for name in names] == found


def test_a_test_part_is_for_the_chosen_checkpoint(tmp_path):
    root = tmp_path / "data"
    merced(root)
    words = ["data=ucmerced", f"data.root={root}", "data.size=null", "data.evaluate=test"]
    data = data_set(words)
    path = checkpoint(tmp_path / "checkpoints" / "a.ckpt", data.splits(progress=False).train)
    given = [f"checkpoints={path.parent}", f"out={tmp_path / 'a'}", "device=cpu", "progress=false"]
    (row,) = evaluate(evaluate_options(given), data)
    for column, name in (("iou_", "river00"), ("test_iou_", "forest00")):
        image = root / f"UCMerced_Images/{name}.tif"
        mask = root / f"UCMerced_Labels/{name}.png"
        meaning = lambda value: value - 1 if value else None  # noqa: E731
        expected = slow_iou(path, [image], [mask], meaning, 17)
        assert [row[f"{column}{n}"] for n in ucmerced.COLORS] == pytest.approx(expected, abs=1e-12)
    arguments = [f"checkpoint={path}", f"out={tmp_path / 'p'}", "device=cpu", "progress=false"]
    metrics = predict(predict_options(arguments), data)
    assert metrics["miou"] == pytest.approx(row["test_miou"], abs=1e-12)
    assert [p.name for p in (tmp_path / "p/labels").iterdir()] == ["forest00.png"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["data.root=x"], "data.root=x belongs to a data set; give data=NAME"),
        (["data=nothing"], "unknown data 'nothing'"),
        (["data=voc"], "data.root has no default"),
        (["data=synthetic", "images=x"], "data= and images= are both given"),
        (["data=synthetic", "mask_values=ids"], "leave out mask_values and ignore"),
        (["data=synthetic"], "the checkpoint knows 17 classes .* has 10"),
        ([], "images is empty; give images=PATH"),
        (["images=data", "mask_values=no"], "unknown mask_values 'no'"),
    ],
)
def test_words_that_do_not_go_together(tmp_path, capsys, words, sentence):
    merced(tmp_path / "data")
    data = data_set(["data=ucmerced", f"data.root={tmp_path / 'data'}"])
    path = checkpoint(tmp_path / "a.ckpt", data.splits(progress=False).train)
    assert predict_main([f"checkpoint={path}", f"out={tmp_path / 'o'}", "device=cpu", *words]) == 2
    with pytest.raises(UserError, match=sentence):
        raise UserError(capsys.readouterr().err)


@pytest.fixture
def black_white(tmp_path):
    """Masks of 0 and 255, and a data set that reads them by colours."""
    labels = [ids(*SIZE, seed, classes=2) for seed in range(2)]
    for number, mask in enumerate(labels):
        save(tmp_path / f"images/{number}.png", picture(*SIZE, number))
        save(tmp_path / f"masks/{number}.png", mask * 255)
        save(tmp_path / f"ids/{number}.png", mask)
    words = ["data=folder", f"data.root={tmp_path}", "data.val=0", "data.masks=masks"]
    data = data_set([*words, "data.colors={bg:[0,0,0],object:[255,255,255]}"])
    return tmp_path, data.splits(progress=False).train


def measured(root, path, masks, *more, out="out"):
    words = [f"checkpoint={path}", f"images={root / 'images'}", f"masks={root / masks}"]
    options = [f"out={root / out}", "device=cpu", "progress=false", "overlay=false", *more]
    return predict(predict_options([*words, *options]))


def test_masks_are_read_as_in_training_or_as_is_said(black_white):
    root, images = black_white
    path = checkpoint(root / "a.ckpt", images)
    files = [sorted((root / kind).iterdir()) for kind in ("images", "masks")]
    expected = slow_iou(path, *files, lambda value: value // 255, 2)
    metrics = measured(root, path, "masks")
    assert metrics["pixels"] == 2 * SIZE[0] * SIZE[1]
    assert [metrics["iou_bg"], metrics["iou_object"]] == pytest.approx(expected, abs=1e-12)
    assert measured(root, path, "ids", "mask_values=ids") == metrics
    with pytest.raises(UserError, match=r"\[1, 1, 1\].*(?s:.*)mask_values=ids or\s*mask_values"):
        measured(root, path, "ids")
    with pytest.raises(UserError, match="255 occurs in 2 of 2 masks"):
        measured(root, path, "masks", "mask_values=ids")


def test_a_checkpoint_that_says_nothing_of_masks(black_white, caplog):
    """As release 0.1 wrote them: fine where there is one reading, else the user has to choose."""
    root, images = black_white
    path = checkpoint(root / "a.ckpt", images, masks=None)
    with pytest.raises(UserError, match="read in 2 ways that differ; choose one: mask_values=ids"):
        measured(root, path, "masks")
    expected = measured(root, path, "masks", "mask_values=colors")
    assert expected["pixels"] == 2 * SIZE[0] * SIZE[1]
    assert measured(root, path, "ids") == expected
    assert "they are read as mask_values=ids (0 bg, 1 object, 255 void)" in caplog.text
    with pytest.raises(UserError, match="255 occurs in 2 of 2 masks"):
        measured(root, path, "masks", "mask_values=ids")
    assert measured(root, path, "masks", "mask_values=ids", "ignore=[255]")["iou_object"] == 0


def test_an_image_that_has_changed_is_predicted_again(black_white, capsys):
    root, images = black_white
    path = checkpoint(root / "a.ckpt", images)
    measured(root, path, "masks")
    before = [np.array(Image.open(root / f"out/labels/{number}.png")) for number in range(2)]
    save(root / "images/1.png", picture(*SIZE, 9))
    capsys.readouterr()
    measured(root, path, "masks")
    assert "1 predicted, 1 of them again" in capsys.readouterr().out
    after = [np.array(Image.open(root / f"out/labels/{number}.png")) for number in range(2)]
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(
        after[1], predict_labels(load_segmenter(path, "cpu"), picture(*SIZE, 9))
    )
    assert (after[1] != before[1]).any()
    measured(root, path, "masks", "flip=true", out="flipped")
    with pytest.raises(UserError, match="were not predicted by this checkpoint"):
        measured(root, path, "masks", "flip=true")
