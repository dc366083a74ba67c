"""The kernels under Triton's interpreter, which needs no GPU."""

import importlib
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from alseg.acquisition import fused

NAME = "alseg.acquisition.kernels"
#: Modules of the kernels, in the order in which they import each other.
MODULES = [f"{NAME}.{part}" for part in ("pixels", "maps", "sums", "opinions")] + [NAME]


def reloaded():
    """The kernels, built once more: the environment says whether for a GPU."""
    importlib.import_module(NAME)
    for name in MODULES:
        importlib.reload(sys.modules[name])
    return sys.modules[NAME]


@contextmanager
def interpreted_kernels(columns=16):
    """Kernels run on tensors of the CPU, where they are asked for; yields their module.

    They add by Triton's own function, which its interpreter knows as a sum: by any other it adds
    two numbers at a time. Programs are small, so that small images have several, of so many
    columns.
    """
    triton = pytest.importorskip("triton")
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            kernels = reloaded()
            for part in ("sums", "opinions"):
                patch.setattr(f"{NAME}.{part}.plus", triton.language.standard._sum_combine)
            patch.setattr(f"{NAME}.sums._BLOCK", columns)
            patch.setattr(f"{NAME}.sums._ROWS", 4)
            patch.setattr(fused, "_kernels", lambda: kernels)
            yield kernels
    finally:
        reloaded()


@contextmanager
def as_on_a_gpu(*modules):
    """What asks for kernels, in the modules named and wherever scores are computed, has them.

    Yields how often each was run.
    """
    ran = []

    def run(name):
        def call(*args):
            ran.append(name)
            return getattr(kernels, name)(*args)

        return call

    kernels = fused._kernels()
    names = ("score_maps", "score_sums", "committee")
    counted = SimpleNamespace(
        SCALE=kernels.SCALE, BROKEN=kernels.BROKEN, **{name: run(name) for name in names}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "_kernels", lambda: counted)
        for module in (fused, *modules):
            patch.setattr(module, "has_kernel", lambda device, kernel="maps": True)
        yield ran


def no_logits_at_full_size(network, monkeypatch):
    """From here on the network has its own small grid alone to offer."""

    def refuse(*args):
        raise AssertionError("logits were enlarged")

    monkeypatch.setattr(network, "forward", refuse)
    monkeypatch.setattr(network, "enlarge", refuse)


def sharp(network, factor=6.0):
    """The network with a classifier that is sure of some pixels, and of others not."""
    with torch.no_grad():
        network.classifier.conv.weight.mul_(factor)
    return network
