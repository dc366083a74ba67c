"""The trained modules of the two stages, and the pass that writes pseudo labels between them."""

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.acquisition.fused import has_kernel
from alseg.active.module import SegmentationModule
from alseg.active.transfer import HOST, host_array, image_indices, kept_on_host, on_host
from alseg.core.centre import centre_square
from alseg.labels.supervision import LabelFiles
from alseg.methods.mulquery.acquisition import region_table, region_table_of_grid
from alseg.methods.mulquery.losses import counts_of, pseudo_label_loss, stage_one_loss
from alseg.methods.mulquery.pseudo_labels import naive_labels, pseudo_label_maps
from alseg.methods.mulquery.supervision import ClassSets
from alseg.nn.segmenter import Segmenter, upsample


class StageOne(SegmentationModule):
    """Learns from class sets, and scores the pool (mulquery L1-L4, A1-A4).

    Args:
        temperature: Divides the cosines in losses and acquisition.
        weights: Of the single-class, merged positive and prototypical pixel losses.
        num_regions: No image that is scored has a region id so high; None = look in every batch.
        score_centre: Side of the central square that is scored, see `centred`; None = whole images.
        **shared: See `SegmentationModule`.
    """

    def __init__(
        self,
        temperature: float,
        weights: Sequence[float],
        num_regions: int | None = None,
        score_centre: int | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.temperature = temperature
        self.num_regions = num_regions
        self.score_centre = score_centre
        self.single, self.merged, self.prototype = weights

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Count on the host what the losses look at, before a device has it."""
        batch = super().on_before_batch_transfer(batch, dataloader_idx)
        if self.device.type == "cpu" or not self.trainer.training:
            return batch
        return {**batch, HOST: {"counts": counts_of(batch["regions"], batch["sets"])}}

    def loss(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """The three losses on the asked regions, ``regions`` (B, H, W) and ``sets`` (B, K, C')."""
        regions = batch["regions"]
        terms = stage_one_loss(
            self.network(batch["image"]),
            regions,
            regions >= 0,
            batch["sets"],
            tau=self.temperature,
            single_weight=self.single,
            merged_weight=self.merged,
            prototype_weight=self.prototype,
            counts=batch[HOST]["counts"] if HOST in batch else None,
        )
        return {"loss": terms.total, **terms._asdict()}

    def predict_step(
        self, batch: dict[str, Tensor], batch_idx: int
    ) -> dict[str, dict[str, Tensor]]:
        """Tables ``regions`` (image, unit, label, uncertainty, pixels) and ``images`` (prior)."""
        images, regions = batch["image"], batch["regions"]
        if self.score_centre is not None:
            images, regions = centred(images, regions, self.score_centre)
        how: dict[str, Any] = {"tau": self.temperature, "num_regions": self.num_regions}
        if has_kernel(images.device, "sums"):
            table, prior = region_table_of_grid(self.network.grid(images), regions, **how)
        else:
            table, prior = region_table(self.network(images), regions, **how)
        index = batch["index"].to(prior.device)
        table["image"] = index[table["image"]]
        # six million regions a pass: narrow integers halve what goes to disk
        narrow = {
            name: column.int() if not column.is_floating_point() else column
            for name, column in table.items()
        }
        return {"regions": narrow, "images": {"image": index, "prior": prior}}


class StageTwo(SegmentationModule):
    """Learns from pseudo labels by cross-entropy (mulquery section 6).

    Args:
        temperature: Divides the cosines.
        **shared: See `SegmentationModule`.
    """

    def __init__(self, temperature: float, **shared: Any) -> None:
        super().__init__(**shared)
        self.temperature = temperature

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mean over labelled pixels of ``target`` (B, H, W); 0 when a batch has none."""
        cosines = self.network(batch["image"])
        if not self.has_labels(batch):
            return {"loss": cosines.sum() * 0.0}
        return {"loss": pseudo_label_loss(cosines, batch["target"], tau=self.temperature)}


class PseudoLabeller(L.LightningModule):
    """Writes the pseudo label map of every image it is shown (mulquery S1-S7, N1, N2).

    Args:
        network: The network of stage 1.
        sets: The answers.
        labels: Where the maps go.
        variant: ``expand``, ``within``, ``naive`` (asked regions) or ``naive_all`` (every pixel).
        proto_temperature: Temperature of the softmax that picks prototypes.
        threshold: ``median`` or ``min``.
        strict: See `alseg.methods.mulquery.pseudo_labels.prototype_labels`.
        scales: Sizes of the image that are averaged, as factors.
        flip: Whether mirror images are averaged too.
    """

    def __init__(
        self,
        network: Segmenter,
        sets: ClassSets,
        labels: LabelFiles,
        variant: str,
        proto_temperature: float,
        threshold: str,
        strict: bool,
        scales: Sequence[float],
        flip: bool,
    ) -> None:
        super().__init__()
        self.network = network
        self.sets = sets
        self.labels = labels
        self.variant = variant
        self.proto_temperature = proto_temperature
        self.threshold = threshold
        self.strict = strict
        self.scales = tuple(scales)
        self.flip = flip

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Keep on the host what it works with there; the regions have nothing to do elsewhere."""
        kept = kept_on_host(batch, "index", "regions")
        return {name: part for name, part in kept.items() if name != "regions"}

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Label the images of a batch.

        A device is waited for twice: for where the prototypes are, and for the labels.
        """
        cosines, features, canvas = self.views(batch["image"])
        indices = image_indices(batch)
        regions = host_array(batch, "regions")
        sets = [self.sets.sets(index) for index in indices]
        if self.variant == "naive_all":
            found = [naive_labels(one) for one in cosines]
        elif self.variant == "naive":
            inside = [np.isin(one, ids) for one, (ids, _) in zip(regions, sets, strict=True)]
            where = torch.from_numpy(np.stack(inside)).to(cosines.device, non_blocking=True)
            found = [naive_labels(*pair) for pair in zip(cosines, where, strict=True)]
        else:
            found = pseudo_label_maps(
                *(features, cosines, regions, sets),
                proto_temperature=self.proto_temperature,
                expand=self.variant == "expand",
                threshold=self.threshold,
                strict=self.strict,
                canvas=canvas,
                align_corners=self.network.align_corners,
            )
        host = on_host({"labels": {str(item): labels for item, labels in enumerate(found)}})
        for index, labels in zip(indices, host["labels"].values(), strict=True):
            self.labels.write(index, labels.numpy())

    def views(self, images: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """Cosines (B, C', H, W), features (B, D, h, w), and the canvas the features cover.

        One view keeps the features on the decoder's grid; several are averaged at the size of
        the image, and the features scaled to unit norm again.
        """
        size = (images.shape[-2], images.shape[-1])
        if self.scales == (1.0,) and not self.flip:
            cosines, features, canvas = self.network.features(images)
            return self.network.enlarge(cosines, canvas, size), features, canvas
        sums: list[Tensor] = []
        for scale in self.scales:
            scaled = resized(images, (int(scale * size[0]), int(scale * size[1])))
            for mirrored in (False, True)[: 1 + self.flip]:
                view = scaled.flip(-1) if mirrored else scaled
                cosines, features, canvas = self.network.features(view)
                inner = (view.shape[-2], view.shape[-1])
                for number, maps in enumerate((cosines, features)):
                    maps = self.network.enlarge(maps, canvas, inner)
                    maps = upsample(maps.flip(-1) if mirrored else maps, size)
                    if number < len(sums):
                        sums[number] += maps
                    else:
                        sums.append(maps)
        views = len(self.scales) * (1 + self.flip)
        return sums[0] / views, F.normalize(sums[1], dim=1), size


def centred(images: Tensor, regions: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Central squares of images and of their regions (section 5.1, on VOC).

    Args:
        images: (B, C, H, W), float, whose shorter side is resized, bilinear and antialiased.
        regions: Region ids, (B, H, W), of which every pixel takes the nearest.
        side: Of the square, in pixels.

    Returns:
        (B, C, side, side) and (B, side, side).
    """
    height, width = regions.shape[-2:]
    (tall, broad), top, left = centre_square(height, width, side)
    rows = (2 * torch.arange(top, top + side) + 1) * height // (2 * tall)
    columns = (2 * torch.arange(left, left + side) + 1) * width // (2 * broad)
    near = regions[:, rows.to(regions.device)][:, :, columns.to(regions.device)]
    return resized(images, (tall, broad))[..., top : top + side, left : left + side], near


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images as a view of another size sees them: bilinear, and antialiased as Pillow's is.

    Args:
        images: (B, C, H, W), float.
        size: Height and width of the result.
    """
    if images.shape[-2:] == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)
