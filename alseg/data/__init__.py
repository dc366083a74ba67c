"""Data sets, transforms, and the one LightningDataModule."""

from alseg.core.registry import Registry

#: Data sets by name. Each is a frozen dataclass of its options with a method
#: ``splits(progress: bool = True, cache: Path | None = None) -> alseg.core.images.DataSplits``,
#: which checks everything before any long work and raises `alseg.core.errors.UserError`.
DATASETS = Registry(
    "data",
    {
        "camvid": "alseg.data.camvid:CamVid",
        "cityscapes": "alseg.data.cityscapes:Cityscapes",
        "deepglobe": "alseg.data.deepglobe:DeepGlobe",
        "folder": "alseg.data.folder:Folder",
        "synthetic": "alseg.data.synthetic:Synthetic",
        "ucmerced": "alseg.data.ucmerced:UCMerced",
        "voc": "alseg.data.voc:VOC",
    },
)
