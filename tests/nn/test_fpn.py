"""The feature pyramid on a dilated encoder."""

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F

from alseg.nn.segmenter import build_segmenter


def test_undilated_it_is_that_of_the_library():
    torch.manual_seed(0)
    theirs = smp.FPN("resnet18", encoder_weights=None, classes=3).eval()
    ours = build_segmenter(
        "DilatedFPN", "resnet18", None, 3, options={"encoder_output_stride": 32}
    ).eval()
    ours.encoder.load_state_dict(theirs.encoder.state_dict())
    ours.decoder.load_state_dict(theirs.decoder.state_dict())
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        wanted = theirs.decoder(theirs.encoder(images))
        assert wanted.std() > 0.01
        assert torch.equal(ours.decoder(ours.encoder(images)), wanted)


def slow_decoder(decoder, features):
    """Level by level: the coarser is added to the next finer one, enlarged if that is larger."""
    c2, c3, c4, c5 = features[-4:]
    p5 = decoder.p5(c5)
    p4 = p5 + decoder.p4.skip_conv(c4)
    p3 = p4 + decoder.p3.skip_conv(c3)
    p2 = p3.repeat_interleave(2, 2).repeat_interleave(2, 3) + decoder.p2.skip_conv(c2)
    joined = 0
    for block, level in zip(decoder.seg_blocks, (p5, p4, p3, p2), strict=True):
        (one,) = block.block
        level = one.block(level)
        if level.shape[-2:] != p2.shape[-2:]:
            level = F.interpolate(level, scale_factor=2.0, mode="bilinear", align_corners=True)
        joined = joined + level
    return joined


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18"])
def test_dilated_to_a_stride_of_eight(encoder):
    torch.manual_seed(0)
    network = build_segmenter("DilatedFPN", encoder, None, 5).eval()
    images = torch.rand(1, 3, 40, 64)
    with torch.no_grad():
        features = network.encoder(images)
        assert [f.shape[-1] for f in features[-4:]] == [16, 8, 8, 8]
        wanted = slow_decoder(network.decoder, features)
        torch.testing.assert_close(network.decoder(features), wanted)
        assert network(images[..., :37, :61]).shape == (1, 5, 37, 61)
    assert network.multiple == 8
