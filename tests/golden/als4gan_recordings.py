"""ALS4GAN's two trainings as its recordings ran them, by the library's own functions."""

import numpy as np
import torch
from torch import nn

from alseg.core.images import VOID
from alseg.methods.als4gan import learner
from alseg.methods.als4gan.discriminator import Discriminator
from alseg.methods.als4gan.schedules import stepped_poly_lr
from alseg.methods.als4gan.step import Batches, Rules, s4gan_step
from alseg.nn.deeplabv2 import CaffeResNet, LastFeatures, Stage, SummedClassifier, deeplab_groups
from alseg.nn.schedules import poly_lr
from alseg.nn.segmenter import Segmenter
from tests.golden.reference.als4gan import legacy_order


def tensor(golden, name):
    return torch.from_numpy(golden.given(name))


def as_void(labels):
    """Labels with the house's void wherever the reference ignores them."""
    return np.where((labels < 0) | (labels == 255), VOID, labels).astype(np.uint8)


def recorded_labels(golden, name):
    return torch.from_numpy(as_void(golden.given(name)))


def blown_up(values, factor):
    """Every cell of the last two axes as a block."""
    return values.repeat(factor, axis=-2).repeat(factor, axis=-1)


def block_sums(values, factor):
    height, width = (side // factor for side in values.shape[-2:])
    blocks = values.reshape(*values.shape[:-2], height, factor, width, factor)
    return blocks.sum(axis=(-3, -1))


def recorded_name(name):
    """The recordings' name of a tensor: DeepLabv2's, with underscores."""
    name = name.replace("encoder.", "").replace("classifier.", "aspp.")
    return name.replace(".", "_")


def load(golden, prefix, net):
    own = {
        name: tensor(golden, f"{prefix}_{recorded_name(name)}")
        for name in net.state_dict()
        if not name.endswith("num_batches_tracked")
    }
    net.load_state_dict(own, strict=False)
    return net


def small_generator(golden):
    """The recordings' small generator; its sizes follow from its weights."""
    sizes = {
        name: golden.given(f"G_{name}_weight").shape
        for name in (
            "layer1_conv1_conv",
            "layer2_block1_increase_conv",
            "layer3_block1_increase_conv",
            "layer4_block1_increase_conv",
            "aspp_c0",
        )
    }
    stem, *widths, classes = (shape[0] for shape in sizes.values())
    stages = [
        Stage(2, widths[0], 1, 1),
        Stage(1, widths[1], 2, 1),
        Stage(1, widths[2], 1, 2),
    ]
    trunk = CaffeResNet(stages, stem, momentum=0.999)
    head = SummedClassifier(trunk.out_channels[-1], classes, rates=(1, 2, 6, 12))
    return load(golden, "G", Segmenter(trunk, LastFeatures(), head, 1, align_corners=True))


def recorded_discriminator(golden, prefix, dropout):
    width, channels = golden.given(f"{prefix}_conv1_weight").shape[:2]
    return load(golden, prefix, Discriminator(channels - 3, width, dropout))


def padded(values, length, empty):
    values = np.asarray(values)
    return np.pad(values, (0, length - len(values)), constant_values=empty)


# The classifier


class TinyClassifier(nn.Module):
    """A linear stand-in for the network of 1000 outputs, and the layer behind it."""

    def __init__(self, features, outputs, classes):
        super().__init__()
        self.fc1 = nn.Linear(features, outputs)
        self.fc2 = nn.Linear(outputs, classes)

    def forward(self, images):
        return self.fc2(self.fc1(images).relu())


def recorded_classifier(golden):
    hidden, features = golden.given("alrun_fc1_w0").shape
    net = TinyClassifier(features, hidden, len(golden.given("alrun_fc2_w0")))
    for layer in ("fc1", "fc2"):
        module = getattr(net, layer)
        module.weight.data = tensor(golden, f"alrun_{layer}_w0")
        module.bias.data = tensor(golden, f"alrun_{layer}_b0")
    return net


def fit_classifier(net, images, scenes, *, lr, momentum, batch, epochs):
    """A fit of the reference: its own momentum, batches in the order of purchase."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum)
    net.train()
    for _ in range(epochs):
        for start in range(0, len(images), batch):
            here = slice(start, start + batch)
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[here]), scenes[here]).backward()
            optimizer.step()


def run_learner(golden):
    """The complete run; its choices are compared as sets, and followed in their recorded order."""
    images, scenes = tensor(golden, "alrun_X"), tensor(golden, "alrun_y")
    ratio, alpha, beta = (float(golden.given(f"alrun_{n}")) for n in ("ratio", "alpha", "beta"))
    plan = learner.plan_learner(len(images), ratio, alpha, beta, whole_last_round=True)
    recorded = golden.given("alrun_query_pool_idx")
    strategy = str(golden.given("alrun_strategy"))
    options = {
        "lr": float(golden.given("alrun_lr")),
        "momentum": float(golden.given("alrun_momentum")),
        "batch": int(golden.given("alrun_batch")),
        "epochs": int(golden.given("alrun_epochs")),
    }
    net = recorded_classifier(golden)
    learned = legacy_order(len(images), 1234)[: plan.initial]
    pool = np.setdiff1d(np.arange(len(images)), learned)
    run = {"initial": learned, "weights": [], "sizes": [], "scores": [], "gaps": [], "rounds": []}
    run["learned_logits"] = []

    def fit():
        fit_classifier(net, images[learned], scenes[learned], **options)
        run["weights"].append(net.fc2.weight.detach().clone())
        run["sizes"].append(len(learned))

    fit()
    for size, choice in zip(plan.round_sizes, recorded, strict=True):
        with torch.inference_mode():
            logits = net.eval()(images[pool])
        run.setdefault("probabilities", logits.softmax(1))
        values = learner.uncertainty(logits, strategy).numpy()
        chosen = learner.most_uncertain(values, size)
        assert set(chosen) == set(choice)
        following = learner.most_uncertain(values, size + 1)[-1]
        run["gaps"].append(values[chosen[-1]] - values[following])
        run["scores"].append(1 - values if strategy == "margin" else values)
        run["rounds"].append(pool[choice])
        learned = np.concatenate([learned, pool[choice]])
        pool = np.delete(pool, choice)
        fit()
        with torch.inference_mode():
            run["learned_logits"].append(net.eval()(images[run["rounds"][-1]]))
    return plan, run


# The GAN


def recorded_gan(golden):
    channels = golden.given("traj_G0_layer1_conv_weight").shape[0]
    classes = int(golden.given("traj_num_classes"))
    rates = golden.given("traj_aspp_rates").tolist()
    trunk = nn.Sequential()
    trunk.add_module("layer1", nn.Sequential())
    trunk.layer1.add_module("conv", nn.Conv2d(3, channels, 3, stride=8, padding=1, bias=False))
    trunk.layer1.add_module("relu", nn.ReLU())
    head = SummedClassifier(channels, classes, rates)
    generator = Segmenter(trunk, nn.Identity(), head, 1, align_corners=True)
    load(golden, "traj_G0", generator)
    discriminator = recorded_discriminator(golden, "traj_D0", dropout=0.0)
    assert len(discriminator.conv1.weight) == int(golden.given("traj_ndf"))
    return generator, discriminator


def run_gan(golden, dtype=torch.float32):
    """The complete loop, fed with the recorded batches; what it recorded, by the arrays' names."""
    factor = int(golden.given("traj_block_up"))
    images = torch.from_numpy(blown_up(golden.given("traj_images_block"), factor)).to(dtype)
    labels = blown_up(as_void(golden.given("traj_labels_block")), factor)
    labels = torch.from_numpy(labels)
    iterations, batch = int(golden.given("traj_iters")), int(golden.given("traj_batch"))
    rules = Rules(
        gate=float(golden.given("traj_threshold_st")),
        matching_weight=float(golden.given("traj_lambda_fm")),
        self_training_weight=float(golden.given("traj_lambda_st")),
        self_training_start=int(golden.given("traj_save_after_iter")),
        own_range=False,
        hide_padding=False,
        nan_without_labels=True,
    )
    streams = [golden.given(f"traj_idx_{part}") for part in ("labelled", "unlabelled", "gt")]
    learned = golden.given("traj_al_ids")
    for stream, wanted in zip(streams, (True, False, True), strict=True):
        assert (np.isin(stream[stream >= 0], learned) == wanted).all()

    generator, discriminator = (net.to(dtype).train() for net in recorded_gan(golden))
    optimizers = (
        torch.optim.SGD(
            deeplab_groups(generator, float(golden.given("traj_lr_G"))), lr=0.0, momentum=0.9
        ),
        torch.optim.Adam(
            discriminator.parameters(), lr=float(golden.given("traj_lr_D")), betas=(0.9, 0.99)
        ),
    )
    total = int(golden.given("traj_iter_max_G"))
    every = int(golden.given("traj_lr_decay_step"))
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizers[0], lambda i: stepped_poly_lr(i, 1.0, total, every)
        ),
        torch.optim.lr_scheduler.LambdaLR(optimizers[1], lambda i: poly_lr(i, iterations, 1.0)),
    ]
    record, gradients = {}, []

    def note(name, value):
        record.setdefault(f"traj_{name}", []).append(value)

    for iteration in range(iterations):
        note("lr_G_used", [group["lr"] for group in optimizers[0].param_groups])
        note("lr_D_used", optimizers[1].param_groups[0]["lr"])
        l, u, g = (stream[iteration][stream[iteration] >= 0] for stream in streams)  # noqa: E741
        batches = Batches(images[l], labels[l], images[u], images[g], labels[g])
        result = s4gan_step(generator, discriminator, *optimizers, batches, iteration, rules)
        for schedule in schedules:
            schedule.step()
        note("loss_ce", result.cross_entropy)
        note("loss_st", result.self_training)
        note("loss_S", result.generator)
        note("loss_D", result.discriminator)
        note("loss_D_fake", result.discriminator_fake)
        note("loss_D_real", result.discriminator_real)
        note("st_active", int(result.self_training > 0))
        note("count", int(result.passed.sum()))
        note("selected", padded(result.passed.long(), batch, -1))
        note("D_out_unlabelled", padded(result.scores, batch, np.nan))
        gradients.append(
            {
                (net, name): value.grad.clone()
                for net, module in (("G", generator), ("D", discriminator))
                for name, value in module.named_parameters()
            }
        )
    return generator, discriminator, record, gradients
