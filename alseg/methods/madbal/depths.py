"""Where inside a network the auxiliary classifiers read.

The paper's encoders and blocks are those of MADBAL (arXiv 2308.14904) as its reference
implementation has them.
"""

from alseg.core.errors import UserError
from alseg.nn.segmenter import Segmenter
from alseg.nn.taps import stage_channels, stage_taps

#: Names for `alseg.nn.taps.taps`, from the shallowest depth on. The paper's third encoder, the
#: ResNet-50, is not here: its layer1, layer2 and layer3 are stages of the encoder.
DEPTHS: dict[str, tuple[str, str, str]] = {
    # 24, 64 and 96 channels
    "mobilenet_v2": ("encoder.features.3", "encoder.features.7", "encoder.features.11"),
    # 40, 112 and 160 channels: blocks 6, 11 and 14 of torchvision's numbering
    "tu-mobilenetv3_large_100": (
        "encoder.model.blocks.2.2",
        "encoder.model.blocks.4.0",
        "encoder.model.blocks.5.1",
    ),
}

#: Stages of an encoder; the tables above hold for whole encoders only.
_STAGES = 5


def depth_taps(network: Segmenter) -> list[str]:
    """The three depths of a network.

    Those of the paper for its encoders, else the encoder's own stages that are nearest to 1/4, 1/8
    and 1/16 of the image.

    Args:
        network: Built by name, for the paper's depths; else its stages are taken.

    Returns:
        Names for `alseg.nn.taps.taps`, from the shallowest depth on.

    Raises:
        UserError: If the encoder has fewer than three stages.
    """
    encoder, _, _ = str(network.description.get("encoder")).partition(".")  # without timm's tag
    if encoder in DEPTHS and len(stage_channels(network)) > _STAGES:
        return list(DEPTHS[encoder])
    try:
        return stage_taps(network)
    except ValueError as error:
        raise UserError(
            f"the support modules read the encoder at three depths, but {error}; take a deeper "
            f"network (network.architecture, network.encoder, network.options.encoder_depth)."
        ) from error
