"""Weights out of the checkpoints of a run's stages."""

from pathlib import Path

import lightning as L
import torch

from alseg.nn.segmenter import Segmenter


def epochs_done(folder: Path) -> int:
    """Epochs in a stage's last checkpoint, 0 without one."""
    path = folder / "last.ckpt"
    if not path.exists():
        return 0
    return int(torch.load(path, map_location="cpu", mmap=True, weights_only=True)["epoch"]) + 1


def load_weights(module: L.LightningModule, path: Path, part: bool = False) -> None:
    """Load weights into a module.

    Args:
        module: Changed in place.
        path: A checkpoint.
        part: The checkpoint may be of a part of the module; else it must have all its weights.

    Raises:
        RuntimeError: If the checkpoint holds weights the module lacks.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    stray = module.load_state_dict(state, strict=not part).unexpected_keys
    if stray:
        raise RuntimeError(f"{path} holds {stray[0]!r}, which the stage that starts from it lacks")


def load_network(network: Segmenter, path: Path) -> None:
    """Load the weights of the network alone out of a module's checkpoint."""
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "network."
    network.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )
