"""SAID with every scale held at 1 is DID: the same trainings, step by step."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from idim import tasks
from idim.runs import RunSpec
from idim.runs.learner import learner, network
from idim.runs.train import alone, fit

d = 40


def spec_of(projection, coordinates, optimizer="adam"):
    task = tasks.load("digits")
    recipe = dataclasses.replace(task.recipe, steps=30, optimizer=optimizer)
    options = {"fingerprint": task.fingerprint, "model": "mlp:32,16", "recipe": recipe, "seed": 5}
    return RunSpec(task="digits", method="subspace", projection=projection, d=coordinates, lr=0.1, **options)


def trained(spec, frozen=0):
    """Return the coordinates after every step, with the last ``frozen`` of them held where they start."""
    task = tasks.load(spec.task)
    with alone(spec.seed):
        module = learner(spec, network(spec, task, None))
        module.z.register_hook(lambda g: torch.cat([g[: len(g) - frozen], torch.zeros(frozen)]))
        path = []
        descent = fit(spec, task, module, after_step=lambda _: path.append(module.z.detach().clone()))
        return torch.stack(path), descent.loss, module


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [("hadamard", "adam"), ("hadamard", "sgd"), ("fastfood", "adam"), ("uniform", "adam"), ("kronecker", "adam")],
)
def test_a_training_with_frozen_scales_is_that_without_them(kind, optimizer):
    scales = 3  # layers of 64 -> 32 -> 16 -> 10
    did, did_loss, did_module = trained(spec_of(kind, d, optimizer))
    said, said_loss, said_module = trained(spec_of(f"layerwise:{kind}", d + scales, optimizer), frozen=scales)
    assert said_module.projection.scales == scales
    assert (said[:, d:] == 1).all()
    assert (did[-1] - did[0]).norm() > 0.1  # it has moved
    torch.testing.assert_close(said[:, :d], did, rtol=1e-4, atol=1e-5)
    assert said_loss == pytest.approx(did_loss, rel=1e-5)
    for name, theta in did_module.merged().state_dict().items():
        torch.testing.assert_close(said_module.merged().state_dict()[name], theta, rtol=1e-4, atol=1e-5)


def test_learned_scales_make_another_training():
    did, _, _ = trained(spec_of("hadamard", d))
    said, _, _ = trained(spec_of("layerwise:hadamard", d + 3))
    assert (said[-1, d:] - 1).abs().max() > 0.01
    assert (said[-1, :d] - did[-1]).abs().max() > 0.01
