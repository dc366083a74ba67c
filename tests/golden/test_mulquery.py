"""mulquery against its reference implementation, array by array."""

import numpy as np
import pytest
import torch
from torchmetrics.classification import MulticlassJaccardIndex

from alseg.acquisition.fused import Grid
from alseg.acquisition.region_table import RegionTable
from alseg.acquisition.selection import order, spend
from alseg.core.images import VOID
from alseg.labels.truth import class_sets, dominant_labels
from alseg.methods.mulquery.acquisition import (
    bvsb_scores,
    class_balanced_scores,
    class_prior,
    class_weights,
    pixbal_scores,
    pixel_uncertainty,
    region_table,
    region_table_of_grid,
)
from alseg.methods.mulquery.losses import (
    pseudo_label_loss,
    stage_one_loss,
)
from alseg.methods.mulquery.pseudo_labels import (
    asked_pixels,
    naive_labels,
    neighbours,
    prototypes,
    thresholds,
    within_region_labels,
)
from alseg.methods.mulquery.similarities import FeatureMap, Similarities
from alseg.nn.schedules import poly_lr
from alseg.nn.segmenter import cosine_logits, upsample
from tests.golden.reference.mulquery import (
    merged_positive_loss,
    prototypical_pixel_loss,
    reference_iou,
    single_class_loss,
    with_absent_regions,
)
from tests.kernels import as_on_a_gpu, interpreted_kernels
from tests.methods.mulquery.one_image import pseudo_label_map

TAU = 0.1  # temperature of all losses and of acquisition
LOSSES = {"ce": single_class_loss, "mp": merged_positive_loss, "pp": prototypical_pixel_loss}
WEIGHTS = {"single_weight": 16.0, "merged_weight": 8.0, "prototype_weight": 1.0}

tags = pytest.mark.parametrize("tag", ["city", "voc"])
layouts = pytest.mark.parametrize("tag", ["city", "voc", "grid"])


# The oracle's answers


@tags
@pytest.mark.parametrize(("name", "trim"), [("k5", 5), ("k3", 3), ("notrim", 0)])
def test_class_sets(golden, tag, name, trim):
    regions, truth = golden.given(f"mh_{tag}_spx"), golden.given(f"mh_{tag}_gt")
    num_regions, columns = golden.given(f"mh_{tag}_{name}").shape
    members, sizes = class_sets(regions, truth, columns - 1, num_regions, trim)
    golden.check(f"mh_{tag}_{name}", members)
    golden.check(f"mh_{tag}_{name}_size", sizes)


@pytest.mark.parametrize(("name", "vote_void"), [("withignore", True), ("noignore", False)])
def test_dominant_labels(golden, name, vote_void):
    regions, truth = golden.given("mh_city_spx"), golden.given("mh_city_gt")
    num_regions, columns = golden.given("mh_city_notrim").shape
    labels = dominant_labels(regions, truth, columns - 1, num_regions, vote_void)
    painted = labels[regions]
    if not vote_void:
        painted = np.where(truth == VOID, VOID, painted)
    golden.check(f"dom_city_{name}", painted)


# Losses


def loss_inputs(golden, tag, selected="spmask"):
    return (
        torch.from_numpy(golden.given(f"loss_{tag}_logits")).requires_grad_(),
        torch.from_numpy(golden.given(f"loss_{tag}_spx")).long(),
        torch.from_numpy(golden.given(f"loss_{tag}_{selected}")),
        torch.from_numpy(golden.given(f"loss_{tag}_targets")),
    )


@tags
@pytest.mark.parametrize("term", LOSSES)
def test_loss_terms(golden, tag, term):
    inputs = loss_inputs(golden, tag)
    loss = LOSSES[term](*inputs, tau=TAU)
    loss.backward()
    golden.check(f"loss_{tag}_{term}", loss, rel=1e-5)
    golden.check(f"loss_{tag}_grad_{term}", inputs[0].grad, of_max=1e-4)


@tags
def test_stage_one_loss(golden, tag):
    inputs = loss_inputs(golden, tag)
    total = stage_one_loss(*inputs, tau=TAU, **WEIGHTS).total
    total.backward()
    gradient = inputs[0].grad.double()
    golden.check(f"loss_{tag}_total", total, rel=1e-5)
    golden.check(f"loss_{tag}_gradsum_total", gradient.sum(dim=(0, 2, 3)), of_max=1e-4)
    golden.check(f"loss_{tag}_gradabs_total", gradient.abs().sum(), rel=1e-4)


@tags
@pytest.mark.parametrize("term", LOSSES)
def test_only_single_class_regions_selected(golden, tag, term):
    loss = LOSSES[term](*loss_inputs(golden, tag, "single_spmask"), tau=TAU)
    golden.check(f"loss_{tag}_single_{term}", loss, rel=1e-5)


@tags
@pytest.mark.parametrize("term", LOSSES)
def test_nothing_selected(golden, tag, term):
    cosines, regions, selected, targets = loss_inputs(golden, tag)
    loss = LOSSES[term](cosines, regions, torch.zeros_like(selected), targets, tau=TAU)
    golden.check(f"loss_{tag}_empty_{term}", loss)


def test_tied_prototypical_pixels(golden):
    cosines = torch.from_numpy(golden.given("loss_tie_logits")).requires_grad_()
    regions = torch.from_numpy(golden.given("loss_tie_spx")).long()
    targets = torch.from_numpy(golden.given("loss_tie_targets"))
    everywhere = torch.ones_like(regions, dtype=torch.bool)
    loss = prototypical_pixel_loss(cosines, regions, everywhere, targets, tau=TAU)
    loss.backward()
    golden.check("loss_tie_pp", loss, rel=1e-5)
    golden.check("loss_tie_grad_pp", cosines.grad, of_max=1e-4)


def test_pseudo_label_loss(golden):
    cosines = torch.from_numpy(golden.given("s2_logits")).requires_grad_()
    labels = torch.from_numpy(golden.given("s2_labels"))
    loss = pseudo_label_loss(cosines, labels, tau=TAU)
    loss.backward()
    golden.check("s2_loss", loss, rel=1e-5)
    golden.check("s2_grad", cosines.grad, of_max=1e-4)
    unlabelled = pseudo_label_loss(cosines, torch.full_like(labels, VOID), tau=TAU)
    golden.check("s2_allignore_isnan", unlabelled.isnan())


# Acquisition

pools = pytest.mark.parametrize("pool", ["full", "part"])


def pool_table(golden, tag, pool, table_of=region_table):
    """One pass over the pool in batches: the dense table's regions, and the images' means."""
    size = int(golden.given(f"acq_{tag}_batch"))
    cosines = torch.from_numpy(golden.given(f"acq_{tag}_logits"))
    regions = torch.from_numpy(golden.given(f"acq_{tag}_spx"))
    images = np.flatnonzero(golden.given(f"acq_{tag}_{pool}_avail").any(axis=1))
    tables, means = [], []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        rows, mean = table_of(cosines[batch], regions[batch], tau=TAU)
        rows = {name: column.numpy() for name, column in rows.items()}
        tables.append(RegionTable(**rows | {"image": batch[rows["image"]]}))
        means.append(mean.numpy())
    table = RegionTable(*(np.concatenate(columns) for columns in zip(*tables, strict=True)))
    num_regions = int(golden.given(f"acq_{tag}_nseg"))
    return with_absent_regions(table, images, num_regions), np.concatenate(means)


def undefined_class(golden, tag):
    return golden.given(f"acq_{tag}_logits").shape[1] - 1 if tag == "city" else None


def dense(golden, tag, pool, scores):
    """Scores as the reference writes them: (images, ids), NaN where not to be had."""
    available = golden.given(f"acq_{tag}_{pool}_avail")
    table = np.full(available.shape, np.nan, dtype=np.float32)
    table[scores.image, scores.unit] = scores.score
    return np.where(available, table, np.nan)


@tags
def test_pixel_uncertainty(golden, tag):
    cosines = torch.from_numpy(golden.given(f"acq_{tag}_logits"))
    uncertainty, label = pixel_uncertainty(cosines[:1], tau=TAU)
    golden.check(f"acq_{tag}_bvsb_map0", uncertainty[0], abs=2e-4)
    golden.check(f"acq_{tag}_top1_map0", label[0])


def table_of_kernel(cosines, regions, tau):
    size = regions.shape[-2:]
    return region_table_of_grid(Grid(cosines, size, size), regions, tau=tau)


@tags
@pools
def test_pixbal(golden, tag, pool):
    pixbal_is_the_references(golden, tag, pool, region_table)


@pytest.mark.slow
def test_pixbal_by_the_kernel(golden):
    """Under Triton's interpreter."""
    with interpreted_kernels(columns=32), as_on_a_gpu() as ran:
        pixbal_is_the_references(golden, "city", "part", table_of_kernel)
    assert set(ran) == {"score_sums"}


def pixbal_is_the_references(golden, tag, pool, table_of):
    table, means = pool_table(golden, tag, pool, table_of)
    prior = class_prior(means, int(golden.given(f"acq_{tag}_batch")))
    weights = class_weights(prior, float(golden.given(f"acq_{tag}_nu")))
    scores = pixbal_scores(table, weights, undefined_class(golden, tag))
    name = f"acq_{tag}_{pool}_pixbal"
    golden.check(f"{name}_dist", prior, abs=1e-5)
    golden.check(f"{name}_clsw", weights, abs=1e-5)
    golden.check(f"{name}_score", dense(golden, tag, pool, scores), abs=2e-4)


@tags
@pools
def test_bvsb(golden, tag, pool):
    table, _ = pool_table(golden, tag, pool)
    scores = bvsb_scores(table, undefined_class(golden, tag))
    golden.check(f"acq_{tag}_{pool}_bvsb_score", dense(golden, tag, pool, scores), abs=2e-4)


@tags
@pools
def test_class_balanced(golden, tag, pool):
    table, means = pool_table(golden, tag, pool)
    scores, share = class_balanced_scores(table, means.shape[1], undefined_class(golden, tag))
    name = f"acq_{tag}_{pool}_clsbal"
    golden.check(f"{name}_dist", share, abs=1e-5)
    golden.check(f"{name}_clsw", np.exp(-share), abs=1e-5)
    golden.check(f"{name}_score", dense(golden, tag, pool, scores), abs=2e-4)


def name_ranks(names):
    """Images in the order of their names, in which the reference breaks ties."""
    return names.argsort().argsort()


@tags
@pools
@pytest.mark.parametrize("score", ["pixbal", "bvsb", "clsbal"])
def test_order_of_scores(golden, tag, pool, score):
    table = golden.given(f"acq_{tag}_{pool}_{score}_score")
    image, unit = np.nonzero(golden.given(f"acq_{tag}_{pool}_avail"))
    ranks = name_ranks(golden.given("acq_names"))
    rows = order(table[image, unit], ranks[image], unit, ties="last")
    golden.check(f"acq_{tag}_{pool}_{score}_order", np.stack([image, unit], axis=1)[rows])


@pytest.mark.parametrize("case", ["a", "exact", "all", "regions"])
def test_purchase(golden, case):
    scores, sets = golden.given("sel_scores"), golden.given("sel_multihot")
    image, unit = (index.ravel() for index in np.indices(scores.shape))
    ranks = name_ranks(golden.given("sel_names"))
    rows = order(scores[image, unit], ranks[image], unit, ties="last")
    costs = sets[image, unit].sum(axis=1, dtype=np.int64)[rows]
    if not golden.given(f"sel_{case}_fair"):
        costs = np.ones_like(costs)
    bought = rows[: spend(costs, float(golden.given(f"sel_{case}_budget")), "exceed")]
    left = scores.shape[1] - np.bincount(image[bought], minlength=len(scores))
    golden.check(f"sel_{case}_order", np.stack([image, unit], axis=1)[bought])
    golden.check(f"sel_{case}_poolleft", left)
    golden.check(f"sel_{case}_poolimgs", left > 0)


# Pseudo labels

REFERENCE = {"proto_temperature": 1.0, "strict": False}


def label_inputs(golden, tag):
    """Features, cosines (float64, as similarities are compared), regions, asked ids, their sets."""
    regions = torch.from_numpy(golden.given(f"pl_{tag}_spx"))
    ids = regions[torch.from_numpy(golden.given(f"pl_{tag}_spmask"))].unique().long()
    members = torch.from_numpy(golden.given(f"pl_{tag}_targets")).bool()[ids]
    features = torch.from_numpy(golden.given(f"pl_{tag}_feat")).double()
    cosines = torch.from_numpy(golden.given(f"pl_{tag}_logits")).double()
    return features, cosines, regions, ids, members


@layouts
def test_prototypes(golden, tag):
    _, cosines, regions, ids, members = label_inputs(golden, tag)
    asked = asked_pixels(regions.numpy(), ids.numpy(), members.numpy())
    found = prototypes(cosines, asked, REFERENCE["proto_temperature"])
    golden.check(f"pl_{tag}_regions", asked.ids)
    golden.check(f"pl_{tag}_proto_region", asked.ids[found.region])
    golden.check(f"pl_{tag}_proto_class", found.label)
    golden.check(f"pl_{tag}_proto_pixel", found.pixel)


@layouts
@pytest.mark.parametrize("statistic", ["median", "min"])
def test_thresholds(golden, tag, statistic):
    features, cosines, regions, ids, members = label_inputs(golden, tag)
    asked = asked_pixels(regions.numpy(), ids.numpy(), members.numpy())
    found = prototypes(cosines, asked, REFERENCE["proto_temperature"])
    similar = Similarities(FeatureMap(features, tuple(regions.shape)), found.pixel)
    within = within_region_labels(similar, asked, found)
    table = torch.zeros(members.shape, dtype=torch.float64)
    table[found.region, found.label] = thresholds(within, len(found.label), statistic)
    golden.check(f"pl_{tag}_thr_{statistic}", table, abs=1e-6)


@layouts
def test_neighbours(golden, tag):
    _, _, regions, ids, _ = label_inputs(golden, tag)
    num_regions = len(golden.given(f"pl_{tag}_targets"))
    golden.check(f"pl_{tag}_neighbours", neighbours(regions.numpy(), ids.numpy(), num_regions))


@layouts
@pytest.mark.parametrize("statistic", ["median", "min"])
def test_expanded_labels(golden, tag, statistic):
    inputs = label_inputs(golden, tag)
    labels = pseudo_label_map(*inputs, expand=True, threshold=statistic, **REFERENCE)
    golden.check(f"pl_{tag}_map_{statistic}", labels)


@layouts
def test_labels_within_regions(golden, tag):
    inputs = label_inputs(golden, tag)
    labels = pseudo_label_map(*inputs, expand=False, threshold="median", **REFERENCE)
    golden.check(f"pl_{tag}_map_within", labels)


@layouts
def test_naive_labels(golden, tag):
    _, cosines, *_ = label_inputs(golden, tag)
    selected = torch.from_numpy(golden.given(f"pl_{tag}_spmask"))
    golden.check(f"pl_{tag}_map_naive_all", naive_labels(cosines))
    golden.check(f"pl_{tag}_map_naive_masked", naive_labels(cosines, selected))


@layouts
def test_no_region_asked(golden, tag):
    features, cosines, regions, ids, members = label_inputs(golden, tag)
    labels = pseudo_label_map(
        features,
        cosines,
        regions,
        ids[:0],
        members[:0],
        expand=True,
        threshold="median",
        **REFERENCE,
    )
    golden.check(f"pl_{tag}_map_none_selected", labels)


# Network, schedule, metric


def test_cosine_head(golden):
    decoded = torch.from_numpy(golden.given("head_prefeat"))
    cosines, unit = cosine_logits(decoded, torch.from_numpy(golden.given("head_proxy")))
    size = golden.given("head_featnorm").shape[-2:]
    features = upsample(unit, size)
    golden.check("head_logits", upsample(cosines, size), abs=1e-5)
    golden.check("head_featnorm", features.norm(dim=1), abs=1e-5)
    golden.check("head_feat_px", features[0, :, ::5, ::7], abs=1e-5)


@pytest.mark.parametrize("case", ["city", "small"])
def test_learning_rate(golden, case):
    steps, bases = golden.given(f"lr_{case}_t"), golden.given(f"lr_{case}_base")
    total = int(golden.given(f"lr_{case}_T"))
    rates = [[poly_lr(int(t), total, base, floor=1e-6) for base in bases] for t in steps]
    golden.check(f"lr_{case}_lr", rates, rel=1e-9)


def test_mean_iou(golden):
    logits, truth = golden.given("miou_logits"), golden.given("miou_labels")
    num_classes = len(golden.given("miou_per_class"))
    result = reference_iou(logits, truth, num_classes)
    golden.check("miou_per_class", result.per_class, rel=1e-9)
    golden.check("miou_mean", result.mean, rel=1e-9)
    golden.check("miou_undefined", result.undefined, rel=1e-9)
    # The metric alseg reports agrees on every class that is present.
    metric = MulticlassJaccardIndex(num_classes, average="none", ignore_index=VOID)
    guess = torch.from_numpy(logits[:, :num_classes].argmax(axis=1))
    house = 100 * metric(guess, torch.from_numpy(truth).long()).numpy()
    present = np.isin(np.arange(num_classes), truth)
    np.testing.assert_allclose(house[present], result.per_class[present], rtol=1e-5)


INPUTS = [
    *("mh_*_spx", "mh_*_gt"),
    *("loss_*_logits", "loss_*_targets", "loss_*_spx", "loss_*_spmask"),
    *("s2_logits", "s2_labels"),
    *("acq_*_logits", "acq_*_spx", "acq_*_nseg", "acq_*_batch", "acq_*_nu", "acq_*_avail"),
    *("acq_names", "sel_names", "sel_scores", "sel_multihot", "sel_*_budget", "sel_*_fair"),
    *("pl_*_feat", "pl_*_logits", "pl_*_targets", "pl_*_spx", "pl_*_spmask"),
    *("head_prefeat", "head_proxy", "lr_*_t", "lr_*_T", "lr_*_base"),
    *("miou_logits", "miou_labels"),
]


def test_every_array_is_compared(assert_complete):
    assert_complete(INPUTS)
