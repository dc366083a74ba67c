"""The modules: one learns and makes one pass over the pool, one sieves what was answered."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.scores import best_two
from alseg.acquisition.statistics import class_sums, region_vectors
from alseg.active.features import shrunken
from alseg.active.module import CrossEntropyModule
from alseg.active.transfer import on_host
from alseg.core.images import VOID
from alseg.labels.imagefiles import ImageFiles
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import LabelFiles
from alseg.methods.adaptive_superpixel.labels import paint
from alseg.methods.adaptive_superpixel.merging import merge, merge_limited
from alseg.methods.adaptive_superpixel.sieving import answer_confidence, sieve
from alseg.nn.segmenter import Segmenter, upsample
from alseg.regions.geometry import adjacency, pixels_in, region_sizes, resample_corners
from alseg.regions.merged import merged_map

#: Base superpixels of a batch above which other processes help to merge.
_MANY = 4000


@dataclass(frozen=True)
class Predictions:
    """Logits of the last pass over the pool on the decoder's own grid, one file per image.

    They take a twentieth of the space of probabilities per pixel, which are made again from them.

    Attributes:
        folder: Holds the files.
    """

    folder: Path

    @property
    def files(self) -> ImageFiles:
        """The files."""
        return ImageFiles(self.folder)

    def write(
        self,
        image: int,
        logits: NDArray[np.float16],
        canvas: tuple[int, int],
        size: tuple[int, int],
    ) -> None:
        """Write the logits of an image, (C, h, w), that cover a canvas of which a part is image."""
        self.files.write(image, logits=logits, canvas=np.array(canvas), size=np.array(size))

    def probabilities(self, image: int, align_corners: bool = False) -> Tensor | None:
        """Class probabilities of an image, (C, H, W) at the size predicted; None without a file.

        Args:
            image: Its index.
            align_corners: Of the network that predicted.

        Raises:
            UserError: If the file is damaged.
        """
        if not self.files.path(image).exists():
            return None
        stored = self.files.read(image)
        logits = torch.from_numpy(stored["logits"]).float()[None]
        canvas, size = stored["canvas"].tolist(), stored["size"].tolist()
        full = upsample(logits, (canvas[0], canvas[1]), align_corners)
        return full[0, :, : size[0], : size[1]].softmax(dim=0)


class Merger(CrossEntropyModule):
    """Learns label maps; ``predict_step`` merges the superpixels of an image and scores them.

    Args:
        num_regions: Base superpixels of every image, (N,).
        eps: Largest distance of superpixels that are merged; None merges nothing.
        limit: Share of the base superpixels after which merging stops; None for no limit.
        scale: Factor on the size of images for this pass.
        predictions: Where the logits go that the answers are sieved by; None to keep none.
        asked: Base superpixels that have been answered about, by image.
        **shared: See `alseg.active.module.CrossEntropyModule`.
    """

    def __init__(
        self,
        num_regions: NDArray[np.int64],
        eps: float | None,
        limit: float | None,
        scale: float,
        predictions: Predictions | None,
        asked: Mapping[int, NDArray[np.int64]],
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.num_regions = num_regions
        self.eps = eps
        self.limit = limit
        self.scale = scale
        self.predictions = predictions
        self.asked = asked
        self._helpers: ProcessPoolExecutor | None = None

    def on_predict_end(self) -> None:
        """Send the helpers home."""
        if self._helpers is not None:
            self._helpers.shutdown()
            self._helpers = None

    def predict_step(
        self, batch: dict[str, Tensor], batch_idx: int
    ) -> dict[str, dict[str, Tensor]]:
        """Tables ``regions`` and ``sizes`` of merged superpixels, ``merges`` of base superpixels.

        ``regions`` (image, unit, label, uncertainty, pixels) is a
        `alseg.acquisition.region_table.RegionTable` on the grid of the prediction; ``sizes``
        (image, unit, pixels, asked) counts pixels of the image, and those answered about before;
        ``merges`` (image, root) has one row per base superpixel.
        """
        small = shrunken(batch["image"], self.scale)
        size = (small.shape[-2], small.shape[-1])
        coarse, _, canvas = self.network.features(small)
        scored, means = [], []
        for logits, regions in zip(coarse, batch["regions"], strict=True):
            # of one image at a time
            full = self.network.enlarge(logits[None].float(), canvas, size)
            scores = best_two(full)
            maps = torch.cat([full.softmax(dim=1)[0], scores.bvsb])
            # which image it is, and so how many regions it has, only the device knows yet
            means.append(region_vectors(maps, regions, int(self.num_regions.max())))
            scored.append((scores.bvsb[0], scores.top1[0]))
        columns = {"index": batch["index"], "base": batch["regions"].int()}
        columns["mean"] = torch.stack(means)
        if self.predictions is not None:
            columns["logits"] = coarse.half()
        host = {name: c.numpy() for name, c in on_host({"batch": columns})["batch"].items()}
        indices: list[int] = host["index"].tolist()
        if self.predictions is not None:
            for index, stored in zip(indices, host["logits"], strict=True):
                self.predictions.write(index, stored, canvas, size)
        jobs = [
            self._job(index, *maps)
            for index, *maps in zip(indices, host["base"], host["mean"], strict=True)
        ]
        roots = self._merged(jobs)
        bases = [job[0] for job in jobs]
        merged = [merged_map(*pair) for pair in zip(bases, roots, strict=True)]
        parts = [
            {
                "regions": rows,
                "sizes": self._sizes(index, base, own, int(self.num_regions[index])),
                "merges": {"root": torch.from_numpy(root.astype(np.int32))},
            }
            for index, base, own, root, rows in zip(
                indices, bases, merged, roots, self._rows(scored, merged, size), strict=True
            )
        ]
        return _joined(parts, indices)

    def _job(
        self, index: int, base: NDArray[np.int32], means: NDArray[np.float64]
    ) -> tuple[Any, ...]:
        """Arguments of `roots_of` for an image."""
        count = int(self.num_regions[index])
        features, uncertainty = means[:count, :-1].copy(), means[:count, -1].copy()
        return base, count, features, uncertainty, self.eps, self.limit

    def _rows(
        self,
        scored: Sequence[tuple[Tensor, Tensor]],
        merged: Sequence[NDArray[np.int32]],
        size: tuple[int, int],
    ) -> list[dict[str, Tensor]]:
        """Rows of a `RegionTable`, on the CPU, for every image without its column ``image``.

        Args:
            scored: Uncertainty and predicted class of the pixels of each image, (h, w).
            merged: Its merged superpixels, (H, W).
            size: h and w.
        """
        sums = {}
        for item, ((bvsb, top1), own) in enumerate(zip(scored, merged, strict=True)):
            grid = torch.from_numpy(resample_corners(own, *size)).to(top1.device, non_blocking=True)
            count = int(own.max(initial=-1)) + 1
            both = class_sums(bvsb, top1, grid, self.num_classes, count)
            sums[str(item)] = dict(zip(("uncertainty", "pixels"), both, strict=True))
        rows = []
        for table in on_host(sums).values():
            unit, label = np.nonzero(table["pixels"].numpy())
            columns = {
                "unit": unit.astype(np.int32),
                "label": label.astype(np.int32),
                "uncertainty": table["uncertainty"].numpy()[unit, label],
                "pixels": table["pixels"].numpy()[unit, label].astype(np.int32),
            }
            rows.append({name: torch.from_numpy(column) for name, column in columns.items()})
        return rows

    def _sizes(
        self, index: int, base: NDArray[np.int32], merged: NDArray[np.int32], count: int
    ) -> dict[str, Tensor]:
        before = np.zeros(count + 1, dtype=bool)
        before[self.asked.get(index, np.zeros(0, dtype=np.int64))] = True
        pixels = np.bincount(merged[merged >= 0], minlength=count)
        again = np.bincount(merged[(merged >= 0) & before[base]], minlength=count)
        unit = np.flatnonzero(pixels)
        columns = {"unit": unit, "pixels": pixels[unit], "asked": again[unit]}
        return {name: torch.from_numpy(c.astype(np.int32)) for name, c in columns.items()}

    def _merged(self, jobs: Sequence[tuple[Any, ...]]) -> list[NDArray[np.int64]]:
        """Roots of every image of a batch, side by side where that pays."""
        forks = "fork" in get_all_start_methods()  # a fresh interpreter would run user scripts
        many = len(jobs) > 1 and sum(job[1] for job in jobs) > _MANY
        if not (forks and many) or self.eps is None:
            return [roots_of(*job) for job in jobs]
        if self._helpers is None:
            self._helpers = ProcessPoolExecutor(len(jobs), get_context("fork"))
        return list(self._helpers.map(_roots_of, jobs))


def roots_of(
    base: NDArray[np.int32],
    count: int,
    features: NDArray[np.float64],
    uncertainty: NDArray[np.float64],
    eps: float | None,
    limit: float | None,
) -> NDArray[np.int64]:
    """Which base superpixel each base superpixel is merged into.

    Args:
        base: Base superpixels, (H, W), -1 = none.
        count: Their number, R.
        features: Mean class probabilities of each, (R, C); zeros for ids without a pixel.
        uncertainty: Mean uncertainty of each, (R,).
        eps: See `Merger`.
        limit: See `Merger`.

    Returns:
        (R,), int64.
    """
    if eps is None:
        return np.arange(count)
    edges = adjacency(base, count, by_contact=limit is not None)
    if limit is None:
        return merge(features, uncertainty, edges, eps)
    present = region_sizes(base, count) > 0
    uncertainty = np.where(present, uncertainty, -1.0)  # ids without a pixel do not count: last
    return merge_limited(features, uncertainty, edges, eps, limit * int(present.sum()))


def _roots_of(job: tuple[Any, ...]) -> NDArray[np.int64]:
    return roots_of(*job)


def _joined(
    parts: Sequence[Mapping[str, Mapping[str, Tensor]]], index: Sequence[int]
) -> dict[str, dict[str, Tensor]]:
    """Tables of a batch from those of its images."""
    tables: dict[str, dict[str, Tensor]] = {}
    for name in parts[0]:
        own = [part[name] for part in parts]
        lengths = [len(next(iter(columns.values()))) for columns in own]
        image = torch.tensor(index, dtype=torch.int32).repeat_interleave(torch.tensor(lengths))
        columns = {key: torch.cat([c[key] for c in own]) for key in own[0] if key != "image"}
        tables[name] = {"image": image, **columns}
    return tables


class Sieve(L.LightningModule):
    """Writes the label map of every image it is shown: all answers, sieved by the newest model.

    Args:
        network: Of the round before; predicts where there are no stored predictions.
        predictions: Of the pass that chose what was asked last.
        scale: Factor on the size of images.
        pool: The answers.
        labels: Where the maps go.
        min_pixels: Regions with fewer pixels keep all of them.
        steps: See `alseg.methods.adaptive_superpixel.sieving.sieve`.
    """

    def __init__(
        self,
        network: Segmenter,
        predictions: Predictions,
        scale: float,
        pool: LabelPool,
        labels: LabelFiles,
        min_pixels: int,
        steps: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.predictions = predictions
        self.scale = scale
        self.pool = pool
        self.labels = labels
        self.min_pixels = min_pixels
        self.steps = steps

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Sieve the answers about the images of a batch."""
        for item, index in enumerate(batch["index"].tolist()):

            def predict(item: int = item) -> Tensor:
                small = shrunken(batch["image"][item : item + 1], self.scale)
                coarse, _, canvas = self.network.features(small)
                size = (small.shape[-2], small.shape[-1])
                # the same rounding as on disk
                full = self.network.enlarge(coarse.half().float(), canvas, size)
                return full[0].softmax(dim=0)

            stored = self.predictions.probabilities(index, self.network.align_corners)
            self.labels.write(index, self.label(index, stored, predict))

    def on_predict_end(self) -> None:
        """Delete the predictions: gigabytes on a large pool, and all labels are written."""
        self.trainer.strategy.barrier("sieved")
        if self.trainer.is_global_zero:
            shutil.rmtree(self.predictions.folder, ignore_errors=True)

    def label(
        self, index: int, stored: Tensor | None, predict: Callable[[], Tensor]
    ) -> NDArray[np.uint8]:
        """Label map of one image, (H, W), uint8 (F13, F14)."""
        probabilities = predict() if stored is None else stored
        height, width = (int(side) for side in self.pool.sizes[index])
        labels = np.full((height, width), VOID, dtype=np.uint8)
        for answers, rows in self.pool.answers(index):
            said = answers.label[rows]  # type: ignore[index]
            pixels = pixels_in(self.pool.maps[answers.regions][index], answers.unit[rows])
            wanted = np.where(said == VOID, 0, said)  # void is not painted, whatever is kept
            confidence = answer_confidence(probabilities, (height, width), pixels, wanted)
            kept = sieve(confidence, pixels.offsets, self.min_pixels, self.steps)
            labels = paint(labels, pixels, said, kept)
        return labels
