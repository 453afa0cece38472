"""AdaLoRA: the form of its change, its penalty, and the budget of directions."""

from __future__ import annotations

import pytest
import torch
from method_cases import NETS, Net, answer, train
from torch import Tensor

from idim import methods
from idim.errors import RequestError
from idim.methods import Setting
from idim.methods.adalora import Allocated
from idim.methods.peft_layers import ADAPTER

BERT, RESNET = NETS["bert"], NETS["resnet"]
LAYERS = 12
STEPS = 20


def attach(name: str, net: Net = BERT, *, steps: int = STEPS) -> Allocated:
    attached = methods.attach(methods.parse(name), net.make(), Setting(seed=3, steps=steps))
    assert isinstance(attached, Allocated)
    return attached


def triplets(attached: Allocated) -> list[tuple[Tensor, Tensor, Tensor]]:
    layers = [attached.layer(place) for place in attached.places]
    return [tuple(part[ADAPTER].detach() for part in (x.lora_A, x.lora_B, x.lora_E)) for x in layers]  # type: ignore[misc]


def budgets(attached: Allocated, *, lr: float = 0.02, steps: int = STEPS) -> list[int]:
    """Train; return how many directions there are after every step."""
    found: list[int] = []
    after = attached.after_step

    def count(step: int) -> None:
        after(step)
        found.append(sum(attached.ranks().values()))

    attached.after_step = count  # type: ignore[method-assign]
    train(attached, BERT, lr=lr, steps=steps)
    return found


@pytest.mark.parametrize("net", [BERT, RESNET], ids=lambda net: net.name)
def test_the_change_is_a_scaled_triplet(net: Net) -> None:
    attached = attach("adalora:rank=2,begin=4,alpha=6", net, steps=3)
    base = {place.name: place.weight.detach().clone() for place in attached.places}
    train(attached, net, lr=0.02)
    wanted = [6 / 4 * b @ e.flatten().diag() @ a for a, b, e in triplets(attached)]
    merged = dict(attached.merge().named_parameters())
    for place, change in zip(attached.places, wanted, strict=True):
        delta = merged[f"{place.name}.weight"] - base[place.name]
        torch.testing.assert_close(delta.flatten(1), change, rtol=1e-4, atol=1e-6)


def test_the_budget_falls_with_the_cube_of_the_time_left_and_stays() -> None:
    attached = attach("adalora:rank=2,begin=6,warmup=0.1,settled=0.5")
    found = budgets(attached)
    first, last, begin, end = 2, STEPS - 10, 6 * LAYERS, 2 * LAYERS
    for step, directions in enumerate(found, 1):
        left = 1 - min(max(step - first, 0), last - first) / (last - first)
        assert directions == int((begin - end) * left**3 + end), step
    assert len(set(attached.ranks().values())) > 1, "layers differ in what they keep"
    assert sum(attached.ranks().values()) == 2 * LAYERS


def test_what_is_stored_is_the_directions_that_are_left() -> None:
    attached = attach("adalora:rank=1,begin=3")
    budgets(attached)
    kept = attached.stored()
    sides = {place.name: sum(place.weight.shape) + 1 for place in attached.places}
    assert sum(t.numel() for t in kept.values()) == sum(r * sides[name] for name, r in attached.ranks().items())
    other = attach("adalora:rank=1,begin=3")
    other.restore(kept)
    assert other.ranks() == attached.ranks()
    for one, again in zip(triplets(attached), triplets(other), strict=True):
        products = [b @ e.flatten().diag() @ a for a, b, e in (one, again)]
        torch.testing.assert_close(*products, rtol=1e-5, atol=1e-7)


def test_what_does_not_fit_is_not_restored() -> None:
    attached = attach("adalora:rank=1,begin=3")
    kept = attached.stored()
    name = next(iter(kept))
    with pytest.raises(RequestError, match="of the same layers; see"):
        attached.restore({n: t for n, t in kept.items() if n != name})
    with pytest.raises(RequestError, match="at most 3 directions of 32 inputs and 32 outputs; received 0"):
        attached.restore(kept | {name: torch.zeros(1, 5)})


def test_the_penalty_is_the_mean_distance_from_orthonormal() -> None:
    attached = attach("adalora:rank=2,begin=4,orthogonality=0.3")
    distances = []
    for a, b, _ in triplets(attached):
        distances += [(a @ a.T - torch.eye(4)).norm(), (b.T @ b - torch.eye(4)).norm()]
    penalty = attached.penalty()
    assert penalty.item() == pytest.approx(0.3 * torch.stack(distances).mean().item(), rel=1e-5)
    penalty.backward()
    moved = {n.split(".")[-2] for n, p in attached.fresh.items() if p.grad is not None and p.grad.any()}
    assert moved == {"lora_A", "lora_B"}


def test_the_penalty_makes_directions_orthonormal() -> None:
    def off(gamma: float) -> float:
        attached = attach(f"adalora:rank=2,begin=4,orthogonality={gamma}")
        budgets(attached, lr=0.05)
        return max((a @ a.T - torch.eye(4)).norm().item() for a, _, _ in triplets(attached))

    assert off(100.0) < 0.5 < off(0.0)


def test_directions_that_are_out_stay_out() -> None:
    attached = attach("adalora:rank=1,begin=3,settled=0.5")
    budgets(attached)
    out = {
        place.name: (e == 0).sum().item() for place, (_, _, e) in zip(attached.places, triplets(attached), strict=True)
    }
    assert sum(out.values()) == 2 * LAYERS
    train(attached, BERT, lr=0.02, steps=1)  # its after_step is that of step 1: beyond the schedule comes next
    attached.after_step(STEPS + 1)
    assert sum(attached.ranks().values()) == LAYERS


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_short_trainings_end_well(steps: int) -> None:
    attached = attach("adalora:rank=1,begin=3", steps=steps)
    budgets(attached, steps=steps)
    assert sum(attached.ranks().values()) == (3 if steps == 1 else 1) * LAYERS
    assert torch.isfinite(answer(attached.merge(), BERT)).all()


def test_a_layer_that_a_batch_passes_by_has_no_importance() -> None:
    attached = attach("adalora:rank=1,begin=3")
    silent = next(iter(attached.fresh.values()))
    train(attached, BERT, lr=0.02, steps=1)
    silent.grad = None
    attached.after_step(2)
    assert sum(attached.ranks().values()) > 0
