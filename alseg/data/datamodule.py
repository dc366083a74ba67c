"""The one LightningDataModule: training targets from the pool, whole images to score and test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities import CombinedLoader
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from alseg.active.module import LoopDataModule
from alseg.active.stage import Fit
from alseg.core.errors import UserError
from alseg.core.images import VOID, ImageSet, Splits, channels_of, choice_of, pixels_of
from alseg.data.files import KEEP_SIZE, FileImages
from alseg.data.loaders import FitLoader
from alseg.data.reading.images import AS_RGB
from alseg.data.samplers import OnePlace, Place, PoolShard, TrainerPlace, TrainStream
from alseg.data.transforms import EvalTransform, TrainTransform, imagenet_normalization
from alseg.data.windows import WindowImages
from alseg.data.workers import fail_aloud
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import LabelMaps, Streams, Supervision


@dataclass(frozen=True)
class TrainItems(Dataset[dict[str, Tensor]]):
    """Batches of augmented training images with their targets, by numbers and seeds of items."""

    images: ImageSet
    supervision: Supervision
    transform: TrainTransform
    narrow: bool = False
    """Whether batches travel as bytes, to be finished by `ActiveDataModule` on the device."""

    def __len__(self) -> int:
        return len(self.supervision.images)

    def __getitem__(self, items: Sequence[tuple[int, int]]) -> dict[str, Tensor]:
        return collate([self.item(number, seed) for number, seed in items])

    def item(self, number: int, seed: int) -> dict[str, Any]:
        """One image; everything random follows from the seed."""
        index = int(self.supervision.images[number])
        target = self.supervision(index)
        transform = self.transform.narrow if self.narrow else self.transform
        image, maps = transform(pixels_of(self.images, index), target.maps, seed)
        return {"index": index, "image": image, "maps": maps, "tables": target.tables}


@dataclass(frozen=True)
class WholeImages(Dataset[dict[str, Any]]):
    """Images as they are, with the region map or the ground truth that belongs to them."""

    images: ImageSet
    indices: NDArray[np.int64]
    transform: EvalTransform
    regions: Any = None
    truth: bool = False
    narrow: bool = False
    """See `TrainItems`."""

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
        transform = self.transform.narrow if self.narrow else self.transform
        image, maps = transform(pixels_of(self.images, index), raw)
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

    A fit trains on everything answered so far, in shuffled passes over the images that have an
    answer; a predict run goes over the images that have something left to ask. `begin_fit` and
    `begin_pass` say something else, which a run of the command does in every stage. Loaders work
    without a trainer, too.

    Args:
        splits: Pool images and validation images: what ``splits()`` of a data set returns, or
            `ArrayImages`.
        pool: Labels bought so far.
        train_transform: Augmentation; None = random scale, `crop` and mirror images.
        eval_transform: Normalisation; None = that of `train_transform`.
        workers: Loader processes per loader.
        eval_batch_size: Whole images per batch; used where all have one size, else 1.
        batch_size: Images per training batch, where no stage says another number.
        crop: Height and width of training crops; None = the size of the images, where they have
            one size.
        seed: Decides order and augmentation, where no stage has a key.

    Raises:
        UserError: If there is no crop and the images differ in size.
    """

    def __init__(
        self,
        splits: Splits,
        pool: LabelPool,
        train_transform: TrainTransform | None = None,
        eval_transform: EvalTransform | None = None,
        workers: int = 0,
        eval_batch_size: int = 4,
        batch_size: int = 4,
        crop: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if train_transform is None:
            mean, std = imagenet_normalization(channels_of(splits.train))
            train_transform = TrainTransform(
                crop=crop or one_size(splits.train),
                mean=mean,
                std=std,
                pad_value=tuple(round(255 * part) for part in mean),
            )
        self.splits = splits
        self.pool = pool
        self.train_transform = train_transform
        self.eval_transform = eval_transform or EvalTransform(
            train_transform.mean, train_transform.std
        )
        self.workers = workers
        self.eval_batch_size = eval_batch_size
        self.batch_size = batch_size
        self.seed = seed
        self._fit: tuple[Fit, Supervision, tuple[int | str, ...]] | None = None
        self._pass: tuple[NDArray[np.int64], str, bool] | None = None

    def __repr__(self) -> str:
        return (
            f"ActiveDataModule({len(self.splits.train)} pool images, {len(self.splits.val)} "
            f"validation images, {self.pool!r})"
        )

    def begin_fit(self, fit: Fit, supervision: Supervision, key: tuple[int | str, ...]) -> None:
        """See `LoopDataModule.begin_fit`."""
        self._fit = (fit, supervision, key)

    def begin_pass(self, images: NDArray[np.int64], regions: str, truth: bool = False) -> None:
        """See `LoopDataModule.begin_pass`."""
        self._pass = (images, regions, truth)

    @property
    def _finishes(self) -> bool:
        """Whether a running trainer takes batches through `on_after_batch_transfer`."""
        state = getattr(self.trainer, "state", None)
        running = state is not None and state.status == TrainerStatus.RUNNING
        return running and getattr(self.trainer, "datamodule", None) is self

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise images and widen maps on the device: a batch travels as bytes.

        Args:
            batch: What `collate` made, or several by their names.
            dataloader_idx: Unused.
        """
        if "image" not in batch:
            return {n: self.on_after_batch_transfer(b, dataloader_idx) for n, b in batch.items()}
        if batch["image"].dtype != torch.uint8:
            return batch
        fitting = self.trainer is not None and self.trainer.training
        transform = self.train_transform if fitting else self.eval_transform
        maps = {name: batch[name] for name in transform.travelling if name in batch}
        image, wide = transform.widened(batch["image"], maps)
        if self.trainer is not None:  # to the precision of the network
            image = self.trainer.precision_plugin.convert_input(image)
        rest = {name: value for name, value in batch.items() if name not in maps}
        return {**rest, "image": image, **wide}

    def next_fit(self) -> tuple[Fit, Supervision, tuple[int | str, ...]]:
        """What the next fit trains on: what `begin_fit` said, or everything answered so far.

        Raises:
            UserError: If nothing was answered.
        """
        if self._fit is not None:
            return self._fit
        supervision = LabelMaps(self.pool)
        images = len(supervision.images)
        if not images:
            raise UserError(
                "nothing in the pool is answered yet; commit answers before the first fit, such "
                'as pool.commit(oracle.answer(random_query(pool, "dominant"), pool)).'
            )
        fit = Fit.passes(1, images, self.batch_size)
        return fit, supervision, (self.seed, len(self.pool.history))

    def description(self) -> dict[str, Any]:
        """See `LoopDataModule.description`."""
        return describe(self.splits.train, self.eval_transform)

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]] | CombinedLoader:
        """Batches of the fit, in an order that depends on its key and the epoch alone.

        Of a fit with several streams: a batch of each, by its name.
        """
        fit, supervision, key = self.next_fit()
        if not isinstance(supervision, Streams):
            return self._training(fit, supervision, key)
        loaders = {
            name: self._training(fit, stream, (*key, name))
            for name, stream in supervision.streams.items()
        }
        return CombinedLoader(loaders, mode="min_size")  # all are as long as an epoch

    def _training(
        self, fit: Fit, supervision: Supervision, key: tuple[int | str, ...]
    ) -> DataLoader[dict[str, Tensor]]:
        transform = self.train_transform
        if fit.augment:
            transform = replace(transform, **fit.augment)
        items = TrainItems(self.splits.train, supervision, transform, narrow=self._finishes)
        place: Place = OnePlace() if self.trainer is None else TrainerPlace(self.trainer)
        if fit.batch_size % place.world and not fit.whole_passes:  # those repeat images
            raise UserError(
                f"stage {key[-1]} has {fit.batch_size} images per batch, which {place.world} "
                f"devices cannot share; give a multiple of {place.world}."
            )
        return FitLoader(
            items,
            batch_size=None,  # an item is a batch already
            sampler=TrainStream(len(items), fit, key, place),
            num_workers=self.workers,
            worker_init_fn=fail_aloud,
            # fixed, so that what a worker might draw does not depend on the process's past
            generator=torch.Generator().manual_seed(0),
            pin_memory=torch.cuda.is_available(),
        )

    def _whole(self, items: WholeImages, sizes: NDArray[np.int64]) -> DataLoader[dict[str, Any]]:
        rank, world = 0, 1
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
        return DataLoader(
            items,
            batch_size=self.eval_batch_size if len(np.unique(sizes, axis=0)) == 1 else 1,
            sampler=PoolShard(len(items), rank, world),
            num_workers=self.workers,
            worker_init_fn=fail_aloud,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> Any:
        """Images a checkpoint is chosen on, with their truth; no loader where there are none."""
        return self._with_truth(choice_of(self.splits))

    def _with_truth(self, images: ImageSet) -> Any:
        if not len(images):
            return []
        every = np.arange(len(images))
        items = WholeImages(images, every, self.eval_transform, truth=True, narrow=self._finishes)
        return self._whole(items, np.array([images.size(i) for i in range(len(images))]))

    def test_dataloader(self) -> Any:
        """The images scored on, which are the validation images if no others are given."""
        return self._with_truth(self.splits.val)

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Whole pool images with their region map as ``regions``.

        Those of `begin_pass`; without it all that have something left to ask.

        Raises:
            UserError: If there is nothing left, or the pool does not know its regions.
        """
        images, regions, truth = self._pass or self._open()
        maps = self.pool.maps.get(regions)  # none for pixels, which need no map
        items = WholeImages(
            *(self.splits.train, images, self.eval_transform, maps, truth),
            narrow=self._finishes,
        )
        return self._whole(items, self.pool.sizes[images])

    def _open(self) -> tuple[NDArray[np.int64], str, bool]:
        if self.pool.regions is None:
            raise UserError(
                "this pool does not say which regions are asked about; make it by "
                "LabelPool.of(images, regions, budget), or call begin_pass before predict."
            )
        images = self.pool.open_images(self.pool.regions)
        if not len(images):
            raise UserError("every unit of the pool is answered: nothing is left to score.")
        return images, self.pool.regions, False


def one_size(images: ImageSet) -> tuple[int, int]:
    """Height and width of all images.

    Raises:
        UserError: If they differ.
    """
    sizes = {images.size(index) for index in range(len(images))}
    if not sizes:
        raise UserError("there are no images to train on.")
    if len(sizes) > 1:
        raise UserError(
            f"the training images have {len(sizes)} sizes; give augment.crop=[height,width] "
            f"(in Python crop=(height, width)), the size of the crops that make up a batch."
        )
    return sizes.pop()


def describe(images: ImageSet, transform: EvalTransform) -> dict[str, Any]:
    """What a checkpoint has to say of images, see `LoopDataModule.description`.

    Args:
        images: Those it is trained on, or others of the same data set.
        transform: Says how they are normalised.
    """
    files = images if isinstance(images, FileImages | WindowImages) else None
    resize = KEEP_SIZE if files is None else files.resize
    return {
        "classes": list(images.classes.names),
        "colors": np.asarray(images.classes.colors).tolist(),
        "mean": [float(value) for value in transform.mean],
        "std": [float(value) for value in transform.std],
        "size": None if resize.size is None else list(resize.size),
        "scale": resize.scale,
        **getattr(images, "reading", AS_RGB).describe(),
        "masks": None if files is None else files.masks.to_plain(),
    }
