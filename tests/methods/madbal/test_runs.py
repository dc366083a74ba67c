"""Whole runs of MADBAL: three rounds, cut off, and what they wrote compared with slow loops."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alseg.active import ledger
from alseg.active.driver import buy, drive
from alseg.active.method import check_question
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.imagefiles import ImageFiles
from alseg.labels.tables import PIXELS, Answers, Query
from alseg.methods.baselines.pixelpick import PixelPick
from alseg.methods.baselines.random import Random
from alseg.methods.madbal import clustering
from alseg.methods.madbal import method as madbal_method
from alseg.methods.madbal.cells import CellLabels, asked_cells
from alseg.methods.madbal.method import Madbal
from alseg.methods.madbal.module import Between, PhaseOne, PhaseTwo, on_grid
from alseg.methods.madbal.patches import feature_network, superpixel_patches
from alseg.methods.madbal.supported import Supported
from alseg.nn.network import Network
from tests.kills import Killed, at_call
from tests.toys import toy_run

OPTIONS = {
    "steps": 4, "batch_size": 2, "epoch_steps": 2, "support_steps": 4, "support_batch_size": 2,
    "support_epoch_steps": 2, "lr": 1e-2, "optimizer": "adamw", "features": "encoder",
    "clusters": 4,
}  # fmt: skip
METHOD = Madbal(**OPTIONS, reading="pixel_js")
NETWORK = Network(
    "FPN",
    "tu-test_resnet",
    None,
    {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
)
EACH = 3
IMAGES = range(6)


def madbal_run(root, rounds=3, method=METHOD, amount=6 * EACH + 1.0):
    return toy_run(root, rounds=rounds, method=method, network=NETWORK, amount=amount)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder, rows and run of three rounds, and the tables the choices of rounds 1, 2 were from."""
    root = tmp_path_factory.mktemp("whole") / "run"
    tables, pick = {}, Madbal.pick

    def kept(self, context, given):
        rows = given["superpixels"]
        tables[context.round] = {name: np.array(column) for name, column in rows.items()}
        return pick(self, context, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Madbal, "pick", kept)
        run = madbal_run(root)
        rows = drive(run)
    return root, rows, run, tables


def query_of(root, round):
    return Query.load(root / f"round_{round:03d}" / "query.npz")


def weights_of(root, round, stage):
    path = root / f"round_{round:03d}" / stage / "last.ckpt"
    return torch.load(path, weights_only=True)["state_dict"]


def clusters_of(root):
    with np.load(root / "clusters.npz") as file:
        rows = zip(*(file[name].tolist() for name in ("image", "unit", "cluster")), strict=True)
        return {(image, unit): cluster for image, unit, cluster in rows}


def test_every_image_gets_its_pixels_in_every_round(finished):
    root, rows, run, _ = finished
    assert [row["clicks"] for row in rows] == [6 * EACH * (r + 1) for r in range(3)]
    seen = set()
    for round in range(3):
        query = query_of(root, round)
        assert (query.kind, query.answer, query.regions) == ("pixel", "class", PIXELS)
        assert np.bincount(query.image).tolist() == [EACH] * 6
        asked = set(zip(query.image.tolist(), query.unit.tolist(), strict=True))
        assert not asked & seen
        seen |= asked
    stages = [path.name for path in sorted(root.glob("round_*/s*")) if path.is_dir()]
    assert stages == ["segment", "support", "segment", "support", "segment"], "the last has no II"
    void = [int((a.label == VOID).sum()) for a in run.pool.history]
    assert [row["void_clicks"] for row in rows] == np.cumsum(void).tolist()


def test_round_0_is_that_of_pixelpick(finished, tmp_path):
    root = finished[0]
    other = PixelPick(steps=2, batch_size=2, epoch_steps=2)
    run = toy_run(tmp_path, rounds=1, method=other, network=NETWORK, amount=6 * EACH + 1.0)
    assert buy(run, 0)
    mine, theirs = query_of(root, 0), query_of(tmp_path, 0)
    assert np.array_equal(mine.unit, theirs.unit)
    assert np.array_equal(mine.image, theirs.image)


def slow_choice(rows, clusters, each, num_clusters, num_classes):
    """F22 to F24 and the selection, superpixel by superpixel."""
    table = list(
        zip(*(rows[n].tolist() for n in ("image", "unit", "score", "pixels", "label", "top")),
            strict=True)
    )  # fmt: skip
    total, pixels = [0.0] * num_clusters, [0] * num_clusters
    frequency = [[0] * num_clusters for _ in range(num_classes)]
    for image, unit, score, count, label, _ in table:
        k = clusters[image, unit]
        total[k] += score
        pixels[k] += count
        frequency[label][k] += 1
    worth = [t / p if p else 0.0 for t, p in zip(total, pixels, strict=True)]
    quotas = [math.floor(w * each / sum(worth)) for w in worth]
    quotas[quotas.index(min(quotas))] += each - sum(quotas)
    chosen = set()
    for image in sorted({row[0] for row in table}):
        own = [row for row in table if row[0] == image]
        room = [sum(clusters[image, row[1]] == k for row in own) for k in range(num_clusters)]
        wanted = [min(q, r) for q, r in zip(quotas, room, strict=True)]
        while sum(wanted) < min(each, len(own)):
            left = [r - w for r, w in zip(room, wanted, strict=True)]
            wanted[left.index(max(left))] += 1
        for k in range(num_clusters):
            members = [row for row in own if clusters[image, row[1]] == k]
            share = {
                c: frequency[c][k] / max(1, sum(f[k] for f in frequency))
                for c in range(num_classes)
            }
            members.sort(key=lambda row: (row[2] * math.exp(-share[row[4]]), row[1]), reverse=True)
            chosen |= {(image, row[5]) for row in members[: wanted[k]]}
    return chosen


def test_queries_are_those_of_a_slow_loop(finished):
    root, _, run, tables = finished
    for round, rows in tables.items():
        query = query_of(root, round)
        expected = slow_choice(rows, clusters_of(root), EACH, 4, 3)
        assert set(zip(query.image.tolist(), query.unit.tolist(), strict=True)) == expected
        blocks = [run.pool.maps["blocks"][i].ravel()[u] for i, u in expected]
        pairs = {(i, b) for (i, _), b in zip(expected, blocks, strict=True)}
        assert len(pairs) == len(expected), "one pixel of a superpixel"
    assert len(tables) == 2


def test_tables_hold_what_is_left_of_every_superpixel(finished):
    root, _, run, tables = finished
    for round, rows in tables.items():
        for image in IMAGES:
            left = run.pool.maps["blocks"][image].ravel().copy()
            for earlier in range(round):
                query = query_of(root, earlier)
                left[query.unit[query.image == image]] = -1
            mine = rows["image"] == image
            units, counts = np.unique(left[left >= 0], return_counts=True)
            assert rows["unit"][mine].tolist() == units.tolist()
            assert rows["pixels"][mine].tolist() == counts.tolist()
            assert (left[rows["top"][mine]] == units).all()
        assert (rows["score"] >= 0).all()
        assert rows["score"].dtype == np.float64


def slow_class_losses(run, state, until):
    """F11 from the weights of phase I: losses of every class, pixel by pixel."""
    network = run.network.build(3)
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items()})
    network.eval()
    found = {c: [] for c in range(3)}
    for answers in run.pool.history[:until]:
        for image, unit, label in zip(answers.image, answers.unit, answers.label, strict=True):
            if label == VOID:
                continue
            pixels, _ = run.datamodule.eval_transform(run.splits.train.image(int(image)), {})
            with torch.inference_mode():
                scores = network(pixels[None])[0].flatten(1)[:, int(unit)]
            found[int(label)].append(-float(scores.log_softmax(0)[int(label)]))
    return found


def test_class_losses_are_those_of_the_labelled_pixels(finished):
    root, _, run, _ = finished
    for round in (0, 1):
        state = {k: v for k, v in weights_of(root, round, "segment").items() if "iou" not in k}
        expected = slow_class_losses(run, state, round + 1)
        files = ImageFiles(root / f"round_{round:03d}" / "support" / "class_losses")
        read = [files.read(image) for image in IMAGES]
        counts = sum(file["counts"] for file in read)
        sums = sum(file["sums"] for file in read)
        assert counts.tolist() == [len(losses) for losses in expected.values()]
        assert np.allclose(sums, [sum(losses) for losses in expected.values()], rtol=1e-4)


def test_phase_two_leaves_the_network_as_it_was(finished):
    root = finished[0]
    for round in (0, 1):
        before, after = weights_of(root, round, "segment"), weights_of(root, round, "support")
        for name, value in before.items():
            assert torch.equal(after[name.replace("network.", "network.network.", 1)], value)
        assert any("network.support." in name for name in after)


def test_weights_of_the_classes_are_made_of_the_answers(finished):
    run = finished[2]
    module = METHOD.stages(run.context(2))[0].module()
    labels = np.concatenate([answers.label for answers in run.pool.history])
    known = labels[labels != VOID]
    expected = [1 - (known == c).mean() for c in range(3)]
    assert np.allclose(module.class_weights.numpy(), expected)


# where, and what is there then: class losses, checkpoint of phase II, clusters, query
CUTS = {
    "inside phase I": ((PhaseOne, "loss", 3), [0, 0, 0, 0]),
    "between the phases": ((Between, "predict_step", 2), [1, 0, 0, 0]),
    "half-way through the files": ((ImageFiles, "write", 9), [1, 0, 0, 0]),
    "inside phase II": ((PhaseTwo, "loss", 3), [1, 1, 0, 0]),
    "inside step 1": ((PhaseTwo, "predict_step", 2), [1, 1, 0, 0]),
    "before the clusters": ((clustering, "write_arrays", 1), [1, 1, 0, 0]),
    "between step 1 and step 2": ((madbal_method, "cell_query", 2), [1, 1, 1, 0]),
    "after step 2": ((ledger.Ledger, "write_query", 2), [1, 1, 1, 0]),
    "before the answers": ((ledger.Ledger, "write_answers", 2), [1, 1, 1, 1]),
}


def state(root):
    """Everything that decides what comes after it."""
    files = [*root.glob("*.npz"), *root.glob("round_*/*.npz"), *root.glob("*/support/*/*.npz")]
    files += root.glob("superpixel_features/*")
    metrics = [json.loads(path.read_text()) for path in sorted(root.glob("round_*/metrics.json"))]
    for measured in metrics:
        del measured["train_s"]
    weights = {
        str(path.relative_to(root)): {
            name: value.numpy().tobytes()
            for name, value in torch.load(path, weights_only=True)["state_dict"].items()
        }
        for path in root.glob("round_*/*/last.ckpt")
    }
    return {str(p.relative_to(root)): p.read_bytes() for p in files}, metrics, weights


@pytest.mark.parametrize("cut", CUTS)
def test_a_run_cut_off_anywhere_goes_on_bit_for_bit(finished, tmp_path, monkeypatch, cut):
    place, there = CUTS[cut]
    root = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_call(patch, *place)
        with pytest.raises(Killed):
            drive(madbal_run(root))
    first = root / "round_000"
    assert [
        int(any(first.glob("support/class_losses/*.npz"))),
        int((first / "support" / "last.ckpt").exists()),
        int((root / "clusters.npz").exists()),
        int((root / "round_001" / "query.npz").exists()),
    ] == there
    drive(madbal_run(root))
    mine, theirs = state(root), state(finished[0])
    assert {"clusters.npz", "round_001/query.npz", "round_001/answers.npz"} <= set(mine[0])
    assert mine == theirs


# Cells, features, options


def test_cells_are_asked_at_their_corner_and_learnt_whole(tmp_path):
    run = madbal_run(tmp_path, rounds=2, method=Madbal(**OPTIONS, grid=2))
    drive(run)
    assert len(run.pool.history) == 2
    for answers in run.pool.history:
        y, x = np.divmod(answers.unit, 48)
        assert not (y % 2).any()
        assert not (x % 2).any()
    for image in IMAGES:
        target = CellLabels(run.pool, 2)(image).maps["target"]
        expected = np.full((32, 48), VOID, dtype=np.uint8)
        for answers in run.pool.history:
            for row in np.flatnonzero(answers.image == image):
                y, x = divmod(int(answers.unit[row]), 48)
                expected[y : y + 2, x : x + 2] = answers.label[row]
        assert np.array_equal(target, expected)


def test_owned_pixels_that_are_no_corners_are_learnt_as_pixels(tmp_path):
    pool = madbal_run(tmp_path, method=Madbal(**OPTIONS, grid=4)).pool
    unit = np.array([0, 4, 48 + 5, 2 * 48 + 9])  # corners of two cells; inside one of them; a third
    label, image = np.array([1, 2, 0, 1], dtype=np.uint8), np.zeros(4, dtype=np.int64)
    pool.own([Answers(0, "pixel", "class", PIXELS, 3, image, unit, label=label)])
    expected = np.full((32, 48), VOID, dtype=np.uint8)
    expected[:4, :4], expected[:4, 4:8], expected[1, 5], expected[2, 9] = 1, 2, 0, 1
    assert np.array_equal(CellLabels(pool, 4)(0).maps["target"], expected)
    assert asked_cells(pool, 0, 4).tolist() == [0, 1, 1, 2]


def test_patches_go_through_vgg_once(tmp_path, monkeypatch):
    torch.manual_seed(0)
    weights = {f"features.{k}": v for k, v in feature_network(None).state_dict().items()}
    torch.save(weights, tmp_path / "vgg16.pth")
    options = {**OPTIONS, "features": "vgg16", "feature_weights": str(tmp_path / "vgg16.pth")}
    method = Madbal(**options)
    run = madbal_run(tmp_path / "run", rounds=2, method=method)
    run.cache = tmp_path / "cache"
    method.check(run.splits.train, run.pool.budget)
    drive(run)
    network = feature_network(str(tmp_path / "vgg16.pth"))
    regions = run.pool.maps["blocks"][4]
    patches = superpixel_patches(run.splits.train.image(4), regions, np.arange(24))
    with torch.inference_mode():
        expected = network(torch.from_numpy(patches)).flatten(1).numpy()
    assert not (run.root / "superpixel_features").exists()
    (folder,) = run.cache.iterdir()
    assert folder.name.startswith("vgg16-")
    assert len(list(folder.iterdir())) == 6
    found = ImageFiles(folder, [run.splits.train.fingerprint(image) for image in IMAGES]).read(4)
    assert found["unit"].tolist() == list(range(24))
    assert found["features"].dtype == np.float16
    assert np.allclose(found["features"], expected, rtol=2e-3, atol=2e-3)
    monkeypatch.setattr(Between, "_features", None)  # another run finds them
    again = madbal_run(tmp_path / "again", rounds=2, method=method)
    again.cache = run.cache
    drive(again)
    assert (again.root / "clusters.npz").read_bytes() == (run.root / "clusters.npz").read_bytes()


@pytest.mark.parametrize("content", [None, b"no weights", {"features.0.weight": torch.zeros(1, 1)}])
def test_weights_that_cannot_be_had(tmp_path, content):
    path = tmp_path / "vgg16.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    method = Madbal(feature_weights=str(path))
    run = madbal_run(tmp_path / "run", method=method)
    with pytest.raises(UserError, match=r"method\.feature(s=encoder|_weights)"):
        method.check(run.splits.train, run.pool.budget)


def test_void_is_left_out_where_the_truth_may_be_read(tmp_path):
    method = Madbal(**OPTIONS, skip_void=True)
    assert method.reads_truth
    run = madbal_run(tmp_path, rounds=2, method=method)
    rows = drive(run)
    assert all((answers.label != VOID).all() for answers in run.pool.history)
    assert [row["void_clicks"] for row in rows] == [0, 0]


@pytest.mark.parametrize("schedule", ["as_written", "intended"])
def test_learning_rates(tmp_path, schedule):
    method = Madbal(**{**OPTIONS, "lr": 0.01}, schedule=schedule)
    run = madbal_run(tmp_path, rounds=2, method=method)
    buy(run, 0)
    rates = {}
    for stage in method.stages(run.context(0)):
        made = stage.module().configure_optimizers()
        rates[stage.name] = []
        for _ in range(4):
            rates[stage.name].append(made["optimizer"].param_groups[0]["lr"])
            made["optimizer"].step()
            made["lr_scheduler"]["scheduler"].step()
    poly = [0.01 * (1 - i / 4) ** 0.9 for i in range(4)]
    if schedule == "intended":
        assert rates == {"segment": pytest.approx(poly), "support": pytest.approx(poly)}
    else:  # two epochs of two steps out of three, an epoch late after the first step
        late = [0.01, *(0.01 * (1 - (i + 2) / 6) ** 0.9 for i in (1, 2, 3))]
        assert rates == {"segment": pytest.approx(late), "support": [0.01] * 4}


def test_phase_two_may_be_sharp_and_batches_short(tmp_path):
    method = Madbal(**OPTIONS, support_blur=False, short_batches=True, keep="best")
    method = replace(method, validate_every=2)
    context = madbal_run(tmp_path, method=method).context(0)
    one, two = (stage.fit for stage in method.stages(context))
    assert (one.validate_every, dict(one.augment), one.whole_passes) == (2, {}, True)
    assert (dict(two.augment), two.whole_passes) == ({"blur": 0.0}, True)
    assert not dict(METHOD.stages(context)[1].fit.augment)


def test_options_that_make_no_sense(tmp_path):
    for option in ("features", "reading", "repair", "schedule", "keep"):
        with pytest.raises(UserError, match=rf"method\.{option}"):
            Madbal(**{option: "other"})
    for option in (
        "clusters",
        "grid",
        "steps",
        "support_steps",
        "epoch_steps",
        "support_epoch_steps",
        "validate_every",
    ):
        with pytest.raises(UserError, match=rf"method\.{option}"):
            Madbal(**{option: 0})
    for method, unit, message in (
        (METHOD, "image", "regions or patches, and these regions are images"),
        (Madbal(**OPTIONS, diversity="kmeans"), "region", r"method\.diversity=kmeans"),
    ):
        with pytest.raises(UserError, match=message):
            check_question(method, unit)
    run = madbal_run(tmp_path / "few", amount=5.0)
    with pytest.raises(UserError, match="at least one pixel in each"):
        drive(run)
    with pytest.raises(UserError, match=r"regions or patches, and these regions are pixels"):
        toy_run(tmp_path / "pixels", method=METHOD, kind="pixel")
    many = Madbal(**{**OPTIONS, "clusters": 1000})
    with pytest.raises(UserError, match=r"method\.clusters is 1000, but the pool has 144"):
        drive(madbal_run(tmp_path / "many", method=many))


def test_answers_of_another_kind_cannot_be_learnt(tmp_path):
    other = Random(steps=2, batch_size=2, epoch_steps=2)
    drive(toy_run(tmp_path / "other", rounds=1, method=other, network=NETWORK))
    run = madbal_run(tmp_path / "run")
    run.replay = tmp_path / "other"
    with pytest.raises(UserError, match="learns classes of pixels"):
        drive(run)


def test_entropy_alone_is_what_the_table_holds(tmp_path):
    run = madbal_run(tmp_path, rounds=2, method=Madbal(**OPTIONS, reading="none"))
    tables, pick = {}, Madbal.pick

    def kept(self, context, given):
        tables.update(given["superpixels"])
        return pick(self, context, given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Madbal, "pick", kept)
        drive(run)
    weights = {k: v for k, v in weights_of(tmp_path, 0, "segment").items() if "iou" not in k}
    network = run.network.build(3)
    network.load_state_dict({k.removeprefix("network."): v for k, v in weights.items()})
    pixels, _ = run.datamodule.eval_transform(run.splits.train.image(2), {})
    with torch.inference_mode():
        log_p = network.eval()(pixels[None])[0].double().log_softmax(0)
    entropy = -(log_p.exp() * log_p).sum(0).numpy()
    asked = run.pool.history[0]
    left = run.pool.maps["blocks"][2].copy()
    left.flat[asked.unit[asked.image == 2]] = -1
    mine = np.asarray(tables["image"]) == 2
    expected = [entropy[left == unit].mean() for unit in np.asarray(tables["unit"])[mine]]
    assert np.allclose(np.asarray(tables["score"])[mine], expected, rtol=1e-4)


def test_pictures_of_clusters_and_hard_pixels(finished):
    _, _, run, _ = finished
    shown = METHOD.show(run.context(1), 3)
    assert list(shown) == ["superpixels", "clusters", "hard pixels"]
    clusters = clusters_of(run.root)
    blocks = run.pool.maps["blocks"][3]
    expected = [[clusters[3, unit] for unit in row] for row in blocks.tolist()]
    assert np.array_equal(shown["clusters"], np.array(expected, dtype=np.uint16))
    assert shown["hard pixels"].shape == (32, 48)
    assert 0 <= shown["hard pixels"].min() <= shown["hard pixels"].max() <= 1
    assert "hard pixels" not in METHOD.show(run.context(2), 3)


def test_columns_say_which_clusters_the_clicks_went_to(finished):
    root, rows, run, _ = finished
    clusters = clusters_of(root)
    for round in (1, 2):
        answers = Answers.load(root / f"round_{round:03d}" / "answers.npz")
        counts = [0] * 4
        for image, unit in zip(answers.image.tolist(), answers.unit.tolist(), strict=True):
            counts[clusters[image, int(run.pool.maps["blocks"][image].flat[unit])]] += 1
        assert [rows[round][f"clicks_by_cluster/{k}"] for k in range(4)] == counts


@pytest.mark.parametrize("architecture", ["DeepLabV3Plus", "LRASPP"])
def test_small_maps_stay_small(architecture):
    """Outputs of a quarter of the image's size, by the shortcut and by way of the whole size."""
    torch.manual_seed(0)
    network = Network(architecture, "tu-test_resnet", None).build(3)
    supported = Supported(network, 3).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        maps = supported.maps(image)
        stride = {"DeepLabV3Plus": 4, "LRASPP": 8}[architecture]
        assert maps.scores.shape[-2:] == (64 // stride, 96 // stride)
        logits, auxiliary, weights, hard = on_grid(supported, maps, image, (16, 24))
        scores, support = supported(image)

    def brought(full):
        return F.interpolate(full, size=(16, 24), mode="bilinear", align_corners=False)

    assert torch.allclose(logits, brought(scores), atol=1e-5)
    for mine, full in zip(auxiliary, support.auxiliary, strict=True):
        assert torch.allclose(mine, brought(full), atol=1e-5)
    assert torch.allclose(weights, brought(support.depth_weights), atol=1e-5)
    assert torch.allclose(hard, brought(support.hard_logits.sigmoid()), atol=1e-5)
