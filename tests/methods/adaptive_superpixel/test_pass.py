"""The pass over the pool that merges and scores, and its predictions, against the paper's text."""

from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from alseg.active.driver import buy
from alseg.active.transfer import kept_on_host
from alseg.core import processes
from alseg.core.images import VOID
from alseg.labels.supervision import LabelFiles
from alseg.methods.adaptive_superpixel import module as modules
from alseg.methods.adaptive_superpixel.method import AdaptiveSuperpixel
from alseg.methods.adaptive_superpixel.module import Predictions, Sieve, shrunken
from alseg.methods.adaptive_superpixel.tables import image_tables, roots_of
from benchmarks.bench_adaptive_superpixel import direct_contacts, direct_merge
from tests.methods.adaptive_superpixel.test_merging import slow_limited
from tests.toys import BlockMaps, toy_run

SHORT = {"steps": 2, "batch_size": 2, "epoch_steps": 2, "lr": 1e-2, "optimizer": "adamw"}


class Ragged(BlockMaps):
    """Blocks with gaps between the ids, specks of one pixel, and pixels in no superpixel."""

    def __init__(self, sizes):
        super().__init__(sizes, side=8)
        self.num_regions = 2 * self.num_regions + 6

    def __getitem__(self, index):
        regions = 2 * super().__getitem__(index) + 3
        # half the height reads the rows 0, 2, ... of the upper half, and ..., 29, 31 of the lower
        regions[1, 1], regions[30, 5], regions[31, 47] = 0, 1, 2
        regions[9:14, 20] = -1
        return regions


def ragged_run(root, amount=10.0, **options):
    run = toy_run(root, method=AdaptiveSuperpixel(**SHORT, **options), amount=amount)
    run.pool.maps["blocks"] = Ragged(run.pool.sizes)
    return run


def one_pass(run, images=(0, 2, 5), round=0):
    """The tables of the module of a round, and the logits it saw, at the size it predicts at."""
    context = run.context(round)
    torch.manual_seed(3)
    merger = run.method.stages(context)[0].module().eval()
    merger.network.classifier.conv.weight.data *= 12  # an untrained network sees little contrast
    items = [run.datamodule.eval_transform(run.splits.train.image(i), {})[0] for i in images]
    maps = np.stack([run.pool.maps["blocks"][i] for i in images])
    batch = {
        "image": torch.stack(items),
        "index": torch.tensor(images),
        "regions": torch.from_numpy(maps).long(),
    }
    batch = kept_on_host(batch, "index", "regions")
    with torch.no_grad():
        tables = merger.predict_step(batch, 0).result()
        logits = merger.network(shrunken(batch["image"], run.method.prediction_scale))
    return merger, batch, tables, logits.double().numpy()


def by_pil(images, scale):
    """Images resized as the paper's code does, channel by channel."""
    width, height = (round(side * scale) for side in (images.shape[3], images.shape[2]))
    channels = [
        np.asarray(Image.fromarray(c.numpy()).resize((width, height), Image.Resampling.BICUBIC))
        for image in images
        for c in image
    ]
    return torch.from_numpy(np.stack(channels)).reshape(len(images), 3, height, width)


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0])
def test_images_are_shrunk_as_the_paper_does(scale):
    images = torch.randn(2, 3, 33, 48, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shrunken(images, scale), by_pil(images, scale), atol=1e-4, rtol=1e-4)


def slow_pass(logits, base, eps, limit, asked):
    """Sections 4 to 6 of the text, pixel by pixel: roots, rows and sizes of one image."""
    p = np.exp(logits - logits.max(axis=0))
    p /= p.sum(axis=0)
    second, first = np.sort(p, axis=0)[-2:]
    ratio, guess = second / first, p.argmax(axis=0)
    (height, width), (h, w) = base.shape, guess.shape
    cells = {}
    for (y, x), region in np.ndenumerate(base):
        cells.setdefault(int(region), []).append((y * h // height, x * w // width))
    cells.pop(-1)
    features = {s: np.mean([p[:, i, j] for i, j in at], axis=0) for s, at in cells.items()}
    doubt = {s: np.mean([ratio[i, j] for i, j in at]) for s, at in cells.items()}
    contacts = {
        s: [other for other in others if other >= 0]
        for s, others in direct_contacts(base).items()
        if s >= 0
    }
    roots = {}
    if eps is not None and limit is None:
        roots = direct_merge(features, doubt, contacts, eps)
    elif eps is not None:
        roots = slow_limited(features, doubt, contacts, eps, limit * len(cells))
    merged = np.full_like(base, -1)
    sizes = {}
    for place, region in np.ndenumerate(base):
        if region >= 0:
            merged[place] = roots.get(int(region), int(region))
            count = sizes.setdefault(int(merged[place]), [0, 0])
            count[0] += 1
            count[1] += int(region) in asked
    rows = {}
    for i in range(h):
        for j in range(w):
            y = int(np.floor(i * (height - 1) / (h - 1) + 0.5))
            x = int(np.floor(j * (width - 1) / (w - 1) + 0.5))
            if merged[y, x] >= 0:
                row = rows.setdefault((int(merged[y, x]), int(guess[i, j])), [0.0, 0])
                row[0] += ratio[i, j]
                row[1] += 1
    return roots, rows, sizes


CASES = [
    {"eps": 0.1, "limit": None, "prediction_scale": 0.5},
    {"eps": 0.15, "limit": 0.5, "prediction_scale": 0.5},
    {"eps": None, "limit": None, "prediction_scale": 0.5},
    {"eps": 0.1, "limit": None, "prediction_scale": 1.0},
]


@pytest.mark.parametrize("case", CASES)
def test_one_pass_against_the_text(tmp_path, case):
    run = ragged_run(tmp_path, amount=40.0, **case)
    buy(run, 0)
    _, batch, tables, logits = one_pass(run)
    assert list(tables) == ["regions", "sizes", "merges"]
    merged = 0
    for item, image in enumerate((0, 2, 5)):
        base = batch["regions"][item].numpy()
        asked = run.pool.asked("blocks", image).tolist()
        assert 0 < len(asked) < 25
        roots, rows, sizes = slow_pass(logits[item], base, case["eps"], case["limit"], asked)
        mine = {
            name: {key: column[table["image"] == image] for key, column in table.items()}
            for name, table in tables.items()
        }
        expected = np.arange(run.pool.num_units("blocks")[image])
        expected[list(roots)] = list(roots.values())
        assert mine["merges"]["root"].tolist() == expected.tolist()
        merged += sum(root != region for region, root in roots.items())

        table = mine["regions"]
        keys = list(zip(table["unit"].tolist(), table["label"].tolist(), strict=True))
        assert keys == sorted(rows)
        assert table["pixels"].tolist() == [rows[key][1] for key in keys]
        sums = [rows[key][0] for key in keys]
        np.testing.assert_allclose(table["uncertainty"].numpy(), sums, rtol=1e-4)

        table = mine["sizes"]
        assert table["unit"].tolist() == sorted(sizes)
        assert table["pixels"].tolist() == [sizes[unit][0] for unit in sorted(sizes)]
        assert table["asked"].tolist() == [sizes[unit][1] for unit in sorted(sizes)]
        if case["eps"] is None and case["prediction_scale"] == 0.5:
            assert sorted(sizes) == [0, 1, 2, *range(3, 51, 2)]
            assert {0, 1, 2} & set(mine["regions"]["unit"].tolist()) == {2}, "too thin for the grid"
    assert (merged == 0) if case["eps"] is None else (0 < merged < 3 * 26)


def test_ids_without_a_pixel_do_not_count_towards_the_limit():
    """Two superpixels of no uncertainty at all, behind many ids that do not occur."""
    base = np.array([[7, 8, 9]], dtype=np.int32)
    features = np.zeros((10, 2))
    features[7:] = [0.3, 0.7]
    roots = roots_of(base, 10, features, np.zeros(10), eps=0.1, limit=1.0)
    assert roots.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    # two of three: 9 is left alone
    roots = roots_of(base, 10, features, np.zeros(10), eps=0.1, limit=0.6)
    assert roots.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 9]


def test_predictions_are_kept_for_the_sieve_alone(tmp_path):
    run = ragged_run(tmp_path / "a", prediction_scale=0.5)
    _, _, _, logits = one_pass(run)
    stored = Predictions(tmp_path / "a" / "round_001" / "predictions")
    for image, expected in zip((0, 2, 5), logits, strict=True):
        found = stored.probabilities(image)
        assert found.shape == (3, 16, 24)
        wanted = torch.from_numpy(expected).softmax(dim=0).float()
        torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)
    assert stored.probabilities(1) is None
    one_pass(ragged_run(tmp_path / "b", sieve=False))
    assert not (tmp_path / "b" / "round_001").exists()


def same(one, other):
    assert list(one) == list(other)
    for name, table in one.items():
        assert list(table) == list(other[name])
        for key, column in table.items():
            assert column.dtype == other[name][key].dtype
            assert torch.equal(column, other[name][key]), (name, key)


@pytest.mark.parametrize("cores", [1, 3])
def test_other_processes_make_the_same_tables(tmp_path, monkeypatch, cores):
    run = ragged_run(tmp_path)
    merger, batch, tables, _ = one_pass(run)
    assert merger._mergers is None, "not worth it"
    merger.on_predict_start()
    assert merger._helper is None
    monkeypatch.setattr(modules, "_MANY", 10)
    monkeypatch.setattr(processes, "usable_cores", lambda: cores)
    with torch.no_grad():
        again = merger.predict_step(batch, 0).result()
    assert (merger._mergers is not None) == (cores > 1), "one core is not shared"
    same(tables, again)
    merger.on_predict_end()
    assert merger._helper is merger._mergers is None


def test_the_next_batch_begins_while_one_is_merged(tmp_path, monkeypatch):
    """And what is merged beside it is what is merged alone."""
    run = ragged_run(tmp_path)
    merger, batch, tables, _ = one_pass(run)
    go_on = Event()

    def held(*arguments, **options):
        assert go_on.wait(10)
        return image_tables(*arguments, **options)

    monkeypatch.setattr(modules, "image_tables", held)
    with torch.no_grad():
        first, second = (merger.predict_step(batch, number) for number in (0, 1))
    assert not first.done()
    go_on.set()
    for promised in (first, second):
        same(tables, promised.result())
    merger.on_predict_end()


@pytest.mark.parametrize("aligned", [False, True])
def test_upsampled_and_stored_is_what_was_predicted(tmp_path, aligned):
    """Canvases larger than the image, and sizes that are no multiple of anything."""
    stored = Predictions(tmp_path)
    logits = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).half()
    stored.write(7, logits.numpy(), (32, 40), (29, 33))
    full = F.interpolate(logits.float()[None], (32, 40), mode="bilinear", align_corners=aligned)
    expected = full[0, :, :29, :33].softmax(dim=0)
    assert torch.equal(stored.probabilities(7, aligned), expected)


def test_the_sieve_predicts_what_is_not_stored(tmp_path):
    """The same labels, whether its network predicts or the pass that chose did."""
    run = ragged_run(tmp_path, prediction_scale=0.75, sieve_above=0.5)
    buy(run, 0)
    merger, batch, _, _ = one_pass(run)
    before = run.pool.render(0)

    def labels(folder, predictions):
        files = LabelFiles(folder, np.array([0, 2, 5]))
        sieve = Sieve(merger.network, predictions, 0.75, run.pool, files, 32, 10)
        with torch.no_grad():
            sieve.predict_step(batch, 0)
        return [files(image).maps["target"] for image in (0, 2, 5)]

    stored = labels(tmp_path / "a", merger.predictions)
    again = labels(tmp_path / "b", Predictions(tmp_path / "none"))
    for one, other in zip(stored, again, strict=True):
        assert np.mean(one != other) < 0.002, "a batch may round otherwise"
    assert ((stored[0] == VOID) & (before != VOID)).any(), "something is sieved"


def test_predictions_are_deleted_once_all_labels_are_written(tmp_path):
    sieve = Sieve(None, Predictions(tmp_path / "predictions"), 1.0, None, None, 1, 1)
    reached = []
    strategy = SimpleNamespace(barrier=reached.append)
    for first, left in ((False, True), (True, False)):
        (tmp_path / "predictions").mkdir(exist_ok=True)
        sieve.trainer = SimpleNamespace(strategy=strategy, is_global_zero=first)
        sieve.on_predict_end()
        assert (tmp_path / "predictions").exists() == left
    assert len(reached) == 2
