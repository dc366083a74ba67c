"""Entropy over a pool of whole images, beside baal (https://github.com/baal-org/baal).

Where baal is not installed, its documented way is written out: the predictions of the whole pool
are stacked in memory, made probabilities with SciPy, and reduced to one number per image.
"""

import logging
import warnings
from typing import Any

import lightning as L
import numpy as np
import scipy.special
import scipy.stats
import torch
from numpy.typing import NDArray

import alseg
from alseg.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from alseg.regions.simple import WholeImage
from benchmarks.harness import Comparison, compare, table

CLASSES = 11


def main(quick: bool) -> None:
    """Print the table."""
    for name in ("lightning.pytorch", "alseg"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    print(table(entropy(quick)))


class Pictures(torch.utils.data.Dataset[Any]):
    """The pool as baal reads it: normalised images and targets that are not looked at."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images
        self.mean, self.std = (
            torch.tensor(v)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD)
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        image = torch.from_numpy(self.images[index]).permute(2, 0, 1).float() / 255
        return (image - self.mean) / self.std, 0


def written_out(
    network: torch.nn.Module, pictures: Pictures, together: int = 4
) -> NDArray[np.floating[Any]]:
    """What baal does, without it: scores of all images, (N,)."""
    with torch.inference_mode():
        loader = torch.utils.data.DataLoader(pictures, together)
        stacked = np.vstack([network(batch).unsqueeze(-1).numpy() for batch, _ in loader])
    p = scipy.special.softmax(stacked, 1).mean(-1)
    return np.asarray(scipy.stats.entropy(np.swapaxes(p, 0, 1)).mean(axis=(1, 2)))


def by_baal(network: torch.nn.Module, pictures: Pictures) -> NDArray[np.floating[Any]]:
    """What its documentation says: scores of all images, (N,)."""
    import structlog
    from baal.active.heuristics import Entropy
    from baal.modelwrapper import ModelWrapper, TrainingArgs

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    arguments = TrainingArgs(batch_size=4, use_cuda=False, workers=0, replicate_in_memory=False)
    wrapper = ModelWrapper(network, arguments)
    found = wrapper.predict_on_dataset(pictures, iterations=1, verbose=False)
    return np.asarray(Entropy(reduction="mean").get_uncertainties(found))


def entropy(quick: bool) -> list[Comparison]:
    """The mean entropy of every image of a pool, and the images in order."""
    count, size = (6, (48, 64)) if quick else (64, (360, 480))
    rng = np.random.default_rng(0)
    contrast = np.linspace(0.2, 1, count)[:, None, None, None]  # images that differ in entropy
    images = (rng.integers(256, size=(count, *size, 3)) * contrast).astype(np.uint8)
    torch.manual_seed(0)
    model = alseg.Segmentation("LRASPP", "mobilenet_v2", num_classes=CLASSES, score="entropy")
    network = model.network.eval()
    masks = np.zeros((count, *size), np.uint8)
    data = alseg.ArrayImages(images, masks, tuple(f"class {i}" for i in range(CLASSES)))
    pool = alseg.LabelPool.of(data, WholeImage(), alseg.Budget(count, axis="units"))
    loader = alseg.ActiveDataModule(data, pool, batch_size=4)
    pictures = Pictures(images)
    try:
        import baal  # noqa: F401

        name, other = "baal 2.1", by_baal
    except ImportError:
        name, other = "baal's documented way, written out", written_out

    def ours() -> NDArray[np.floating[Any]]:
        loop = alseg.ActiveLoop(pool, answer="mask")
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = L.Trainer(devices=1, accelerator="cpu", callbacks=[loop], **quiet)
        trainer.predict(model, loader, return_predictions=False)
        assert loop.query is not None
        scores = np.empty(count)
        scores[loop.query.image] = loop.query.score
        return scores

    def same_order(expected: NDArray[Any], got: NDArray[Any]) -> str:
        np.testing.assert_allclose(got, expected, rtol=1e-4)
        order = np.argsort(-got, kind="stable")
        assert (np.diff(expected[order]) < 1e-6).all(), "another order of the images"
        return f"scores within {np.abs(expected - got).max():.0e}, order equal but for ties"

    @torch.inference_mode()
    def forwards() -> None:
        for _ in range(count):  # alseg shows them one by one on a CPU
            network(torch.zeros(1, 3, *size))

    task = f"entropy over {count} images of {size[0]}x{size[1]}, {CLASSES} classes"
    ways = {
        f"{name}, batches of 4": lambda: other(network, pictures),
        "the same one by one": lambda: written_out(network, pictures, 1),
    }
    return [
        compare(
            task,
            way,
            run,
            ours,
            same_order,
            1 if quick else 3,
            limit=("forward passes one by one", forwards),
        )
        for way, run in ways.items()
    ]
