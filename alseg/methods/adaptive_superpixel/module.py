"""The modules: one learns and makes one pass over the pool, one sieves what was answered."""

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.scores import best_two
from alseg.acquisition.statistics import region_vectors
from alseg.active.features import shrunken
from alseg.active.module import CrossEntropyModule
from alseg.active.transfer import host_array, image_indices, kept_on_host, on_host
from alseg.core.images import VOID
from alseg.core.processes import forked_pool
from alseg.labels.imagefiles import ImageFiles
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import LabelFiles
from alseg.methods.adaptive_superpixel.labels import paint
from alseg.methods.adaptive_superpixel.sieving import answer_confidence, sieve
from alseg.methods.adaptive_superpixel.tables import Measured, image_tables, joined
from alseg.nn.segmenter import Segmenter, upsample
from alseg.regions.geometry import RegionPixels, pixels_in

#: Base superpixels of a batch above which other processes merge: a thread that does would hold up
#: the one that tells a device what to do next.
_MANY = 1000


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
        self._helper: ThreadPoolExecutor | None = None
        self._mergers: ProcessPoolExecutor | None = None

    def on_predict_start(self) -> None:
        """Send helpers of a pass that failed home."""
        self.on_predict_end()

    def on_predict_end(self) -> None:
        """Send the helpers home."""
        for helper in (self._helper, self._mergers):
            if helper is not None:
                helper.shutdown()
        self._helper = self._mergers = None

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Keep on the host what it merges there."""
        if self.trainer.predicting:
            return kept_on_host(batch, "index", "regions")
        return super().on_before_batch_transfer(batch, dataloader_idx)

    def predict_step(
        self, batch: dict[str, Any], batch_idx: int
    ) -> Future[dict[str, dict[str, Tensor]]]:
        """Tables ``regions`` and ``sizes`` of merged superpixels, ``merges`` of base superpixels.

        ``regions`` (image, unit, label, uncertainty, pixels) is a
        `alseg.acquisition.region_table.RegionTable` on the grid of the prediction; ``sizes``
        (image, unit, pixels, asked) counts pixels of the image, and those answered about before;
        ``merges`` (image, root) has one row per base superpixel. A thread makes them, beside the
        forward pass of the next batch.
        """
        small = shrunken(batch["image"], self.scale)
        size = (small.shape[-2], small.shape[-1])
        coarse, _, canvas = self.network.features(small)
        measured: Callable[[], dict[str, Tensor]] = partial(
            self._measured, coarse, batch["regions"], canvas, size
        )
        if coarse.device.type != "cpu":  # a device is told now what to do, and waited for once
            measured = partial(dict, measured())
        if self._helper is None:  # before a thread of our own is at work
            many = len(coarse) * int(self.num_regions.max()) > _MANY and self.eps is not None
            self._mergers = forked_pool(len(coarse)) if many else None
            self._helper = ThreadPoolExecutor(1, "merging")
        known = image_indices(batch), host_array(batch, "regions")
        return self._helper.submit(self._tables, measured, *known, canvas, size)

    @torch.no_grad()
    def _measured(
        self,
        coarse: Tensor,
        regions: Tensor,
        canvas: tuple[int, int],
        size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """What a batch is merged and scored by, on the CPU.

        Args:
            coarse: Logits on the decoder's grid, (B, C, h', w').
            regions: Base superpixels, (B, H, W).
            canvas: What the logits cover.
            size: h and w of the images that were predicted.

        Returns:
            ``mean`` (B, R, C + 1), ``bvsb`` and ``top1`` (B, h, w), and ``logits`` as they are
            kept.
        """
        found: dict[str, list[Tensor]] = {"mean": [], "bvsb": [], "top1": []}
        highest = int(self.num_regions.max())  # the same of all, to be stacked
        for logits, base in zip(coarse, regions, strict=True):
            # of one image at a time
            full = self.network.enlarge(logits[None].float(), canvas, size)
            scores = best_two(full)
            maps = torch.empty((full.shape[1] + 1, *size), dtype=full.dtype, device=full.device)
            torch.softmax(full[0], dim=0, out=maps[:-1])
            maps[-1] = scores.bvsb[0]
            found["mean"].append(region_vectors(maps, base, highest))
            found["bvsb"].append(scores.bvsb[0])
            found["top1"].append(scores.top1[0])
        columns = {name: torch.stack(parts) for name, parts in found.items()}
        if self.predictions is not None:
            columns["logits"] = coarse.half()
        return on_host({"batch": columns})["batch"]

    def _tables(
        self,
        measured: Callable[[], Mapping[str, Tensor]],
        indices: list[int],
        base: NDArray[np.integer[Any]],
        canvas: tuple[int, int],
        size: tuple[int, int],
    ) -> dict[str, dict[str, Tensor]]:
        """Tables of a batch; ``measured`` gives what `_measured` returns.

        Args:
            measured: Called once.
            indices: Image indices.
            base: Base superpixels, (B, H, W).
            canvas: What the logits cover.
            size: h and w of the images that were predicted.
        """
        host = measured()
        if self.predictions is not None:
            for index, stored in zip(indices, host["logits"].numpy(), strict=True):
                self.predictions.write(index, stored, canvas, size)
        arrays = (host[name].numpy() for name in ("mean", "bvsb", "top1"))
        each = zip(indices, base.astype(np.int32), *arrays, strict=True)
        images = [self._image(index, *maps) for index, *maps in each]
        made = partial(image_tables, eps=self.eps, limit=self.limit)
        beside = map if self._mergers is None else self._mergers.map
        return joined(list(beside(made, images)), indices)

    def _image(
        self,
        index: int,
        base: NDArray[np.int32],
        means: NDArray[np.float64],
        uncertainty: NDArray[np.float32],
        top1: NDArray[np.uint8],
    ) -> Measured:
        count = int(self.num_regions[index])
        asked = self.asked.get(index, np.zeros(0, dtype=np.int64))
        return Measured(base, count, means[:count], uncertainty, top1, asked)


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

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Keep on the host which images these are."""
        return kept_on_host(batch, "index")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Sieve the answers about the images of a batch (F13, F14).

        A device is waited for once, for all confidences.
        """
        indices = image_indices(batch)
        asked = [self._asked(index) for index in indices]
        found: dict[str, dict[str, Tensor]] = {}
        for item, (index, rounds) in enumerate(zip(indices, asked, strict=True)):
            known = self.predictions.probabilities(index, self.network.align_corners)
            if known is None:
                known = self._predicted(batch["image"][item : item + 1])
            found[str(item)] = {
                str(number): self._confidence(index, known, *answers)
                for number, answers in enumerate(rounds)
            }
        for index, rounds, columns in zip(indices, asked, on_host(found).values(), strict=True):
            labels = np.full(self._size(index), VOID, dtype=np.uint8)
            for (pixels, said), confidence in zip(rounds, columns.values(), strict=True):
                kept = sieve(confidence.numpy(), pixels.offsets, self.min_pixels, self.steps)
                labels = paint(labels, pixels, said, kept)
            self.labels.write(index, labels)

    def _size(self, index: int) -> tuple[int, int]:
        height, width = self.pool.sizes[index].tolist()
        return height, width

    def _asked(self, index: int) -> list[tuple[RegionPixels, NDArray[np.integer[Any]]]]:
        """Pixels of the regions of an image that were asked about, and their answers, by round."""
        found = []
        for answers, rows in self.pool.answers(index):
            pixels = pixels_in(self.pool.maps[answers.regions][index], answers.unit[rows])
            found.append((pixels, answers.label[rows]))  # type: ignore[index]
        return found

    def _predicted(self, image: Tensor) -> Tensor:
        """Class probabilities of an image, (C, h, w), rounded as those on disk are."""
        small = shrunken(image, self.scale)
        coarse, _, canvas = self.network.features(small)
        size = (small.shape[-2], small.shape[-1])
        full = self.network.enlarge(coarse.half().float(), canvas, size)
        return full[0].softmax(dim=0)

    def _confidence(
        self,
        index: int,
        probabilities: Tensor,
        pixels: RegionPixels,
        said: NDArray[np.integer[Any]],
    ) -> Tensor:
        wanted = np.where(said == VOID, 0, said)  # void is not painted, whatever is kept
        return answer_confidence(probabilities, self._size(index), pixels, wanted)

    def on_predict_end(self) -> None:
        """Delete the predictions: gigabytes on a large pool, and all labels are written."""
        self.trainer.strategy.barrier("sieved")
        if self.trainer.is_global_zero:
            shutil.rmtree(self.predictions.folder, ignore_errors=True)
