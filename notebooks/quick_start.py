# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quick start
#
# How many numbers does it take to learn to read digits? A network of 784-200-200-10 has 199,210 parameters; the
# one below, for the small digits of scikit-learn, has 2,410. That many numbers are *there*. How many are *needed*
# is another question, and `idim` answers it by training: all parameters move, but only along $d$ random
# directions,
#
# $$\theta = \theta_0 + P z, \qquad z \in \mathbb{R}^d,$$
#
# and the smallest $d$ that still reaches the bar is the intrinsic dimension $d_\text{int}$.

# %%
import idim

# %% [markdown]
# ## One measure
#
# The bar is an accuracy of 0.85. The learning rate is given, so that this notebook is quick; left out, its
# constant is tuned on a split of its own.

# %%
result = idim.measure(
    model="mlp:32", task="digits", bar="absolute:0.85", lr="2.4/sqrt(d)", steps=300, out="../idim-out/quick_start"
)
result

# %% [markdown]
# The points are trainings, each with its own initialisation, its own directions and its own order of the data.
# The search put most of them where they say most about the crossing. The shaded band is the 95 % interval: it
# covers all three sources of chance together.

# %%
share = result.d_int / result.D
print(f"{result.headline}: {100 * share:.0f} % of the {result.D:,} parameters")

# %% [markdown]
# Every training is a row, for whatever you want to look at next:

# %%
result.to_frame().groupby("d").score.agg(["count", "mean", "std"]).round(4)

# %% [markdown]
# ## Is it right?
#
# There are problems whose answer is known. Five independent equations in a thousand unknowns leave a plane of
# solutions, of dimension 995, and a random plane through the starting point meets it from dimension five on:

# %%
known = idim.measure(task="regression:5", dims="4,5,6", lr="1/sqrt(d)", engine="serial", out="../idim-out/known")
print(known.headline)
known.to_frame().groupby("d").score.agg(["count", "mean"])

# %% [markdown]
# With four numbers no training solves the system; with five all of them do. Neither side leaves room for doubt,
# so the interval is a single number.
#
# ## Train a model of your own in a subspace
#
# `Subspace` wraps any torch module. An optimizer sees $d$ numbers; the forward pass is that of the whole network.

# %%
import torch

from idim import tasks

task = tasks.load("digits")
draw = torch.Generator().manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
for weights in model.parameters():
    torch.nn.init.normal_(weights, std=0.15, generator=draw)
space = idim.Subspace(model, projection="hadamard", d=200, seed=0)
print(f"D = {space.D:,}, trained: {sum(p.numel() for p in space.parameters())}")

# %%
optimizer = torch.optim.Adam(space.parameters(), lr=2.4 / space.d**0.5)
for _step in range(300):
    rows = torch.randint(len(task.train), (64,), generator=draw)
    optimizer.zero_grad()
    task.loss(space(task.train.inputs[rows]), task.train.targets[rows]).backward()
    optimizer.step()

plain = space.merged().eval()
print(f"{task.metric} on the report split: {task.score(plain(task.report.inputs), task.report.targets):.3f}")

# %% [markdown]
# `space.save(folder)` keeps z, the recipe of P and a hash of θ₀: a few kilobytes, from which the same network
# comes back.
#
# On: *does my model have a low intrinsic dimension?* and *is my update low-rank?*, beside this notebook.
