"""Verdicts on changes whose rank is known: planted, independent, sparse, structured by rounding, tiny."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import normal, pair, product, weights

from idim.errors import RequestError
from idim.spectral.judgement.judge import MatrixReport, VectorReport, judge
from idim.spectral.pairing.delta import Delta, Factors

HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.mark.parametrize("rank", [1, 8, 64])
@pytest.mark.parametrize("shape", [(512, 768), (700, 200)])
@pytest.mark.parametrize("relative", [1e-4, 1e-3, 1e-2, 0.3])
def test_a_planted_rank_is_found_in_single_precision(rank, shape, relative):
    found = judge(pair(weights(*shape), product(*shape, rank), relative=relative))
    assert (found.verdict, found.rank, found.at_least) == ("low-rank", rank, rank)
    assert found.measures.numerical_rank == rank
    assert found.relative == pytest.approx(relative, rel=1e-3)
    exact = torch.linalg.svdvals(found_change(found, shape, rank, relative))
    np.testing.assert_allclose(found.singular_values, exact, atol=found.error_bound)


def found_change(found, shape, rank, relative):
    delta = pair(weights(*shape), product(*shape, rank), relative=relative)
    return delta.difference(torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 8, 64])
@pytest.mark.parametrize("size", [2048, 4096])
def test_a_planted_rank_is_found_in_large_matrices(rank, size):
    found = judge(pair(weights(size, size), product(size, size, rank), relative=1e-3))
    assert (found.verdict, found.rank) == ("low-rank", rank)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("relative", [1e-4, 1e-3, 1e-2])
def test_rank_eight_in_half_precision_is_found_or_left_open(dtype, relative):
    found = judge(pair(weights(512, 768), product(512, 768, 8), relative=relative, dtype=HALF[dtype]))
    assert (found.verdict, found.rank) in [("low-rank", 8), ("undetermined", None)]
    if found.noise.share < 0.3:
        assert found.verdict == "low-rank"
    else:
        assert f"{found.noise.share:.3g} of the change" in found.why
    expected = {("bfloat16", 1e-4): 0.98, ("bfloat16", 1e-3): 0.79, ("bfloat16", 1e-2): 0.17}.get((dtype, relative))
    assert expected is None or found.noise.share == pytest.approx(expected, abs=0.02)


def test_directions_that_rounding_makes_of_a_rank_one_change_are_not_counted():
    """Rows and columns of small entries stay still together: a dozen directions above independent noise."""
    found = judge(pair(weights(512, 768), product(512, 768, 1), relative=1e-2, dtype=torch.float16))
    assert found.measures.numerical_rank > 5
    assert (found.verdict, found.rank) == ("low-rank", 1)
    assert (found.null.draws > 0, found.null.rerounded) == (True, 1)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALF)
def test_rank_eight_is_never_missed_between_visible_and_hidden(dtype):
    for seed in range(25):
        relative = 10 ** np.random.default_rng(seed).uniform(-4, -2)
        change = product(512, 768, 8, seed=100 + 2 * seed)
        found = judge(pair(weights(512, 768, seed=seed), change, relative=relative, dtype=HALF[dtype]))
        assert (found.verdict, found.rank) in [("low-rank", 8), ("undetermined", None)], relative


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from([(64, 64), (30, 200), (128, 48), (16, 16), (8, 100), (2, 3)]),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    st.sampled_from(["normal", "heavy", "masked"]),
    st.floats(-5, 0),
    st.integers(0, 10**6),
)
def test_independent_changes_are_not_called_low_rank(shape, dtype, entries, level, seed):
    generator = np.random.default_rng(seed)
    change = generator.standard_t(4, shape) if entries == "heavy" else generator.standard_normal(shape)
    if entries == "masked":
        change = change * (generator.random(shape) < 0.5)
    if not change.any() or np.linalg.matrix_rank(change) <= min(shape) / 2:
        return  # a mask of a tiny matrix can leave a low rank
    found = judge(pair(weights(*shape, seed=seed), change, relative=10**level, dtype=dtype))
    assert found.verdict in ("full-rank", "undetermined", "unchanged")
    if dtype == torch.float32 and level > -4:
        assert found.verdict == "full-rank"


@pytest.mark.slow
def test_false_positives_of_independent_changes_are_within_the_stated_rate():
    from benchmarks.spectrum_planted import false_positives

    found = false_positives(500)
    assert found["low_rank"] <= found["rate"] * found["draws"]
    assert sum(found["verdicts"]["float32"].values()) > 100  # every format was drawn


def test_spikes_on_a_bulk_are_full_rank_and_counted():
    bulk = normal(300, 200)
    spikes = product(300, 200, 5, seed=3)
    found = judge(pair(weights(300, 200), bulk + 2 * spikes, relative=1e-3))
    assert (found.verdict, found.rank) == ("full-rank", 200)
    assert found.measures.spikes == found.null.above == 5
    assert found.null.expected == 200


def test_a_bulk_below_the_noise_of_the_directions_is_seen():
    """Rank 8 and independent entries of a tenth of the rounding's size, in bfloat16 from a float32 base."""
    base = weights(600, 400)
    low = product(600, 400, 8) * 1e-4
    clean = judge(pair(base, low, base_dtype=torch.float32, dtype=torch.bfloat16))
    mixed = judge(pair(base, low + 3e-5 * normal(600, 400), base_dtype=torch.float32, dtype=torch.bfloat16))
    assert (clean.verdict, clean.rank) == ("low-rank", 8)
    assert mixed.verdict == "undetermined"


def test_nothing_changed():
    same = judge(pair(weights(30, 20), np.zeros((30, 20))))
    assert (same.verdict, same.rank, same.norm, same.noise.unchanged) == ("unchanged", 0, 0.0, 1.0)
    assert same.singular_values == ()


@pytest.mark.parametrize("dtype", HALF)
def test_a_cast_is_no_change(dtype):
    base = torch.from_numpy(weights(60, 50)).float()
    found = judge(Delta(name="w", shape=(60, 50), matrix=(60, 50), base=base, tuned=base.to(HALF[dtype])))
    assert (found.verdict, found.norm > 0) == ("unchanged", True)
    assert f"rounded to {dtype}" in found.why


def test_a_rounded_base_leaves_a_small_change_open_and_a_precise_one_decided():
    """From a bfloat16 base, rounded from float32: is what differs the base's rounding, or the change?"""
    exact = torch.from_numpy(weights(300, 200)).float()
    rounding = judge(Delta(name="w", shape=(300, 200), matrix=(300, 200), base=exact.bfloat16(), tuned=exact))
    assert rounding.verdict == "undetermined"
    assert "the base to nearest bfloat16" in rounding.noise.model
    low = torch.from_numpy(product(300, 200, 8)).float() * 1e-5
    adapted = exact.bfloat16().float() + low
    found = judge(Delta(name="w", shape=(300, 200), matrix=(300, 200), base=exact.bfloat16(), tuned=adapted))
    assert (found.verdict, found.rank) == ("low-rank", 8)


def test_weights_cast_up_are_judged_by_the_grid_they_lie_on():
    before = torch.from_numpy(weights(512, 768)).bfloat16()
    change = torch.from_numpy(product(512, 768, 8))
    change *= 1e-3 * before.double().norm() / change.norm()
    after = (before.double() + change).float().bfloat16()
    for wide in (before.dtype, torch.float32, torch.float64):
        found = judge(Delta(name="w", shape=(512, 768), matrix=(512, 768), base=before.to(wide), tuned=after.to(wide)))
        assert (found.verdict, found.noise.model) == ("undetermined", "round to nearest bfloat16")


@pytest.mark.parametrize(("rows", "verdict"), [(5, "low-rank"), (90, "low-rank"), (150, "full-rank")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_were_seen(rows, verdict, dtype):
    """An embedding of which some rows changed: that many directions, and the sentence says why."""
    change = np.zeros((1000, 200))
    change[np.random.default_rng(0).permutation(1000)[:rows]] = normal(rows, 200)
    found = judge(pair(weights(1000, 200), 1e-3 * change, dtype=dtype))
    assert (found.verdict, found.rank) == (verdict, rows)
    assert f"only {rows} of 1000 rows changed" in found.why
    assert found.support == (rows, 200)
    turned = judge(pair(weights(200, 1000), 1e-3 * change.T, dtype=dtype))
    assert f"only {rows} of 1000 columns changed" in turned.why
    assert (turned.rank, turned.support) == (rows, (200, rows))


def test_a_mask_of_a_low_rank_change_is_full_rank():
    mask = np.random.default_rng(0).random((300, 200)) < 0.05
    assert judge(pair(weights(300, 200), product(300, 200, 4) * mask, relative=1e-3)).verdict == "full-rank"


def test_a_block_is_low_rank_as_far_as_it_goes():
    change = np.zeros((300, 200))
    change[:100, :50] = normal(100, 50)
    found = judge(pair(weights(300, 200), change, relative=1e-3))
    assert (found.verdict, found.rank) == ("low-rank", 50)


@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (10, 1)])
def test_a_single_row_is_of_full_rank(shape):
    found = judge(pair(weights(*shape), normal(*shape), relative=1e-3))
    assert (found.verdict, found.rank) == ("full-rank", 1)


@pytest.mark.parametrize("shape", [(2, 3), (3, 3), (5, 200), (200, 4)])
def test_small_matrices(shape):
    assert judge(pair(weights(*shape), normal(*shape), relative=1e-3)).verdict == "full-rank"
    found = judge(pair(weights(*shape), product(*shape, 1), relative=1e-3))
    assert (found.verdict, found.rank) == ("low-rank", 1)


def test_a_constant_shift_is_not_called_full_rank():
    """Rounding a constant errs by the same amount in every weight of a binade: structure, but not of the change."""
    for size in (60, 200):
        found = judge(pair(weights(size, size), np.full((size, size), 1e-3)))
        assert found.verdict != "full-rank"
        assert found.at_least == 1


def test_a_change_of_zero_weights_computed_in_single_precision():
    down, up = (torch.from_numpy(normal(*s)).float() for s in ((8, 200), (300, 8)))
    base = torch.zeros(300, 200)
    found = judge(Delta(name="w", shape=(300, 200), matrix=(300, 200), base=base, tuned=up @ down))
    assert (found.verdict, found.rank, found.relative) == ("low-rank", 8, None)
    noise = torch.from_numpy(normal(300, 200)).float()
    assert judge(Delta(name="w", shape=(300, 200), matrix=(300, 200), base=base, tuned=noise)).verdict == "full-rank"


def test_heavy_tailed_weights():
    base = 0.02 * np.random.default_rng(0).standard_t(2, (300, 200))
    found = judge(pair(base, product(300, 200, 8), relative=1e-3))
    assert (found.verdict, found.rank) == ("low-rank", 8)
    assert judge(pair(base, normal(300, 200), relative=1e-3)).verdict == "full-rank"
    coarse = judge(pair(base, product(300, 200, 8), relative=1e-3, dtype=torch.bfloat16))
    assert (coarse.verdict, coarse.rank) in [("low-rank", 8), ("undetermined", None)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float8_e4m3fn, torch.float8_e5m2])
def test_other_formats(dtype):
    low = judge(pair(weights(200, 160), product(200, 160, 4), relative=0.5, dtype=dtype))
    assert (low.verdict, low.rank) in [("low-rank", 4), ("undetermined", None)]
    assert judge(pair(weights(200, 160), normal(200, 160), relative=1.0, dtype=dtype)).verdict == "full-rank"


def test_verdicts_do_not_change_with_the_scale_of_everything():
    base, change = weights(200, 150), product(200, 150, 6)
    reports = [judge(pair(base * 2.0**k, change, relative=1e-2, dtype=torch.bfloat16)) for k in (-20, 0, 20)]
    assert {(r.verdict, r.rank) for r in reports} == {("low-rank", 6)}
    assert len({round(r.noise.share, 9) for r in reports}) == 1


def test_transposed_pairs_get_the_same_verdict():
    delta = pair(weights(150, 90), normal(150, 90) + 3 * product(150, 90, 2), relative=1e-3)
    turned = Delta(name="w", shape=(90, 150), matrix=(90, 150), base=delta.base.T, tuned=delta.tuned.T)
    one, other = judge(delta), judge(turned)
    np.testing.assert_allclose(one.singular_values, other.singular_values, rtol=1e-9)
    assert (one.verdict, one.rank, one.noise.share) == (other.verdict, other.rank, other.noise.share)


def test_reports_go_to_json_and_back():
    low = pair(weights(64, 48), product(64, 48, 3), relative=1e-2, dtype=torch.bfloat16)
    for delta in (low, pair(weights(4, 3), np.zeros((4, 3))), adapter(6, 5, 2)):
        found = judge(delta)
        assert MatrixReport.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    vector = judge(Delta(name="b", shape=(3,), matrix=None, base=torch.ones(3), tuned=torch.tensor([1.0, 3.0, 1.0])))
    assert VectorReport.from_json(json.loads(json.dumps(vector.to_json()))) == vector
    assert (vector.norm, vector.relative, vector.unchanged) == (2.0, pytest.approx(2 / 3**0.5), pytest.approx(2 / 3))


def test_the_same_seed_gives_the_same_report():
    delta = pair(weights(256, 200), product(256, 200, 1), relative=1e-2, dtype=torch.float16)
    assert judge(delta, seed=1) == judge(delta, seed=1)
    assert judge(delta, seed=1).null.draws > 0


def adapter(m, n, r, *, scale=2.0, dtype=torch.float32, base=True):
    up, down = (torch.from_numpy(normal(*s, seed=s[0])).to(dtype) for s in ((m, r), (r, n)))
    factors = Factors(up=up, down=down, scale=scale)
    before = torch.from_numpy(weights(m, n)).to(dtype) if base else None
    return Delta(name="w", shape=(m, n), matrix=(m, n), base=before, factors=factors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("shape", "r"), [((300, 200), 8), ((200, 300), 1), ((64, 64), 32)])
def test_adapters_have_the_rank_of_their_factors(shape, r, dtype):
    delta = adapter(*shape, r, dtype=dtype)
    found = judge(delta)
    assert (found.verdict, found.rank, found.method) == ("low-rank", r, "qr of the factors")
    exact = torch.linalg.svdvals(delta.difference(torch.float64))
    np.testing.assert_allclose(found.singular_values, exact[:r], rtol=1e-5)
    assert found.relative == pytest.approx(float(exact.norm() / delta.base.double().norm()))


def test_an_adapter_as_large_as_its_matrix_is_full_rank_and_a_zero_one_unchanged():
    assert judge(adapter(2, 200, 8)).verdict == "full-rank"
    assert judge(adapter(20, 30, 4, scale=0.0)).verdict == "unchanged"
    assert judge(adapter(20, 30, 4, base=False)).relative is None


def test_directions_below_the_rounding_of_the_factors_are_not_counted():
    up, down = torch.from_numpy(normal(300, 4)).float(), torch.from_numpy(normal(4, 200)).float()
    up[:, 3] = up[:, 0] * (1 + 1e-8)
    down[3] = down[0] + 1e-9 * down[3]
    delta = Delta(name="w", shape=(300, 200), matrix=(300, 200), factors=Factors(up=up, down=down, scale=1.0))
    assert judge(delta).rank == 3


@pytest.mark.parametrize("rate", [0.0, -1, 0.5, 2])
def test_the_rate_must_be_a_rate(rate):
    with pytest.raises(RequestError, match=r"false-positive rate must be above 0 and below 0\.5"):
        judge(pair(weights(4, 3), normal(4, 3)), false_positive_rate=rate)


def test_what_cannot_be_judged_is_named():
    with pytest.raises(RequestError, match="must have entries"):
        judge(Delta(name="w", shape=(0, 3), matrix=(0, 3), base=torch.zeros(0, 3), tuned=torch.zeros(0, 3)))
    with pytest.raises(RequestError, match="received one: 'w'"):
        judge(Delta(name="w", shape=(2, 3), matrix=(2, 3), base=torch.zeros(2, 3)))
    with pytest.raises(RequestError, match="NaN or infinity in 'b'"):
        judge(Delta(name="b", shape=(1,), matrix=None, base=torch.zeros(1), tuned=torch.tensor([float("nan")])))
