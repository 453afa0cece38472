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
# # What does a training prove?
#
# A network of few numbers can be written in few bits, and what can be written in few bits can hardly fit many rows by
# accident. This notebook turns that into a number: an upper bound on the probability of a wrong answer on rows that
# nobody has seen, from the training rows alone. The mathematics is in `docs/bounds.md`.
#
# ## Runs in a subspace
#
# Four trainings on the 1,078 training rows of the digits, each through another number of coordinates.

# %%
import idim
from idim import tasks
from idim.runs import RunSpec, Serial, Store

task = tasks.load("digits")
specs = [
    RunSpec(
        task=task.name,
        fingerprint=task.fingerprint,
        model="mlp:32",
        method="subspace",
        projection="hadamard",
        d=d,
        lr=2.4 / d**0.5,
        recipe=task.recipe,
        seed=0,
    )
    for d in (50, 200, 400, 1000)
]
with Store("../idim-out/bounds/store") as store, Serial(store) as engine:
    outcomes = engine.map(specs).values()
[str(outcome) for outcome in outcomes]

# %% [markdown]
# ## Their bounds
#
# Each run is trained again (a store keeps scores, not coordinates), its $z$ is rounded to a few levels and trained on
# there for some steps, and the bits of what comes out are counted: the level of every coordinate, the levels, $d$ and
# the seed.

# %%
report = idim.bound(store="../idim-out/bounds/store", levels="3,5,9", tune=100, out="../idim-out/bounds", quiet=True)
print(report)

# %% [markdown]
# With few coordinates the network errs already on the rows it knows. With many it knows them by heart, and takes many
# bits. The bound is lowest in between. To have looked for the best $d$ costs nothing beyond the few bits that say which
# $d$ it is, as the bound covers all networks at once.

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
report.plot(axes).legend()
plt.close(figure)
figure

# %% [markdown]
# ## What holds, and what would not
#
# The bound is of the network that was written down. It is in a folder, and can be taken out and asked:

# %%
import torch

from idim import models

best = report.best
spec = next(spec for spec in specs if spec.d == best.d)
network = models.build("mlp:32", input_shape=task.input_shape, outputs=task.outputs, seed=0)
space = idim.Subspace.load(f"../idim-out/bounds/coded/{spec.key}", network)
with torch.no_grad():
    wrong = (space(task.report.inputs).argmax(dim=1) != task.report.targets).double().mean().item()
levels, size = space.z.unique().numel(), best.bits.total
print(f"{levels} different numbers among {best.d}; {size:,.0f} bits, {size / 8:,.0f} bytes")
print(f"wrong on {best.tests} rows that were not trained on: {100 * wrong:.1f} %; bound: {100 * best.bounds.kl:.1f} %")
assert wrong <= best.bounds.kl

# %% [markdown]
# The same errors with the numbers of the network as they are, 2,410 of 32 bits, would prove nothing:

# %%
from idim.theory.bounds import bounds

bounds(best.errors.train, m=best.m, bits=32 * best.D, delta=0.05)

# %% [markdown]
# And with fifty times as many rows, about as many as MNIST has, the same network would have a bound of

# %%
f"{100 * bounds(best.errors.train, m=50 * best.m, bits=best.bits.total, delta=0.05).kl:.1f} %"
