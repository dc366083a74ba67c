import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassJaccardIndex

from alseg.active import progress
from alseg.active.module import SegmentationModule
from alseg.active.progress import Bar
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.nn.recipe import Recipe
from alseg.nn.schedules import poly_lr
from alseg.nn.segmenter import build_segmenter


class Constant(SegmentationModule):
    """Loss given by the test."""

    value = 1.0

    def loss(self, batch):
        return {"loss": self.network(batch["image"]).mean() * 0 + self.value}


def module(**recipe):
    network = build_segmenter(
        "Unet", "resnet18", None, 4, False, {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}
    )
    made = Constant(network=network, num_classes=3, steps=10, recipe=Recipe(1e-2, **recipe))
    made.log = made.log_dict = lambda *args, **kwargs: None
    return made


def slow_iou(scores, target, num_classes):
    prediction = scores[:, :num_classes].argmax(1).numpy()
    target = target.numpy()
    valid = target != VOID
    ious = []
    for c in range(num_classes):
        p, t = (prediction == c) & valid, (target == c) & valid
        union = (p | t).sum()
        ious.append((p & t).sum() / union if union else np.nan)
    return np.array(ious)


def test_evaluation_is_one_confusion_matrix_over_the_classes_that_occur():
    torch.manual_seed(0)
    made = module().eval()
    target = torch.randint(0, 2, (4, 32, 32))  # class 2 is never true
    target[:, :5] = VOID
    batches = [(torch.randn(2, 3, 32, 32), target[:2]), (torch.randn(2, 3, 32, 32), target[2:])]
    with torch.no_grad():
        for image, truth in batches:
            made.evaluate({"image": image, "target": truth})
        scores = torch.cat([made.network(image) for image, _ in batches])
    expected = slow_iou(scores, target, 3)
    np.testing.assert_allclose(made.iou.compute().numpy(), expected, atol=1e-6)
    house = MulticlassJaccardIndex(3, average="macro", ignore_index=VOID)
    house.update(scores[:, :3].argmax(1), target)
    assert float(made.iou.compute().nanmean()) == pytest.approx(float(house.compute()), abs=1e-6)


def test_the_rate_follows_the_stages_own_steps():
    made = module(floor=1e-4)
    configured = made.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for step in range(13):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx(
            [poly_lr(step, 10, base, floor=1e-4) for base in (1e-2, 1e-1)]
        )
        optimizer.step()
        schedule.step()


def test_a_loss_of_zero_moves_nothing():
    made = module()
    optimizer = made.configure_optimizers()["optimizer"]
    batch = {"image": torch.randn(2, 3, 32, 32)}
    before = [p.clone() for p in made.network.parameters()]
    made.value = 0.0
    made.training_step(batch, 0).backward()
    made.on_before_optimizer_step(optimizer)
    optimizer.step()  # weight decay alone would have moved them
    assert all(torch.equal(a, b) for a, b in zip(before, made.network.parameters(), strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_training(value):
    made = module()
    made.value = value
    with pytest.raises(UserError, match=r"lower the learning rate \(method\.lr"):
        made.training_step({"image": torch.randn(2, 3, 32, 32)}, 0)


def fitted(tmp_path, **settings):
    """A fit of 5 batches: the steps before which terms were logged, and those told to a bar."""
    made, terms, told = module(), [], []
    made.log_dict = lambda values: terms.append(made.global_step)
    made.log = lambda name, value, prog_bar, logger: told.append(made.global_step)
    batch = {"image": torch.randn(2, 3, 32, 32)}
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_model_summary=False, default_root_dir=tmp_path, **settings,
    )  # fmt: skip
    trainer.fit(made, DataLoader([batch] * 5, batch_size=None))
    return terms, told


def test_terms_are_logged_where_they_are_written_and_at_the_end(tmp_path):
    quiet = {"enable_progress_bar": False}
    assert fitted(tmp_path, log_every_n_steps=2, **quiet) == ([1, 3, 4], [])
    assert fitted(tmp_path, log_every_n_steps=50, **quiet) == ([4], [])


def test_a_bar_of_lightning_is_told_every_loss_and_ours_sees_it_itself(tmp_path, capsys):
    assert fitted(tmp_path) == ([4], [0, 1, 2, 3, 4])
    capsys.readouterr()
    assert fitted(tmp_path, callbacks=[Bar("stage")]) == ([4], [])
    said = "".join(capsys.readouterr())
    assert "5/5" in said
    assert "loss=1" in said


def test_a_bar_is_drawn_a_few_times_a_second_and_at_the_end(monkeypatch):
    bar, now = Bar("stage"), [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    drawn = []
    for n in range(1, 11):
        now[0] += 0.03
        drawn.append(bar._should_update(n, 10))
    assert [n for n, is_drawn in enumerate(drawn, 1) if is_drawn] == [1, 5, 9, 10]
