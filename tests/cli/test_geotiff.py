"""16-bit maps of four bands, from the run to the prediction."""

import csv
import json

import numpy as np
import pytest
import tifffile

from alseg.cli import predict, run
from alseg.data.labelmaps import write_geotiff

KEYS = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)
NAME = "WGS 84 / UTM zone 32N|WGS 84|\0"
#: Values of the classes in each of four bands.
LEVELS = np.array([(300, 320, 310), (500, 520, 510), (400, 420, 410), (600, 2800, 1500)])


def place(index):
    """Where on earth map number ``index`` lies."""
    return [
        (33550, 12, 3, (10.0, 10.0, 0.0), True),
        (33922, 12, 6, (0, 0, 0, 500000.0 + 800 * index, 5400000.0, 0), True),
        (34735, 3, 16, KEYS, True),
        (34737, 2, len(NAME), NAME, True),
    ]


def make(root, count=6):
    """Maps of 64 x 80 pixels with masks; the corner has no data."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    truths = {}
    for index in range(count):
        truth = np.zeros((64, 80), np.uint8)
        truth[:, 30 + 3 * index :], truth[40:, :20] = 1, 2
        image = np.stack([levels[truth] for levels in LEVELS], axis=2)
        image = (image + rng.integers(0, 60, image.shape)).astype(np.uint16)
        image[:6, :5] = 0
        path = root / "images" / f"t{index}.tif"
        tags = [*place(index), (42113, 2, 2, "0\0", True)]
        options = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None}
        tifffile.imwrite(path, image, compression="zlib", predictor=True, extratags=tags, **options)
        tifffile.imwrite(root / "masks" / f"t{index}.tif", truth, photometric="minisblack")
        truths[f"t{index}"] = truth
    return truths


def test_label_maps_keep_their_place_on_earth(tmp_path):
    truths = make(tmp_path, 1)
    colors = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 255]], np.uint8)
    with tifffile.TiffFile(tmp_path / "images" / "t0.tif") as source:
        tags = {t.code: (int(t.dtype), t.count, t.value) for t in source.pages[0].tags}
        geo = {code: tags[code] for code, *_ in place(0)}
        described = source.pages[0].geotiff_tags
    write_geotiff(tmp_path / "out" / "t0.tif", truths["t0"], colors, geo)
    with tifffile.TiffFile(tmp_path / "out" / "t0.tif") as written:
        page = written.pages[0]
        assert page.geotiff_tags == described
        assert page.nodata == 255
        np.testing.assert_array_equal(page.colormap[:, :3].T >> 8, colors)
        np.testing.assert_array_equal(page.asarray(), truths["t0"])


@pytest.mark.slow
def test_from_run_to_predict(tmp_path):
    truths = make(tmp_path / "set")
    (tmp_path / "val.txt").write_text("t4\nt5\n")
    words = (
        f"method=random regions=grid regions.size=[16,16] budget.amount=6 method.steps=20 "
        f"method.epoch_steps=20 method.batch_size=4 network.architecture=Unet "
        f"network.encoder=tu-test_resnet network.weights=null workers=0 rounds=1 pictures=2 "
        f"trainer.accelerator=cpu trainer.enable_progress_bar=false data=folder "
        f"data.root={tmp_path}/set data.classes=[field,water,town] "
        f"data.val_list={tmp_path}/val.txt "
        f"data.bands=[4,1,2,3] data.range=[p2,p98] augment.crop=[64,64] cache={tmp_path}/cache "
        f"run_dir={tmp_path}/run network.options={{encoder_depth:3,decoder_channels:[8,8,8]}}"
    ).split(" ")
    assert run.main(words) in (0, None)
    with (tmp_path / "run" / "rounds.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    val = tmp_path / "val"
    for folder in ("images", "masks"):
        (val / folder).mkdir(parents=True)
        for name in ("t4", "t5"):
            source = tmp_path / "set" / folder / f"{name}.tif"
            (val / folder / source.name).write_bytes(source.read_bytes())
    checkpoint = tmp_path / "run" / "round_000" / "train" / "last.ckpt"
    out = tmp_path / "out"
    given = [f"checkpoint={checkpoint}", f"images={val}/images", f"masks={val}/masks", f"out={out}"]
    assert predict.main([*given, "device=cpu", "progress=false"]) in (0, None)
    metrics = json.loads((out / "metrics.json").read_text())
    counts = np.zeros((3, 3))
    for number, name in ((4, "t4"), (5, "t5")):
        with tifffile.TiffFile(out / "geotiff" / f"{name}.tif") as file:
            page = file.pages[0]
            labels = page.asarray()
            tags = {code: (count, value) for code, _, count, value, _ in place(number)}
            for code, (count, value) in tags.items():
                assert page.tags[code].count == count
                found = page.tags[code].value
                assert found == (value.rstrip("\0") if isinstance(value, str) else tuple(value))
        assert labels.shape == (64, 80)
        assert (labels[:6, :5] == 255).all()
        known = np.ones(labels.shape, bool)
        known[:6, :5] = False
        assert (labels[known] < 3).all()
        np.add.at(counts, (truths[name][known], labels[known]), 1)
    hit = counts.diagonal()
    union = counts.sum(0) + counts.sum(1) - hit
    expected = (hit[union > 0] / union[union > 0]).mean()
    assert metrics["pixels"] == 2 * (64 * 80 - 30)
    assert metrics["miou"] == pytest.approx(expected, abs=1e-9)
    assert float(row["miou"]) == pytest.approx(expected, abs=1e-5)
