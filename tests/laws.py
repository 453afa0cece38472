"""The laws of a linear projection (:mod:`idim.projections.base`), each a function that takes one and asserts.

Vectors are normal numbers from a fixed seed. ``EXACT`` is a bound on round-off in float64, far above what sums of
these sizes make (a few times 2**-53 √D) and far below any error of a factor, an index or a sign.
"""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from idim import projections
from idim.errors import RequestError

EXACT = 1e-12
# float32 keeps 24 bits; transforms and sums of up to 2**12 terms of random sign lose a few of them
SINGLE = 64 * 2.0**-24


def normal(size, seed=0, dtype=torch.float64):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def same(x, y, tolerance=EXACT, scale=None):
    """Assert that x = y to ``tolerance`` times the norm of y, or ``scale``."""
    scale = float(torch.as_tensor(y).double().norm()) if scale is None else scale
    assert float((x.double() - y.double()).norm()) <= tolerance * max(scale, 1e-300)


def linear(P):
    z, w = normal(P.d), normal(P.d, seed=1)
    left, right = P.matvec(2 * z - 3 * w), 2 * P.matvec(z) - 3 * P.matvec(w)
    same(left, right, scale=float(P.matvec(z).norm() + P.matvec(w).norm()) + 1)
    assert not P.matvec(torch.zeros_like(z)).any()


def adjoint(P):
    z, g = normal(P.d), normal(P.D, seed=1)
    x = P.matvec(z)
    assert abs(float(x @ g - z @ P.rmatvec(g))) <= EXACT * float(x.norm() * g.norm() + 1)


def dense_form(P):
    A, z, g = P.to_dense(), normal(P.d), normal(P.D, seed=1)
    assert A.shape == (P.D, P.d)
    same(P.matvec(z), A @ z, scale=float(z.norm()))
    same(P.rmatvec(g), A.T @ g, scale=float(A.norm() * g.norm()))


def orthonormal(P):
    A = P.to_dense()
    same(A.T @ A, torch.eye(P.d, dtype=A.dtype))


def isometry_in_the_mean(make, seeds=400, sigmas=5.5):
    """E[PᵀP] = I: the mean over seeds is within 5.5 standard errors, which 1 of 25 million entries would miss."""
    grams = torch.stack([A.T @ A for A in (make(seed).to_dense() for seed in range(seeds))])
    error = (grams.mean(0) - torch.eye(grams.shape[1])).abs()
    assert bool((error <= sigmas * grams.std(0) / seeds**0.5 + EXACT).all()), error.max()
    assert float(grams.std(0).max()) < 2  # or the test above would say nothing


def rows_concatenate(P, cuts):
    edges = sorted({0, P.D, *(cut % P.D for cut in cuts)})
    z, g, base = normal(P.d), normal(P.D, seed=1), normal(P.D, seed=2)
    parts = [P.rows(a, b) for a, b in itertools.pairwise(edges)]
    whole = P.matvec(z)
    same(torch.cat([part.matvec(z) for part in parts]), whole, scale=float(z.norm()))
    same(torch.cat([part.matvec(z, base=base[part.start : part.stop]) for part in parts]), base + whole)
    pulled = sum(part.rmatvec(g[part.start : part.stop]) for part in parts)
    same(pulled, P.rmatvec(g), scale=float(g.norm()))
    same(P.vjp(z, g[parts[-1].start :], parts[-1].start), parts[-1].rmatvec(g[parts[-1].start :]))
    apart = [g[part.start : part.stop] for part in parts]
    assert torch.equal(P.vjp_parts(z, apart), P.vjp(z, g)), "gradients of several tensors add up as those of one"
    if apart[1:]:
        assert torch.equal(P.vjp_parts(z, apart[1:], edges[1]), P.vjp(z, g[edges[1] :], edges[1]))


def agrees_with_reference(P, case):
    z, g = normal(P.d), normal(P.D, seed=1)
    same(P.matvec(z), case.lift(P, z), scale=float(z.norm()))
    same(P.rmatvec(g), case.pull(P, g), scale=float(g.norm()))


def precisions_agree(P):
    z, g = normal(P.d, dtype=torch.bfloat16), normal(P.D, seed=1, dtype=torch.bfloat16)
    exact, exact_pull = P.matvec(z.double()), P.rmatvec(g.double())
    single, single_pull = P.matvec(z.float()), P.rmatvec(g.float())
    assert (exact.dtype, single.dtype, single_pull.dtype) == (torch.float64, torch.float32, torch.float32)
    same(single, exact, SINGLE, scale=float(z.double().norm() + exact.norm()))
    same(single_pull, exact_pull, SINGLE, scale=float(g.double().norm() + exact_pull.norm()))
    for half in (torch.bfloat16, torch.float16):
        rounded = P.matvec(z.float(), out=torch.empty(P.D, dtype=half))
        assert torch.equal(rounded, single.to(half))  # computed in float32, rounded once
        assert torch.equal(P.rmatvec(g.to(half)), P.rmatvec(g.to(half).float()))
    assert torch.equal(P.matvec(z), single.bfloat16())


def base_and_out(P):
    z, base = normal(P.d, dtype=torch.float32), normal(P.D, seed=1, dtype=torch.float32)
    expected = base.double() + P.matvec(z).double()
    moved = P.matvec(z, base=base)
    same(moved, expected, 2.0**-23)
    out = torch.full((P.D,), float("nan"))
    assert P.matvec(z, out=out, base=base) is out
    assert torch.equal(out, moved)
    place = base.clone()
    P.matvec(z, out=place, base=place)
    assert torch.equal(place, moved)
    half = base.bfloat16()
    same(P.matvec(z, base=half), half.double() + P.matvec(z).double(), 2.0**-8)


def threads_do_not_matter(P):
    z, g = normal(P.d, dtype=torch.float32), normal(P.D, seed=1, dtype=torch.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = P.matvec(z), P.rmatvec(g)
        torch.set_num_threads(2)
        two = P.matvec(z), P.rmatvec(g)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])


def nested(make, D, d, more):
    """Raising d keeps the first columns, up to a factor per column."""
    few, many = make(D, d).to_dense(), make(D, min(D, d + more)).to_dense()[:, :d]
    cosines = (few * many).sum(0) / (few.norm(dim=0) * many.norm(dim=0))
    same(cosines, torch.ones(d))


def scipy_operator(P):
    operator, A = P.to_scipy(), P.to_dense().numpy()
    z, g = normal(P.d).numpy(), normal(P.D, seed=1).numpy()
    assert operator.shape == A.shape
    np.testing.assert_allclose(operator @ z, A @ z, atol=1e-10)
    np.testing.assert_allclose(operator.T @ g, A.T @ g, atol=1e-10)
    np.testing.assert_allclose(operator @ z[:, None], A @ z[:, None], atol=1e-10)


def spec_is_all(P):
    spec = json.loads(json.dumps(P.spec))
    assert projections.load(spec) == P
    assert spec == P.spec
    with pytest.raises(RequestError, match=rf"version {P.version} of {P.kind!r}; received a spec of version 99"):
        projections.load({**spec, "version": 99})


def refuses_bad_input(P):
    z, g = normal(P.d), normal(P.D)
    bad = z.clone()
    bad[0] = float("inf")
    for call, message in (
        (lambda: P.matvec(bad), rf"z must be finite; received 1 non-finite of {P.d}"),
        (lambda: P.matvec(normal(P.d + 1)), rf"z must have shape \[{P.d}\]; received \[{P.d + 1}\]"),
        (lambda: P.matvec(z[None]), rf"z must have shape \[{P.d}\]; received \[1, {P.d}\]"),
        (lambda: P.matvec(z.long()), r"z must be a float tensor; received torch.int64"),
        (lambda: P.rmatvec(normal(P.D + 2)), rf"g must have shape \[{P.D}\]; received \[{P.D + 2}\]"),
        (lambda: P.matvec(z, base=g[1:]), rf"base must have shape \[{P.D}\]; received \[{P.D - 1}\]"),
        (lambda: P.matvec(z, out=g[1:]), rf"out must have shape \[{P.D}\]; received \[{P.D - 1}\]"),
        (lambda: P.rows(0, P.D + 1), rf"stop <= D = {P.D}; received \[0, {P.D + 1}\)"),
    ):
        with pytest.raises(RequestError, match=message):
            call()
