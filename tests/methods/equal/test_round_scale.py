"""Patches chosen on smaller images than the final training has."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alseg.active.driver import buy, drive
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.methods.equal.method import Equal
from alseg.methods.equal.module import TwoViews
from tests.methods.equal.runs import METHOD, equal_run, module, normalised, query_of
from tests.methods.equal.test_module import Views

SMALL = replace(METHOD, round_scale=0.75, final_epochs=1)


def halves(images):
    """Means of 2 x 2 pixels."""
    height, width = images.shape[-2:]
    return images.reshape(*images.shape[:2], height // 2, 2, width // 2, 2).mean((3, 5))


def test_a_patch_is_scored_on_half_the_sides():
    torch.manual_seed(0)
    made = module(Views(), scale=0.5, grid=(2, 3)).eval()
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        table = made.predict_step({"image": images, "index": torch.tensor([7, 9])}, 0)["patches"]
        entropy = 0
        for flip in (False, True):
            x = halves(images).flip(-1) if flip else halves(images)
            logs = normalised(made.network(x))
            both = -(np.exp(logs) * logs).sum(axis=1)
            entropy = entropy + (both[..., ::-1] if flip else both)
    wanted = entropy.reshape(2, 2, 4, 3, 4).mean(axis=(2, 4)).ravel()
    assert table["score"].tolist() == pytest.approx(wanted.tolist(), rel=1e-5)
    assert table["image"].tolist() == [7] * 6 + [9] * 6


def test_it_is_evaluated_at_the_size_of_the_truth():
    """A network that sees half the pixels, its scores enlarged; all labelled pixels count."""
    torch.manual_seed(0)
    made = module(Views(), scale=0.5).eval()
    images = torch.randn(1, 3, 8, 12)
    with torch.no_grad():
        scores = made.network(halves(images))[:, :3]
        large = torch.nn.functional.interpolate(scores, size=(8, 12), mode="bilinear")
        truth = large.argmax(1)
        truth[:, 0] = VOID
        made.evaluate({"image": images, "target": truth})
    per_class = made.iou.compute()
    assert per_class[~per_class.isnan()].tolist() == [1.0] * int((~per_class.isnan()).sum())
    assert made.iou.confmat.sum() == 7 * 12


def test_rounds_are_small_and_the_final_training_is_not(tmp_path, monkeypatch):
    seen, loss = [], TwoViews.loss

    def spy(self, batch):
        sizes = (tuple(batch[name].shape[-2:]) for name in ("image", "target"))
        seen.append((self.scale, *sizes))
        assert (batch["target"] != VOID).any()
        return loss(self, batch)

    monkeypatch.setattr(TwoViews, "loss", spy)
    run = equal_run(tmp_path, rounds=2, method=SMALL)
    rows = drive(run)
    assert set(seen) == {(0.75, (24, 36), (24, 36)), (1.0, (32, 48), (32, 48))}
    assert seen[-1][0] == 1.0
    assert rows[-1]["miou"] is not None
    assert len(query_of(tmp_path, 1).image) == 1


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(UserError, match="round_scale is 0"):
        Equal(round_scale=0)
    run = equal_run(tmp_path, method=replace(SMALL, round_scale=0.3))
    with pytest.raises(UserError, match="whole numbers of pixels"):
        run.method.grid(run.context(0))
    whole = equal_run(tmp_path / "whole")
    buy(whole, 0)
    assert whole.method.stages(whole.context(0))[0].fit.augment == {}
