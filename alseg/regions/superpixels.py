"""Superpixels: regions that follow the edges of the image."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError
from alseg.core.images import ImageSet
from alseg.regions.base import Unit, listed, positive
from alseg.regions.cells import block_labels, grid_of, shrink_image
from alseg.regions.seeds import cell_grid, equalized_hsv, joint_bins, nearest_request, seeds


@dataclass(frozen=True)
class Slic:
    """SLIC: k-means of pixels by colour (CIELAB) and place, with `skimage.segmentation.slic`.

    Regions are connected and numbered without holes. How many there are differs from what was
    asked, often by a fifth: fragments are joined to a neighbour.

    Attributes:
        region_size: Mean region size aimed at, in pixels. Not used with `num_regions`.
        num_regions: Regions aimed at in every image, whatever its size; null = by `region_size`.
        compactness: Weight of place against colour; higher gives squarer regions.
        sigma: Width of the Gaussian the image is smoothed with, in pixels; 0 = none.
    """

    unit: ClassVar[Unit] = "region"

    region_size: int = 256
    num_regions: int | None = None
    compactness: float = 10.0
    sigma: float = 1.0

    def __post_init__(self) -> None:
        positive("region_size", self.region_size)
        positive("num_regions", self.num_regions)
        if self.compactness <= 0 or self.sigma < 0:
            raise UserError(
                f"regions.compactness is {self.compactness} and regions.sigma is {self.sigma}; "
                f"the first must be above 0, the second at least 0."
            )

    def parameters(self) -> dict[str, Any]:
        """See `RegionSource.parameters`."""
        release = ".".join(version("scikit-image").split(".")[:2])  # results changed before
        settings = {"compactness": self.compactness, "sigma": self.sigma, "scikit-image": release}
        return {"name": "slic", **_aim(self.num_regions, self.region_size), **settings}

    def check(self, images: ImageSet) -> None:
        """Any image will do."""

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        """See `RegionSource.__call__`."""
        from skimage.segmentation import slic

        pixels = image.shape[0] * image.shape[1]
        regions = slic(
            image,
            n_segments=self.num_regions or max(1, round(pixels / self.region_size)),
            compactness=self.compactness,
            sigma=self.sigma,
            start_label=0,
        )
        return regions.astype(np.int32)


@dataclass(frozen=True)
class OpenCVSlic(Slic):
    """SLIC by `cv2.ximgproc`: a third of the time and a thirtieth of the memory of `Slic`.

    The image is smoothed and converted to CIELAB; regions are connected, fragments are joined to a
    neighbour, and ids have no holes. It starts from a grid of square cells of
    ``round(sqrt(region_size))`` pixels.

    Attributes:
        region_size: Mean region size aimed at, in pixels. Not used with `num_regions`.
        num_regions: Regions aimed at in every image, whatever its size; null = by `region_size`.
        compactness: Weight of place against colour; higher gives squarer regions.
        sigma: Width of the Gaussian the image is smoothed with, in pixels; 0 = none.
        iterations: Rounds of k-means.
    """

    iterations: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("iterations", self.iterations)

    def parameters(self) -> dict[str, Any]:
        """See `RegionSource.parameters`."""
        settings = {"compactness": self.compactness, "sigma": self.sigma}
        aim = _aim(self.num_regions, self.region_size)
        return {"name": "slic_opencv", **aim, **settings, "iterations": self.iterations}

    def check(self, images: ImageSet) -> None:
        """See `RegionSource.check`.

        Raises:
            UserError: If OpenCV has no SLIC.
        """
        _require_superpixels("SLIC", "createSuperpixelSLIC")

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        """See `RegionSource.__call__`."""
        import cv2

        pixels = image.shape[0] * image.shape[1]
        size = pixels / self.num_regions if self.num_regions else self.region_size
        side = max(1, round(size**0.5))
        if min(image.shape[:2]) < 2 * side:  # OpenCV starts from at least two cells along a side
            return np.zeros(image.shape[:2], dtype=np.int32)
        smooth = cv2.GaussianBlur(image, (0, 0), self.sigma) if self.sigma else image
        colors = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB)
        method = cv2.ximgproc.createSuperpixelSLIC(
            colors, cv2.ximgproc.SLIC, side, float(self.compactness)
        )
        method.iterate(self.iterations)
        method.enforceLabelConnectivity(25)
        return np.asarray(method.getLabels(), dtype=np.int32)


@dataclass(frozen=True)
class Seeds:
    """SEEDS superpixels (`cv2.ximgproc.createSuperpixelSEEDS`), as the superpixel papers use them.

    The image is histogram-equalised over its three channels together and converted to HSV. SEEDS
    starts from a grid of equal cells and moves blocks of pixels between neighbours while that makes
    the colours of each region more alike. A region need not be connected, and ids may have holes.

    **How many regions.** OpenCV rounds the sides of a cell up to multiples of
    ``2 ** (num_levels - 1)`` pixels, so that only some counts exist: with five levels, 675 asked of
    a 480 x 360 image gives 165. With `nearest_count`, whichever request gives the count nearest to
    the aim is made (here 706, which gives 660); without, the aim itself is asked, as the papers
    do. Either way the count obtained differs from the aim; `RegionMaps.num_regions` tells it.

    **Colours.** SEEDS expects channels in 0..1 but, as in the papers, hue is in degrees: all hues
    but the first 0.9 degrees share one bin of the histogram, so saturation and value decide.
    Dividing hue by 360 changed the achievable accuracy on street scenes by less than 0.7 points,
    upwards for large regions and downwards for small ones.

    **Memory.** OpenCV keeps a dense histogram for each block of every level: 11 GB at 1024 x 2048
    with 8192 regions and five levels. Here bins that no pixel falls into are left out, which gives
    the same regions; what is left grows with the colours of the image, 11 MB for each bin in use.
    Photographs of CamVid use 120 to 290 of the 1000 bins (1.3 to 3.1 GB), noise 349 (4.1 GB). Four
    levels take a quarter and allow labels as good: at that size, an oracle mIoU of 90.2 % either
    way on CamVid, see ``experiments/README.md``. Each extracting process needs that much.

    Attributes:
        region_size: Mean region size aimed at, in pixels. Not used with `num_regions`.
        num_regions: Regions aimed at in every image, whatever its size; null = by `region_size`.
        nearest_count: Ask for whatever gives the count nearest to the aim.
        num_levels: Levels of the block hierarchy, at least 2; the smallest blocks have sides of
            about ``1 / 2 ** (num_levels - 1)`` of a cell. OpenCV takes fewer where blocks would be
            smaller than a pixel.
        prior: Smoothing of borders, 0 to 5.
        histogram_bins: Histogram bins per channel.
        double_step: Run every step twice.
        iterations: Iterations on single pixels at the end.
        shrink: Cut the image at one over this many times its size, and enlarge the map: borders
            then follow cells of so many pixels. Sizes and counts are those at the small size.
    """

    unit: ClassVar[Unit] = "region"

    region_size: int = 256
    num_regions: int | None = None
    nearest_count: bool = True
    num_levels: int = 4
    prior: int = 3
    histogram_bins: int = 10
    double_step: bool = True
    iterations: int = 10
    shrink: int = 1

    def __post_init__(self) -> None:
        positive("region_size", self.region_size)
        positive("num_regions", self.num_regions)
        positive("iterations", self.iterations)
        positive("shrink", self.shrink)
        bounds = {"num_levels": (2, 10), "prior": (0, 5), "histogram_bins": (2, 64)}
        for field, (low, high) in bounds.items():
            if not low <= getattr(self, field) <= high:
                raise UserError(
                    f"regions.{field} is {getattr(self, field)}; it must lie in {low}..{high}."
                )

    def parameters(self) -> dict[str, Any]:
        """See `RegionSource.parameters`. OpenCV 4.5, 4.10 and 5.0 give the same regions."""
        shrunk = {"shrink": self.shrink} if self.shrink > 1 else {}
        return {
            "name": "seeds",
            **shrunk,
            **_aim(self.num_regions, self.region_size),
            "nearest_count": self.nearest_count,
            "num_levels": self.num_levels,
            "prior": self.prior,
            "histogram_bins": self.histogram_bins,
            "double_step": self.double_step,
            "iterations": self.iterations,
        }

    def request(self, height: int, width: int) -> int:
        """How many superpixels OpenCV is asked for in an image of this size."""
        aim = self.num_regions or max(1, height * width // self.region_size)
        return nearest_request(height, width, aim, self.num_levels) if self.nearest_count else aim

    def check(self, images: ImageSet) -> None:
        """See `RegionSource.check`.

        Raises:
            UserError: If OpenCV has no SEEDS, or images are too small for the regions aimed at.
        """
        _require_superpixels("SEEDS", "createSuperpixelSEEDS")
        bad: dict[tuple[int, int], list[str]] = {}
        good = set()
        for index, name in enumerate(images.names):
            size = grid_of(*images.size(index), self.shrink)
            if size in bad:
                bad[size].append(name)
            elif size not in good:
                if cell_grid(*size, self.request(*size), self.num_levels) is None:
                    bad[size] = [name]
                else:
                    good.add(size)
        if bad:
            names = [f"{name} ({h} x {w})" for (h, w), of in bad.items() for name in of]
            aim = _aim(self.num_regions, self.region_size)
            raise UserError(
                f"{len(names)} of {len(images)} images cannot be cut into SEEDS superpixels with "
                f"{' and '.join(f'{k}={v}' for k, v in aim.items())}, because a cell would be "
                f"smaller than two pixels or larger than the image; give another size or count, or "
                f"use regions=slic: {listed(names)}."
            )

    def __call__(self, image: NDArray[np.uint8], name: str) -> NDArray[np.int32]:
        """See `RegionSource.__call__`."""
        height, width = image.shape[:2]
        image = shrink_image(image, grid_of(height, width, self.shrink))
        bins, num_bins = joint_bins(equalized_hsv(image), self.histogram_bins)
        regions = seeds(
            bins,
            num_bins,
            self.request(*image.shape[:2]),
            num_levels=self.num_levels,
            prior=self.prior,
            double_step=self.double_step,
            iterations=self.iterations,
        )
        return block_labels(regions, self.shrink)[:height, :width]


@dataclass(frozen=True)
class PublishedSeeds(Seeds):
    """`Seeds` with the settings of the superpixel papers: their regions, pixel by pixel.

    These are the superpixels of arXiv 2309.09319 (2048 per image on Cityscapes; 32 x 32 px on VOC),
    2303.16817 (8192 on Cityscapes) and MADBAL (256 px, ``shrink=4`` on Cityscapes). They take 1 to
    4 GB per process at 1024 x 2048 with 8192 regions, by the colours of the image; `Seeds` allows
    labels as good in a quarter of that, and is to be preferred where the papers' own regions are
    not what is studied. Maps equal those of `Seeds` with the same options, in the cache too.
    """

    nearest_count: bool = False
    num_levels: int = 5


def _aim(num_regions: int | None, region_size: int) -> dict[str, int]:
    if num_regions is None:
        return {"region_size": region_size}
    return {"num_regions": num_regions}


def _require_superpixels(what: str, function: str) -> None:
    try:
        import cv2

        found = f"OpenCV {getattr(cv2, '__version__', 'in parts')} is installed without it"
        if hasattr(getattr(cv2, "ximgproc", None), function):
            return
    except ImportError as error:
        found = f"OpenCV cannot be imported ({error})"
    raise UserError(
        f"{what} superpixels need cv2.ximgproc, but {found}, often because another OpenCV package "
        f"has overwritten the contrib build; mend it with: "
        f"pip install --force-reinstall --no-deps opencv-contrib-python-headless"
    )
