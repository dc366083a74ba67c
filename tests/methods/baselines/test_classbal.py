"""Class-balanced doubt: what is not compared with a loop in ``test_baselines.py``."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alseg.core.errors import UserError
from alseg.methods.baselines.uncertainty import ClassBal
from tests.methods.baselines.test_baselines import SHORT, scored


def asked(root, **options):
    """The query of a pass over images of noise, with much contrast between classes."""
    method = ClassBal(**SHORT, **options)
    run, _, _, units = scored(root, method, amount=30.0)
    table = {name: column.numpy() for name, column in units.items()}
    table["label"] = np.arange(len(table["label"])) % 7 % 3  # more of the first
    assert (table["score"] >= 0).all()
    query = method.pick(run.context(1), table)
    return list(zip(query.image.tolist(), query.unit.tolist(), strict=True))


def test_noise_is_on_the_balanced_score(tmp_path):
    plain = asked(tmp_path / "a")
    assert asked(tmp_path / "b", power=1e7) == plain, "next to no noise"
    noisy = asked(tmp_path / "c", power=1.0)
    assert noisy != plain
    assert asked(tmp_path / "d", power=1.0) == noisy


def test_shares_are_those_of_the_whole_pool(tmp_path):
    """Also of images in which nothing is left to ask."""
    run, _, _, _ = scored(tmp_path, ClassBal(**SHORT))
    assert run.method.ask(run.context(1)).images.tolist() == list(range(6))
    part = ClassBal(**SHORT, pool_fraction=0.5)
    drawn = [part.ask(run.context(round)).images.tolist() for round in range(1, 5)]
    assert all(len(images) == 3 and images == sorted(set(images)) for images in drawn)
    assert len({tuple(images) for images in drawn}) > 1


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [1, 0, 0, 0]])
def test_the_rarer_class_is_asked_first(tmp_path, labels):
    run, _, _, _ = scored(tmp_path, method := ClassBal(**SHORT))
    image, unit = np.zeros(4, np.int32), np.arange(4, dtype=np.int32)
    table = {"image": image, "unit": unit, "pixels": unit + 64, "score": np.full(4, 0.5),
             "label": np.array(labels)}  # fmt: skip
    query = method.pick(run.context(1), table)
    assert query.unit[0] == labels.index(1)
    assert query.score.tolist() == pytest.approx([np.exp(-0.25), *[np.exp(-0.75)] * 3])


def test_scores_of_a_smaller_image_are_means_on_its_grid(tmp_path):
    """F1 to F3 of arXiv 2303.16817 on a smaller image, against loops."""
    method = ClassBal(**SHORT, prediction_scale=0.75)
    _, module, batch, units = scored(tmp_path, method)
    images, size = batch["image"], (24, 36)  # of 32 x 48
    small = F.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True)
    with torch.no_grad():
        p = torch.softmax(module.network(small), dim=1)
    best = p.topk(2, dim=1).values
    doubt, guess = best[:, 1] / best[:, 0], p.argmax(1)
    rows, columns = (
        [math.floor(i * (side - 1) / (less - 1) + 0.5) for i in range(less)]
        for side, less in zip((32, 48), size, strict=True)
    )
    position = {int(index): item for item, index in enumerate(batch["index"])}
    assert len(units["unit"]) > 10
    for row in range(len(units["unit"])):
        item, unit = position[int(units["image"][row])], int(units["unit"][row])
        inside = batch["regions"][item][rows][:, columns] == unit
        assert float(units["score"][row]) == pytest.approx(float(doubt[item][inside].mean()), 1e-4)
        found = np.bincount(guess[item][inside].numpy(), minlength=3)
        assert int(units["label"][row]) == found.argmax()
        assert int(units["pixels"][row]) == int((batch["regions"][item] == unit).sum())


def test_a_size_of_nothing_is_refused():
    with pytest.raises(UserError, match="prediction_scale is 0; it must be > 0"):
        ClassBal(prediction_scale=0)
