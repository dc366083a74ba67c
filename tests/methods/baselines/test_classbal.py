"""Class-balanced doubt: what is not compared with a loop in ``test_baselines.py``."""

import numpy as np
import pytest

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
