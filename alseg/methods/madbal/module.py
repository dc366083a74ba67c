"""The modules of the two phases, and the pass between them."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from alseg.acquisition.scores import entropy, most_probable
from alseg.acquisition.statistics import region_vectors, side_by_side
from alseg.active.module import LoopDataModule, SegmentationModule, normalisation
from alseg.active.transfer import host_array, image_indices, kept_on_host, on_host
from alseg.labels.imagefiles import ImageFiles
from alseg.methods.madbal import losses
from alseg.methods.madbal.cells import CellLabels
from alseg.methods.madbal.disagreement import Reading, pixel_scores
from alseg.methods.madbal.edges import edge_mask
from alseg.methods.madbal.grid import enlarged_to_grid, sampled_on_grid, to_grid
from alseg.methods.madbal.patches import patch_features, superpixel_patches
from alseg.methods.madbal.superpixels import superpixel_scores
from alseg.methods.madbal.supported import Supported, SupportedMaps
from alseg.nn.segmenter import Segmenter
from alseg.nn.taps import tapped
from alseg.regions.cells import grid_of, shrink_image

#: Patches that go through the feature network at a time.
_PATCHES = 512


def cells_of(maps: Tensor, grid: int) -> Tensor:
    """Values of maps, (..., H, W), at the top left pixel of each cell, (..., h, w)."""
    return maps[..., ::grid, ::grid]


class PhaseOne(SegmentationModule):
    """Learns label maps by weighted cross-entropy (F10).

    Args:
        class_weights: Weight of each class, (C,).
        rate: Learning rate of a step, from its number and the rate of the first; None for the
            recipe's schedule.
        **shared: See `alseg.active.module.SegmentationModule`.
    """

    def __init__(
        self,
        class_weights: Tensor,
        rate: Callable[[int, float], float] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.register_buffer("class_weights", class_weights, persistent=False)
        if not bool(class_weights.all()):  # a labelled batch may teach nothing all the same
            self.read_every = 1
        self.rate = rate

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss on ``target`` (B, H, W)."""
        scores = self.network(batch["image"])
        weights = self.get_buffer("class_weights")
        return {"loss": losses.weighted_cross_entropy(scores, batch["target"], weights)}

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser."""
        return self.recipe.build(self.network, self.steps, self.rate)


class PhaseTwo(PhaseOne):
    """Trains the support modules of a frozen network, and scores the pool with them.

    Args:
        network: The network of phase I with its support modules.
        class_losses: Files with the losses of every class in every labelled image (F11).
        images: The images these files are of.
        reading: See `alseg.methods.madbal.disagreement.depth_disagreements`; None scores pixels by
            their entropy alone.
        edges_as_written: See `alseg.methods.madbal.edges.edge_mask`.
        grid: Pixels along a side of a cell.
        asked: Cells asked so far, by image.
        void: Label in the ground truth of cells that may not be asked; None where the ground truth
            is not read.
        **shared: See `PhaseOne`.
    """

    network: Supported  # type: ignore[assignment]

    def __init__(
        self,
        network: Supported,
        class_losses: ImageFiles,
        images: NDArray[np.int64],
        reading: Reading | None,
        edges_as_written: bool,
        grid: int,
        asked: Callable[[int], NDArray[np.int64]],
        void: int | None,
        **shared: Any,
    ) -> None:
        super().__init__(network=network, **shared)
        self.class_losses = class_losses
        self.images = images
        self.reading = reading
        self.edges_as_written = edges_as_written
        self.grid = grid
        self.asked = asked
        self.void = void
        nothing = torch.full((self.num_classes,), torch.nan)
        self.register_buffer("thresholds", nothing, persistent=False)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load weights of this phase, or those of the network alone, as phase I leaves them."""
        own = ("network.network.", "network.support.")
        renamed = {
            k.replace("network.", own[0], 1)
            if k.startswith("network.") and not k.startswith(own)
            else k: v
            for k, v in state_dict.items()
        }
        return super().load_state_dict(renamed, *args, **kwargs)

    def on_fit_start(self) -> None:
        """Above which loss a pixel of each class is hard (F11)."""
        sums = torch.zeros(self.num_classes, dtype=torch.float64)
        counts = torch.zeros(self.num_classes, dtype=torch.int64)
        for image in self.images.tolist():
            found = self.class_losses.read(image)
            sums += torch.from_numpy(found["sums"])
            counts += torch.from_numpy(found["counts"])
        self.get_buffer("thresholds").copy_(losses.class_thresholds(sums, counts))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of the detector and the auxiliary classifiers (F12-F15)."""
        scores, support = self.network(batch["image"])
        target = batch["target"]
        hard = losses.hard_labels(
            losses.pixel_cross_entropy(scores, target), target, self.get_buffer("thresholds")
        )
        edges = edge_mask(self._colors(batch["image"]), self.edges_as_written)
        found = losses.phase_two_loss(
            support.hard_logits,
            support.auxiliary,
            target,
            hard,
            edges,
            self.get_buffer("class_weights"),
        )
        depths = {f"auxiliary_{depth}": loss for depth, loss in enumerate(found.auxiliary, 1)}
        return {"loss": found.total, "edge": found.edge, "interior": found.interior, **depths}

    def _colors(self, images: Tensor) -> Tensor:
        """Normalised images as they were, RGB in 0..255, (B, 3, H, W), float32."""
        return colors_of(images, self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Keep on the host which images and superpixels are scored."""
        if self.trainer.predicting:
            return kept_on_host(batch, "index", "regions")
        return super().on_before_batch_transfer(batch, dataloader_idx)

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, dict[str, Tensor]]:
        """Table ``superpixels`` (F21): image, unit, score, pixels, label, and top, a cell."""
        images, indices = batch["image"], image_indices(batch)
        size = grid_of(images.shape[-2], images.shape[-1], self.grid)
        scores, labels = self._scored(images, size)
        regions = self._left(batch, indices)
        stride = int(host_array(batch, "regions").max()) + 1
        joined, _ = side_by_side(regions, stride)
        rows = superpixel_scores(scores, labels, joined, len(indices) * stride, self.num_classes)
        item, cells = rows.unit // stride, size[0] * size[1]
        whole = {
            "image": torch.tensor(indices)[item].int(),
            "unit": (rows.unit % stride).int(),
            "score": rows.score,
            "pixels": rows.pixels.int(),
            "label": rows.label.int(),
            "top": (rows.top - item * cells).int(),
        }
        return {"superpixels": whole}

    def _scored(self, images: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Scores and predicted classes of the cells of images, (B, h, w) each."""
        colors = self._colors(images).round().to(torch.uint8)
        edges = cells_of(edge_mask(colors, self.edges_as_written), self.grid)
        scores, labels = [], []
        for image, edge in zip(images.split(1), edges.split(1), strict=True):
            # maps of full size take a lot of memory
            found = on_grid(self.network, self.network.maps(image), image, size)
            if self.reading is None:
                scores.append(entropy(found[0]))
            else:
                scores.append(pixel_scores(*found, edge, self.reading))
            labels.append(most_probable(found[0]))
        return torch.cat(scores), torch.cat(labels)

    def _left(self, batch: dict[str, Tensor], indices: list[int]) -> Tensor:
        """Superpixels of the cells of a batch, (B, h, w), -1 where they may not be asked."""
        regions = cells_of(batch["regions"], self.grid).clone()
        cells = regions[0].numel()
        asked = [item * cells + self.asked(index) for item, index in enumerate(indices)]
        places = torch.from_numpy(np.concatenate(asked)).to(regions.device, non_blocking=True)
        regions.view(-1).index_fill_(0, places, -1)
        if self.void is not None:
            regions.masked_fill_(cells_of(batch["target"], self.grid) == self.void, -1)
        return regions


def on_grid(
    network: Supported, maps: SupportedMaps, images: Tensor, size: tuple[int, int]
) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
    """Outputs of a supported network on the grid of cells (F17).

    Nothing is enlarged to the size of the images on the way, with one exception: the detector's
    maps, unless the cells have 4 x 4 pixels and the network's outputs are on that grid. A sigmoid
    comes before they are shrunk, and it is not linear.

    Args:
        network: Made the maps.
        maps: Of the images.
        images: (B, 3, H, W).
        size: Cells from top to bottom and from left to right.

    Returns:
        Logits (B, C, h, w), auxiliary logits of three depths, depth weights (B, 3, h, w), and the
        probabilities of the detector (B, 2, h, w).
    """
    full = (images.shape[-2], images.shape[-1])

    def shrunk(values: Tensor, sigmoid: bool = False) -> Tensor:
        quarter = full == maps.canvas == (4 * size[0], 4 * size[1])
        if quarter and values.shape[-2:] == size and not network.network.align_corners:
            return enlarged_to_grid(values, sigmoid)
        if not sigmoid and size != full:
            aligned = network.network.align_corners
            return sampled_on_grid(values, maps.canvas, full, size, aligned)
        enlarged = network.network.enlarge(values, maps.canvas, full)
        return to_grid(enlarged.sigmoid() if sigmoid else enlarged, size)

    support = maps.support
    return (
        shrunk(maps.scores),
        [shrunk(logits) for logits in support.auxiliary],
        shrunk(support.depth_weights),
        shrunk(support.hard_logits, sigmoid=True),
    )


def colors_of(images: Tensor, datamodule: LoopDataModule) -> Tensor:
    """Colours of normalised images.

    Args:
        images: (B, 3, H, W), float32.
        datamodule: Says by which mean and deviation they were normalised.

    Returns:
        RGB in 0..255, (B, 3, H, W), float32.
    """
    mean, std = normalisation(images, datamodule)
    return ((images * std + mean) * 255).clamp(0, 255)


class Between(L.LightningModule):
    """The pass between the phases: writes losses by class, and features of superpixels.

    Args:
        network: Trained in phase I.
        labels: The answers so far.
        class_losses: Takes the losses of every class in every labelled image (F11).
        labelled: Images with labels.
        features: Takes the features of superpixels; None writes none.
        patch_network: Makes these features from patches (F5); None takes the mean of the encoder's
            last features instead.
        grid: Pixels along a side of a cell.
    """

    def __init__(
        self,
        network: Segmenter,
        labels: CellLabels,
        class_losses: ImageFiles,
        labelled: NDArray[np.int64],
        features: ImageFiles | None,
        patch_network: nn.Module | None,
        grid: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.labels = labels
        self.class_losses = class_losses
        self.labelled = frozenset(labelled.tolist())
        self.features = features
        self.patch_network = patch_network
        self.grid = grid

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Keep on the host which images and superpixels these are."""
        return kept_on_host(batch, "index", "regions")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Write the files of the images of a batch that are not there.

        A device is waited for once, for all that is written; where patches are read, also for
        the colours of the images.
        """
        host: dict[str, NDArray[Any]] = {}
        if self.features is not None:
            regions = cells_of(batch["regions"], self.grid)
            known = torch.from_numpy(host_array(batch, "regions").astype(np.int64))
            host["regions"] = cells_of(known, self.grid).numpy()
        if self.features is not None and self.patch_network is not None:
            colors = colors_of(batch["image"], self.trainer.datamodule)  # type: ignore[attr-defined]
            about = {"colors": colors.round().byte().permute(0, 2, 3, 1)}  # (B, H, W, 3)
            host["colors"] = on_host({"batch": about})["batch"]["colors"].numpy()
        found: dict[str, dict[str, Tensor]] = {}
        indices = image_indices(batch)
        for item, index in enumerate(indices):
            image, own = batch["image"][item : item + 1], found.setdefault(str(item), {})
            if self.features is not None and not self.features.path(index).exists():
                one = {name: part[item] for name, part in host.items()}
                own |= self._features(image, regions[item], one)
            if index in self.labelled and not self.class_losses.path(index).exists():
                target = torch.from_numpy(self.labels(index).maps["target"])
                target = target[None].to(image.device, non_blocking=True)
                sums, counts = losses.class_losses(self.network(image), target)
                own |= {"sums": sums.double(), "counts": counts}
        for index, columns in zip(indices, on_host(found).values(), strict=True):
            arrays = {name: column.numpy() for name, column in columns.items()}
            if self.features is not None and "features" in arrays:
                self.features.write(index, unit=arrays["unit"], features=arrays["features"])
            if "sums" in arrays:
                self.class_losses.write(index, sums=arrays["sums"], counts=arrays["counts"])

    def _features(
        self,
        image: Tensor,
        regions: Tensor,
        host: Mapping[str, NDArray[Any]],
    ) -> dict[str, Tensor]:
        """Ids of the superpixels of an image, (n,), int32, and their features, (n, D), float16.

        Args:
            image: (1, 3, H, W).
            regions: Superpixels on the grid, (h, w), -1 = none.
            host: The same on the host, and ``colors`` (H, W, 3), uint8, for a network of patches.
        """
        ids = host["regions"]
        units = np.unique(ids[ids >= 0]).astype(np.int64)
        if self.patch_network is None:
            features = encoder_features(self.network, image, regions, units)
        else:
            shrunk = shrink_image(host["colors"], (ids.shape[0], ids.shape[1]))
            patches = torch.from_numpy(superpixel_patches(shrunk, ids, units))
            parts = patches.to(image.device, non_blocking=True).split(_PATCHES)
            features = torch.cat([patch_features(self.patch_network, p) for p in parts])
        # some activations of a network that is not normalised are too large for half precision
        limit = torch.finfo(torch.float16).max
        half = features.clamp(-limit, limit).half()
        return {"unit": torch.from_numpy(units.astype(np.int32)), "features": half}


@torch.no_grad()
def encoder_features(
    network: Segmenter, image: Tensor, regions: Tensor, units: NDArray[np.int64]
) -> Tensor:
    """Mean of the encoder's last features over some superpixels; no device is waited for.

    Args:
        network: Its encoder is read.
        image: (1, 3, H, W).
        regions: Superpixels on the grid, (h, w), -1 = none.
        units: Those wanted, among them the one of the highest id, (n,).

    Returns:
        (n, D), float32.
    """
    _, _, canvas, taps = tapped(network, image, ["encoder[-1]"])
    below, beside = (
        round(padded * cells / side) - cells
        for padded, cells, side in zip(canvas, regions.shape, image.shape[-2:], strict=True)
    )
    covering = F.pad(regions, (0, beside, 0, below), value=-1)
    count = int(units.max(initial=-1)) + 1
    vectors = region_vectors(taps["encoder[-1]"][0], covering, count)
    wanted = torch.from_numpy(units).to(vectors.device, non_blocking=True)
    return vectors[wanted].float()
