"""EquAL and the classic baselines against their reference implementations, array by array."""

import numpy as np
import pytest
import torch
from PIL import Image

from alseg.acquisition import committee, scores
from alseg.acquisition.badge import (
    Gradients,
    badge,
    gradient_distances,
    gradient_norms,
    prediction_error,
)
from alseg.acquisition.clustering import k_center
from alseg.acquisition.committee import COMMITTEE_SCORES, CommitteeSums
from alseg.acquisition.fused import Grid, committee_map
from alseg.core.images import VOID
from alseg.data.cityscapes import Cityscapes
from alseg.data.files import resize_nearest
from alseg.methods.equal import schedule
from alseg.methods.equal.acquisition import (
    patch_means,
    two_view_entropy,
)
from alseg.methods.equal.losses import cross_entropy, two_view_loss
from alseg.methods.equal.views import two_views
from alseg.nn.schedules import step_lr
from tests.golden.equal_recordings import (
    as_void,
    check_net,
    grid,
    in_patch_order,
    majorities,
    mask,
    recorded_net,
    run,
    select,
    train_step,
)
from tests.golden.reference.equal import (
    patch_budget,
    patch_corners,
    reference_iou,
    rescaled_corners,
    round_size,
)
from tests.kernels import interpreted_kernels


@pytest.fixture(scope="module")
def remap(tmp_path_factory):
    """The reference's class of every raw id of Cityscapes, as read through the data set."""
    root, ids = tmp_path_factory.mktemp("cityscapes"), np.arange(34, dtype=np.uint8)[None]
    for part in ("train", "val"):
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / part / "city").mkdir(parents=True)
        name = f"{part}/city/city_000000_000000"
        picture = Image.new("RGB", (ids.shape[1], 1))
        picture.save(root / "leftImg8bit" / f"{name}_leftImg8bit.png")
        Image.fromarray(ids).save(root / "gtFine" / f"{name}_gtFine_labelIds.png")
    truth = Cityscapes(str(root)).splits(progress=False).train.truth(0)[0]
    table = np.zeros(256, dtype=np.uint8)  # the files hold no other ids; the reference: void
    table[ids[0]] = np.where(truth == VOID, 0, truth + 1)
    return table


# Score


def test_entropy_of_two_views(golden):
    a, b = (torch.from_numpy(golden.given(f"ent.logits_{view}")) for view in "ab")
    for function in (scores.entropy, lambda logits: scores.pixel_scores(logits).entropy):
        golden.check("ent.map_a", function(a)[0], abs=1e-6)
        golden.check("ent.map_b", function(b)[0], abs=1e-6)
    golden.check("ent.map_sum", two_view_entropy(a, b)[0], abs=2e-6)
    golden.check("ent.map_sum_equal0", two_view_entropy(a, a)[0], abs=2e-6)


def test_two_views(golden):
    net, images = recorded_net(golden, "tta.net").eval(), torch.from_numpy(golden.given("tta.x"))
    with torch.inference_mode():
        a, b = two_views(net, images)
        entropy = two_view_entropy(a, b)
    golden.check("tta.out_a", a, abs=1e-5)
    golden.check("tta.out_b", b, abs=1e-5)
    golden.check("tta.map_sum", entropy[0], abs=5e-6)
    rows, cols = grid(golden, "tta")
    means = patch_means(entropy, rows, cols).numpy()[0]
    golden.check("tta.scores", in_patch_order(means, rows, cols), abs=5e-6)


@pytest.mark.parametrize("case", ["patch", "patch_nondiv"])
def test_patch_means(golden, case):
    values, (rows, cols) = torch.from_numpy(golden.given(f"{case}.map")), grid(golden, case)
    means = patch_means(values[None], rows, cols).numpy()[0]
    golden.check(f"{case}.scores", in_patch_order(means, rows, cols), abs=1e-6)


@pytest.mark.parametrize("case", ["tta", "patch", "patch_nondiv"])
def test_patch_corners(golden, case):
    rows, cols = grid(golden, case)
    name = "tta.map_sum" if case == "tta" else f"{case}.map"
    corners = patch_corners(*golden.given(name).shape, rows, cols)
    golden.check(f"{case}.coords_yx", in_patch_order(corners.T, rows, cols).T)


# Eligibility


def test_majority_of_camvid(golden):
    labels, (rows, cols) = golden.given("maj_camvid.labels"), grid(golden, "maj_camvid")
    void = int(golden.given("mask_camvid.void"))
    golden.check("maj_camvid.majority", majorities(labels, rows, cols, void, void))


def test_majority_of_cityscapes(golden, remap):
    height, width = golden.given("maj_cityscapes.size_hw")
    raw = golden.given("maj_cityscapes.raw_ids")
    labels = np.stack([resize_nearest(remap[image], height, width) for image in raw])
    golden.check("maj_cityscapes.train_ids", labels)
    rows, cols = grid(golden, "maj_cityscapes")
    found = majorities(labels, rows, cols, 0, int(remap.max()))
    golden.check("maj_cityscapes.majority", found)


def test_classes_of_cityscapes(golden, remap):
    golden.check("remap.table", remap)


# Selection


@pytest.mark.parametrize("case", ["plain", "ties", "cap", "exhaust", "cityscapes"])
def test_selection(golden, case):
    score, majority, labelled = (
        golden.given(f"sel_{case}.{name}") for name in ("scores", "majority", "already")
    )
    k, budget, before, void = (
        int(golden.given(f"sel_{case}.{name}"))
        for name in ("k", "total_budget", "iteration_in", "void")
    )
    wanted = round_size(k, budget, before)
    picked = select(score, majority, labelled, void, wanted)
    golden.check(f"sel_{case}.picked", picked)
    golden.check(f"sel_{case}.iteration_out", np.int64(before + len(picked)))
    golden.check(f"sel_{case}.pool_exhausted", np.int64(len(picked) < wanted))


def test_selection_round_by_round(golden):
    tables, majority = golden.given("selseq.scores"), golden.given("selseq.majority")
    k, budget, void = (
        int(golden.given(f"selseq.{name}")) for name in ("k", "total_budget", "void")
    )
    labelled = np.zeros(majority.shape, dtype=bool)
    everything, counts = np.full((len(tables), k), -1), []
    for row, score in zip(everything, tables, strict=True):
        wanted = round_size(k, budget, int(labelled.sum()))
        picked = select(score, majority, labelled, void, wanted)
        row[: len(picked)] = picked
        labelled.ravel()[picked] = True
        counts.append(int(labelled.sum()))
    golden.check("selseq.picked", everything)
    golden.check("selseq.iteration", counts)
    golden.check("selseq.labelled_final", labelled)


# Targets


@pytest.mark.parametrize("case", ["camvid", "cityscapes"])
def test_masks(golden, case):
    name = f"mask_{case}"
    labels, void = golden.given(f"{name}.label_full"), int(golden.given(f"{name}.void"))
    rows, cols = grid(golden, name)
    train, final = (
        tuple(golden.given(f"{name}.{part}_hw").tolist()) for part in ("train", "final")
    )
    small = golden.given(f"{name}.coords_yx")
    large = rescaled_corners(small, train, final)
    golden.check(f"{name}.mask_train", mask(labels, train, small, rows, cols, void))
    golden.check(f"{name}.mask_final", mask(labels, final, large, rows, cols, void))


# Losses


@pytest.mark.parametrize("case", ["full", "partial", "onepix", "identical", "allvoid"])
def test_losses(golden, case):
    name = f"loss_{case}"
    labels = torch.from_numpy(as_void(golden.given(f"{name}.labels"), golden.given(f"{name}.void")))

    def views():
        return [torch.from_numpy(golden.given(f"{name}.logits_{v}")).requires_grad_() for v in "ab"]

    a, b = views()
    loss = two_view_loss(a, b, labels)
    loss.total.backward()
    close = {"rel": 1e-9, "abs": 1e-12}
    golden.check(f"{name}.total", loss.total, **close)
    golden.check(f"{name}.ce_a", loss.plain, **close)
    golden.check(f"{name}.ce_b", loss.mirrored, **close)
    golden.check(f"{name}.mse_ab", loss.plain_to_mirrored, **close)
    golden.check(f"{name}.mse_ba", loss.mirrored_to_plain, **close)
    golden.check(f"{name}.grad_a", a.grad, **close)
    golden.check(f"{name}.grad_b", b.grad, **close)
    a, _ = views()
    loss = cross_entropy(a, labels)
    loss.backward()
    golden.check(f"{name}.total_equal0", loss, **close)
    golden.check(f"{name}.grad_a_equal0", a.grad, **close)


@pytest.mark.parametrize("case", ["fcn", "deeplab_single", "equal0"])
def test_adam_steps(golden, case):
    name = f"step_{case}"
    net = recorded_net(golden, f"{name}.init").train()
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-4, weight_decay=2e-4)
    images = torch.from_numpy(golden.given(f"{name}.x"))
    labels = torch.from_numpy(as_void(golden.given(f"{name}.y"), golden.given(f"{name}.void")))
    if golden.given(f"{name}.duplicate_single"):
        images, labels = images.repeat(1, 2, 1, 1, 1), labels.repeat(1, 2, 1, 1)
    equal = bool(golden.given(f"{name}.equal"))
    coins = golden.given(f"{name}.coins")
    losses = [
        train_step(net, optimizer, *step, equal) for step in zip(images, labels, coins, strict=True)
    ]
    golden.check(f"{name}.losses", losses, rel=1e-9)
    check_net(golden, f"{name}.final", net, abs=1e-9)


# Schedule


def test_budget_and_milestones(golden):
    budgets, milestones = [], []
    for images, cols, rows, fraction, k, *_ in golden.given("sched.cfg"):
        budgets.append(patch_budget(int(images * rows * cols), fraction))
        milestones.append(schedule.milestone(budgets[-1], int(k)))
    golden.check("sched.total_budget", budgets)
    golden.check("sched.change_size", milestones)


def test_batches_and_epochs(golden):
    every, full, longer = (int(value) for value in golden.given("sched.trace_cfg"))
    patches, images = golden.given("sched.trace_patches"), golden.given("sched.trace_images")
    sizes = [schedule.batch_size(p, i, full) for p, i in zip(patches, images, strict=True)]
    golden.check("sched.trace_batch", sizes)
    epochs = [schedule.round_epochs(p, every, longer) for p in patches]
    golden.check("sched.trace_epochs", epochs)
    golden.check("sched.trace_val", [int(schedule.at_milestone(p, every)) for p in patches])


@pytest.mark.parametrize("case", ["lr60", "lrx"])
def test_learning_rates(golden, case):
    epochs, every, factor, base = golden.given(f"sched.{case}_cfg")
    rates = [step_lr(e, base, int(every), factor) for e in range(int(epochs))]
    golden.check(f"sched.{case}", rates, rel=1e-12)


# Metric


@pytest.mark.parametrize("case", ["metric", "metric_absent"])
def test_mean_iou(golden, case):
    guess, truth = golden.given(f"{case}.pred"), golden.given(f"{case}.target")
    num_outputs, void = int(golden.given(f"{case}.n_out")), int(golden.given(f"{case}.void"))
    result = reference_iou(guess, truth, num_outputs, void)
    golden.check(f"{case}.conf_raw", result.counts)
    golden.check(f"{case}.conf", result.counted)
    golden.check(f"{case}.iou", result.per_class, rel=1e-12)
    golden.check(f"{case}.miou", result.mean, rel=1e-12)


# Whole runs


@pytest.mark.parametrize("case", ["camvid", "cityscapes"])
def test_whole_run(golden, remap, case):
    net, record, masks = run(golden, remap, case)
    name, void = f"e2e_{case}", int(golden.given(f"e2e_{case}.void"))
    tolerance = {"scores": {"abs": 1e-4}, "losses": {"rel": 1e-5}}
    tolerance |= {"val_iou": {"rel": 1e-9}, "val_miou": {"rel": 1e-9}}
    for key, values in record.items():
        golden.check(f"{name}.{key}", np.stack(values), **tolerance.get(key, {}))
    check_net(golden, f"{name}.final", net, abs=1e-4)
    golden.check(f"{name}.final_masks", masks)
    golden.check(f"{name}.final_kept", (masks != void).any(axis=(1, 2)))


# Classic baselines


def test_scores_of_one_pass(golden):
    logits = torch.from_numpy(golden.given("bl.logits"))
    golden.check("bl.probs", logits.softmax(1), abs=1e-12)
    near = {"abs": 1e-12}
    golden.check("bl.entropy", scores.entropy(logits[:1])[0], abs=1e-10)  # ln(p + 1e-12)
    golden.check("bl.least_confidence", scores.least_confidence(logits[:1])[0], **near)
    golden.check("bl.one_minus_margin", scores.margin(logits[:1])[0], **near)
    first = torch.from_numpy(golden.given("bl.probs"))[0].sort(dim=0, descending=True).values
    torch.testing.assert_close(
        scores.best_vs_second_best(logits[:1])[0], first[1] / first[0], atol=1e-12, rtol=1e-9
    )


def test_committee(golden):
    first, *others = torch.from_numpy(golden.given("bl.logits"))[:, None]
    sums = CommitteeSums.of(first)
    for logits in others:
        sums.add(logits)
    near = {"abs": 1e-12}
    golden.check("bl.predictive_entropy", committee.predictive_entropy(sums)[0], **near)
    golden.check("bl.bald", committee.bald(sums)[0], **near)
    golden.check("bl.margin_mean", 1 - committee.margin(sums)[0], **near)
    golden.check("bl.maxprob_mean", 1 - committee.least_confidence(sums)[0], **near)
    name = "bl.vote_entropy_{}_image_mean_log2"
    hard = committee.vote_entropy(sums, bits=True).mean()
    soft = committee.vote_entropy(sums, soft=True, bits=True).mean()
    golden.check(name.format("hard"), hard, rel=1e-6)
    golden.check(name.format("soft"), soft, rel=1e-6)


def test_committee_by_the_kernel(golden):
    """Under Triton's interpreter, in float32."""
    logits = torch.from_numpy(golden.given("bl.logits"))
    size = (logits.shape[-2], logits.shape[-1])
    opinions = Grid(logits, size, size)
    with interpreted_kernels():
        found = {name: committee_map(opinions, name, fused=True) for name in COMMITTEE_SCORES}
    near = {"abs": 2e-6}
    golden.check("bl.predictive_entropy", found["entropy"].double(), **near)
    golden.check("bl.bald", found["bald"].double(), **near)
    golden.check("bl.margin_mean", 1 - found["margin"].double(), **near)
    golden.check("bl.maxprob_mean", 1 - found["least_confidence"].double(), **near)
    votes = found["vote_entropy"].double().mean() / np.log(2)
    golden.check("bl.vote_entropy_hard_image_mean_log2", votes, rel=1e-5)


def test_core_set(golden):
    features, labelled = golden.given("bl.feats"), golden.given("bl.feat_labelled")
    ids = np.setdiff1d(np.arange(len(features)), labelled)

    def picks(name, metric):
        n = len(golden.given(name))
        return k_center(features[ids], n, ids, features[labelled], metric, progress=False)

    cosine, euclid = "bl.kcenter_cosine_picked", "bl.kcenter_euclid_picked_set"
    golden.check(cosine, picks(cosine, "cosine"))
    golden.check(euclid, np.sort(picks(euclid, "euclidean")))


def test_badge(golden):
    error = prediction_error(torch.from_numpy(golden.given("bl.badge_p"))).numpy()
    gradients = Gradients(error, golden.given("bl.badge_h"))
    dense = np.einsum("nc,nd->ncd", *gradients).reshape(len(error), -1)
    golden.check("bl.badge_embedding", dense, abs=1e-6)
    np.testing.assert_allclose(gradient_norms(gradients), np.linalg.norm(dense, axis=1))

    ids, uniforms = np.arange(len(error)), golden.given("bl.badge_uniforms")
    picked = badge(gradients, ids, uniforms, progress=False)
    golden.check("bl.badge_picked", picked)
    nearest = np.minimum.accumulate([gradient_distances(gradients, pick) for pick in picked])
    golden.check("bl.badge_dist_before_next", nearest[[0, *range(len(picked) - 1)]], abs=1e-5)


INPUTS = [
    *("ent.logits_?", "tta.net.*", "tta.x", "*.grid_dy_dx", "patch.map", "patch_nondiv.map"),
    *("maj_camvid.labels", "maj_cityscapes.raw_ids", "maj_cityscapes.size_hw"),
    *("sel*.scores", "sel*.majority", "sel_*.already", "sel*.k", "sel*.total_budget"),
    *("sel_*.iteration_in", "*.void", "mask_*.label_full", "*.train_hw", "*.final_hw"),
    *("mask_*.coords_yx", "loss_*.logits_?", "loss_*.labels", "step_*.init.*", "step_*.[xy]"),
    *("*.coins", "step_*.equal", "step_*.duplicate_single", "metric*.pred", "metric*.target"),
    *("*.n_out", "sched.cfg", "sched.trace_patches", "sched.trace_images", "sched.*_cfg"),
    *("e2e_*.images", "e2e_*.labels", "e2e_*.val_images", "e2e_*.val_labels", "e2e_*.init.*"),
    *("e2e_*.cfg_*", "e2e_*.batches"),
    *("bl.logits", "bl.feats", "bl.feat_labelled", "bl.badge_[hp]", "bl.badge_uniforms"),
]


def test_every_array_is_compared(assert_complete):
    assert_complete(INPUTS)
