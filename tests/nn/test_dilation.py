"""``tu-resnet50.tv_in1k`` is torchvision's dilated ResNet-50, which EquAL and MADBAL take."""

import pytest
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3_resnet50, fcn_resnet50

from alseg.nn.segmenter import build_segmenter

THEIRS = {"FCN": fcn_resnet50, "DeepLabV3": deeplabv3_resnet50}


def settled(network, images):
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(images)
    return network.eval()


@pytest.mark.parametrize("encoder", ["tu-resnet50.tv_in1k", "resnet50"])
def test_the_dilated_encoder_of_torchvision(encoder):
    """That of segmentation-models-pytorch is dilated otherwise, in the first block of a stage."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, 64, 96)
    theirs = settled(fcn_resnet50(weights=None, weights_backbone=None, num_classes=2), images)
    own = build_segmenter("FCN", encoder, None, 2).encoder.eval()
    state = theirs.backbone.state_dict()
    prefix = "model." if encoder.startswith("tu-") else ""
    own.load_state_dict({prefix + name: value for name, value in state.items()}, strict=False)
    with torch.no_grad():
        expected, found = theirs.backbone(images)["out"], own(images)[-1]
    assert expected.std() > 0.1
    assert found.shape == expected.shape
    same = torch.allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert same == (encoder != "resnet50")


@pytest.mark.parametrize("architecture", THEIRS)
def test_the_networks_of_torchvision_layer_by_layer(architecture):
    """Encoder and head take torchvision's weights in their order, and score alike."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 48, 64)
    theirs = settled(
        THEIRS[architecture](weights=None, weights_backbone=None, num_classes=12), images
    )
    own = build_segmenter(architecture, "tu-resnet50.tv_in1k", None, 12).eval()
    pairs = [
        (own.encoder, theirs.backbone.state_dict()),
        (
            nn.ModuleList([own.decoder, own.classifier]),
            {name: v for name, v in theirs.classifier.state_dict().items()},
        ),
    ]
    for module, state in pairs:
        mine = module.state_dict()
        assert [v.shape for v in mine.values()] == [v.shape for v in state.values()]
        module.load_state_dict(dict(zip(mine, state.values(), strict=True)))
    with torch.no_grad():
        expected, found = theirs(images)["out"], own(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
