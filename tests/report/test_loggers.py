"""Loggers besides the CSV files: refused before any work, and fed by a fit."""

import importlib.util

import lightning as L
import pytest
import torch
from torch import nn

from alseg.core.errors import UserError
from alseg.report import loggers


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_logger_that_is_not_installed_is_refused(name, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda module: None)
    with pytest.raises(UserError, match=rf"logger={name} needs .* pip install .*{name}"):
        loggers.LOGGERS.resolve(name)().check()


class _Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(1, 1)

    def training_step(self, batch):
        loss = self.net(batch).square().mean()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize("own", [False, True])
def test_tensorboard_gets_the_numbers_of_a_fit(own, tmp_path):
    if not any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX"))):
        pytest.skip("TensorBoard is not installed")
    choice = loggers.TensorBoard(tmp_path / "boards" if own else None)
    choice.check()
    root = tmp_path / "run"
    (logger,) = choice.build(root, {"rounds": 2})
    data = torch.utils.data.DataLoader(torch.ones(4, 1))
    trainer = L.Trainer(
        max_epochs=1,
        logger=logger,
        log_every_n_steps=1,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(_Line(), data)
    choice.close()
    folder = tmp_path / "boards" / "run" if own else root / "tensorboard"
    written = b"".join(path.read_bytes() for path in folder.glob("events.out.tfevents.*"))
    assert written.count(b"train_loss") == 4
    assert b"rounds" in written
