"""Core-set and BADGE where very many are picked: ``python -m benchmarks.picks``, half an hour.

Not part of ``python -m benchmarks`` for its length. There is no obvious way beside it: with one
pass over all features a pick, the sizes below would take days.
"""

import argparse
import time

import numpy as np

from alseg.acquisition.badge import Gradients, badge
from alseg.acquisition.clustering import k_center
from benchmarks.harness import machine


def gradients(units: int, classes: int = 19, dim: int = 256) -> Gradients:
    """Units of a trained network, which is sure of most; float32."""
    rng = np.random.default_rng(0)
    best = rng.integers(classes, size=units)
    logits = rng.normal(size=(units, classes))
    logits[np.arange(units), best] += rng.exponential(6, units)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    of_class = (2 * rng.normal(size=(classes, dim))).astype(np.float32)
    features = rng.standard_normal((units, dim), np.float32)
    features += of_class[best]
    error = (np.eye(classes)[p.argmax(1)] - p).astype(np.float32)
    return Gradients(error, np.maximum(features, 0, out=features))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.picks", description=__doc__)
    parser.add_argument("--units", type=int, default=500_000)
    parser.add_argument("--picks", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    given = parser.parse_args()
    print(machine(), flush=True)
    made = gradients(given.units)
    uniforms = np.random.default_rng(1).random(max(given.picks))
    ids = np.arange(given.units)
    print("| picks | of units | k-center, processor s | BADGE, processor s |")
    print("| ---: | ---: | ---: | ---: |", flush=True)
    for picks in given.picks:
        spent = []
        for pick in (
            lambda n: k_center(made.features, n, ids, progress=False),
            lambda n: badge(made, ids, uniforms[:n], progress=False),
        ):
            since = time.process_time()
            assert len(set(pick(picks).tolist())) == picks
            spent.append(f"{time.process_time() - since:.3g}")
        print(f"| {picks:,} | {given.units:,} | {' | '.join(spent)} |", flush=True)


if __name__ == "__main__":
    main()
