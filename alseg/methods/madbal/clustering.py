"""Which cluster each superpixel of the pool belongs to (F6).

Formula numbers are those of MADBAL (arXiv 2308.14904) as its reference implementation has them.
Clusters are formed once, when round 1 chooses, and kept in the run folder. What they are worth is
in `alseg.methods.madbal.clusters`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from alseg.active.context import RoundContext
from alseg.core.errors import UserError
from alseg.labels.imagefiles import ImageFiles, write_arrays
from alseg.labels.tables import load_arrays

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SuperpixelClusters:
    """The cluster of every superpixel, one row each, by image and then by id.

    Attributes:
        image: Image index, (n,), int64.
        unit: Superpixel id in its image, (n,), int64.
        cluster: Cluster 0..K-1, (n,), int64.
    """

    image: NDArray[np.int64]
    unit: NDArray[np.int64]
    cluster: NDArray[np.int64]

    @classmethod
    def formed(cls, features: ImageFiles, num_images: int, num_clusters: int, seed: int) -> Self:
        """k-means of all superpixels of the pool, by FAISS.

        Args:
            features: For every image ``unit``, ids of its superpixels, (m,), and ``features``,
                (m, D).
            num_images: Images of the pool.
            num_clusters: K.
            seed: Of the first centres.

        Raises:
            UserError: If there are fewer superpixels than clusters.
        """
        from alseg.acquisition.clustering import kmeans

        files = [features.read(image) for image in range(num_images)]
        image = np.repeat(np.arange(num_images), [len(file["unit"]) for file in files])
        unit = np.concatenate([file["unit"] for file in files])
        vectors = np.concatenate([file["features"] for file in files]).astype(np.float32)
        if len(unit) < num_clusters:
            raise UserError(
                f"method.clusters is {num_clusters}, but the pool has {len(unit)} superpixels; "
                f"give fewer clusters, or smaller superpixels."
            )
        log.info("clustering %d superpixels by %d features", *vectors.shape)
        _, cluster = kmeans(vectors, num_clusters, np.arange(len(unit)), seed)
        return cls(image.astype(np.int64), unit.astype(np.int64), cluster.astype(np.int64))

    @classmethod
    def kept(cls, context: RoundContext) -> Self | None:
        """The clusters of a run, or None before they are formed.

        Raises:
            UserError: If their file is damaged.
        """
        path = clusters_file(context)
        if not path.exists():
            return None
        stored = load_arrays(path)
        image, unit, cluster = (stored[n].astype(np.int64) for n in ("image", "unit", "cluster"))
        return cls(image, unit, cluster)

    def keep(self, context: RoundContext) -> None:
        """Write the clusters to the run folder; the file is there whole or not at all."""
        write_arrays(
            clusters_file(context),
            image=self.image.astype(np.int32),
            unit=self.unit.astype(np.int32),
            cluster=self.cluster.astype(np.uint16),
        )

    def of(
        self, image: NDArray[np.integer[Any]], unit: NDArray[np.integer[Any]]
    ) -> NDArray[np.int64]:
        """Clusters of some superpixels.

        Args:
            image: Image index of each, (n,).
            unit: Its id, (n,).

        Returns:
            (n,), int64.
        """
        width = int(self.unit.max(initial=0)) + 1
        row = np.searchsorted(self.image * width + self.unit, image.astype(np.int64) * width + unit)
        return self.cluster[row]


def clusters_file(context: RoundContext) -> Path:
    """Where a run keeps its clusters."""
    return context.ledger.root / "clusters.npz"


def feature_files(context: RoundContext, weights: str | None, grid: int) -> ImageFiles:
    """Files of the features that superpixels are clustered by, see `SuperpixelClusters.formed`.

    Features that depend on the images alone lie in the cache, where other runs find them; those of
    a network that this run has made or trained lie in its folder.

    Args:
        context: Of any round of the run.
        weights: Of VGG-16, see `alseg.methods.madbal.patches.feature_network`; None where the
            network is this run's own.
        grid: Pixels along a side of a cell.
    """
    if weights is None:
        return ImageFiles(context.ledger.root / "superpixel_features")
    from alseg.methods.madbal.patches import feature_weights_name

    made_of = f"vgg16-{feature_weights_name(weights)}-{context.regions}-grid{grid}"
    images = context.images
    prints = tuple(images.fingerprint(image) for image in range(len(images)))
    return ImageFiles(context.cache / made_of, prints)
