"""ALS4GAN and S4GAN against their reference implementations, array by array."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alseg.acquisition import scores
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.data import deepglobe, ucmerced
from alseg.data.files import resize_nearest
from alseg.data.transforms import EvalTransform, TrainTransform
from alseg.methods.als4gan import inputs, learner, losses, mlmt
from alseg.methods.als4gan.schedules import stepped_poly_lr
from alseg.nn.deeplabv2 import deeplab_groups
from alseg.nn.schedules import poly_lr
from alseg.nn.segmenter import build_segmenter, upsample
from tests.golden.als4gan_recordings import (
    block_sums,
    blown_up,
    padded,
    recorded_discriminator,
    recorded_labels,
    recorded_name,
    run_gan,
    run_learner,
    small_generator,
    tensor,
)
from tests.golden.reference import als4gan as reference

NEAR = {"rel": 2e-5, "abs": 1e-7}
LATER = {"rel": 1e-3, "of_max": 2e-4}  # after several steps in float32


# The classifier's rounds


def test_sizes(golden):
    rows = []
    for images, ratio, alpha, beta in golden.given("alsched_in"):
        masks = learner.num_masks(int(images), ratio)
        initial = learner.num_initial(masks, alpha)
        per_round = learner.num_per_round(initial, beta)
        try:
            rows.append((masks, initial, per_round, learner.num_rounds(masks, per_round), 0))
        except UserError:
            rows.append((masks, initial, per_round, -1, 1))
    golden.check("alsched_out", rows)


def test_scores_of_scenes(golden):
    logits = tensor(golden, "sc_logits")
    probs = logits.softmax(1)
    golden.check("sc_probs", probs, **NEAR)
    golden.check("sc_entropy", learner.uncertainty(logits, "entropy"), rel=2e-5, abs=1e-6)
    golden.check("sc_margin", 1 - learner.uncertainty(logits, "margin"), abs=1e-6)
    golden.check("sc_uncertainty", learner.uncertainty(logits, "least_confidence"), abs=1e-6)
    confidence = 1 - scores.least_confidence(probs)  # softmax of probabilities, as is recorded
    golden.check("sc_double_softmax_conf", confidence, **NEAR)


def test_scores_of_one_class_and_of_vanished_classes(golden):
    one = torch.randn(len(golden.given("sc_margin_onecol")), 1, dtype=torch.float64)
    golden.check("sc_margin_onecol", 1 - learner.uncertainty(one, "margin"))
    logits = tensor(golden, "sc_zero_probs").log()
    golden.check("sc_zero_entropy", learner.uncertainty(logits, "entropy"), abs=1e-12)


def test_choice(golden):
    values, n = golden.given("sel_values"), int(golden.given("sel_n"))
    chosen = learner.most_uncertain(values, n)
    golden.check("sel_canon_order", chosen)
    golden.check("sel_ref_sorted_ids", np.sort(chosen))
    assert set(chosen) == set(golden.given("sel_ref_raw_order"))
    golden.check("sel_all_ref_sorted", np.sort(learner.most_uncertain(values, len(values))))
    assert golden.given("sel_over_raises") == 1, "the reference refuses what is taken as all here"
    golden.check("sel_over_canon_order", learner.most_uncertain(values, len(values) + 1))


def test_choice_among_equals(golden):
    values, n = golden.given("seltie_values"), int(golden.given("sel_n"))
    chosen = learner.most_uncertain(values, n)
    golden.check("seltie_canon_order", chosen)
    golden.check("seltie_ref_sorted_values", values[chosen])
    raw = golden.given("seltie_ref_raw_order")
    np.testing.assert_array_equal(np.sort(values[raw])[::-1], values[chosen])


def test_choice_by_strategy(golden):
    logits, n = tensor(golden, "selq_probs").log(), int(golden.given("sel_n"))
    for strategy in ("entropy", "margin"):
        chosen = learner.most_uncertain(learner.uncertainty(logits, strategy).numpy(), n)
        golden.check(f"selq_{strategy}_sorted_ids", np.sort(chosen))


def test_random_split(golden):
    images, ratio = int(golden.given("split_N")), float(golden.given("split_ratio"))
    order = reference.legacy_order(images, int(golden.given("split_seed")))
    masks = learner.num_random_masks(images, ratio, rounded_down=True)
    golden.check("split_order_head", order[: len(golden.given("split_order_head"))])
    golden.check("split_labelled", order[:masks])
    golden.check("split_n_unlabelled", images - masks)


def test_rows_of_names(golden):
    names, pool = golden.given("isin_active").tolist(), golden.given("isin_all").tolist()
    rows = reference.rows_of_names(names, pool, skip_unknown=True)
    golden.check("isin_active_ids", rows)
    golden.check("isin_remaining_ids", np.setdiff1d(np.arange(len(pool)), rows))


def test_run_of_the_learner(golden):
    plan, run = run_learner(golden)
    golden.check("alrun_target", plan.masks)
    golden.check("alrun_n_initial", plan.initial)
    golden.check("alrun_q", plan.round_sizes[0])
    golden.check("alrun_n_queries", len(plan.round_sizes))
    golden.check("alrun_initial_idx", run["initial"])
    golden.check("alrun_n_fits", len(run["sizes"]))
    golden.check("alrun_fit_sizes", run["sizes"])
    golden.check("alrun_probs_round0", run["probabilities"], rel=1e-3)
    images = len(golden.given("alrun_y"))
    table = np.stack([padded(row, images, np.nan) for row in run["scores"]])
    golden.check("alrun_scores", table, rel=1e-3)
    golden.check("alrun_round_gap", run["gaps"], rel=1e-3, abs=1e-5)
    for name, number in (("fit0", 0), ("fit1", 1), ("last", -1)):
        golden.check(f"alrun_fc2_w_after_{name}", run["weights"][number], **LATER)
    chosen = learner.selection_list(run["rounds"], plan.masks)
    golden.check("alrun_out_ids", chosen)
    probs = torch.cat(run["learned_logits"])[: plan.masks].softmax(1)
    confidence = 1 - scores.least_confidence(probs)  # softmax of probabilities, as is recorded
    golden.check("alrun_out_conf", confidence, rel=1e-3)


# Losses


@pytest.mark.parametrize("case", ["ce", "ce_oneignored", "ce_single"])
def test_cross_entropy(golden, case):
    logits = tensor(golden, f"{case}_logits").requires_grad_()
    loss = losses.cross_entropy(logits, recorded_labels(golden, f"{case}_labels"))
    loss.backward()
    golden.check(f"{case}_loss", loss, **NEAR)
    golden.check(f"{case}_grad", logits.grad, **NEAR)


def test_cross_entropy_without_labels(golden):
    logits = tensor(golden, "ce_allignored_logits")
    labels = recorded_labels(golden, "ce_allignored_labels")
    loss = losses.cross_entropy(logits, labels, nan_without_labels=True)
    golden.check("ce_allignored_loss", loss)
    assert losses.cross_entropy(logits, labels) == 0


@pytest.mark.parametrize("case", ["st", "st_eqhalf", "st_none", "st_all"])
def test_self_training(golden, case):
    logits = tensor(golden, f"{case}_logits").requires_grad_()
    passed = losses.passes_gate(
        tensor(golden, f"{case}_D_out"), float(golden.given(f"{case}_threshold"))
    )
    golden.check(f"{case}_count", passed.sum())
    golden.check(f"{case}_indexes", passed.nonzero()[:, 0])
    loss = losses.self_training(logits, passed)
    loss.backward()
    if case == "st_none":
        assert loss == 0
        assert not logits.grad.any()
    else:
        golden.check(f"{case}_pseudo", losses.pseudo_labels(logits[passed]))
        golden.check(f"{case}_loss", loss, **NEAR)
        golden.check(f"{case}_grad", logits.grad, **NEAR)


@pytest.mark.parametrize(("method", "start"), [("als4gan", 1000), ("s4gan", 0)])
def test_start_of_self_training(golden, method, start):
    iterations = golden.given("stgate_iter").tolist()
    acts = [int(losses.self_training_starts(i, start)) for i in iterations]
    golden.check(f"stgate_{method}", acts)


def test_feature_matching(golden):
    real, fake = (tensor(golden, f"fm_{kind}").flatten(1) for kind in ("real", "fake"))
    fake.requires_grad_()
    loss = losses.feature_matching(real, fake)
    loss.backward()
    golden.check("fm_loss", loss, **NEAR)
    # Where the means are equal, rounding decides the sign of the difference.
    equal = ((real.mean(0) - fake.mean(0)).abs() < 1e-6).numpy()
    recorded = golden.given("fm_grad_fake")
    gradient = fake.grad.numpy().reshape(recorded.shape)
    gradient[:, equal] = recorded[:, equal]
    golden.check("fm_grad_fake", gradient, **NEAR)


@pytest.mark.parametrize(("kind", "real"), [("fake", False), ("real", True)])
def test_adversarial_loss(golden, kind, real):
    probability = tensor(golden, "bce_p").requires_grad_()
    loss = losses.adversarial_loss(probability, real)
    loss.backward()
    golden.check(f"bce_{kind}_loss", loss, **NEAR)
    golden.check(f"bce_{kind}_grad", probability.grad, **NEAR)


# What the discriminator sees


def test_one_hot(golden):
    num_classes = golden.given("oh_onehot").shape[1]
    golden.check("oh_onehot", inputs.one_hot(recorded_labels(golden, "oh_labels"), num_classes))


def test_inputs_of_the_discriminator(golden):
    unlabelled, labelled, real = (tensor(golden, f"dn_{n}") for n in ("unlab", "lab", "gt"))
    golden.check("dn_unlab_out", inputs.unit_range(unlabelled), **NEAR)
    golden.check("dn_gt_ref_out", inputs.unit_range(real, labelled), **NEAR)
    golden.check("dn_gt_canon_out", inputs.unit_range(real), **NEAR)
    logits = tensor(golden, "dcat_logits")
    golden.check("dcat_out", inputs.fake_input(logits, unlabelled), **NEAR)
    num_classes = logits.shape[1]
    labels = torch.full_like(real[:, 0], VOID, dtype=torch.uint8)
    for width_of, name in ((labelled, "dn_gt_ref_out"), (None, "dn_gt_canon_out")):
        shown = inputs.real_input(labels, real, num_classes, width_of)
        assert not shown[:, :num_classes].any()
        golden.check(name, shown[:, num_classes:], **NEAR)


# Networks


def test_discriminator_evaluated(golden):
    net = recorded_discriminator(golden, "D", dropout=0.5).eval()
    factor = int(golden.given("D_block_up"))
    maps = torch.from_numpy(blown_up(golden.given("D_in_block"), factor)).requires_grad_()
    result = net(maps)
    golden.check("D_eval_out", result.scores[:, None], rel=1e-4)
    golden.check("D_eval_feat", result.features[..., None, None], **NEAR)
    (result.scores.sum() + result.features.sum()).backward()
    golden.check("D_eval_gradin_blocksum", block_sums(maps.grad, factor), rel=1e-3, of_max=2e-4)


def test_discriminator_in_training(golden, monkeypatch):
    net = recorded_discriminator(golden, "D", dropout=0.5).train()
    masks = [tensor(golden, f"D_dropmask{number}") for number in (1, 2, 3)]

    def recorded_dropout(maps, p, training, inplace):
        assert training
        assert p == 0.5
        return maps * masks.pop(0)[..., None, None] / (1 - p)

    monkeypatch.setattr(F, "dropout2d", recorded_dropout)
    maps = blown_up(golden.given("D_in_block"), int(golden.given("D_block_up")))
    result = net(torch.from_numpy(maps))
    assert not masks
    golden.check("D_train_out", result.scores[:, None], **NEAR)
    golden.check("D_train_feat", result.features[..., None, None], **NEAR)


def test_generator(golden):
    net, images = small_generator(golden), tensor(golden, "G_in")
    with torch.inference_mode():
        golden.check("G_eval_out", net.eval().features(images)[0], rel=2e-5, of_max=2e-6)
        golden.check("G_train_out", net.train().features(images)[0], rel=2e-5, of_max=2e-6)
    for name, value in net.named_buffers():
        if not name.endswith("num_batches_tracked"):
            golden.check(f"G_after_{recorded_name(name)}", value, rel=2e-5, of_max=2e-6)


def test_sizes_of_the_generator(golden):
    with torch.device("meta"):
        net = build_segmenter("DeepLabV2", "resnet101", None, 18)
        shapes = [
            net.features(torch.empty(1, 3, side, side))[0].shape[-2:]
            for side in golden.given("Gsize_in").tolist()
        ]
    golden.check("Gsize_out", [tuple(shape) for shape in shapes])
    groups = [group["params"] for group in deeplab_groups(net, 1.0)]
    golden.check("Gparam_group_tensors", [len(group) for group in groups])
    golden.check("Gparam_group_elems", [sum(p.numel() for p in group) for group in groups])
    everything = list(net.parameters())
    golden.check("Gparam_total_tensors", len(everything))
    golden.check("Gparam_total_elems", sum(p.numel() for p in everything))


def test_upsampling(golden):
    maps = tensor(golden, "up_in").requires_grad_()
    large = upsample(maps, golden.given("up_out").shape[-2:], align_corners=True)
    large.backward(tensor(golden, "up_gout"))
    golden.check("up_out", large, rel=2e-5, of_max=2e-6)
    golden.check("up_gin", maps.grad, rel=2e-5, of_max=2e-6)


# Schedules


def test_learning_rates(golden):
    total, every = int(golden.given("lrG_iter_max")), int(golden.given("lrG_step"))
    used = golden.given("lrG_used")
    rates = [
        [stepped_poly_lr(i, base, total, every) for base in (2.5e-4, 2.5e-3, 5e-3)]
        for i in range(len(used))
    ]
    golden.check("lrG_used", rates, rel=1e-9)
    steps = int(golden.given("lrD_num_steps"))
    golden.check("lrD_used", [poly_lr(i, steps, 1e-4) for i in range(steps)], rel=1e-9)


# Images and masks


def picture(golden):
    blocks = golden.given("ucm_img_rgb_block")
    image = blown_up(blocks.transpose(2, 0, 1), 16).transpose(1, 2, 0)
    return image, blown_up(golden.given("ucm_lab_block"), 16)


def test_padded_images(golden):
    image, labels = picture(golden)
    crop = tuple(golden.given("ucm_pad_crop").tolist())
    transform = TrainTransform(
        crop,
        scale=(1.0, 1.0),
        flip=0.0,
        mean=reference.MEAN,
        std=reference.STD,
        pad_value=None,
        pad_position="top_left",
        pad_maps={"target": VOID},
    )
    shown, maps = transform(image, {"target": labels}, 0)
    golden.check("ucm_pad_img", shown, abs=3e-5)
    golden.check("ucm_pad_lab", maps["target"])


def test_cropped_images(golden):
    image, labels = picture(golden)
    top, left, sign = golden.given("ucm_crop_off_flip")
    height, width = golden.given("ucm_crop_crop")
    here = slice(top, top + height), slice(left, left + width)
    transform = TrainTransform(
        None, scale=(1.0, 1.0), flip=float(sign < 0), mean=reference.MEAN, std=reference.STD
    )
    shown, maps = transform(image[here], {"target": labels[here]}, 0)
    golden.check("ucm_crop_img", shown, abs=3e-5)
    golden.check("ucm_crop_lab", maps["target"])


def test_images_of_the_reference_evaluation(golden):
    image, _ = picture(golden)
    shown, _ = EvalTransform(reference.EVALUATION_MEAN, reference.STD)(image, {})
    golden.check("ucm_evalbug_img_pix", shown[:, ::16, ::16], abs=3e-5)


def test_scales(golden):
    golden.check("scale_factors_seen", reference.SCALES, rel=1e-9)


def test_scene(golden):
    golden.check("ucm_al_label", ucmerced.scene_of_name("agricultural00"))


def test_masks_of_deepglobe(golden):
    mask = golden.given("dg_mask_rgb")
    golden.check("dg_canon_encode", deepglobe.labels_of_colors(mask))
    golden.check("dg_bug_encode_as_read_bgr", reference.released_deepglobe_labels(mask))
    golden.check("dg_bug_encode_if_rgb", reference.released_deepglobe_labels(mask, rgb=True))


def test_shrunk_masks_of_deepglobe(golden):
    colors = np.array([*deepglobe.COLORS.values(), (0, 0, 0)], dtype=np.uint8)
    cells = golden.given("dg_bug_cubic_cells")
    mask = colors[blown_up(cells, 612 // len(cells))]
    labels = reference.released_deepglobe_labels(mask, (320, 320))
    bins = len(golden.given("dg_bug_cubic_hist"))
    golden.check("dg_bug_cubic_hist", np.bincount(labels.ravel(), minlength=bins))
    wanted = np.where(cells < len(deepglobe.COLORS), cells, VOID)
    shrunk = resize_nearest(blown_up(wanted, 612 // len(cells)), 320, 320)
    np.testing.assert_array_equal(deepglobe.labels_of_colors(mask, (320, 320)), shrunk)


# Evaluation


def test_metrics(golden):
    guess, truth = golden.given("met_pred"), golden.given("met_gt")
    counts = reference.confusion(guess, truth, len(golden.given("met_iou")))
    golden.check("met_confusion", counts)
    result = reference.metrics(counts)
    golden.check("met_acc", result.accuracy, rel=1e-12)
    golden.check("met_macc", result.mean_accuracy, rel=1e-12)
    golden.check("met_miou", result.mean_iou, rel=1e-12)
    golden.check("met_fwiou", result.weighted_iou, rel=1e-12)
    golden.check("met_iou", result.iou, rel=1e-12)
    golden.check("met_s4gan_miou", result.s4gan_mean_iou, rel=1e-12)


def test_predictions(golden):
    side, size = int(golden.given("ev_size")), tuple(golden.given("ev_hw").tolist())
    logits = tensor(golden, "ev_logits")
    golden.check("ev_pred", reference.predict(logits, (side, side), size)[0])
    full = upsample(logits, (side, side), align_corners=True)[..., : size[0], : size[1]]
    best = full.topk(2, dim=1).values
    golden.check("ev_top2_gap_min", (best[:, 0] - best[:, 1]).min(), abs=2e-6)


# Multi-label mean teacher


def test_consistency(golden):
    student = tensor(golden, "ml_cos_student_logits").requires_grad_()
    loss = mlmt.consistency(student, tensor(golden, "ml_cos_teacher_logits"))
    loss.backward()
    golden.check("ml_cos_loss", loss, **NEAR)
    golden.check("ml_cos_grad", student.grad, rel=2e-5, of_max=2e-6)


def test_mean_teacher(golden):
    networks = {}
    for name in ("student", "teacher"):
        weight = tensor(golden, f"ml_{name}_w")
        networks[name] = nn.Linear(weight.shape[1], len(weight))
        networks[name].weight.data = weight
        networks[name].bias.data = tensor(golden, f"ml_{name}_b")
    student, teacher = copy.deepcopy(networks["student"]), networks["teacher"]
    labelled, weak, strong, present = (
        tensor(golden, f"ml_{name}") for name in ("x_lab", "x_unlab", "x_unlab_aug", "target")
    )
    epochs, burn_in = int(golden.given("ml_num_epochs")), int(golden.given("ml_burn_in"))
    optimizer = torch.optim.SGD(
        student.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-5, nesterov=True
    )
    weights, values, students, teachers = [], [], [], []
    for step, epoch in enumerate(golden.given("ml_epochs").tolist(), start=1):
        weights.append(mlmt.consistency_weight(epoch, epochs, burn_in))
        loss = mlmt.mlmt_loss(
            student(labelled), present, student(strong), teacher(weak), weights[-1]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mlmt.update_teacher(teacher, student, mlmt.teacher_decay(step))
        values.append(float(loss.detach()))
        students.append(student.weight.detach().clone())
        teachers.append(teacher.weight.detach().clone())
    golden.check("ml_w_cons", weights, rel=1e-12)
    golden.check("ml_losses", values, **NEAR)
    golden.check("ml_student_w_traj", torch.stack(students), rel=1e-3, of_max=2e-6)
    golden.check("ml_teacher_w_traj", torch.stack(teachers), rel=1e-3, of_max=2e-6)


def test_moved_columns(golden):
    values = tensor(golden, "ml_roll_in")
    golden.check("ml_roll_ref", reference.background_first(values, across_images=True))
    golden.check("ml_roll_canon", reference.background_first(values))


def test_fusion(golden):
    logits, present = tensor(golden, "fuse_logits")[None], tensor(golden, "fuse_probs")[None]
    golden.check("fuse_canon_pred", mlmt.fuse(logits, present).argmax(1)[0])
    golden.check("fuse_ref_pred", reference.fuse_with_zeros(logits, present).argmax(1)[0])


# Adversarial training


def test_run_of_the_gan(golden):
    generator, discriminator, record, gradients = run_gan(golden)
    exact = ("traj_st_active", "traj_count", "traj_selected")
    rates = ("traj_lr_G_used", "traj_lr_D_used")
    for name, values in record.items():
        tolerance = {} if name in exact else {"rel": 1e-9 if name in rates else 1e-3}
        golden.check(name, np.stack(values), **tolerance)
    for kind, net in (("G", generator), ("D", discriminator)):
        for name, value in net.named_parameters():
            golden.check(f"traj_{kind}end_{recorded_name(name)}", value, **LATER)
            first = gradients[0][kind, name]
            golden.check(f"traj_g{kind}_it0_{recorded_name(name)}", first, **LATER)
    trained = record["traj_st_active"].index(1)
    golden.check("traj_grad_iter", trained)
    for name, _ in generator.named_parameters():
        value = gradients[trained]["G", name]
        golden.check(f"traj_gG_itst_{recorded_name(name)}", value, **LATER)


INPUTS = [
    *("alsched_in", "sc_logits", "sc_zero_probs", "sel_values", "sel_n", "sel_ref_raw_order"),
    *("sel_over_raises", "seltie_values", "seltie_ref_raw_order", "selq_probs", "split_N"),
    *("split_ratio", "split_seed", "isin_all", "isin_active", "alrun_[Xy]", "alrun_lr"),
    *("alrun_momentum", "alrun_batch", "alrun_epochs", "alrun_strategy", "alrun_alpha"),
    *("alrun_beta", "alrun_ratio", "alrun_fc?_[wb]0", "alrun_query_pool_idx"),
    *("ce*_logits", "ce*_labels", "st*_D_out", "st*_logits", "st*_threshold", "stgate_iter"),
    *("oh_labels", "dn_unlab", "dn_lab", "dn_gt", "dcat_logits", "fm_real", "fm_fake", "bce_p"),
    *("D_conv*", "D_fc_*", "D_in_block", "D_block_up", "D_dropmask?", "lrG_iter_max"),
    *("lrG_step", "lrD_num_steps", "G_layer*", "G_aspp_*", "G_in", "Gsize_in", "up_in"),
    *("up_gout", "ucm_img_rgb_block", "ucm_lab_block", "ucm_pad_crop", "ucm_crop_crop"),
    *("ucm_crop_off_flip", "dg_mask_rgb", "dg_bug_cubic_cells", "met_gt", "met_pred"),
    *("ev_logits", "ev_size", "ev_hw", "ml_x_*", "ml_target", "ml_student_[wb]"),
    *("ml_teacher_[wb]", "ml_cos_*_logits", "ml_epochs", "ml_num_epochs", "ml_burn_in"),
    *("ml_roll_in", "fuse_logits", "fuse_probs", "traj_images_block", "traj_labels_block"),
    *("traj_block_up", "traj_al_ids", "traj_num_classes", "traj_ndf", "traj_iters"),
    *("traj_batch", "traj_threshold_st", "traj_save_after_iter", "traj_lambda_?[mt]"),
    *("traj_lr_G", "traj_lr_D", "traj_iter_max_G", "traj_lr_decay_step", "traj_aspp_rates"),
    *("traj_idx_*", "traj_G0_*", "traj_D0_*"),
]


def test_every_array_is_compared(assert_complete):
    assert_complete(INPUTS)
