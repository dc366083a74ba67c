"""What a round has to show: where its clicks went, its clusters, and the pixels it finds hard.

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alseg.active.context import RoundContext
from alseg.core.images import VOID
from alseg.labels.pool import rows_by_image
from alseg.methods.madbal.clustering import SuperpixelClusters

if TYPE_CHECKING:  # torch takes seconds to import
    from alseg.methods.madbal.stages import Support

#: A pixel of no cluster, in maps of clusters; clusters have smaller numbers.
NO_CLUSTER = int(np.iinfo(np.uint16).max)


def void_clicks(context: RoundContext) -> int:
    """Pixels answered up to a round that were void."""
    history = context.pool.history[: context.round + 1]
    labels = [answers.label for answers in history if answers.label is not None]
    return sum(int((label == VOID).sum()) for label in labels)


def clicks_by_cluster(
    context: RoundContext, clusters: SuperpixelClusters | None, num_clusters: int
) -> NDArray[np.int64]:
    """Pixels asked in a round by the cluster of their superpixel.

    Args:
        context: Of the round.
        clusters: None before they are formed; then all counts are 0.
        num_clusters: K.

    Returns:
        (K,), int64. Pixels of no superpixel are not counted.
    """
    if clusters is None:
        return np.zeros(num_clusters, dtype=np.int64)
    answers = context.pool.history[context.round]
    regions = context.pool.maps[context.regions]
    unit = np.zeros(len(answers), dtype=np.int64)
    for image, rows in rows_by_image(answers.image):
        unit[rows] = regions[image].ravel()[answers.unit[rows]]
    inside = unit >= 0
    cluster = clusters.of(answers.image[inside], unit[inside])
    return np.bincount(cluster, minlength=num_clusters).astype(np.int64)


def cluster_map(
    regions: NDArray[np.integer[Any]], image: int, clusters: SuperpixelClusters
) -> NDArray[np.uint16]:
    """The cluster of every pixel.

    Args:
        regions: Superpixels of an image, (H, W), -1 = none.
        image: Its index.
        clusters: Of the pool.

    Returns:
        (H, W), `NO_CLUSTER` where there is no superpixel.
    """
    inside = regions >= 0
    unit = regions[inside].astype(np.int64)
    found = np.full(regions.shape, NO_CLUSTER, dtype=np.uint16)
    found[inside] = clusters.of(np.full_like(unit, image), unit)
    return found


def hardness(support: "Support", image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """How probable the trained detector of a round finds each pixel hard (F20).

    Args:
        support: The finished phase II.
        image: RGB, (H, W, 3), uint8.

    Returns:
        0..1, (H, W): on image edges by the output for edges, elsewhere by that for the inside.
    """
    import torch

    from alseg.active.checkpoints import read_checkpoint
    from alseg.active.module import DESCRIPTION
    from alseg.data.transforms import EvalTransform
    from alseg.methods.madbal.edges import edge_mask

    about = read_checkpoint(support.checkpoint, mmap=True)[DESCRIPTION]["images"]
    normalised, _ = EvalTransform(tuple(about["mean"]), tuple(about["std"]))(image, {})
    network = support.trained().eval().network
    with torch.inference_mode():
        hard = network(normalised[None])[1].hard_logits[0].sigmoid()
        colors = torch.from_numpy(image).permute(2, 0, 1)[None]
        edges = edge_mask(colors, support.method.edges_as_written)[0]
        found: NDArray[np.float32] = torch.where(edges, hard[0], hard[1]).float().numpy()
        return found
