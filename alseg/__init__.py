"""Active learning for semantic segmentation on PyTorch Lightning.

What stands here is all a notebook needs; each name is imported when it is first used.

>>> import alseg
>>> "MulQuery" in dir(alseg)
True
"""

from importlib import import_module
from typing import Any

from alseg.core.moved import install

__version__ = "0.2.0.dev0"

#: The public names, and the modules they live in.
_HOMES = {
    # images
    "ArrayImages": "alseg.data.arrays",
    "CamVid": "alseg.data.camvid",
    "Cityscapes": "alseg.data.cityscapes",
    "DeepGlobe": "alseg.data.deepglobe",
    "Folder": "alseg.data.folder",
    "Synthetic": "alseg.data.synthetic",
    "UCMerced": "alseg.data.ucmerced",
    "VOC": "alseg.data.voc",
    # units
    "Grid": "alseg.regions.simple",
    "Pixels": "alseg.regions.simple",
    "Seeds": "alseg.regions.superpixels",
    "Slic": "alseg.regions.superpixels",
    "WholeImage": "alseg.regions.simple",
    # what is known, what it costs, who answers
    "Budget": "alseg.labels.budget",
    "HumanOracle": "alseg.labels.oracle",
    "LabelPool": "alseg.labels.pool",
    "SimulatedOracle": "alseg.labels.oracle",
    # training and asking
    "ActiveDataModule": "alseg.data.datamodule",
    "ActiveLoop": "alseg.active.loop",
    "Scored": "alseg.active.one_fit",
    "Segmentation": "alseg.active.segmentation",
    "random_query": "alseg.active.choose",
    # the methods
    "AdaptiveSuperpixel": "alseg.methods.adaptive_superpixel.method",
    "Als4gan": "alseg.methods.als4gan.method",
    "Equal": "alseg.methods.equal.method",
    "Madbal": "alseg.methods.madbal.method",
    "MulQuery": "alseg.methods.mulquery.method",
    # by name, for plugins: REGISTRY.register("name", cls)
    "DATASETS": "alseg.data",
    "METHODS": "alseg.methods",
    "REGIONS": "alseg.regions",
    "SCORES": "alseg.active.scoring",
    # trained networks
    "load_segmenter": "alseg.inference.trained",
    "predict_labels": "alseg.inference.trained",
}

__all__ = ["__version__", "run", *sorted(_HOMES)]

install()


def __getattr__(name: str) -> Any:
    if name == "run":
        return import_module("alseg.run")
    if name not in _HOMES:
        raise AttributeError(f"module 'alseg' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
