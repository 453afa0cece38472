"""Faults found in other implementations of subspace training, one test each."""

from __future__ import annotations

import io

import pytest
import torch
from safetensors.torch import load, save
from subspace_cases import (
    BatchNormNet,
    TiedAutoencoder,
    explicit,
    generator,
    gradient_by_hand,
    mlp,
    randomised,
    shifted,
)
from torch import Tensor, nn

from idim.errors import RequestError
from idim.subspace import Subspace

IMAGES = torch.randn(6, 1, 8, 8, generator=generator(1))


def test_eval_reaches_batch_norm() -> None:
    space = explicit(randomised(BatchNormNet()))
    space.eval()
    assert not any(m.training for m in space.modules())
    assert torch.equal(space(IMAGES)[:1], space(IMAGES[:1]))
    space.train()
    assert not torch.allclose(space(IMAGES)[:2], space(IMAGES[:2]))


def test_running_statistics_update_in_train_and_rest_in_eval() -> None:
    space, model = explicit(randomised(BatchNormNet())), randomised(BatchNormNet())
    space(IMAGES)
    model(IMAGES)
    mean = dict(space.named_buffers())["model.body.1.running_mean"]
    torch.testing.assert_close(mean, model.body[1].running_mean)
    before = mean.clone()
    space.eval()(IMAGES)
    assert torch.equal(mean, before)


def test_tied_weights_are_one_tensor() -> None:
    model = randomised(TiedAutoencoder())
    space = shifted(explicit(model))
    tokens = torch.randint(0, 11, (4, 3), generator=generator(2))
    assert space.D == sum(p.numel() for p in model.parameters()) == 11 * 6 + 6 * 6 + 6
    reference = space.merged()
    assert reference.out.weight is reference.table.weight
    space(tokens).square().sum().backward()
    reference(tokens).square().sum().backward()
    assert space.z.grad is not None
    torch.testing.assert_close(space.z.grad.double(), gradient_by_hand(space, reference), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("where", ["exclude", "train"])
def test_tied_weights_outside_the_subspace_stay_tied(where: str) -> None:
    space = explicit(randomised(TiedAutoencoder()), **{where: "out.*"})
    assert space.model.out.weight is space.model.table.weight
    state = space.state_dict()
    assert [n for n in state if "weight" in n] == ["model.table.weight"]
    other = explicit(randomised(TiedAutoencoder(), seed=4), **{where: "out.*"})
    other.load_state_dict(load(save(state)))
    tokens = torch.arange(11)[None]
    assert torch.equal(other(tokens), space(tokens))
    assert other.model.out.weight is other.model.table.weight
    merged = space.merged()
    assert merged.out.weight is merged.table.weight


class Sums(nn.Module):
    """Tensors of very different sizes; the answer is the sum of one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small, self.one = (nn.Parameter(torch.zeros(n)) for n in (6000, 70, 1))

    def forward(self, name: str) -> Tensor:
        return getattr(self, name).sum()


@pytest.mark.parametrize("projection", ["hadamard", "uniform", "sparse"])
def test_gradients_of_large_and_small_tensors_have_one_scale(projection: str) -> None:
    """Each tensor contributes Pᵀ g with the rows of the one P, and no factor of its own size."""
    space = Subspace(Sums(), projection=projection, d=50)
    tensors = {"large": slice(0, 6000), "small": slice(6000, 6070), "one": slice(6070, 6071)}
    P = space.projection.to_dense()
    for name, rows in tensors.items():
        (grad,) = torch.autograd.grad(space(name), space.z)
        torch.testing.assert_close(grad.double(), P[rows].sum(0), rtol=1e-4, atol=1e-6)


def test_state_dict_is_complete() -> None:
    space = shifted(explicit(randomised(BatchNormNet()), train="head.*", exclude="body.1.*"))
    space(IMAGES)
    other = explicit(randomised(BatchNormNet(), seed=8), train="head.*", exclude="body.1.*")
    missing = other.load_state_dict(space.state_dict(), strict=True)
    assert missing == ([], [])
    assert torch.equal(other.eval()(IMAGES), space.eval()(IMAGES))


def test_state_dict_survives_torch_save_without_pickled_code() -> None:
    space = shifted(explicit(mlp(4, 3)))
    file = io.BytesIO()
    torch.save(space.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert torch.equal(state["z"], space.z)


def test_state_dict_of_another_projection_is_refused() -> None:
    state = explicit(mlp(4, 3), seed=0).state_dict()
    with pytest.raises(RequestError, match=r"must belong to the projection .*'seed': 1.*; received one of .*'seed': 0"):
        explicit(mlp(4, 3), seed=1).load_state_dict(state)


class Keywords(nn.Module):
    """Answers a dict, takes only keywords and refuses others."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = mlp(4, 2)[0]

    def forward(self, *, inputs: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        return {"logits": scale * self.linear(inputs)}


def test_models_called_by_keyword() -> None:
    model, x = Keywords(), torch.ones(2, 4)
    space = explicit(model)
    assert torch.equal(space(inputs=x, scale=2.0)["logits"], model(inputs=x, scale=2.0)["logits"])
    with pytest.raises(TypeError, match="unexpected keyword"):
        space(other=x)


def test_a_frozen_head_stays_frozen() -> None:
    model = mlp(4, 5, 2)
    model[2].requires_grad_(False)
    space = shifted(explicit(model))
    assert space.layout.names == ("0.weight", "0.bias")
    space(torch.ones(1, 4)).sum().backward()
    merged = space.merged()
    assert torch.equal(merged[2].weight, model[2].weight)
    assert not merged[2].weight.requires_grad
    assert not torch.equal(merged[0].weight, model[0].weight)


def test_every_module_is_a_registered_submodule() -> None:
    model = BatchNormNet()
    space = explicit(model)
    assert {type(m) for m in model.modules()} <= {type(m) for m in space.modules()}
    assert all(b.device.type == "meta" for b in space.to("meta").buffers())
