"""A scoring pass beside the bare forward pass of its network, and the labels of an evaluation."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F

from alseg.active.scoring import SCORES, ScoringModule, UnitScorer
from alseg.active.transfer import kept_on_host
from alseg.labels.imagefiles import ImageFiles
from alseg.methods.adaptive_superpixel import module as modules
from alseg.methods.adaptive_superpixel.module import Merger
from alseg.methods.als4gan.classifier import SceneClassifier, build_classifier
from alseg.methods.equal.module import TwoViews
from alseg.methods.madbal.module import PhaseTwo
from alseg.methods.madbal.supported import Supported
from alseg.methods.mulquery.module import StageOne
from alseg.nn.recipe import Recipe
from alseg.nn.segmenter import build_segmenter
from benchmarks.bench_mulquery import wavy_regions
from benchmarks.harness import Comparison, compare, equal, table, within
from benchmarks.kernels import on_a_gpu

CLASSES = 19
TAU = 0.1


def main(quick: bool) -> None:
    with torch.inference_mode():
        rows = [*formulas(quick), *labels(quick), *passes(quick)]
        print(table(rows))
        print(on_a_gpu(quick))


def obvious(name: str, logits: torch.Tensor) -> torch.Tensor:
    """The score of every pixel as one writes it down."""
    p = logits.softmax(1)
    if name == "entropy":
        return -torch.xlogy(p, p).sum(1)
    best = p.topk(2, dim=1).values
    if name == "least_confidence":
        return 1 - best[:, 0]
    return 1 - (best[:, 0] - best[:, 1]) if name == "margin" else best[:, 1] / best[:, 0]


def formulas(quick: bool) -> list[Comparison]:
    height, width = (32, 64) if quick else (512, 1024)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(1, CLASSES, height, width, generator=generator)
    read = "one sum over the logits", partial(logits.sum, 1)
    return [
        compare(
            f"{name} of {CLASSES}x{height}x{width} logits",
            "softmax, then the definition",
            partial(obvious, name, logits),
            partial(score, logits),
            within(5e-6),
            limit=read,
        )
        for name, score in SCORES.items()
    ]


def labels(quick: bool) -> list[Comparison]:
    """The confusion matrix of one image, with the choice of the best class."""
    height, width = (64, 128) if quick else (512, 1024)
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(1, CLASSES, height, width, generator=generator)
    truth = torch.randint(0, CLASSES, (1, height, width), generator=generator)
    module = ScoringModule("entropy", UnitScorer(1), **shared(network(quick)))
    module.network.forward = lambda images: logits  # the network is not what is measured

    def cells():
        module.iou.reset()
        module.iou.update(logits.argmax(1), truth)
        return module.iou.confmat.clone()

    def ours():
        module.iou.reset()
        module.evaluate({"image": logits, "target": truth})
        return module.iou.confmat.clone()

    task = f"evaluating {CLASSES}x{height}x{width} logits"
    return [compare(task, "argmax, torchmetrics", cells, ours, equal)]


def network(quick: bool, cosine: bool = False, classes: int = CLASSES) -> Any:
    torch.manual_seed(0)
    options = {"decoder_aspp_dropout": 0.5}
    built = build_segmenter("DeepLabV3Plus", "mobilenet_v2", None, classes, cosine, options)
    return built.eval()


def shared(net: Any) -> dict[str, Any]:
    return {"network": net, "num_classes": CLASSES, "steps": 1, "recipe": Recipe(1e-3)}


def region_means(values: torch.Tensor, regions: torch.Tensor) -> np.ndarray[Any, Any]:
    ids = regions.flatten().numpy()
    return np.bincount(ids, values.double().flatten().numpy()) / np.bincount(ids)


def passes(quick: bool) -> list[Comparison]:
    """``predict_step`` on one image."""
    height, width, side = (64, 128, 16) if quick else (512, 1024, 16)
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, height, width, generator=generator)
    regions = wavy_regions(height, width, side)
    batch = {"image": image, "index": torch.tensor([0]), "regions": regions[None]}
    pixels = {name: value for name, value in batch.items() if name != "regions"}
    net, cosine = network(quick), network(quick, cosine=True)
    repeats = 1 if quick else 3

    def row(
        name: str,
        module: Any,
        plain: Callable[[], Any],
        ours: Callable[[], Any],
        agree: Callable[[Any, Any], str],
        forward: Callable[[], Any],
    ) -> Comparison:
        task = f"{name}, one image of {height}x{width}"
        limit = ("forward", forward)
        return compare(task, "forward, then the definition", plain, ours, agree, repeats, limit)

    def forward(module: Any = net) -> torch.Tensor:
        return module(image)

    rows = []
    for name in SCORES:
        module = ScoringModule(name, UnitScorer(1), **shared(net)).eval()
        rows.append(
            row(
                name,
                module,
                lambda n=name: region_means(obvious(n, net(image)), regions),
                lambda m=module: m.predict_step(batch, 0)["units"]["score"],
                within(1e-5),
                forward,
            )
        )

    most = 10
    module = ScoringModule("margin", UnitScorer(most, top_share=0.05), **shared(net)).eval()

    def picked():
        flat = obvious("margin", net(image)).flatten()
        best = flat.topk(int(0.05 * flat.numel())).indices
        chosen = best[torch.randperm(len(best), generator=generator)[:most]]
        return flat[chosen].min() >= flat[best].min()

    def picks():
        return len(module.predict_step(pixels, 0)["units"]["score"]) == most

    rows.append(row("pixelpick", module, picked, picks, equal, forward))

    stage = StageOne(TAU, (16.0, 8.0, 1.0), **shared(cosine)).eval()

    def mulquery():
        p = (cosine(image) / TAU).softmax(1)
        best, label = p.topk(2, dim=1)
        u = best[:, 1] / best[:, 0] + 1e-8
        pairs = regions * CLASSES + label[:, 0]
        size = (int(regions.max()) + 1) * CLASSES
        sums = np.bincount(pairs.flatten().numpy(), u.double().flatten().numpy(), size)
        return sums[np.bincount(pairs.flatten().numpy(), minlength=size) > 0]

    rows.append(
        row(
            "mulquery",
            stage,
            mulquery,
            lambda: stage.predict_step(batch, 0)["regions"]["uncertainty"],
            within(2e-2),
            lambda: cosine(image),
        )
    )

    passes = 3
    bald = ScoringModule("bald", UnitScorer(1, seed=0), passes, **shared(net)).eval()

    def stacked():
        for drop in bald._committee.dropouts:
            drop.train()
        p = torch.stack([net(image).softmax(1) for _ in range(passes)])
        for drop in bald._committee.dropouts:
            drop.eval()
        mean = p.mean(0)
        score = torch.special.entr(mean).sum(1) - torch.special.entr(p).sum(2).mean(0)
        return region_means(score, regions)

    rows.append(
        row(
            f"bald, {passes} passes",
            bald,
            stacked,
            lambda: bald.predict_step(batch, 0)["units"]["score"],
            lambda a, b: "drawn at random",
            lambda: [net(image) for _ in range(passes)],
        )
    )
    views = TwoViews(True, True, (4, 8), **shared(net)).eval()

    def equal_views():
        plain, mirrored = net(torch.cat([image, image.flip(-1)])).chunk(2)
        total = obvious("entropy", plain) + obvious("entropy", mirrored.flip(-1))
        return F.adaptive_avg_pool2d(total, (4, 8)).flatten()

    rows.append(
        row(
            "equal, two views",
            views,
            equal_views,
            lambda: views.predict_step(batch, 0)["patches"]["score"],
            within(1e-4),
            lambda: net(torch.cat([image, image.flip(-1)])),
        )
    )
    rows += [classbal(row, net, batch, forward), madbal(row, net, batch), als4gan(row, image)]
    return [*rows, *adaptive(quick, net, regions, repeats)]


def adaptive(quick: bool, net: Any, regions: torch.Tensor, repeats: int) -> list[Comparison]:
    """Adaptive superpixels at half size: images after one another, merged beside the next one."""
    height, width = regions.shape
    generator = torch.Generator().manual_seed(0)
    number, half = 2 if quick else 16, (height // 2, width // 2)
    images = torch.randn(number, 1, 3, height, width, generator=generator)
    small = [F.interpolate(one, half, mode="bicubic", antialias=True) for one in images]
    count = np.full(number, int(regions.max()) + 1)

    def defined():
        for one in small:
            found = F.interpolate(net(one).softmax(1), (height, width))[0]
            [region_means(values, regions) for values in found]

    def ours(merger):
        promised = None
        for index, image in enumerate(images):
            batch = {"image": image, "index": torch.tensor([index]), "regions": regions[None]}
            batch = kept_on_host(batch, "index", "regions")
            before, promised = promised, merger.predict_step(batch, index)
            if before is not None:
                before.result()
        promised.result()

    def forward():
        for one in small:
            net(one)

    rows = []
    for name, clock, many in (
        ("wall", perf_counter, modules._MANY),
        ("processor", process_time, 10**9),  # which does not see what other processes do
    ):
        merger = Merger(count, 0.1, None, 0.5, None, {}, **shared(net)).eval()
        with patch.object(modules, "_MANY", many):
            rows.append(
                compare(
                    f"adaptive superpixels at half size, {number} images of {height}x{width}, by "
                    f"the clock of the {name}",
                    "forward, then the definition without merging",
                    defined,
                    partial(ours, merger),
                    lambda a, b: "not compared",
                    repeats,
                    ("forward", forward),
                    clock,
                )
            )
        merger.on_predict_end()
    return rows


def classbal(row: Any, net: Any, batch: Any, forward: Any) -> Comparison:
    """Best versus second best, and the class that most pixels of a region are predicted as."""
    module = ScoringModule("bvsb_and_class", UnitScorer(1), **shared(net)).eval()
    regions = batch["regions"][0]

    def plain():
        logits = net(batch["image"])
        votes = F.one_hot(logits.argmax(1)[0], CLASSES).flatten(0, 1).double()
        count = np.zeros((int(regions.max()) + 1, CLASSES))
        np.add.at(count, regions.flatten().numpy(), votes.numpy())
        return region_means(obvious("bvsb", logits), regions), count.argmax(1)

    def ours():
        table = module.predict_step(batch, 0)["units"]
        return table["score"], table["label"]

    return row("classbal", module, plain, ours, within(1e-5), forward)


def madbal(row: Any, net: Any, batch: Any) -> Comparison:
    """The frozen network with its support modules, at the grid of a quarter of the image."""
    frozen = Supported(copy.deepcopy(net), CLASSES)
    module = PhaseTwo(
        frozen,
        ImageFiles(Path("unread")),
        np.zeros(0, np.int64),
        "image_mean",
        False,
        4,
        lambda image: np.zeros(0, np.int64),
        None,
        class_weights=torch.ones(CLASSES),
        **{name: value for name, value in shared(net).items() if name != "network"},
    ).eval()
    image, batch = batch["image"], kept_on_host(batch, "index", "regions")
    module._colors = lambda images: images.clamp(0, 1) * 255  # a data module knows them

    return row(
        "madbal, its scores left out of the definition",
        module,
        lambda: [part.shape for part in frozen(image)[1].auxiliary],
        lambda: module.predict_step(batch, 0),
        lambda a, b: "not compared",
        lambda: frozen.maps(image),
    )


def als4gan(row: Any, image: Any) -> Comparison:
    """The doubt of a classifier of whole images."""
    classifier = build_classifier("tu-mobilenetv2_100", None, CLASSES).eval()
    module = SceneClassifier(classifier, 1e-3, "entropy").eval()
    batch = {"image": image, "index": torch.tensor([0])}
    return row(
        "als4gan",
        module,
        lambda: obvious("entropy", classifier(image)),
        lambda: module.predict_step(batch, 0)["scenes"]["score"],
        within(1e-5),
        lambda: classifier(image),
    )
