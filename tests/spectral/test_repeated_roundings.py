"""Changes rounded at every step: what one rounding cannot explain, and what the stated number of them can."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import normal, pair, product, weights

from idim.errors import RequestError
from idim.spectral.judgement.judge import judge
from idim.spectral.judgement.judging import Judging, question
from idim.spectral.noise.rounding import loss_of
from idim.spectral.pairing.delta import Delta, Factors
from idim.spectral.pairing.pairs import open_pairs
from idim.spectral.request import SpectrumRequest
from idim.spectral.spectrum import spectrum


def walk(shape, moves, *, relative, dtype=torch.float32, base_dtype=None):
    """Return a base moved by every matrix of ``moves`` in turn, rounded to its format after each."""
    base = torch.from_numpy(weights(*shape)).to(base_dtype or dtype)
    size = relative * float(base.double().norm()) / np.linalg.norm(sum(moves))
    now = base.to(dtype)
    for move in moves:
        now = (now.double() + torch.from_numpy(size * move)).to(dtype)
    return Delta(name="layer.weight", shape=shape, matrix=shape, base=base, tuned=now)


def steps_of(shape, rank, count, *, equal=False, seed=0):
    """Return steps within one rank: of its directions in another mixture at each, or the same every time."""
    rng = np.random.default_rng(seed)
    up, down = rng.standard_normal((shape[0], rank)), rng.standard_normal((rank, shape[1]))
    mixtures = [np.eye(rank) + (0 if equal else rng.uniform(-0.5, 0.5, (rank, rank))) for _ in range(count)]
    return [up @ mixture @ down for mixture in mixtures]


def told(why):
    """Return the number of roundings that a sentence names; None where it names none."""
    found = re.search(r"the bulk is like ([\d,]+) roundings of each number", why)
    return None if found is None else int(found[1].replace(",", ""))


@pytest.mark.parametrize("count", [10, 30, 100])
@pytest.mark.parametrize(("shape", "relative"), [((256, 192), 1e-3), ((96, 400), 1e-2)])
def test_steps_that_differ_are_explained_by_their_number(shape, relative, count):
    delta = walk(shape, steps_of(shape, 8, count), relative=relative)
    once, stated = judge(delta), judge(delta, roundings=count)
    assert once.verdict == "full-rank"
    assert told(once.why) == pytest.approx(count, rel=0.1)
    assert (stated.verdict, stated.rank, stated.at_least) == ("low-rank", 8, 8)
    assert stated.noise.model == f"{count} roundings to nearest float32"
    assert stated.noise.share == pytest.approx(once.noise.share * count**0.5)
    assert f"stand above the noise of {count} roundings" in stated.why


def test_half_precision_trained_in_place():
    shape = (256, 192)
    delta = walk(shape, steps_of(shape, 8, 20), relative=0.5, dtype=torch.bfloat16)
    assert judge(delta).verdict == "full-rank"
    assert judge(delta, roundings=20).rank == 8


def test_a_finer_base_is_rounded_at_every_step_too():
    shape = (256, 192)
    delta = walk(shape, steps_of(shape, 8, 20), relative=0.5, dtype=torch.bfloat16, base_dtype=torch.float32)
    found = judge(delta, roundings=20)
    assert (found.verdict, found.rank) == ("low-rank", 8)


@pytest.mark.parametrize("count", [3, 30])
def test_equal_steps_err_alike_and_are_left_open(count):
    """From a number on the grid the same step errs by the same amount: n of them leave n² times the energy of one."""
    shape = (256, 192)
    delta = walk(shape, steps_of(shape, 8, count, equal=True), relative=1e-3)
    once, stated = judge(delta), judge(delta, roundings=count)
    assert once.verdict == "full-rank"
    assert told(once.why) == pytest.approx(count**2, rel=0.1)
    assert f"or {count} that err alike" in once.why
    assert (stated.verdict, stated.at_least) == ("undetermined", 8)
    assert judge(delta, roundings=count**2).rank == 8


@settings(max_examples=40, deadline=None)
@given(
    shape=st.sampled_from([(64, 64), (160, 48), (40, 120)]),
    rank=st.integers(1, 8),
    count=st.integers(2, 60),
    equal=st.booleans(),
    relative=st.sampled_from([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 2**16),
)
def test_a_low_rank_is_never_called_full_with_the_right_number(shape, rank, count, equal, relative, dtype, seed):
    moves = steps_of(shape, rank, count, equal=equal, seed=seed)
    found = judge(walk(shape, moves, relative=relative, dtype=dtype), roundings=count, false_positive_rate=1e-4)
    assert found.verdict != "full-rank", found.why
    assert found.verdict != "low-rank" or found.rank <= rank, found.why


@settings(max_examples=30, deadline=None)
@given(
    relative=st.sampled_from([1e-6, 1e-5, 1e-4, 1e-3, 1e-2]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    count=st.integers(2, 60),
    seed=st.integers(0, 2**16),
)
def test_independent_steps_are_never_called_low_rank(relative, dtype, count, seed):
    moves = [normal(96, 64, seed=seed + i) for i in range(count)]
    found = judge(walk((96, 64), moves, relative=relative, dtype=dtype), roundings=count, false_positive_rate=1e-4)
    assert found.verdict != "low-rank", found.why


def test_a_full_change_stays_full():
    shape = (192, 128)
    decaying = [np.linalg.qr(normal(192, 128, seed=i))[0] * np.arange(1, 129) ** -0.7 @ normal(128, 128, seed=9)
                for i in range(30)]  # fmt: skip
    delta = walk(shape, decaying, relative=1e-2)
    once, stated = judge(delta), judge(delta, roundings=30)
    assert once.verdict == stated.verdict == "full-rank"
    assert 64 < stated.rank <= once.rank
    assert told(once.why) is None


def test_more_roundings_than_there_were_are_refuted():
    shape = (256, 192)
    five = walk(shape, steps_of(shape, 8, 5), relative=1e-3)
    found = judge(five, roundings=1000)
    assert found.verdict == "undetermined"
    assert told(found.why) == 5
    assert judge(five, roundings=8).rank == 8  # within a factor of two the data do not tell
    single = judge(pair(weights(*shape), product(*shape, 8), relative=1e-3), roundings=1000)
    assert (single.verdict, single.rank, single.noise.model) == ("low-rank", 8, "round to nearest float32")


def test_steps_below_the_grid_are_left_open():
    shape = (128, 96)
    found = judge(walk(shape, steps_of(shape, 8, 60), relative=3e-2, dtype=torch.bfloat16), roundings=60)
    assert (found.verdict, found.at_least) == ("undetermined", 1)
    assert "of steps of one 60th of the change" in found.why


@pytest.mark.parametrize(("size", "kept"), [(10.0, 1.0), (0.52, 0.99), (0.26, 0.5), (0.15, 0.02)])
def test_the_part_of_a_step_that_rounding_keeps(size, kept):
    steps = size * normal(200_000)
    drawn = float(np.round(steps) @ steps / (steps @ steps))
    assert loss_of(np.ones(7), size).gain == pytest.approx(drawn, abs=0.01)
    assert drawn == pytest.approx(kept, abs=0.02)


@pytest.mark.parametrize("relative", [1e-4, 1e-2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_rounding_is_the_default(dtype, relative):
    delta = pair(weights(64, 48), product(64, 48, 3), relative=relative, dtype=dtype)
    assert judge(delta, roundings=1).to_json() == judge(delta).to_json()


def test_an_adapter_has_the_rank_of_its_factors_whatever_is_stated():
    factors = Factors(up=torch.from_numpy(normal(40, 4)), down=torch.from_numpy(normal(4, 30, seed=1)), scale=2.0)
    delta = Delta(name="a", shape=(40, 30), matrix=(40, 30), factors=factors)
    assert judge(delta, roundings=500).to_json() == judge(delta).to_json()


@pytest.mark.parametrize("roundings", [0, -3, 10**9 + 1])
def test_the_number_must_be_one(roundings):
    with pytest.raises(RequestError, match=rf"roundings must be .* received {roundings}$"):
        SpectrumRequest(base="a", tuned="b", roundings=roundings)
    if roundings < 1:
        with pytest.raises(RequestError, match=rf"roundings must be 1 or more; received {roundings}$"):
            judge(pair(weights(8, 8), product(8, 8, 1)), roundings=roundings)


def test_the_number_is_part_of_the_question_unless_it_is_one(tmp_path):
    shape = (96, 64)
    delta = walk(shape, steps_of(shape, 2, 30), relative=1e-3)
    base, tuned = {"layer.weight": delta.base}, {"layer.weight": delta.tuned}
    pairs = open_pairs(base, tuned)
    assert "roundings" not in question(pairs, Judging())
    assert question(pairs, Judging(roundings=30)) == {**question(pairs, Judging()), "roundings": 30}
    once, stated = (spectrum(base, tuned, out=tmp_path, quiet=True, roundings=n) for n in (1, 30))
    assert "roundings" not in once.options
    assert stated.options["roundings"] == 30
    assert (once.matrices[0].verdict, stated.matrices[0].verdict, stated.matrices[0].rank) == (
        "full-rank",
        "low-rank",
        2,
    )
