from contextlib import nullcontext

import pytest
import torch

from alseg.nn.batches import takes_one_image
from alseg.nn.network import Network


@pytest.mark.parametrize("architecture", ["DeepLabV3Plus", "FPN", "PAN", "PSPNet"])
def test_what_is_foretold_without_computing_is_what_happens(architecture):
    network = Network(architecture, "resnet18", None).build(3).eval()
    for size in ((64, 64), (32, 32)):
        foretold = takes_one_image(network, 3, size)
        assert not network.training
        assert next(network.parameters()).device.type == "cpu"
        probe = Network(architecture, "resnet18", None).build(3).train()
        refused = pytest.raises(ValueError, match="more than 1 value per channel")
        with torch.no_grad(), nullcontext() if foretold else refused:
            probe(torch.zeros(1, 3, *size))
    assert takes_one_image(network, 3, (256, 256)) == (architecture in ("FPN", "PSPNet"))
