"""Bases built out of core, against a singular value decomposition in memory."""

from __future__ import annotations

import math
import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import normal, same
from safetensors.torch import save_file

from idim.errors import RequestError
from idim.learned import vectors as reading
from idim.learned.building import build, layer_counts
from idim.learned.vectors import Vectors, layout_of, open_model
from idim.projections import Basis
from idim.projections.basis_file import open_basis

SHAPES = {"net.0.bias": (7,), "net.0.weight": (7, 3), "net.1.weight": (2, 7), "scale": ()}
D = 43


def write(path, flat):
    sizes = [math.prod(shape) for shape in SHAPES.values()]
    parts = torch.split(torch.as_tensor(flat), sizes)
    save_file({n: p.reshape(s).clone() for (n, s), p in zip(SHAPES.items(), parts, strict=True)}, path)
    return open_model(path)


def models(folder, deltas, base=None, dtype=torch.float64):
    """Write a base and base + each row of deltas; return Vectors' arguments."""
    base = normal(D, seed=9) if base is None else base
    source = write(folder / "base.safetensors", base.to(dtype))
    tuned = [write(folder / f"{k}.safetensors", (base + d).to(dtype)) for k, d in enumerate(deltas)]
    return {"models": tuned, "base": source, "layout": layout_of(source)}


def dense(path, d=None):
    file = open_basis(path)
    return Basis(D=file.D, d=d or file.columns, path=str(path)).to_dense()


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(k=st.integers(1, 9), rank=st.integers(1, 9), seed=st.integers(0, 1000), centred=st.booleans())
def test_columns_are_the_right_singular_vectors(tmp_path_factory, k, rank, seed, centred):
    folder = tmp_path_factory.mktemp("built")
    deltas = normal((k, rank), seed) @ normal((rank, D), seed + 1)
    built_from = Vectors(**models(folder, deltas), centred=centred)
    x = (deltas - deltas.mean(0)) if centred else deltas
    true = min(rank, k - centred)
    if not true:
        with pytest.raises(RequestError, match="of rank 0: all are the same"):
            build(built_from, folder / "b", learned={})
        return
    built = build(built_from, folder / "b", learned={})
    values, right = torch.linalg.svd(x, full_matrices=False)[1:]
    assert (built.rank, built.columns, built.vectors) == (true, true, k)
    assert built.values == pytest.approx(values[:true].tolist(), rel=1e-9)
    assert built.share == pytest.approx(1)
    found = dense(folder / "b")
    same(found.T @ found, torch.eye(true, dtype=torch.float64), 1e-6)
    assert built.off <= 2e-7
    same(found @ (found.T @ x.T), x.T, 1e-6)
    few = dense(folder / "b", d=1)[:, 0]
    gap = 1 - float(values[1] / values[0]) if true > 1 else 1
    assert 1 - abs(float(few @ right[0])) < 1e-6 / gap**2


def test_chunks_make_no_difference(tmp_path, monkeypatch):
    given_models = models(tmp_path, normal((5, D)))
    build(Vectors(**given_models), tmp_path / "whole", learned={})
    monkeypatch.setattr(reading, "CHUNK", 17)
    build(Vectors(**given_models), tmp_path / "parts", learned={})
    same(dense(tmp_path / "parts"), dense(tmp_path / "whole"), 1e-6)


def test_directions_far_below_the_first_are_cleaned(tmp_path):
    basis = torch.linalg.qr(normal((D, 4))).Q
    deltas = normal((4, 4), seed=2) @ (torch.tensor([1, 1e-2, 1e-4, 3e-6], dtype=torch.float64)[:, None] * basis.T)
    built = build(
        Vectors(**models(tmp_path, deltas, base=torch.zeros(D, dtype=torch.float64))), tmp_path / "b", learned={}
    )
    found = dense(tmp_path / "b")
    assert built.rank == 4
    assert built.off <= 2e-7
    same(found.T @ found, torch.eye(4, dtype=torch.float64), 1e-6)
    assert float(torch.linalg.svdvals(found.T @ basis).min()) > 1 - 1e-6


def test_directions_below_round_off_do_not_count(tmp_path):
    direction, other = torch.linalg.qr(normal((D, 2))).Q.T
    deltas = torch.stack([direction, 2 * direction, 3 * direction + 1e-10 * other])
    base = torch.zeros(D, dtype=torch.float64)
    assert build(Vectors(**models(tmp_path, deltas, base=base)), tmp_path / "b", learned={}).rank == 1


def test_layers_have_columns_of_their_own(tmp_path):
    deltas = normal((6, D))
    given_models = models(tmp_path, deltas)
    layout = given_models["layout"]
    assert layout.names == tuple(SHAPES)
    assert layer_counts(layout) == (2, 1, 1)
    built = build(Vectors(**given_models), tmp_path / "b", columns=2, by_layer=True, learned={})
    assert built.columns == 5  # two, two, and the one that a single number has
    assert built.rank == 6 + 6 + 1
    found = dense(tmp_path / "b")
    same(found.T @ found, torch.eye(5, dtype=torch.float64), 1e-6)
    expected = []
    for low, high in ((0, 28), (28, 42), (42, 43)):
        values, right = torch.linalg.svd(deltas[:, low:high], full_matrices=False)[1:]
        expected += [(float(v), low, row) for v, row in list(zip(values, right, strict=True))[:2]]
    assert built.values == pytest.approx(sorted((v for v, _, _ in expected), reverse=True))
    for column, (_, low, row) in zip(found.T, sorted(expected, key=lambda e: -e[0]), strict=True):
        assert abs(float(column[low : low + len(row)] @ row)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("precision", "off"), [("float32", 2e-7), ("bfloat16", 8e-3), ("float16", 1e-3)])
def test_a_stored_precision_is_said_with_its_error(tmp_path, precision, off):
    built = build(Vectors(**models(tmp_path, normal((5, D)))), tmp_path / "b", precision=precision, learned={})
    found = dense(tmp_path / "b")
    measured = float((found.T @ found - torch.eye(5, dtype=torch.float64)).abs().max())
    assert built.off == pytest.approx(measured, rel=1e-6, abs=3e-7)
    assert measured <= off


def test_the_file_says_what_it_was_learned_from(tmp_path):
    deltas = normal((3, D))
    build(Vectors(**models(tmp_path, deltas)), tmp_path / "b", columns=2, learned={"how": "test"})
    about = open_basis(tmp_path / "b").learned
    assert (about["how"], about["vectors"], about["rank"], len(about["values"])) == ("test", 3, 3, 2)
    build(Vectors(**models(tmp_path, deltas)), tmp_path / "again", columns=2, learned={"how": "test"})
    assert (tmp_path / "again").read_bytes() == (tmp_path / "b").read_bytes()
    deltas[1, 5] += 1e-6
    build(Vectors(**models(tmp_path, deltas)), tmp_path / "other", columns=2, learned={"how": "test"})
    assert open_basis(tmp_path / "other").learned["sources"] != about["sources"]


def test_the_base_is_named_unless_any_will_do(tmp_path):
    built_from = Vectors(**models(tmp_path, normal((3, D))))
    build(built_from, tmp_path / "b", learned={})
    assert open_basis(tmp_path / "b").base == built_from.base_digest()
    build(Vectors(**models(tmp_path, normal((3, D)))), tmp_path / "any", fits_any=True, learned={})
    assert open_basis(tmp_path / "any").base == ""


def test_models_that_do_not_belong_together_are_refused(tmp_path):
    given_models = models(tmp_path, normal((3, D)))
    save_file({"net.0.weight": torch.zeros(7, 3)}, tmp_path / "less.safetensors")
    save_file({n: torch.zeros(*s, 2) for n, s in SHAPES.items()}, tmp_path / "wider.safetensors")
    for file, message in (
        ("less", r"same tensors; received .*less.safetensors without 'net.0.bias'"),
        ("wider", r"shape \[7\] in all models; received \[7, 2\] in .*wider"),
    ):
        odd = open_model(tmp_path / f"{file}.safetensors")
        with pytest.raises(RequestError, match=message):
            Vectors(**given_models | {"models": [odd]})
    broken = write(tmp_path / "nan.safetensors", torch.full((D,), float("nan"), dtype=torch.float64))
    with pytest.raises(RequestError, match=r"must be finite to be learned from; .* tensor 'net.0.bias'"):
        build(Vectors(**given_models | {"models": [broken]}), tmp_path / "b", learned={})
    with pytest.raises(RequestError, match="received 'nowhere': not there"):
        open_model("nowhere")
    assert not (tmp_path / "b").exists()


def test_more_columns_than_directions_are_refused(tmp_path):
    built_from = Vectors(**models(tmp_path, normal((3, D))), centred=True)
    with pytest.raises(
        RequestError, match="at most the rank of what they are learned from, 2 of 3 vectors; received 3"
    ):
        build(built_from, tmp_path / "b", columns=3, learned={})
    with pytest.raises(RequestError, match="columns must be at least 1; received 0"):
        build(built_from, tmp_path / "b", columns=0, learned={})
    same_point = Vectors(**models(tmp_path, torch.zeros(3, D, dtype=torch.float64)))
    with pytest.raises(RequestError, match="must differ to be learned from; received 3 of rank 0: all are the same"):
        build(same_point, tmp_path / "b", learned={})


def test_tensors_are_chosen_by_pattern_and_statistics_left_out(tmp_path):
    tensors = {f"block.{i}.weight": torch.ones(2) for i in (10, 9)}
    tensors |= {
        "bn.running_mean": torch.ones(2),
        "bn.num_batches_tracked": torch.tensor(3),
        "head.weight": torch.ones(1),
    }
    save_file(tensors, tmp_path / "m.safetensors")
    source = open_model(tmp_path / "m.safetensors")
    assert layout_of(source).names == ("block.9.weight", "block.10.weight", "head.weight")
    assert layout_of(source, exclude=["head.*"]).names == ("block.9.weight", "block.10.weight")
    assert layout_of(source, include=["head.*"]).names == ("head.weight",)
    with pytest.raises(RequestError, match=r"pattern 'tail' must match a tensor; received .* matches none"):
        layout_of(source, exclude=["tail"])
    with pytest.raises(RequestError, match="needs at least one float tensor"):
        layout_of(source, include=["bn.*"])


def test_the_vectors_are_never_in_memory_together(tmp_path, monkeypatch):
    """numpy's and Python's own memory is traced; torch's is what chunks of 2**14 numbers make, 1.5 MB here."""
    monkeypatch.setattr(reading, "CHUNK", 1 << 14)
    rows, k = 100_000, 6
    for j in range(k + 1):
        save_file({"w": normal((rows,), seed=j, dtype=torch.float32)}, tmp_path / f"{j}.safetensors")
    base = open_model(tmp_path / "0.safetensors")
    sizes = []
    made = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *s, **o: sizes.append(made(*s, **o).numel()) or made(*s, **o))
    tracemalloc.start()
    sources = [open_model(tmp_path / f"{j}.safetensors") for j in range(1, k + 1)]
    build(Vectors(sources, base=base, layout=layout_of(base)), tmp_path / "b", learned={}, fits_any=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * rows * k / 2
    assert max(sizes) <= 1 << 14
