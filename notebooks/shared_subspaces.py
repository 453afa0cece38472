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
# # Shared subspaces
#
# A random subspace knows nothing of the task. One that is found from data does, and needs far fewer coordinates. Two
# questions decide what that is worth: what did *finding* it cost, and does it serve a task that it was *not* found
# from? Three ways of finding one, on digits: the path of one training, the gradients at the start, and networks tuned
# on other tasks.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import idim
from idim.comparison.compare import compare
from idim.learned import learning
from idim.learned.coverage import leave_one_out
from idim.learned.request import TrajectoryRequest
from idim.learned.vectors import Vectors, layout_of, open_model
from idim.runs import Store

OUT = Path("../idim-out/shared_subspaces")
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## 1. The path of one training
#
# A network of 2,410 parameters is trained in full, and 20 checkpoints on the way are kept. Their principal components
# are the *trajectory subspace*:

# %%
request = TrajectoryRequest(task="digits", model="mlp:32", lr=0.01, steps=300, points=20, out=OUT / "trajectory")
found = learning.learn_trajectory(request)
print(found)

# %% [markdown]
# Its leading singular values fall fast: the path is nearly flat in all but a few directions.

# %%
squares = np.square(found.values)
figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.semilogy(range(1, len(squares) + 1), 1 - np.cumsum(squares) / squares.sum() + 1e-16, "o-")
ax.set(xlabel="directions", ylabel="share of the path outside", xticks=range(1, 21, 2), ylim=(1e-5, 1))
plt.close(figure)
figure

# %% [markdown]
# Training the same network again, from the same start, but only along these directions:

# %%
options = {"task": "digits", "model": "mlp:32", "dims": "1,2,5,10", "steps": 300, "bar": "0.9", "engine": "serial"}
rates = {"reference_lr": 0.01, "reference_seeds": 1, "seeds": 1, "quiet": True}
inside = idim.measure(projection=f"basis:{request.out}", lr="0.3", out=OUT / "inside", **options, **rates)
random = idim.measure(projection="hadamard", lr="2.4/sqrt(d)", out=OUT / "random", **options, **rates)
print(f"full training: {inside.reference['mean']:.3f}")
for along, alone in zip(inside.curve, random.curve, strict=True):
    print(f"d = {along.d:>2}:  along the path {along.mean:.3f}   random {alone.mean:.3f}")

# %% [markdown]
# A handful of coordinates does what 2,410 did. It is no free lunch: those directions were found by training all 2,410
# first. What is small is the *path*, once it is known.
#
# ## 2. What do tasks share?
#
# Six tasks of one shape, each with rows of its own: digits as they are, more of them, mirrored, upside-down and
# transposed ones, and ones whose labels are shifted.

# %%
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8)
change = {
    "plain": lambda x, y: (x, y),
    "more": lambda x, y: (x, y),
    "mirrored": lambda x, y: (x[:, :, ::-1], y),
    "upside-down": lambda x, y: (x[:, ::-1], y),
    "transposed": lambda x, y: (x.swapaxes(1, 2), y),
    "relabelled": lambda x, y: (x, (y + 3) % 10),
}
for number, (name, changed) in enumerate(change.items()):
    (OUT / name).mkdir(exist_ok=True)
    rows = changed(images[number :: len(change)], labels[number :: len(change)])
    for split, part in (("train", slice(60, None)), ("t10k", slice(60))):
        for kind, values in zip(("images-idx3", "labels-idx1"), rows, strict=True):
            chosen = np.ascontiguousarray(values[part], dtype=np.uint8)
            header = bytes((0, 0, 8, chosen.ndim)) + np.array(chosen.shape, dtype=">u4").tobytes()
            (OUT / name / f"{split}-{kind}-ubyte").write_bytes(header + chosen.tobytes())
tasks = {name: f"idx:{OUT / name}" for name in change}

# %% [markdown]
# The same network is trained on each from the same start, and each move is set against the others: how much of it
# lies in the directions of the other five?

# %%
shared = {"model": "mlp:32", "lr": 0.01, "steps": 150, "out": OUT / "unused"}
with Store(OUT / "store") as store:
    specs = [learning.training(TrajectoryRequest(task=task, **shared)) for task in tasks.values()]
    files = [learning.checkpoints(store, spec, steps=(), data=None) for spec in specs]
base = open_model(files[0][0])
moves = Vectors([open_model(ends[-1]) for ends in files], base=base, layout=layout_of(base))
coverage = leave_one_out(moves, centred=False)
for name, shares in zip(tasks, coverage.shares, strict=True):
    print(f"{name:>12}: {shares[-1]:.0%} of its move is in the span of the other five")
print(f"{'random':>12}: {coverage.random(5).mean:.1%}")

# %% [markdown]
# Plain digits and more of the same know half of each other, with no row in common. The others share a few percent:
# little, and many times what chance would give.
#
# ## 3. Side by side
#
# `compare` puts kinds of subspace on the same work: score at equal $d$, $d_\text{int}$ at one bar, and what finding
# each cost; the learning rate of each kind is tuned on the selection split. `learn_from` names the tasks behind the
# kind *deltas*; `unseen` ones are trained on in the same subspaces, as they were found for the first task. A task that
# shares rows with it would be refused.

# %%
report = compare(
    task=tasks["plain"],
    model="mlp:32",
    kinds="hadamard,burn-in,trajectory,gradients,deltas",
    dims="2,4,10,30",
    learn_from=",".join(tasks[name] for name in ("mirrored", "upside-down", "transposed", "relabelled")),
    unseen=tasks["more"],
    bar="0.9",
    seeds=1,
    reference_seeds=2,
    reference_lr=0.01,
    steps=150,
    rows=200,
    engine="serial",
    out=OUT / "compare",
    quiet=True,
)
print(report)

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.8), sharey=True, layout="constrained")
for ax, task in zip(axes, report.tasks, strict=True):
    report.plot(ax, task=task)
axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.close(figure)
figure

# %% [markdown]
# ## How to read it
#
# - The *trajectory* wins at every $d$, and goes on winning on more of the same digits: the path is one of the task,
#   not of its rows. It cost a whole training, and 50 checkpoints.
# - *Gradients* at the start cost one look at 200 rows, and at these $d$ are no better than random: where descent
#   begins to go is not where it arrives.
# - *Deltas* come from other tasks alone: four tasks, four directions. They are somewhat better than random ones, as
#   the few percent above would have it. Mirrored digits say little about digits to a network of full layers.
# - Subspaces from data belong to the initial parameters of one seed, so these are single runs, here on 60 test rows.
#   A random subspace of the same $d$ stands beside each: what it reaches is what needed no finding.
