"""Cut images into units: grids, superpixels, maps made by other tools."""

from alseg.core.registry import Registry

#: Region sources by name; see `alseg.regions.base.RegionSource`.
REGIONS = Registry(
    "regions",
    {
        "image": "alseg.regions.simple:WholeImage",
        "pixels": "alseg.regions.simple:Pixels",
        "grid": "alseg.regions.simple:Grid",
        "slic": "alseg.regions.superpixels:Slic",
        "slic_opencv": "alseg.regions.superpixels:OpenCVSlic",
        "seeds": "alseg.regions.superpixels:Seeds",
        "seeds_published": "alseg.regions.superpixels:PublishedSeeds",
        "files": "alseg.regions.files:Files",
        "components": "alseg.regions.components:Components",
    },
)
