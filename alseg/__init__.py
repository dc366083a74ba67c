"""Active learning for semantic segmentation on PyTorch Lightning."""

from alseg.core.moved import install

__version__ = "0.1.0"

install()
