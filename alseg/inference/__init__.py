"""Trained networks put to use: from checkpoints, on images of any size."""
