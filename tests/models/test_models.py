from __future__ import annotations

import math

import pytest
import torch

from idim import models
from idim.errors import RequestError

GREY = (1, 28, 28)


def size(name: str, input_shape: tuple[int, ...] = GREY, outputs: int = 10) -> int:
    model = models.build(name, input_shape=input_shape, outputs=outputs, seed=0)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "D"),
    [("mlp", 199_210), ("mlp:200,200", 199_210), ("mlp:128", 101_770), ("lenet", 44_426), ("linear", 7_840)],
)
def test_sizes_are_the_published_ones(name: str, D: int) -> None:
    assert size(name) == D


def test_lenet_on_colour_images_is_the_published_size() -> None:
    assert size("lenet", (3, 32, 32)) == 62_006


@pytest.mark.parametrize(
    ("name", "shape"), [("mlp:5", (7,)), ("lenet", (2, 16, 19)), ("linear", (3, 4)), ("mlp", GREY)]
)
def test_rows_in_outputs_out(name: str, shape: tuple[int, ...]) -> None:
    model = models.build(name, input_shape=shape, outputs=4, seed=1)
    outputs = model(torch.ones(3, *shape))
    assert outputs.shape == (3, 4)
    assert torch.isfinite(outputs).all()


@pytest.mark.parametrize("name", ["mlp:300,200", "lenet"])
def test_weights_are_he_normal_and_biases_zero(name: str) -> None:
    for parameter in models.build(name, input_shape=GREY, outputs=10, seed=0).parameters():
        if parameter.ndim == 1:
            assert not parameter.any()
            continue
        fan_in = parameter[0].numel()
        error = 4 / math.sqrt(2 * parameter.numel())  # four standard errors of a sample deviation
        assert parameter.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=error)
        assert abs(parameter.mean().item()) < 4 * math.sqrt(2 / fan_in / parameter.numel())


def test_linear_starts_from_zero() -> None:
    assert not models.build("linear", input_shape=(9,), outputs=1, seed=3)(torch.ones(2, 9)).any()


def test_the_seed_alone_decides() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = models.build("mlp:6", input_shape=(5,), outputs=2, seed=seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.set_default_dtype(torch.float64)
    try:
        in_double = weights(0)
    finally:
        torch.set_default_dtype(torch.float32)
    before = torch.random.get_rng_state()
    assert torch.equal(weights(0), in_double)
    assert in_double.dtype == torch.float32
    assert not torch.equal(weights(0), weights(1))
    assert not torch.equal(weights(0), weights(-1))
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator must not move"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lennet", "unknown model 'lennet'; did you mean 'lenet'"),
        ("mlp:0", "widths from 1 to 999999; received 'mlp:0'"),
        ("mlp:abc", "received 'mlp:abc'"),
        ("mlp:", "received 'mlp:'"),
        ("mlp:10,,10", "received 'mlp:10,,10'"),
        ("mlp:-5", "received 'mlp:-5'"),
        ("mlp:10000000", "received 'mlp:10000000'"),
        ("lenet:5", "model 'lenet' takes no argument; received 'lenet:5'"),
    ],
)
def test_wrong_names_and_arguments(name: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        size(name)


@pytest.mark.parametrize("shape", [(784,), (1, 15, 28), (28, 28)])
def test_lenet_wants_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(RequestError, match=r"model 'lenet' needs images .* received rows of shape"):
        size("lenet", shape)
