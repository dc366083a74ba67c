"""MADBAL's and PixelPick's recordings as the library's functions take them."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from alseg.acquisition.pixels import draw_pixels, exclude_pixels
from alseg.data.cityscapes import Cityscapes
from alseg.methods.madbal.clusters import cluster_table
from alseg.methods.madbal.grid import to_grid
from alseg.methods.madbal.losses import phase_two_loss
from alseg.methods.madbal.network import SupportModules
from alseg.regions.cells import grid_labels
from alseg.regions.geometry import region_sizes

#: Pixels along the side of a cell.
QUARTER = 4


def tensor(golden, name):
    return torch.from_numpy(golden.given(name))


def support_modules(golden):
    """The support modules with the recorded widths and weights, and the features they read."""
    names = {
        "classifiers.0": "middle_conv1",
        "classifiers.1": "middle_deconv2",
        "classifiers.2": "middle_deconv3",
        "depth_head": "W_loss_pred",
        "reduce": "loss_pred_conv",
        "detector": "loss_pred",
    }
    depths = [tensor(golden, f"h_feat_mid{k}") for k in (1, 2, 3)]
    last = tensor(golden, "h_feat_out")
    reduced, _, side, _ = golden.given("h_w_loss_pred_conv.weight").shape
    modules = SupportModules(
        num_classes=golden.given("h_out_logits").shape[1],
        channels=[maps.shape[1] for maps in depths],
        strides=[depths[0].shape[-1] // maps.shape[-1] for maps in depths],
        depth_head=nn.Conv2d(last.shape[1], 3, 1),
        reduce=nn.Conv2d(last.shape[1], reduced, side, padding=side // 2),
        reduced_channels=reduced,
        hidden=tuple(len(golden.given(f"h_w_loss_pred.{layer}.weight")) for layer in (0, 1)),
    )
    state = {}
    for name in modules.state_dict():
        own = next(own for own in names if name.startswith(f"{own}."))
        state[name] = tensor(golden, f"h_w_{name.replace(own, names[own], 1)}")
    modules.load_state_dict(state)
    return modules, depths, last


def cityscapes_classes(root, ids):
    """What Cityscapes label files say at pixels of some ids, as read through the data set."""
    for part in ("train", "val"):
        for kind in ("leftImg8bit", "gtFine"):
            (root / kind / part / "city").mkdir(parents=True)
        name = f"{part}/city/city_000000_000000"
        picture = Image.new("RGB", (len(ids), 1))
        picture.save(root / "leftImg8bit" / f"{name}_leftImg8bit.png")
        Image.fromarray(ids[None]).save(root / "gtFine" / f"{name}_gtFine_labelIds.png")
    return Cityscapes(str(root)).splits(progress=False).train.truth(0)[0]


def phase_two(golden, case):
    """Loss and its inputs; the reference has probabilities where the library has logits."""
    hardprob = tensor(golden, f"{case}_hardprob").requires_grad_()
    auxiliary = [tensor(golden, f"d2_mid{k}").requires_grad_() for k in (1, 2, 3)]
    loss = phase_two_loss(
        hardprob.logit(),
        auxiliary,
        tensor(golden, f"{case}_target"),
        tensor(golden, f"{case}_hardlabel"),
        tensor(golden, f"{case}_edges"),
        tensor(golden, "c_class_weights"),
    )
    return loss, hardprob, auxiliary


def on_grid(golden):
    """Logits, three auxiliary logits, depth weights, hardness, edges; all on the grid."""
    edges = grid_labels(golden.given("u_edge"), QUARTER)
    size = edges.shape[1:]
    names = ("u_logits", "u_mid1", "u_mid2", "u_mid3", "u_W", "u_hard")
    logits, *auxiliary, weights, hard = (to_grid(tensor(golden, n), size) for n in names)
    return logits, auxiliary, weights, hard, torch.from_numpy(edges)


def superpixel_map(golden, image):
    return golden.given(f"u_sp_{image}")


def in_order_of(units, wanted):
    """Rows of a table by ascending id, in another order of the same ids."""
    assert units.tolist() == sorted(wanted.tolist())
    return np.searchsorted(units, wanted)


def pool_table(golden):
    """Columns over all superpixels of the pool, as recorded."""
    columns = {"image": [], "unit": [], "cluster": [], "score": [], "label": [], "pixels": []}
    for image in range(len(golden.given("u_prob"))):
        regions, unit = superpixel_map(golden, image), golden.given(f"u_valid_{image}")
        columns["image"].append(np.full_like(unit, image))
        columns["unit"].append(unit)
        columns["cluster"].append(golden.given(f"u_clusters_{image}"))
        columns["score"].append(golden.given(f"u_raw_{image}"))
        columns["label"].append(golden.given(f"u_dom_{image}"))
        columns["pixels"].append(region_sizes(regions, int(regions.max()) + 1)[unit])
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def of_pool(golden):
    """The table of the pool's clusters."""
    pool = pool_table(golden)
    columns = (pool[name] for name in ("score", "pixels", "label", "cluster"))
    return cluster_table(*columns, *golden.given("u_class_dist").shape)


def drawing(seed):
    """The reference's generator, drawn from as it does."""
    rng = np.random.RandomState(int(seed))
    return lambda n: int(rng.randint(0, n, size=1)[0])


def uncertainty(strategy, recorded):
    """Recorded scores, turned so that higher is more uncertain; turning round changes no bit."""
    return -recorded if strategy == "margin_sampling" else recorded


def pixelpick_scores(golden, strategy):
    """Recorded scores with ``-inf`` where the reference may not ask: asked before, or void."""
    recorded = uncertainty(strategy, torch.from_numpy(golden.given(f"pp_{strategy}")))
    void = golden.given("pp_y") == int(golden.given("pp_ignore"))
    excluded = torch.from_numpy(golden.given("pp_labelled") | void)
    every = [
        exclude_pixels(image, mask.flatten().nonzero().squeeze(1))
        for image, mask in zip(recorded, excluded, strict=True)
    ]
    return torch.stack(every)


def pixelpick_draws(golden, strategy, share, reverse):
    """What every image is asked, one generator for all images."""
    rng = np.random.RandomState(int(golden.given("pp_seed")))
    n = int(golden.given("pp_n"))
    maps = pixelpick_scores(golden, strategy)
    drawn = [draw_pixels(image, n, share, rng, reverse).unit.numpy() for image in maps]
    query = np.zeros(maps.shape, dtype=bool)
    for image, unit in zip(query, drawn, strict=True):
        image.flat[unit] = True
    return drawn, query
