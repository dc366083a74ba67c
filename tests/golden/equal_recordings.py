"""EquAL's training and selection as its recordings ran them, by the library's own functions."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from alseg.core.images import VOID
from alseg.data.files import resize_nearest
from alseg.methods.equal import schedule
from alseg.methods.equal.acquisition import (
    patch_majority,
    patch_means,
    select_patches,
    two_view_entropy,
)
from alseg.methods.equal.losses import cross_entropy, two_view_loss
from alseg.methods.equal.patches import patch_of_region
from alseg.methods.equal.views import two_views
from alseg.regions.simple import Grid
from tests.golden.reference.equal import (
    patch_budget,
    patch_corners,
    patch_target,
    reference_iou,
    region_of_patch,
    rescaled_corners,
    round_size,
)


class TinyNet(nn.Module):
    """Convolution, batch normalisation, ReLU, 1 x 1 convolution, as in the recordings."""

    def __init__(self, hidden, outputs):
        super().__init__()
        self.c1 = nn.Conv2d(3, hidden, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.c2 = nn.Conv2d(hidden, outputs, 1)

    def forward(self, images):
        return self.c2(self.bn(self.c1(images)).relu())


def recorded_net(golden, prefix):
    outputs, hidden = golden.given(f"{prefix}.c2.weight").shape[:2]
    net = TinyNet(hidden, outputs)
    state = {name: torch.from_numpy(golden.given(f"{prefix}.{name}")) for name in net.state_dict()}
    net.to(state["c1.weight"].dtype).load_state_dict(state)
    return net


def check_net(golden, prefix, net, **tolerance):
    for name, value in net.state_dict().items():
        golden.check(f"{prefix}.{name}", value, **(tolerance if value.is_floating_point() else {}))


def grid(golden, case):
    rows, cols = golden.given(f"{case}.grid_dy_dx")
    return int(rows), int(cols)


def in_patch_order(table, rows, cols):
    """Region columns, counted row by row, in the reference's order: column by column."""
    return table[..., region_of_patch(np.arange(rows * cols), rows, cols)]


def as_void(labels, void):
    """Labels with the house's void in place of the reference's."""
    return np.where(labels == void, VOID, labels).astype(np.uint8)


def reference_ids(labels, void):
    """Labels with the reference's void in place of the house's."""
    return np.where(labels == VOID, void, labels).astype(np.int64)


def majorities(labels, rows, cols, void, num_classes):
    """(N, P) in the reference's order, from labels in its ids, where void is the first or last."""
    regions = Grid(rows=rows, cols=cols)(np.zeros((*labels.shape[1:], 3), np.uint8), "")
    truth = as_void(labels, void) if void else (labels - 1).astype(np.uint8)  # 0 - 1 is VOID
    found = np.stack(
        [
            patch_majority(image, regions, num_classes, rows * cols, void_wins=void == 0)
            for image in truth
        ]
    )
    ids = found if void else np.where(found == VOID, VOID, found.astype(np.int64) + 1)
    return in_patch_order(reference_ids(ids, void), rows, cols)


def select(score, majority, labelled, void, n):
    """Global ids in order of purchase; score and the other tables are (N, P)."""
    image, patch = (index.ravel() for index in np.indices(score.shape))
    may_ask = (majority != void) & ~labelled
    rows = select_patches(score.ravel(), image, patch, may_ask.ravel(), n)
    return image[rows] * score.shape[1] + patch[rows]


def mask(labels, size, corners, rows, cols, void):
    """F12 in the ids of the files. 255 may be among them, so it does not tell what lies outside."""
    labels = resize_nearest(labels, *size)
    outside = patch_target(np.zeros_like(labels), corners, rows, cols) == VOID
    return np.where(outside, void, patch_target(labels, corners, rows, cols))


def train_step(net, optimizer, images, labels, coin, equal=True):
    """One update, on the mirrored batch if the coin says so; the loss before it."""
    if coin:
        images, labels = images.flip(-1), labels.flip(-1)
    if equal:
        loss = two_view_loss(*two_views(net, images), labels).total
    else:
        loss = cross_entropy(net(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def network_input(images, size):
    """(N, H, W, 3), uint8, as the network gets them at a size: bilinear, 0..1, (N, 3, h, w)."""
    resized = [
        np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
        for image in images
    ]
    return torch.from_numpy(np.stack(resized)).movedim(-1, 1).double() / 255


def run(golden, remap, case):
    """Active learning as recorded, fed with the recorded order of images and coins.

    In float64: Adam blows up what float32 rounds off gradients near 0, in the recording as well.
    """
    name = f"e2e_{case}"
    void, num_outputs = int(golden.given(f"{name}.void")), int(golden.given(f"{name}.n_out"))
    size, final = (tuple(golden.given(f"{name}.{part}_hw").tolist()) for part in ("train", "final"))
    rows, cols = grid(golden, name)
    fraction, k, full, longer, lr, decay = golden.given(f"{name}.cfg_budget_k_albatch_more_lr_wd")
    k, full, longer = int(k), int(full), int(longer)

    def truths(key):
        labels = golden.given(f"{name}.{key}")
        return as_void(remap[labels] if case == "cityscapes" else labels, void)

    truth = np.stack([resize_nearest(image, *size) for image in truths("labels")])
    images = network_input(golden.given(f"{name}.images"), size)
    majority = majorities(reference_ids(truth, void), rows, cols, void, num_outputs - 1)
    golden.check(f"{name}.majority", majority)
    val_truth = np.stack([resize_nearest(image, *size) for image in truths("val_labels")])
    val_images = network_input(golden.given(f"{name}.val_images"), size)

    net = recorded_net(golden, f"{name}.init").double()
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=decay)
    batches, coins = golden.given(f"{name}.batches"), golden.given(f"{name}.coins")
    budget = patch_budget(majority.size, fraction)
    every = schedule.milestone(budget, k)
    patches = patch_of_region(np.arange(rows * cols), rows, cols)
    corners = np.empty((rows * cols, 2), np.int64)  # in the reference's order
    corners[patches] = patch_corners(*size, rows, cols)

    labelled = np.zeros(majority.shape, dtype=bool)
    record = {key: [] for key in ("scores", "picked", "patches_after", "losses", "step_round")}
    record |= {key: [] for key in ("val_at", "val_iou", "val_miou")}
    while labelled.sum() < budget:
        with torch.inference_mode():
            entropy = two_view_entropy(*two_views(net.eval(), images))
            means = patch_means(entropy, rows, cols).numpy()
        score = in_patch_order(means, rows, cols)
        wanted = round_size(k, budget, int(labelled.sum()))
        picked = select(score, majority, labelled, void, wanted)
        labelled.ravel()[picked] = True
        record["scores"].append(score)
        record["picked"].append(np.pad(picked, (0, k - len(picked)), constant_values=-1))
        record["patches_after"].append(int(labelled.sum()))

        targets = [
            patch_target(t, corners[asked], rows, cols)
            for t, asked in zip(truth, labelled, strict=True)
        ]
        labels = torch.from_numpy(np.stack(targets))
        learned = np.flatnonzero(labelled.any(axis=1))
        size_now = schedule.batch_size(int(labelled.sum()), len(learned), full)
        net.train()
        for _ in range(schedule.round_epochs(int(labelled.sum()), every, longer)):
            seen = []
            for _ in range(0, len(learned), size_now):
                step = len(record["losses"])
                batch = batches[step][batches[step] >= 0]
                assert len(batch) == min(size_now, len(learned) - len(seen))
                seen.extend(batch)
                loss = train_step(net, optimizer, images[batch], labels[batch], coins[step])
                record["losses"].append(loss)
                record["step_round"].append(len(record["scores"]) - 1)
            assert np.array_equal(np.sort(seen), learned), "an epoch is one pass"
        if schedule.at_milestone(int(labelled.sum()), every):
            with torch.inference_mode():
                guess = net.eval()(val_images).argmax(dim=1).numpy()
            result = reference_iou(guess, reference_ids(val_truth, void), num_outputs, void)
            record["val_at"].append(int(labelled.sum()))
            record["val_iou"].append(result.per_class)
            record["val_miou"].append(result.mean)
    larger = rescaled_corners(corners, size, final)
    masks = [
        mask(labels, final, larger[asked], rows, cols, void)
        for labels, asked in zip(golden.given(f"{name}.labels"), labelled, strict=True)
    ]
    return net, record, np.stack(masks)
