import pytest
import torch

from alseg.nn.segmenter import build_segmenter
from alseg.nn.unread import unread_parameters


def without_gradient(network):
    """The same by computing."""
    network(torch.randn(2, 3, 64, 64)).sum().backward()
    return [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize(
    ("architecture", "some"),
    [("PSPNet", True), ("FPN", False), ("LRASPP", False), ("ConfigurableDeepLabV3Plus", False)],
)
def test_unread_parameters_are_those_without_a_gradient(architecture, some):
    network = build_segmenter(architecture, "resnet18", None, 3)
    found = unread_parameters(network)
    assert bool(found) == some
    assert found == without_gradient(network)
    if some:
        assert {name.split(".")[1] for name in found} == {"layer3", "layer4"}


def test_what_does_not_learn_does_not_count():
    network = build_segmenter("PSPNet", "resnet18", None, 3)
    network.encoder.layer3.requires_grad_(False)
    assert {name.split(".")[1] for name in unread_parameters(network)} == {"layer4"}
    assert unread_parameters(network.requires_grad_(False)) == []


def test_nothing_is_touched():
    network = build_segmenter("PSPNet", "resnet18", None, 3, in_channels=4).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        assert unread_parameters(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
