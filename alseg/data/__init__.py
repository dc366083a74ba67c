"""Data sets, transforms, and the one LightningDataModule."""
