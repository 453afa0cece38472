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
# # Is my update low-rank?
#
# LoRA changes every weight matrix at rank $r$, on the idea that full tuning would not do much else. Whether that
# is so for *my* update can be looked up: take the model before and after, and decompose the difference. Three
# things go wrong when one does that quickly, and this notebook meets all three.

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn

import idim
from idim import methods, tasks

# %% [markdown]
# ## A base and a task
#
# The base learns the digits lying on their side; tuning stands them up.

# %%
task = tasks.load("digits")
upright, labels = task.train.inputs, task.train.targets
lying = upright.transpose(2, 3)


def train(network, images, *, lr, steps):
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=lr)
    draw = torch.Generator().manual_seed(0)
    for _step in range(steps):
        rows = torch.randint(len(labels), (64,), generator=draw)
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimizer.step()
    return network


def score(network):
    return task.score(network.eval()(task.report.inputs), task.report.targets)


# %%
from idim import models

base = models.build("mlp:128,128", input_shape=task.input_shape, outputs=task.outputs, seed=0)
train(base, lying, lr=2e-3, steps=400)
print(f"base, on digits that stand: {score(base):.3f}")

# %% [markdown]
# ## Three ways to tune it

# %%
import copy

full = train(copy.deepcopy(base), upright, lr=1e-3, steps=300)

attached = methods.attach(methods.parse("lora:rank=4"), copy.deepcopy(base), methods.Setting(seed=0, steps=300))
train(attached.module, upright, lr=5e-3, steps=300)
lora = attached.merge()

space = train(idim.Subspace(base, d=500, seed=0), upright, lr=1.2 / 500**0.5, steps=300)
subspace = space.merged()

tuned = {"full tuning": full, "LoRA, rank 4": lora, "subspace, d = 500": subspace}
for name, network in tuned.items():
    print(f"{name:<18} {score(network):.3f}")

# %% [markdown]
# ## The rank of what changed
#
# `spectrum` pairs the tensors by name, decomposes each change and judges it against two things: what rounding to
# the stored format could have made, and what a change of the same size without any structure would show.

# %%
reports = {name: idim.spectrum(base, network, quiet=True) for name, network in tuned.items()}
for name, report in reports.items():
    row = report.to_frame().iloc[1]
    ranks = f"rank {row['rank']:>3}, effective rank {row['effective_rank']:5.1f} of {min(row['shape'])}"
    print(f"{name:<18} {row['verdict']:<10} {ranks}")

# %% [markdown]
# **First trap: "the rank" is not one number.** Full tuning has full rank in the plain sense: no matrix of lower
# rank equals the change. But its effective rank is a fraction of that, for most of its energy lies in few
# directions. The subspace's change is also of full rank, with an effective rank as high as noise has: it is 500
# numbers, spread over everything. Few numbers and few directions are different things.

# %%
reports["full tuning"]

# %% [markdown]
# ## Do the small directions matter?
#
# Keep the $r$ leading directions of each matrix's change, drop the rest, train nothing:


# %%
def truncated(network, r):
    cut = copy.deepcopy(network)
    with torch.no_grad():
        for name, weight in cut.named_parameters():
            if weight.ndim == 2:
                before = base.get_parameter(name)
                u, s, vt = torch.linalg.svd(weight - before, full_matrices=False)
                weight.copy_(before + (u[:, :r] * s[:r]) @ vt[:r])
    return cut


ranks = [0, 1, 2, 4, 8, 16, 32, 64]
curves = {name: [score(truncated(network, r)) for r in ranks] for name, network in tuned.items()}

# %%
figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
for name, scores in curves.items():
    axes.plot(range(len(ranks)), scores, "o-", label=name)
axes.set_xticks(range(len(ranks)), ranks)
axes.set_xlabel("directions kept of each change")
axes.set_ylabel(f"{task.metric}, report split")
axes.set_title("How many directions does the update need?")
axes.legend()
plt.close(figure)
figure

# %% [markdown]
# Eight directions of each matrix bring nearly all of what full tuning brought, although it has changed every one
# of them. The subspace's change cannot be cut: half of its directions are not enough.
#
# ## Second trap: the stored format
#
# The same LoRA update, of rank 4 exactly, made to a base in bfloat16 and stored in bfloat16. And smaller ones,
# down to a thousandth of it: updates of large models are often that small beside the weights.

# %%
start = {name: p.detach().bfloat16() for name, p in base.named_parameters()}
update = {name: (p - base.get_parameter(name)).detach() for name, p in lora.named_parameters()}
for share in (1.0, 0.1, 0.01, 0.001):
    stored = {name: (start[name].float() + share * update[name]).bfloat16() for name in start}
    matrix = idim.spectrum(start, stored, quiet=True).matrices[1]
    naive = torch.linalg.matrix_rank(stored[matrix.name].float() - start[matrix.name].float()).item()
    print(f"{share:>5} of the update: matrix_rank says {naive}; {matrix.verdict}, rank {matrix.rank}")
    print(f"      {matrix.why}\n")

# %% [markdown]
# Rounding is noise, noise has full rank, and a rank by `matrix_rank` counts it. The verdict knows the grid that
# the numbers lie on, and finds the four directions as long as they can be told from rounding. Where they cannot,
# it says *undetermined*, and no number.
#
# ## Third trap: chance
#
# A matrix of independent numbers has large singular values too. How many directions stand out of what the same
# change would show with its signs shuffled?

# %%
for name, report in reports.items():
    matrix = report.matrices[1]
    print(f"{name:<18} {matrix.null.above:>3} directions above the null, of {min(matrix.shape)}")

# %% [markdown]
# For the subspace none: it has no preferred directions, which is why it can reach its score and leave nothing to
# see in the spectrum. For the others a few. The count is a careful one: large directions raise the level that all
# are compared with, so not even all four of LoRA's are counted, whose rank is certain for another reason: nothing
# else is there.
