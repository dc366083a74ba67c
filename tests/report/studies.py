"""Run folders with known curves, as several seeds of several methods leave them."""

import csv
import json

import numpy as np

TASK = {
    "data": "camvid",
    "regions": "pixels",
    "oracle": "simulated",
    "train": "d1",
    "val": "d2",
    "network.encoder": "resnet18",
    "budget.amount": 10.0,
    "budget.axis": "clicks",
    "budget.prices": {},
    "query": None,
}
CLASSES = ("road", "car", "sign")


def write_trial(folder, method, seed, miou, costs=None, answered=(), ious=None, **identity):
    """One run; ``ious`` are factors of the mIoU, one per class of `CLASSES`."""
    folder.mkdir(parents=True)
    costs = 100.0 * np.arange(1, len(miou) + 1) if costs is None else costs
    named = {"method": method, "seed": seed, **TASK, f"method.{method}_steps": 5}
    named |= {name.replace("__", "."): value for name, value in identity.items()}
    (folder / "run.json").write_text(json.dumps(named))
    (folder / "report.json").write_text(json.dumps({"classes": CLASSES, "answered": answered}))
    with (folder / "rounds.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        header = ["round", "images", "units", "pixels", "clicks", "seconds", "miou"]
        writer.writerow([*header, *(f"iou_{name}" for name in CLASSES)])
        for number, (cost, value) in enumerate(zip(costs, miou, strict=True)):
            spent = [number, 5, cost, cost, cost, 3 * cost]
            each = ["" if value is None else f * value for f in ious or (1.5, 1.0, 0.5)]
            writer.writerow([*spent, "" if value is None else value, *each])
    return folder


def write_study(root, methods, seeds=range(3), full=0.6, **options):
    """Runs of every method, from its curve of seed 0: each seed lies 0.01 above the one before."""
    folders = []
    for name, curve in methods.items():
        for seed in seeds:
            miou = np.array(curve) + 0.01 * seed
            folders.append(write_trial(root / f"{name}_{seed}", name, seed, miou, **options))
    for seed in seeds if full else ():
        path = root / f"supervised_{seed}"
        spend = {"budget__amount": 1e9, "answered": [900, 80, 20]}
        folders.append(write_trial(path, "supervised", seed, [full], [5e4], **spend))
    return folders
