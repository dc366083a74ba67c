"""What a network sees in the regions of a batch, against loops over images, regions and cells."""

import lightning as L
import pytest
import torch

from alseg.active.features import BatchUnits, FeatureTap, predicted_labels, region_grid
from alseg.core.errors import UserError
from alseg.nn.segmenter import build_segmenter


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    regions = torch.randint(0, 3, (2, 32, 32), generator=generator) + 1
    regions[0, :20, :9], regions[1, 4:, 4:], regions[0, 30:] = 5, 0, -1
    image = torch.randn(2, 3, 32, 32, generator=generator)
    return {"index": torch.tensor([7, 4]), "image": image, "regions": regions}


class Sees(L.LightningModule):
    def __init__(self, times=1):
        super().__init__()
        torch.manual_seed(0)
        options = {"encoder_depth": 3, "decoder_channels": [8, 8, 8], "decoder_use_norm": False}
        self.network = build_segmenter("Unet", "resnet18", None, 3, False, options).eval()
        self.times = times

    def forward(self, images):
        for _ in range(self.times):
            seen = [self.network(part) for part in images.split(1)]
        return torch.cat(seen)


@pytest.mark.parametrize("highest", [None, 6, 9])
@pytest.mark.parametrize("times", [0, 1, 2])
@torch.no_grad()
def test_what_was_seen_of_a_batch(highest, times):
    module, given = Sees(max(times, 1)), batch()
    tap = FeatureTap(module, highest)
    if times:
        module(given["image"])
    table = tap.table(given)
    tap.close()
    assert not module.network.classifier._forward_hooks
    row = 0
    for position, index in enumerate((7, 4)):
        one = given["image"][position : position + 1]
        logits, features, canvas = module.network.features(one)
        regions = given["regions"][position]
        grid = region_grid(regions, logits.shape[-2:], canvas, module.network.align_corners)
        for unit in sorted(set(regions.flatten().tolist()) - {-1}):
            assert [int(table[name][row]) for name in ("image", "unit")] == [index, unit]
            inside = grid == unit
            votes = torch.bincount(logits[0].argmax(0)[inside], minlength=3)
            assert int(table["label"][row]) == (int(votes.argmax()) if votes.any() else -1)
            mean = features[0][:, inside].mean(1) if inside.any() else torch.zeros(8)
            torch.testing.assert_close(table["features"][row].float(), mean, atol=2e-3, rtol=2e-3)
            row += 1
    assert row == len(table["unit"]) == len(table["features"])


def test_regions_too_thin_for_the_grid_have_no_label():
    regions = torch.zeros(1, 8, 8, dtype=torch.long)
    regions[0, 0, 0] = 1
    units = BatchUnits.of(regions)
    grid = region_grid(units.regions, (2, 2), (8, 8), False)
    assert units.unit.tolist() == [0, 1]
    assert grid.tolist() == [[[0, 0], [0, 0]]]


def test_the_class_that_is_predicted_most():
    given = batch()
    logits = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(3))
    table = predicted_labels(logits, given)
    expected = [
        (index, unit, int(torch.bincount(best[ids == unit], minlength=4).argmax()))
        for index, ids, best in zip((7, 4), given["regions"], logits.argmax(1), strict=True)
        for unit in sorted(set(ids.flatten().tolist()) - {-1})
    ]
    found = zip(*(table[name].tolist() for name in ("image", "unit", "label")), strict=True)
    assert list(found) == expected
    assert all(column.dtype == torch.int32 for column in table.values())


def test_a_module_without_a_network_has_no_features():
    tap = FeatureTap(L.LightningModule())
    with pytest.raises(UserError, match="no alseg network"):
        tap.table(batch())
    tap.close()
