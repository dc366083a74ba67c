"""The one LightningDataModule: training targets from the pool, whole images to score and test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import CombinedLoader
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from alseg.active.method import Stage
from alseg.active.module import LoopDataModule
from alseg.core.errors import UserError
from alseg.core.images import VOID, DataSplits, ImageSet
from alseg.data.files import KEEP_SIZE, FileImages
from alseg.data.samplers import PoolShard, TrainStream
from alseg.data.transforms import EvalTransform, TrainTransform
from alseg.data.windows import WindowImages
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import Streams, Supervision


@dataclass(frozen=True)
class TrainItems(Dataset[dict[str, Any]]):
    """Augmented training images with their targets; an item is addressed by number and seed."""

    images: ImageSet
    supervision: Supervision
    transform: TrainTransform

    def __len__(self) -> int:
        return len(self.supervision.images)

    def __getitem__(self, item: tuple[int, int]) -> dict[str, Any]:
        number, seed = item
        index = int(self.supervision.images[number])
        target = self.supervision(index)
        image, maps = self.transform(self.images.image(index), target.maps, seed)
        return {"index": index, "image": image, "maps": maps, "tables": target.tables}


@dataclass(frozen=True)
class WholeImages(Dataset[dict[str, Any]]):
    """Images as they are, with the region map or the ground truth that belongs to them."""

    images: ImageSet
    indices: NDArray[np.int64]
    transform: EvalTransform
    regions: Any = None
    truth: bool = False

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> dict[str, Any]:
        repeated = number < 0  # see PoolShard
        index = int(self.indices[-1 - number if repeated else number])
        raw: dict[str, NDArray[Any]] = {}
        if self.regions is not None:
            raw["regions"] = self.regions[index]
        if self.truth:
            raw["target"] = self.images.truth(index)
            if repeated:
                raw["target"] = np.full_like(raw["target"], VOID)
        image, maps = self.transform(self.images.image(index), raw)
        return {"index": index, "image": image, "maps": maps, "tables": {}}


def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Stack images and maps; pad tables with zeros along their first axis.

    Returns:
        ``index`` (B,), ``image`` (B, 3, H, W), and every map and table by its name.
    """
    batch = {
        "index": torch.tensor([item["index"] for item in items]),
        "image": torch.stack([item["image"] for item in items]),
    }
    for name in items[0]["maps"]:
        batch[name] = torch.stack([item["maps"][name] for item in items])
    for name in items[0]["tables"]:
        tables = [torch.as_tensor(item["tables"][name]) for item in items]
        batch[name] = torch.nn.utils.rnn.pad_sequence(tables, batch_first=True)
    return batch


class ActiveDataModule(LoopDataModule):
    """Images and the pool of what is known about them.

    `begin_stage` and `begin_pass` say what the next fit or predict run is about.

    Args:
        splits: Pool images and validation images.
        pool: Labels bought so far.
        train_transform: Augmentation.
        eval_transform: Normalisation.
        workers: Loader processes per loader.
        eval_batch_size: Whole images per batch; used where all have one size, else 1.
    """

    def __init__(
        self,
        splits: DataSplits,
        pool: LabelPool,
        train_transform: TrainTransform,
        eval_transform: EvalTransform,
        workers: int = 0,
        eval_batch_size: int = 4,
    ) -> None:
        super().__init__()
        self.splits = splits
        self.pool = pool
        self.train_transform = train_transform
        self.eval_transform = eval_transform
        self.workers = workers
        self.eval_batch_size = eval_batch_size
        self._stage: tuple[Stage, Supervision, tuple[int | str, ...]] | None = None
        self._pass: tuple[NDArray[np.int64], str, bool] | None = None

    def begin_stage(
        self, stage: Stage, supervision: Supervision, key: tuple[int | str, ...]
    ) -> None:
        """The next fit trains a stage; the key decides order and augmentation."""
        self._stage = (stage, supervision, key)

    def begin_pass(self, images: NDArray[np.int64], regions: str, truth: bool = False) -> None:
        """See `LoopDataModule.begin_pass`."""
        self._pass = (images, regions, truth)

    def description(self) -> dict[str, Any]:
        """See `LoopDataModule.description`."""
        images, transform = self.splits.train, self.eval_transform
        resize = images.resize if isinstance(images, FileImages | WindowImages) else KEEP_SIZE
        return {
            "classes": list(images.classes.names),
            "colors": np.asarray(images.classes.colors).tolist(),
            "mean": [float(value) for value in transform.mean],
            "std": [float(value) for value in transform.std],
            "size": None if resize.size is None else list(resize.size),
            "scale": resize.scale,
        }

    def train_dataloader(self) -> DataLoader[dict[str, Any]] | CombinedLoader:
        """Batches of the stage, in an order that depends on its key and the epoch alone.

        Of a stage with several streams: a batch of each, by its name.
        """
        if self._stage is None or self.trainer is None:
            raise RuntimeError("begin_stage comes before fit")
        stage, supervision, key = self._stage
        if not isinstance(supervision, Streams):
            return self._training(self.trainer, stage, supervision, key)
        loaders = {
            name: self._training(self.trainer, stage, stream, (*key, name))
            for name, stream in supervision.streams.items()
        }
        return CombinedLoader(loaders, mode="min_size")  # all are as long as an epoch

    def _training(
        self,
        trainer: L.Trainer,
        stage: Stage,
        supervision: Supervision,
        key: tuple[int | str, ...],
    ) -> DataLoader[dict[str, Any]]:
        items = TrainItems(self.splits.train, supervision, self.train_transform)
        world = trainer.world_size
        if stage.batch_size % world and not stage.whole_passes:  # those repeat images
            raise UserError(
                f"stage {stage.name} has {stage.batch_size} images per batch, which {world} "
                f"devices cannot share; give a multiple of {world}."
            )
        return DataLoader(
            items,
            batch_sampler=TrainStream(len(items), stage, key, trainer),
            num_workers=self.workers,
            collate_fn=collate,
            # fixed, so that what a worker might draw does not depend on the process's past
            generator=torch.Generator().manual_seed(0),
            pin_memory=torch.cuda.is_available(),
        )

    def _whole(self, items: WholeImages, sizes: NDArray[np.int64]) -> DataLoader[dict[str, Any]]:
        if self.trainer is None:
            raise RuntimeError("the loader needs a trainer")
        return DataLoader(
            items,
            batch_size=self.eval_batch_size if len(np.unique(sizes, axis=0)) == 1 else 1,
            sampler=PoolShard(len(items), self.trainer.global_rank, self.trainer.world_size),
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Validation images with their ground truth."""
        images = self.splits.val
        items = WholeImages(images, np.arange(len(images)), self.eval_transform, truth=True)
        return self._whole(items, np.array([images.size(i) for i in range(len(images))]))

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The validation images: there is no other split the loop may look at."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Whole pool images with their region map as ``regions``."""
        if self._pass is None:
            raise RuntimeError("begin_pass comes before predict")
        images, regions, truth = self._pass
        maps = self.pool.maps.get(regions)  # none for pixels, which need no map
        items = WholeImages(self.splits.train, images, self.eval_transform, maps, truth)
        return self._whole(items, self.pool.sizes[images])
