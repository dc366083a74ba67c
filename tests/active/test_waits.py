"""How often the host would wait for a GPU: counted on a CPU by the calls that make it wait."""

from collections import Counter
from concurrent.futures import Executor, Future
from itertools import product
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from alseg.acquisition import fused
from alseg.active import dropout, scoring
from alseg.active.features import FeatureTap, predicted_labels
from alseg.active.finite import FiniteNumbers
from alseg.active.module import CrossEntropyModule, teaches
from alseg.active.scoring import ScoringModule, UnitScorer
from alseg.active.transfer import HOST, on_host, packed, unpacked
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.imagefiles import ImageFiles
from alseg.labels.supervision import LabelFiles, Target
from alseg.methods.adaptive_superpixel import module as adaptive
from alseg.methods.als4gan import mean_teacher
from alseg.methods.als4gan.classifier import SceneClassifier
from alseg.methods.als4gan.discriminator import Discriminator
from alseg.methods.als4gan.module import S4GANModule
from alseg.methods.als4gan.step import FIXED
from alseg.methods.equal import module as equal
from alseg.methods.equal.module import TwoViews
from alseg.methods.madbal import module as madbal
from alseg.methods.madbal import superpixels
from alseg.methods.madbal.module import Between, PhaseOne, PhaseTwo
from alseg.methods.madbal.supported import Supported
from alseg.methods.mulquery import module as mulquery
from alseg.methods.mulquery import pseudo_labels
from alseg.methods.mulquery.losses import counts_of
from alseg.methods.mulquery.module import PseudoLabeller, StageOne, StageTwo
from alseg.nn.recipe import Recipe
from alseg.nn.segmenter import build_segmenter

#: Operators whose result, or its size, the host has to know.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "is_nonzero", "equal")


class Waits(TorchDispatchMode):
    """Counts operators that wait, indexing by a mask among them."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masked = name in ("index", "index_put", "index_put_") and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if name in WAITING or masked:
            self.calls[name] += 1
        return function(*args, **(kwargs or {}))


class Transfers(TorchFunctionMode):
    """Counts what takes a tensor to the host."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in ("cpu", "tolist"):
            self.calls[name] += 1
        return function(*args, **(kwargs or {}))


def waits(work):
    mode = Waits()
    with mode, Transfers(mode.calls):
        work()
    if "tolist" in mode.calls:  # it reads numbers one by one on a CPU, but waits once
        mode.calls.pop("_local_scalar_dense", None)
    return sum(mode.calls.values())


def network(outputs=3, cosine=False):
    torch.manual_seed(0)
    options = {"encoder_depth": 3, "decoder_channels": [8, 8, 8], "decoder_use_norm": False}
    return build_segmenter("Unet", "resnet18", None, outputs, cosine, options)


def shared(cosine=False):
    net = network(4 if cosine else 3, cosine)
    return {"network": net, "num_classes": 3, "steps": 10, "recipe": Recipe(1e-2)}


def training_batch():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 3, (2, 32, 32), generator=generator).to(torch.uint8)
    target[:, :20] = VOID
    regions = (torch.arange(32) // 8).expand(2, 32, 32).clone()
    regions[:, :8] = -1
    sets = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]).expand(2, 4, 4)
    image = torch.randn(2, 3, 32, 32, generator=generator)
    index = torch.tensor([3, 5])
    return {"image": image, "target": target, "regions": regions, "sets": sets, "index": index}


def silent(module):
    module.log = module.log_dict = lambda *args, **kwargs: None
    module.read_every = 1000  # as between two looks on a GPU
    module._teaches = True  # as seen on the host before the batch travelled
    return module


def phase_two(void=None):
    options = shared() | {"network": Supported(network(), 3, hidden_channels=8)}
    module = PhaseTwo(
        class_losses=None, images=None, reading="pixel_js", edges_as_written=True, grid=4,
        asked=lambda image: np.arange(image), void=void, class_weights=torch.ones(3), **options
    )  # fmt: skip
    module._colors = lambda images: images.abs() * 50
    return module


@pytest.mark.parametrize(
    "make",
    [
        lambda: PhaseOne(torch.ones(3), **shared()),
        phase_two,
        lambda: CrossEntropyModule(**shared()),
        lambda: StageOne(0.1, (16.0, 8.0, 1.0), **shared(cosine=True)),
        lambda: StageTwo(0.1, **shared(cosine=True)),
        lambda: TwoViews(True, True, (2, 2), **shared()),
        lambda: TwoViews(False, True, (2, 2), **shared()),
    ],
)
def test_no_step_of_training_waits(make):
    module, batch = silent(make()), training_batch()
    if isinstance(module, StageOne):
        batch[HOST] = {"counts": counts_of(batch["regions"], batch["sets"])}
    if isinstance(module, TwoViews):
        torch.manual_seed(1)  # its coin is the host's own number
    work = Waits()
    with work, Transfers(work.calls):
        module.training_step(batch, 0)
    if isinstance(module, StageOne):  # a CPU, and it alone, takes the chosen pixels of each loss
        assert work.calls == {"index": 3}
    else:
        assert sum(work.calls.values()) == isinstance(module, TwoViews)


def scenes(outputs):
    return nn.Sequential(nn.Sequential(nn.AvgPool2d(32), nn.Flatten()), nn.Linear(3, outputs))


def test_no_step_of_the_classifier_of_scenes_waits():
    module = silent(SceneClassifier(scenes(4), 1e-2, "entropy"))
    batch = training_batch() | {"scene": torch.tensor([[0], [3]])}
    assert waits(lambda: module.training_step(batch, 0).backward()) == 0
    assert [name for _, name, _, _ in module._unread] == ["loss"]


def test_no_step_of_the_two_networks_waits(tmp_path):
    module = silent(
        S4GANModule(
            network(), 3, Discriminator(3, width=2), FIXED, steps=9, lr=1e-2,
            discriminator_lr=1e-3, weight_decay=0, decay_steps=9, checkpoint_every=1,
            folder=tmp_path,
        )
    )  # fmt: skip
    updates = [
        torch.optim.SGD(part.parameters(), 1e-2) for part in (module.network, module.discriminator)
    ]
    module.optimizers, module.iteration = lambda: updates, lambda batch: 1
    module.manual_backward = torch.Tensor.backward
    batch = training_batch() | {"inside": torch.ones(2, 32, 32)}
    streams = dict.fromkeys(("labelled", "unlabelled", "real"), batch)
    # one_hot looks at the smallest and the largest id, on a CPU alone
    assert waits(lambda: module.training_step(streams, 0)) == 2
    names = [name for _, name, _, _ in module._unread]
    assert names == ["loss of the segmenter", "loss of the discriminator"]
    kept = []
    module._trainer = SimpleNamespace(global_step=4)
    module._trainer.save_checkpoint = lambda path, weights_only: kept.append(path)
    module.on_train_batch_end(None, streams, 0)
    assert len(kept) == 1
    assert not module._unread  # looked at before
    module._unread = [(3, names[1], torch.tensor(torch.inf), None)]
    with pytest.raises(UserError, match="the loss of the discriminator is inf at step 3"):
        module.on_train_batch_end(None, streams, 0)
    assert len(kept) == 1


@pytest.mark.parametrize("labels", ["some", "none", "told"])
def test_no_step_of_the_mean_teacher_waits(monkeypatch, labels):
    monkeypatch.setattr(mean_teacher, "weak_view", lambda images: images)  # coins are the host's
    monkeypatch.setattr(mean_teacher, "strong_view", lambda images, mean, std: 2 * images)
    monkeypatch.setattr(mean_teacher.MeanTeacher, "_normalisation", lambda *_: (0, 1))
    module = silent(mean_teacher.MeanTeacher(network(), 3, scenes(3), 9, 0.1, 0, 0.2))
    module._trainer = SimpleNamespace(current_epoch=4, global_step=4, progress_bar_callback=None)
    monkeypatch.setattr("alseg.active.module.is_logged", lambda trainer: True)
    labelled = training_batch()
    labelled["target"][0] = VOID  # the first says nothing
    if labels == "none":
        labelled["target"][:] = VOID
    if labels == "told":
        labelled["present"] = torch.tensor([[1, 0, 0], [0, 0, 0]])
    streams = {"labelled": labelled, "unlabelled_1": training_batch()}
    seen = module.on_before_batch_transfer(streams, 0)
    assert seen["labelled"]["known"].tolist() == {"some": [1], "none": [], "told": [0]}[labels]
    assert "known" not in labelled
    losses = []
    assert waits(lambda: losses.append(module.training_step(seen, 0))) == 0
    assert torch.equal(losses[0], module.loss(streams, 4)["loss"])  # looked for there


def test_losses_are_looked_at_together_and_the_step_at_fault_is_named():
    module, batch = silent(CrossEntropyModule(**shared())), training_batch()
    module.read_every = 3
    module._unread = [
        (7, "loss", torch.tensor(1.0), None),
        (8, "loss", torch.tensor(torch.nan), batch["index"]),
    ]
    with pytest.raises(UserError, match=r"the loss is nan at step 8 \(images \[3, 5\]\)"):
        module.training_step(batch, 0)
    module._unread = [(9, "loss", torch.tensor(torch.inf), None)]
    with pytest.raises(UserError, match="inf at step 9"):
        module.on_train_epoch_end()  # before a checkpoint is kept


def test_on_a_cpu_every_loss_is_looked_at_at_once():
    module = silent(CrossEntropyModule(**shared()))
    module.read_every, module._teaches = None, None
    module.loss = lambda batch: {"loss": torch.tensor(torch.nan)}
    with pytest.raises(UserError, match="nan at step 0"):
        module.training_step(training_batch(), 0)


def test_what_teaches():
    batch = training_batch()
    assert teaches(batch)
    assert not teaches({"target": torch.full((1, 2, 2), VOID)})
    sets = {name: batch[name] for name in ("regions", "sets")}
    assert teaches(sets)
    assert not teaches({**sets, "regions": torch.full((2, 4, 4), -1)})
    assert not teaches({**sets, "sets": torch.zeros(2, 4, 4)})
    assert teaches({"image": batch["image"]})


@pytest.mark.parametrize(
    ("score", "power"),
    [
        *product(["entropy", "margin", "class", "bvsb_and_class", "error"], [None, 1.0]),
        ("features", None),
        ("gradients", None),
    ],
)
def test_a_batch_of_scored_regions_waits_twice(score, power):
    module = ScoringModule(score, UnitScorer(4, num_regions=4, power=power), **shared()).eval()
    batch = {**training_batch(), "target": torch.zeros(2, 32, 32, dtype=torch.uint8)}
    tables = {}
    with torch.no_grad():
        count = waits(lambda: tables.update(module.predict_step(batch, 0)))
    # the ids that occur, and the packet to the host, which is no call on a CPU
    assert count <= 1
    assert set(tables["units"]["image"].tolist()) == {3, 5}


def test_what_a_diversity_compares_waits_once():
    module, batch = CrossEntropyModule(**shared()).eval(), training_batch()
    tap = FeatureTap(module, num_regions=4)
    with torch.no_grad():
        logits = module.network(batch["image"])
        # the ids that occur: units and features that are scored travel in one packet
        assert waits(lambda: tap.table(batch)) == 1
        assert waits(lambda: predicted_labels(logits, batch, num_regions=4)) == 1


def test_outputs_are_looked_at_together_and_before_anything_is_made_of_them():
    look = FiniteNumbers("round 1")
    look.read_every = 3
    module, batch = ScoringModule("entropy", UnitScorer(4, num_regions=4), **shared()).eval(), {}
    look.on_predict_start(SimpleNamespace(global_step=0), module)
    batch |= training_batch()

    def score():
        look.on_predict_batch_start(None, module, batch, 0)
        module.predict_step(batch, 0)

    with torch.no_grad():
        passes = len(batch["image"])  # on a CPU one after the other
        assert waits(score) <= 1  # the ids that occur
        assert len(look._unread) == passes
        with torch.no_grad():
            module.network.classifier.conv.weight.fill_(torch.nan)
        with pytest.raises(
            UserError, match=r"'network.classifier' is not finite \(images \[3, 5\]"
        ):
            score()  # the third
        look._read()
        look.read_every = 50
        score()
    with pytest.raises(UserError, match="round 1: the output of"):
        look.on_predict_epoch_end(None, module)


def test_regions_that_are_resized_wait_no_more():
    module = ScoringModule("bvsb_and_class", UnitScorer(4, num_regions=4), scale=0.5, **shared())
    batch = travelled(module.eval(), training_batch())
    with torch.no_grad():
        assert waits(lambda: module.predict_step(batch, 0)) == 1  # the ids that occur


@pytest.mark.parametrize(("share", "power"), [(None, None), (0.5, None), (None, 1.0)])
def test_a_batch_of_scored_pixels_waits_once(share, power):
    scorer = UnitScorer(4, top_share=share, power=power, asked={3: torch.arange(9).numpy()})
    module = ScoringModule("margin", scorer, **shared()).eval()
    batch = travelled(module, {name: training_batch()[name] for name in ("image", "index")})
    tables = {}
    with torch.no_grad():
        count = waits(lambda: tables.update(module.predict_step(batch, 0)))
    assert count == (power is not None)  # all scores, to which noise is added; or the packet
    assert len(tables["units"]["unit"]) == 8


def test_the_pass_of_mulquery_waits_twice():
    module = StageOne(0.1, (16.0, 8.0, 1.0), num_regions=4, **shared(cosine=True)).eval()
    batch = training_batch()
    with torch.no_grad():
        assert waits(lambda: module.predict_step(batch, 0)) <= 1


class WholeSums(NamedTuple):
    """As the kernels return it."""

    sums: torch.Tensor
    counts: torch.Tensor
    stray: torch.Tensor
    shares: torch.Tensor


@pytest.fixture
def kernels(monkeypatch):
    """Kernels that are there and say the same of every pixel: their number is what counts."""
    ran = []

    def maps(logits, canvas, size, aligned, names, *_):
        ran.append("maps")
        kinds = {name: torch.uint8 if name == "top1" else torch.float32 for name in names}
        return {name: torch.ones(len(logits), *size, dtype=kind) for name, kind in kinds.items()}

    def sums(logits, canvas, size, aligned, score, regions, num_regions, by_class, shares, *_):
        ran.append("sums")
        classes = logits.shape[1]
        shape = (len(logits), num_regions, classes) if by_class else (len(logits), num_regions)
        ones = torch.ones(shape, dtype=torch.int64)
        found = torch.zeros(len(logits), classes + 1, dtype=torch.int64)
        return WholeSums(ones, ones, torch.tensor(0), found)

    def committee(grids, canvas, size, aligned, score, log_zero, regions=None, num_regions=0):
        ran.append("committee")
        ones = torch.ones(num_regions, dtype=torch.int64)
        return torch.ones(size), WholeSums(ones, ones, torch.tensor(0), torch.zeros(1, 0))

    stand_in = SimpleNamespace(
        SCALE=2, BROKEN=2**40, score_maps=maps, score_sums=sums, committee=committee
    )
    monkeypatch.setattr(fused, "_kernels", lambda: stand_in)
    for module in (fused, scoring, dropout, mulquery, equal):
        monkeypatch.setattr(module, "has_kernel", lambda device, kernel="maps": True)
    return ran


def scorer(score, **options):
    """A module whose network has its small grid alone to offer."""
    network = build_segmenter("FPN", "resnet18", None, 3, options={"decoder_dropout": 0.5})
    network.forward = network.enlarge = None
    options |= shared() | {"network": network}
    return ScoringModule(score, UnitScorer(4, num_regions=4), **options).eval()


@pytest.mark.parametrize(
    ("score", "kernel"),
    [("entropy", "sums"), ("class", "sums"), ("bvsb_and_class", "sums"), ("error", "maps")],
)
def test_with_a_kernel_a_batch_of_scored_regions_waits_twice(score, kernel, kernels):
    batch = {**training_batch(), "target": torch.zeros(2, 32, 32, dtype=torch.uint8)}
    module = scorer(score)
    with torch.no_grad():
        # the ids that occur, and the packet to the host, which is no call on a CPU
        assert waits(lambda: module.predict_step(batch, 0)) == 1
    assert kernels == [kernel]


def travelled(module, batch):
    """A batch as `predict_step` gets it."""
    module._trainer = SimpleNamespace(predicting=True, global_step=0, progress_bar_callback=None)
    return module.on_before_batch_transfer(batch, 0)


def test_with_a_kernel_a_committee_waits_no_more_than_without(kernels):
    module = scorer("bald", passes=3)
    batch = travelled(module, training_batch())
    with torch.no_grad():
        # the ids that occur, and the packet; from the images' numbers their seeds follow
        assert waits(lambda: module.predict_step(batch, 0)) == 1
    assert kernels == ["committee"] * 2


def test_with_a_kernel_mulquery_and_equal_wait_no_more_than_without(kernels):
    stage = StageOne(0.1, (16.0, 8.0, 1.0), num_regions=4, **shared(cosine=True)).eval()
    views = TwoViews(True, True, (2, 2), **shared()).eval()
    batch = {name: training_batch()[name] for name in ("image", "regions", "index")}
    with torch.no_grad():
        assert waits(lambda: stage.predict_step(batch, 0)) == 1
        assert waits(lambda: views.predict_step(batch, 0)) == 0
    assert kernels == ["sums", "maps"]


@pytest.fixture
def packets(monkeypatch):
    """Counts the packets to the host, which are no calls on a CPU."""
    sent = []

    def counted(tables):
        sent.append(sorted(tables))
        return on_host(tables)

    for module in (adaptive, superpixels, madbal, mulquery, pseudo_labels):
        monkeypatch.setattr(module, "on_host", counted)
    return sent


@pytest.mark.parametrize("void", [None, VOID])
def test_the_pass_of_madbal_waits_once(packets, void):
    module = phase_two(void).eval()
    batch = travelled(module, training_batch())
    tables = {}
    with torch.no_grad():
        count = waits(lambda: tables.update(module.predict_step(batch, 0)))
    assert count + len(packets) == 1  # for all columns
    assert {c.device.type for c in tables["superpixels"].values()} == {"cpu"}
    assert set(tables["superpixels"]["image"].tolist()) == {3, 5}


@pytest.mark.parametrize("patches", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_the_pass_between_the_phases_waits_once(packets, tmp_path, monkeypatch, patches, kept):
    monkeypatch.setattr(madbal, "colors_of", lambda images, _: images.abs() * 50)
    batch = training_batch()
    module = Between(
        network(),
        labels=lambda image: Target({"target": batch["target"][0].numpy()}, {}),
        class_losses=ImageFiles(tmp_path / "losses"),
        labelled=np.array([5]),
        features=ImageFiles(tmp_path / "features") if kept else None,
        patch_network=nn.AvgPool2d(16) if patches else None,
        grid=4,
    ).eval()
    batch = travelled(module, batch)
    module._trainer.datamodule = None
    with torch.no_grad():
        count = waits(lambda: module.predict_step(batch, 0))
    assert count + len(packets) == 1 + (patches and kept)  # the colours, and all that is written
    assert sorted(path.stem for path in (tmp_path / "losses").iterdir()) == ["5"]
    found = [module.features.read(image) for image in (3, 5)] if kept else []
    for each in found:
        assert each["unit"].tolist() == [0, 1, 2, 3]
        assert each["features"].shape == (
            4,
            3 if patches else module.network.encoder.out_channels[-1],
        )
    del packets[:]
    with torch.no_grad():
        assert waits(lambda: module.predict_step(batch, 0)) == 0, "nothing is missing"


class AtOnce(Executor):
    """Does at once, where calls are counted, what a thread would do beside."""

    def submit(self, function, *args):
        done = Future()
        done.set_result(function(*args))
        return done


@pytest.mark.parametrize("kept", [True, False])
def test_the_pass_that_merges_waits_once(packets, tmp_path, kept):
    module = adaptive.Merger(
        num_regions=np.full(6, 4), eps=0.5, limit=None, scale=1.0, asked={},
        predictions=adaptive.Predictions(tmp_path) if kept else None, **shared(),
    ).eval()  # fmt: skip
    module._helper = AtOnce()
    batch = travelled(module, training_batch())
    tables = {}
    with torch.no_grad():
        count = waits(lambda: tables.update(module.predict_step(batch, 0).result()))
    assert count + len(packets) == 1  # what is merged by
    assert set(tables["regions"]["image"].tolist()) == {3, 5}
    assert len(list(tmp_path.iterdir())) == 2 * kept


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("variant", ["expand", "within", "naive", "naive_all"])
def test_the_pass_that_writes_pseudo_labels_waits_twice(packets, tmp_path, variant, strict):
    batch = training_batch()
    sets = batch["sets"].bool().numpy()
    known = SimpleNamespace(sets=lambda image: (np.array([2, 1]), sets[0, [2, 1]]))
    labels = LabelFiles(tmp_path, np.array([3, 5]))
    module = PseudoLabeller(
        network(4, cosine=True), known, labels, variant, 1.0, "median", strict, [1.0], False
    ).eval()
    batch = module.on_before_batch_transfer(batch, 0)
    with torch.no_grad():
        count = waits(lambda: module.predict_step(batch, 0))
    assert count == 0
    expected = [["labels"]] if variant.startswith("naive") else [["prototypes"], ["labels"]]
    assert packets == expected
    for image in (3, 5):
        found = labels(image).maps["target"]
        assert set(np.unique(found[8:, 8:24])) <= {0, 1, 2, 3}, "those that were asked"
        assert (found[:8] == VOID).all() == (variant != "naive_all"), "in no region"


@pytest.mark.parametrize("stored", [True, False])
def test_the_pass_that_sieves_waits_once(packets, tmp_path, stored):
    pixels = np.full((2, 2), [32, 32])
    asked = SimpleNamespace(regions="quarters", unit=np.arange(4), label=np.array([0, 1, 2, 255]))
    pool = SimpleNamespace(
        sizes={3: pixels[0], 5: pixels[1]},
        maps={"quarters": dict.fromkeys((3, 5), np.arange(4).repeat(256).reshape(32, 32))},
        answers=lambda image: [(asked, np.arange(3)), (asked, np.array([3, image - 3]))],
    )
    predictions = adaptive.Predictions(tmp_path / "stored")
    if stored:
        for image in (3, 5):
            logits = np.random.default_rng(image).normal(size=(3, 8, 8)).astype(np.float16)
            predictions.write(image, logits, (32, 32), (32, 32))
    labels = LabelFiles(tmp_path, np.array([3, 5]))
    module = adaptive.Sieve(network(), predictions, 1.0, pool, labels, 32, 10).eval()
    batch = travelled(module, training_batch())
    with torch.no_grad():
        count = waits(lambda: module.predict_step(batch, 0))
    assert count + len(packets) == 1  # for all confidences
    for image in (3, 5):
        found = labels(image).maps["target"]
        assert 0 in found[:8]
        assert (found[24:] == VOID).all()


def test_a_packet_holds_all_columns_to_the_bit():
    columns = [
        torch.tensor([1, 2, 3], dtype=torch.uint8),  # the next starts at an odd place
        torch.tensor([[0.5, -torch.inf], [torch.nan, 3.0]]),
        torch.zeros(0, 2, dtype=torch.float16),
        torch.tensor([True, False]),
        torch.tensor(2**40),
    ]
    for got, want in zip(unpacked(packed(columns), columns), columns, strict=True):
        assert got.dtype == want.dtype
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)
    tables = on_host({"a": {"x": columns[1].requires_grad_()}})
    assert not tables["a"]["x"].requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_no_step_waits():
    module = silent(CrossEntropyModule(**shared())).cuda()
    batch = {name: value.cuda() for name, value in training_batch().items()}
    torch.cuda.set_sync_debug_mode("error")
    try:
        module.training_step(batch, 0).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
