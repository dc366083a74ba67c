"""A plain PyTorch training loop on CamVid, without alseg: what full supervision has to reach.

    python -m benchmarks.plain_loop CamVid --epochs 20

The same network, size, optimiser, schedule, batch and mirror images as
``experiments/camvid/supervised.yaml``; files are read with Pillow, batches come from two loader
processes, the mean IoU is computed from a confusion matrix in NumPy.
"""

import argparse
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

NUM_CLASSES = 11  # id 11 is void
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """Images and labels of one split, resized when they are read."""

    def __init__(self, root: Path, split: str, size: tuple[int, int], mirror: bool) -> None:
        self.images = sorted((root / split).iterdir())
        self.labels = sorted((root / f"{split}annot").iterdir())
        self.size = size
        self.mirror = mirror

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        size = self.size[::-1]
        picture = Image.open(self.images[index]).convert("RGB").resize(size, Image.Resampling.BOX)
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
        label = Image.open(self.labels[index]).resize(size, Image.Resampling.NEAREST)
        target = torch.from_numpy(np.array(label)).long()
        image = (image - MEAN) / STD
        if self.mirror and random.random() < 0.5:
            image, target = image.flip(-1), target.flip(-1)
        return image, target


def forward(model: torch.nn.Module, images: Tensor) -> Tensor:
    """Logits at the size of the images, padded to what the network takes."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
    logits: Tensor = model(padded)
    return logits[..., :height, :width]


def mean_iou(model: torch.nn.Module, loader: DataLoader[Any]) -> float:
    """Mean over the classes of intersection over union, from one confusion matrix."""
    confusion = np.zeros((NUM_CLASSES, NUM_CLASSES), dtype=np.int64)
    model.eval()
    with torch.inference_mode():
        for images, targets in loader:
            predicted = forward(model, images).argmax(1).numpy()
            truth = targets.numpy()
            known = truth < NUM_CLASSES
            cells = truth[known] * NUM_CLASSES + predicted[known]
            confusion += np.bincount(cells, minlength=NUM_CLASSES**2).reshape(confusion.shape)
    both = np.diag(confusion)
    return float(np.nanmean(both / (confusion.sum(0) + confusion.sum(1) - both)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.plain_loop")
    parser.add_argument("root", type=Path, help="holds train, trainannot, val, valannot")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    import segmentation_models_pytorch as smp

    random.seed(options.seed)
    torch.manual_seed(options.seed)
    size = (180, 240)
    train = DataLoader(
        Scenes(options.root, "train", size, mirror=True),
        batch_size=options.batch_size,
        shuffle=True,
        num_workers=2,
    )
    val = DataLoader(Scenes(options.root, "val", size, mirror=False), batch_size=4, num_workers=2)
    model = smp.DeepLabV3Plus("mobilenet_v2", encoder_weights=None, classes=NUM_CLASSES)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=1e-5)
    steps = options.epochs * len(train)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, steps, power=0.9)
    start = time.perf_counter()
    for epoch in range(options.epochs):
        model.train()
        total = 0.0
        for images, targets in train:
            loss = F.cross_entropy(forward(model, images), targets, ignore_index=NUM_CLASSES)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch + 1}: loss {total / len(train):.4f}, {seconds:.1f} s", flush=True)
    print(f"{steps} batches in {seconds:.1f} s; mIoU {mean_iou(model, val):.4f}")


if __name__ == "__main__":
    main()
