"""Rules of the reference implementations of ALS4GAN and S4GAN that the library does not follow.

The golden arrays record them. Equation numbers are those of ALS4GAN (arXiv 2110.07782) and S4GAN
(arXiv 1908.05724) as their reference implementations have them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alseg.core.errors import UserError
from alseg.data.deepglobe import COLORS
from alseg.nn.segmenter import upsample

#: Mean the reference subtracts, of images in [0, 1], RGB, and what it divides by: its images range
#: over about -128..128 (E1). For `alseg.data.transforms`, with zeros at the bottom and the right.
MEAN = (122.67891434 / 255, 116.66876762 / 255, 104.00698793 / 255)
STD = (1 / 255, 1 / 255, 1 / 255)

#: Mean the reference subtracts in evaluation alone, by mistake.
EVALUATION_MEAN = (128 / 255, 128 / 255, 128 / 255)

#: Factors of the reference's random scale, equally likely.
SCALES = tuple((5 + step) / 10 for step in range(12))


def rows_of_names(
    names: Sequence[str], pool: Sequence[str], *, skip_unknown: bool = False
) -> NDArray[np.int64]:
    """Where the chosen images lie in the pool.

    Args:
        names: Chosen images; a name may occur twice.
        pool: Names of all images, each once.
        skip_unknown: Leave out names that are not in the pool, as the reference does silently.

    Returns:
        Positions in `pool`, increasing, each once, int64.

    Raises:
        UserError: For a name that is not in the pool.

    >>> rows_of_names(["c", "a", "c"], ["a", "b", "c"]).tolist()
    [0, 2]
    """
    row = {name: number for number, name in enumerate(pool)}
    if not skip_unknown:
        for name in names:
            if name not in row:
                raise UserError(
                    f"the selection names {name!r}, which is not among the {len(pool)} images of "
                    f"the pool; take it out, or give the list of images it was made for."
                )
    return np.array(sorted({row[name] for name in names if name in row}), dtype=np.int64)


def legacy_order(n: int, seed: int) -> NDArray[np.int64]:
    """Numbers 0..n-1 in the order of NumPy's old generator, which the reference draws by.

    Its random labelled set is the head of this order, and so are the classifier's first images.

    Args:
        n: How many.
        seed: 0..2**32-1.
    """
    return np.random.RandomState(seed).permutation(n)


def released_deepglobe_labels(
    mask: NDArray[np.uint8], size: tuple[int, int] | None = None, *, rgb: bool = False
) -> NDArray[np.uint8]:
    """Labels as the released code of ALS4GAN makes them, for comparison with its numbers only.

    It looks for colours in RGB among pixels in BGR, knows the first five of them, gives everything
    else class 0, and resizes colours by cubic interpolation. In the end urban is class 1;
    rangeland and forest are 2 and 3; agriculture, water, barren, unknown and all blended edges are
    0; and classes 4 and 5 never occur. What `alseg.data.deepglobe` reads is right for all six.

    Args:
        mask: (H, W, 3), uint8, RGB.
        size: Height and width of the result; None keeps the mask's.
        rgb: Look among pixels in RGB, which the code might have meant.

    Returns:
        (h, w), uint8, 0..4, without void.
    """
    pixels = np.ascontiguousarray(mask if rgb else mask[..., ::-1])
    if size is not None:
        pixels = np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    labels = np.zeros(pixels.shape[:2], dtype=np.uint8)
    for label, color in enumerate(list(COLORS.values())[:5]):
        labels[(pixels == color).all(axis=-1)] = label
    return labels


class Metrics(NamedTuple):
    """Shares, 0..1, from the pixels of a whole data set (E26)."""

    accuracy: float  #: Pixels that are right.
    mean_accuracy: float  #: Mean over the classes of the ground truth.
    mean_iou: float  #: Mean over the classes of the ground truth.
    weighted_iou: float  #: The same, weighted by pixels of the ground truth.
    iou: NDArray[np.float64]  #: (C,), NaN for classes absent on both sides.
    s4gan_mean_iou: float  #: S4GAN's: over all C classes, absent ones counting as 0.


def predict(
    logits: Tensor, canvas: tuple[int, int], size: tuple[int, int], *, stretched: bool = False
) -> Tensor:
    """Best class of every pixel of an image that was padded at the bottom and the right (E25).

    Args:
        logits: Of the padded image, (B, C, h, w), on any grid that spans it.
        canvas: Height and width of the padded image.
        size: Height and width of the image.
        stretched: As the reference evaluates UC Merced, where the padded image is shrunk to the
            image's size instead of being cut to it, so that predictions miss their pixels.

    Returns:
        (B, H, W), int64.
    """
    if stretched:
        canvas = size
    full = upsample(logits, canvas, align_corners=True)
    return full[..., : size[0], : size[1]].argmax(dim=1)


def confusion(
    guess: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], num_classes: int
) -> NDArray[np.int64]:
    """Pixels per true class (rows) and predicted class (columns), (C, C).

    Args:
        guess: Predicted classes, any shape.
        truth: True classes, shape of `guess`; pixels outside 0..C-1, void among them, do not count.
        num_classes: C.
    """
    known = (truth >= 0) & (truth < num_classes)
    pairs = truth[known].astype(np.int64) * num_classes + guess[known]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def metrics(counts: NDArray[np.int64]) -> Metrics:
    """The references' numbers from a confusion matrix (E26).

    Args:
        counts: See `confusion`. Several matrices of parts of a data set may be added up.

    Returns:
        Everything NaN but S4GAN's mean if there is no pixel.
    """
    hit, present = counts.diagonal(), counts.sum(axis=1)
    union = present + counts.sum(axis=0) - hit
    with np.errstate(invalid="ignore"):  # 0 / 0: classes that are not there
        iou, accuracy = hit / union, hit / present
        share = present / present.sum()
        right = float(hit.sum() / present.sum())
    there = present > 0
    return Metrics(
        accuracy=right,
        mean_accuracy=float(accuracy[there].mean()) if there.any() else np.nan,
        mean_iou=float(iou[there].mean()) if there.any() else np.nan,
        weighted_iou=float((share[there] * iou[there]).sum()) if there.any() else np.nan,
        iou=iou,
        s4gan_mean_iou=float(iou[hit > 0].sum() / len(counts)),
    )


def background_first(values: Tensor, *, across_images: bool = False) -> Tensor:
    """Class columns moved by one, the last becoming the first.

    Args:
        values: (N, K).
        across_images: As in the reference, which moves the flattened table, so that the first
            column of an image holds the last of the image before.

    >>> background_first(torch.tensor([[1, 2], [3, 4]])).tolist()
    [[2, 1], [4, 3]]
    >>> background_first(torch.tensor([[1, 2], [3, 4]]), across_images=True).tolist()
    [[4, 1], [2, 3]]
    """
    return values.roll(1) if across_images else values.roll(1, dims=1)


def fuse_with_zeros(logits: Tensor, present: Tensor, threshold: float = 0.2) -> Tensor:
    """Segmentation logits with those of absent classes set to 0 (E24).

    Where all others are negative, an absent class wins. The library sets them to -inf, see
    `alseg.methods.als4gan.mlmt.fuse`.

    Args:
        logits: (B, C, H, W).
        present: The teacher's probability of each class in the image, (B, C).
        threshold: Classes below it are absent.
    """
    return logits * ~(present < threshold)[..., None, None]
