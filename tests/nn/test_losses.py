import math

import numpy as np
import pytest
import torch

from alseg.core.images import VOID
from alseg.nn.losses import labelled_cross_entropy


def batch(share, dtype=torch.float64):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 4, 5)).astype(np.uint8)
    labels[rng.random(labels.shape) >= share] = VOID
    labels[0] = VOID  # the mean is over the batch, not over images
    scores = torch.from_numpy(rng.normal(0, 3, (2, 3, 4, 5))).to(dtype)
    return scores.requires_grad_(), torch.from_numpy(labels)


def test_against_loops():
    scores, labels = batch(0.7)
    terms = []
    for b, y, x in np.ndindex(*labels.shape):
        if labels[b, y, x] != VOID:
            z = scores[b, :, y, x].tolist()
            terms.append(math.log(sum(map(math.exp, z))) - z[labels[b, y, x]])
    loss = labelled_cross_entropy(scores, labels)
    assert float(loss.detach()) == pytest.approx(sum(terms) / len(terms), rel=1e-12)
    assert torch.autograd.gradcheck(lambda z: labelled_cross_entropy(z, labels), (scores,))


def test_nothing_labelled():
    scores, labels = batch(0.0)
    loss = labelled_cross_entropy(scores, labels)
    loss.backward()
    assert float(loss.detach()) == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_half_precision_is_computed_in_float32():
    scores, labels = batch(0.7, torch.bfloat16)
    loss = labelled_cross_entropy(scores, labels)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(
        float(labelled_cross_entropy(scores.float(), labels).detach())
    )
