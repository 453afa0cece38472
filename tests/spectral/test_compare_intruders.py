"""Intruder dimensions: planted ones, the paper's definition, and the count of peft."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from idim.errors import RequestError
from idim.spectral.comparison.compare import against_base
from idim.spectral.comparison.intruders import Intruders, intruders
from idim.spectral.decomposition.directions import of_base, of_matrix
from idim.spectral.pairing.delta import Delta, Factors


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(n: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(normal(n, seed=seed), dim=0)


def count(base: Tensor, tuned: Tensor, **options: Any) -> Intruders:
    return intruders(of_base(base), of_matrix(tuned, options.pop("top", 10)), **options)


@pytest.mark.parametrize("shape", [(80, 60), (60, 80), (70, 70)])
def test_the_paper_s_definition_by_brute_force(shape: tuple[int, int]) -> None:
    base = normal(*shape)
    tuned = base + 30 * torch.outer(unit(shape[0], 1), unit(shape[1], 2)) + 0.3 * normal(*shape, seed=3)
    u, _, v = torch.linalg.svd(base, full_matrices=False)
    ut, _, vt = torch.linalg.svd(tuned, full_matrices=False)
    found = count(base, tuned)
    left, right = (u.T @ ut[:, :10]).abs().max(0).values, (v @ vt[:10].T).abs().max(0).values
    assert found.left.best_cosines == pytest.approx(left.tolist(), abs=1e-9)
    assert found.right.best_cosines == pytest.approx(right.tolist(), abs=1e-9)
    assert found.left.count == int((left < 0.5).sum()) > 0
    assert found.right.count == int((right < 0.5).sum()) > 0


def test_an_intruder_on_the_right_alone() -> None:
    """A strong update that writes to the first output direction of the base, from a new input direction."""
    u, _, v = torch.linalg.svd(normal(80, 80))
    base = u @ torch.linspace(2, 1, 80, dtype=torch.float64).diag() @ v
    tuned = base + 40 * torch.outer(u[:, 0], unit(80, 5))
    found = count(base, tuned, top=1)
    assert (found.left.count, found.right.count) == (0, 1)
    assert found.left.best_cosines[0] > 0.99
    mirrored = count(base.T, tuned.T, top=1)
    assert (mirrored.left.count, mirrored.right.count) == (1, 0)


def test_weights_that_did_not_change_have_none() -> None:
    found = count(normal(50, 40), normal(50, 40))
    assert (found.left.count, found.right.count, found.top) == (0, 0, 10)
    assert min(found.left.best_cosines) > 1 - 1e-9


def test_random_directions_are_intruders_and_chance_says_so() -> None:
    found = count(normal(200, 200), normal(200, 200, seed=1), top=40)
    assert found.left.count == found.right.count == 40
    below = sum(cosine < found.left.chance for cosine in found.left.best_cosines)
    assert below >= 33  # 38 of 40 expected
    assert found.left.chance < 0.5


def test_a_side_of_four_has_none_at_one_half() -> None:
    found = count(normal(4, 4), normal(4, 4, seed=1))
    assert found.top == 4
    assert (found.left.count, found.right.count) == (0, 0)


def test_a_base_of_zeros_knows_no_direction() -> None:
    found = count(torch.zeros(6, 5), normal(6, 5))
    assert (found.left.count, found.right.count) == (5, 5)
    assert found.left.best_cosines == (0.0,) * 5


def test_bad_requests() -> None:
    for threshold in (0.0, 1.5, float("nan")):
        with pytest.raises(RequestError, match=r"threshold must be in \(0, 1\]; received"):
            count(normal(5, 5), normal(5, 5), threshold=threshold)
    with pytest.raises(RequestError, match=r"one shape; received \(5, 4\) and \(4, 5\)"):
        count(normal(5, 4), normal(4, 5))


class Two(nn.Module):
    """Two layers for LoRA, one tall and one wide."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(48, 96), nn.Linear(96, 40)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.mark.parametrize(("top", "threshold"), [(10, 0.5), (24, 0.6), (40, 0.35)])
def test_counts_agree_with_peft(top: int, threshold: float) -> None:
    peft = pytest.importorskip("peft")
    from peft.tuners.lora.intruders import reduce_intruder_dimension

    model = peft.get_peft_model(Two(), peft.LoraConfig(r=6, lora_alpha=24, target_modules=["first", "second"]))
    for seed, (name, parameter) in enumerate(model.named_parameters()):
        with torch.no_grad():
            strength = 0.12 if "lora_B" in name else 1.0 if "lora_A" in name else 0.1
            parameter.copy_(strength * normal(*parameter.shape, seed=seed))
    deltas = {name: lora_delta(name, layer) for name, layer in model.named_modules() if hasattr(layer, "lora_B")}
    said: list[str] = []
    reduce_intruder_dimension(model, top_k=top, threshold_epsilon=threshold, logging_sink=said.append)
    theirs = {m[1]: int(m[2] or 0) for line in said if (m := re.match(r"(\S+): (?:Intruders: (\d+)|No)", line))}
    assert theirs.keys() == deltas.keys()
    assert sum(theirs.values()) > 0
    for name, delta in deltas.items():
        assert against_base(delta, top=top, threshold=threshold).intruders.left.count == theirs[name]


def lora_delta(name: str, layer: Any) -> Delta:
    """Return the change of a layer of peft as factors, before peft adds a second adapter to it."""
    up, down = layer.lora_B["default"].weight, layer.lora_A["default"].weight
    factors = Factors(up=up.detach().clone(), down=down.detach().clone(), scale=layer.scaling["default"])
    weights = layer.get_base_layer().weight.detach().clone()
    return Delta(name=name, shape=tuple(weights.shape), matrix=tuple(weights.shape), base=weights, factors=factors)
