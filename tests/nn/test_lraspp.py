import pytest
import torch
from torch import nn
from torchvision.models.segmentation import lraspp_mobilenet_v3_large

from alseg.core.errors import UserError
from alseg.nn.lraspp import LRASPPDecoder
from alseg.nn.segmenter import LinearClassifier, Segmenter, build_segmenter

LARGE = "tu-mobilenetv3_large_100"


class Backbone(nn.Module):
    """torchvision's backbone with the interface of an encoder."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, images):
        read = self.layers(images)
        return [images, None, None, read["low"], read["high"]]


def randomised(network, seed=0):
    """Batch norms that do something, so that a wrong one shows."""
    torch.manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.7, 1.3)
    return network.eval()


def test_one_classifier_is_the_sum_of_two():
    theirs = randomised(lraspp_mobilenet_v3_large(weights=None, weights_backbone=None))
    head = theirs.classifier
    decoder, classifier = LRASPPDecoder(40, 960, 128), LinearClassifier(168, 21, 1)
    decoder.load_state_dict(head.state_dict(), strict=False)  # all but the classifiers
    with torch.no_grad():
        parts = head.low_classifier, head.high_classifier
        classifier.conv.weight.copy_(torch.cat([part.weight for part in parts], dim=1))
        classifier.conv.bias.copy_(parts[0].bias + parts[1].bias)
        ours = Segmenter(Backbone(theirs.backbone), decoder, classifier, 16).eval()
        for size in ((64, 96), (80, 48)):
            images = torch.randn(2, 3, *size)
            expected = theirs(images)["out"]
            assert expected.std() > 0.01
            torch.testing.assert_close(ours(images), expected, rtol=0, atol=1e-5)


def test_as_many_parameters_as_torchvision_but_for_the_second_bias():
    network = build_segmenter("LRASPP", LARGE, None, 19)
    assert sum(p.numel() for p in network.parameters()) == 3_221_198 - 19


@pytest.mark.parametrize("encoder", ["resnet18", "tu-mobilenetv3_small_100", "mobilenet_v2"])
@pytest.mark.parametrize(("stride", "width"), [(16, 128), (8, 24)])
def test_on_other_encoders(encoder, stride, width):
    options = {"encoder_output_stride": stride, "decoder_channels": width}
    network = build_segmenter("LRASPP", encoder, None, 3, options=options)
    assert network.multiple == stride
    images = torch.randn(1, 3, 3 * stride + 1, 4 * stride)
    scores, features, canvas = network.features(images)  # in train mode, with a single image
    assert canvas == (4 * stride, 4 * stride)
    assert scores.shape[2:] == features.shape[2:] == (stride // 2, stride // 2), "an eighth"
    assert features.shape[1] == network.encoder.out_channels[3] + width
    assert network(images).shape == (1, 3, *images.shape[2:])
    assert network.min_train_images == 1


def test_an_encoder_that_cannot_be_dilated():
    with pytest.raises(UserError, match="LRASPP with tu-swin_tiny_patch4_window7_224 does not"):
        build_segmenter("LRASPP", "tu-swin_tiny_patch4_window7_224", None, 3)
