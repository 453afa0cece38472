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
# # Does my model have a low intrinsic dimension?
#
# "Low" compared with what, and measured how? Here is a network of my own, a small convolutional one, on the
# digits of scikit-learn. It goes through the three questions that a bare number leaves open.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import idim

OUT = Path("../idim-out/low_intrinsic_dimension")

# %% [markdown]
# ## My network
#
# A file with a function. It draws all weights from the generator it is given, because a seed means a whole
# replicate: another initialisation, other directions, another order of the data.

# %%
# %%writefile my_network.py
from torch import nn


def build(input_shape, outputs, generator, channels=8):
    net = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * channels, outputs),
    )
    for parameter in net.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
        nn.init.normal_(parameter, std=(2 / fan_in) ** 0.5 if parameter.ndim > 1 else 0.0, generator=generator)
    return net


def wide(input_shape, outputs, generator):
    return build(input_shape, outputs, generator, channels=24)


# %% [markdown]
# ## The measure
#
# A reference first: what does full training reach in the same 100 steps? Then a grid of dimensions, three seeds
# each.

# %%
options = {"task": "digits", "dims": "50,100,150,200,300", "seeds": 3, "reference_seeds": 6, "engine": "serial"}
options |= {"lr": "2.4/sqrt(d)", "reference_lr": 0.01, "steps": 100}
mine = idim.measure(model="my_network.py:build", out=OUT / "mine", **options)
mine

# %% [markdown]
# ## 1. Low compared with D? Then make the network wider
#
# A ratio $d_\text{int}/D$ is easily made small: add parameters. The wider network below has six times as many.

# %%
wider = idim.measure(model="my_network.py:wide", out=OUT / "wide", **options)
for name, result in (("mine", mine), ("wide", wider)):
    print(f"{name}: D = {result.D:>6,}   {result.headline}   d_int/D = {result.d_int / result.D:.1%}")

# %% [markdown]
# The ratio falls with the width although the task is the same. What to compare across networks is $d_\text{int}$
# itself, with its interval.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True, layout="constrained")
mine.plot(left).set_title(f"mine, D = {mine.D:,}")
wider.plot(right).set_title(f"wide, D = {wider.D:,}")
plt.close(figure)
figure

# %% [markdown]
# ## 2. Low for which bar?
#
# The same trainings answer for every bar, because they are kept: only the fit is made again. Nothing below trains
# a subspace twice.

# %%
bars = ("0.8", "0.9", "0.95")
for bar in bars:
    result = idim.measure(model="my_network.py:build", bar=bar, out=OUT / f"bar{bar}", quiet=True, **options)
    print(f"bar {bar} of the reference, score {result.bar['value']:.3f}: {result.headline}")

# %% [markdown]
# The last steps towards the reference are the dear ones. A $d_\text{int}$ without its bar says nothing.
#
# ## 3. Low for how much training?
#
# More steps let a small subspace get further:

# %%
longer = idim.measure(model="my_network.py:build", out=OUT / "longer", **options | {"steps": 300})
print(f"100 steps: {mine.headline}\n300 steps: {longer.headline}")

# %% [markdown]
# The bar moved as well, because full training gets further too. So a statement that can be checked reads like
# this:

# %%
print(mine.definition)

# %%
Path("my_network.py").unlink()
