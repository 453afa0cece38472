"""Groups of matrices: one block-diagonal matrix, averages, and the verdict that holds most of the energy."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spectrum_cases import normal, planted

from idim.spectral.judgement.judge import judge
from idim.spectral.judgement.matrix_report import MatrixReport
from idim.spectral.pairing.delta import Delta
from idim.spectral.report.modules import modules_of
from idim.spectral.report.summary import effective_share, group_of, sizes_of, summarize


def report(change: torch.Tensor, *, name: str = "a.weight") -> MatrixReport:
    """Return the report of a change to a base of norm 10."""
    base = normal(*change.shape, seed=7)
    base *= 10 / base.norm()
    shape = (change.shape[0], change.shape[1])
    found = judge(Delta(name=name, shape=shape, matrix=shape, base=base, tuned=base + change))
    assert isinstance(found, MatrixReport)
    return found


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(0, 99)), min_size=1, max_size=4))
def test_a_group_is_a_block_diagonal_matrix(blocks: list[tuple[int, int, int]]) -> None:
    changes = [normal(m, n, seed=seed) for m, n, seed in blocks]
    reports = [report(change) for change in changes]
    values = np.linalg.svd(scipy.linalg.block_diag(*(c.double().numpy() for c in changes)), compute_uv=False)
    share = np.sort(values**2)[::-1] / (values**2).sum()
    joint = group_of(reports).joint
    assert joint is not None
    assert joint.stable_rank == pytest.approx(1 / share[0], rel=1e-4)
    assert joint.participation_ratio == pytest.approx(1 / (share**2).sum(), rel=1e-4)
    positive = share[share > 0]
    assert joint.effective_rank == pytest.approx(np.exp(-(positive * np.log(positive)).sum()), rel=1e-4)
    assert joint.energy_rank_99 == np.argmax(np.cumsum(share) >= 0.99 - 1e-9) + 1
    assert group_of(reports).norm == pytest.approx(np.sqrt((values**2).sum()), rel=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=40))
def test_sizes_are_ordered(values: list[float]) -> None:
    sizes = sizes_of(np.sort(np.asarray(values))[::-1])
    ordered = [1, sizes.stable_rank, sizes.participation_ratio, sizes.effective_rank, len(values)]
    assert all(a <= b * (1 + 1e-9) for a, b in itertools.pairwise(ordered))
    assert 1 <= sizes.energy_rank_90 <= sizes.energy_rank_95 <= sizes.energy_rank_99 <= len(values)


def test_a_group_of_one_is_its_matrix() -> None:
    one = report(planted(20, 12, 3, seed=1))
    group = group_of([one])
    sizes = dataclasses.asdict(group.median)  # type: ignore[arg-type]
    assert sizes == pytest.approx({name: getattr(one.measures, name) for name in sizes})
    assert dataclasses.asdict(group.weighted) == pytest.approx(sizes)  # type: ignore[arg-type]
    assert dataclasses.asdict(group.joint) == pytest.approx(sizes)  # type: ignore[arg-type]
    assert group.relative == pytest.approx(one.relative)
    assert (group.rank, group.full, group.verdict) == (3, 12, "low-rank")
    assert group.spike_energy == pytest.approx(1)
    assert group.effective_share == effective_share(one) == pytest.approx(3 / 12, rel=1e-3)


def test_the_mean_is_weighted_by_energy() -> None:
    strong, weak = report(3 * planted(20, 12, 2, seed=1)), report(planted(20, 12, 4, seed=3))
    group = group_of([strong, weak])
    assert group.weighted is not None
    assert group.weighted.stable_rank == pytest.approx((9 * 2 + 1 * 4) / 10, rel=1e-3)
    assert group.median is not None
    assert group.median.stable_rank == pytest.approx(3, rel=1e-3)
    assert group.relative == pytest.approx(10**0.5 / 200**0.5, rel=1e-4)


def test_one_verdict_must_hold_nearly_all_the_energy() -> None:
    low, full = planted(20, 12, 2, seed=1), normal(20, 12, seed=5)
    full /= full.norm()
    assert group_of([report(low), report(0.1 * full)]).verdict == "low-rank"
    mixed = group_of([report(low), report(full)])
    assert mixed.verdict == "undetermined"
    assert mixed.why == "no verdict holds 95% of the energy of the change: 50% low-rank, 50% full-rank"
    assert group_of([report(0.1 * low), report(full)]).verdict == "full-rank"
    assert group_of([report(0 * low)]).verdict == "unchanged"


def test_matrices_left_as_they_were_count_but_have_no_size() -> None:
    low = report(planted(20, 12, 2, seed=1))
    group = group_of([low, report(torch.zeros(20, 12))])
    assert (group.matrices, group.rank, group.full) == (2, 2, 24)
    assert group.median == group_of([low]).median
    assert group.relative == pytest.approx((1 / 200) ** 0.5, rel=1e-4)


def test_spectra_known_in_part_have_no_joint_size() -> None:
    whole = report(planted(20, 12, 3, seed=1))
    sizes = dataclasses.replace(whole.measures, effective_rank=None, participation_ratio=None, spikes=None)
    part = dataclasses.replace(whole, singular_values=whole.singular_values[:2], measures=sizes)
    group = group_of([whole, part])
    assert (group.joint, group.median, group.spike_energy, group.effective_share) == (None, None, None, None)
    assert group.rank == 6


def test_kinds_and_depths_partition_the_matrices() -> None:
    names = ["h.0.attn.c_attn.weight", "h.1.attn.c_attn.weight", "h.1.mlp.c_fc.weight", "wte.weight"]
    reports = [report(planted(20, 12, 2, seed=i), name=name) for i, name in enumerate(names)]
    summary = summarize(reports, modules_of({r.name: r.shape for r in reports}))
    assert {kind: group.matrices for kind, group in summary.kinds.items()} == {
        "query-key-value": 2,
        "up": 1,
        "embedding": 1,
    }
    assert {depth: group.matrices for depth, group in summary.depths.items()} == {None: 1, 0: 1, 1: 2}
    assert summary.whole.matrices == 4
