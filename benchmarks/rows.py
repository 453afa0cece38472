"""The figures of each part of ``python -m benchmarks`` as rows of a table: what, and what was measured."""

from __future__ import annotations

from typing import Any

Report = dict[str, Any]
Rows = list[tuple[str, str]]


def projections(part: Report) -> Rows:
    """Return cost of P beside torch.add, speed beside the peer, and memory."""
    beside, peer = part["beside torch.add"], part["peer"]
    sizes = f"D = {beside['D']:,}, d = {beside['d']:,}"
    rows = [(f"{name}, {sizes}", _passes(figures)) for name, figures in beside["ns per parameter"].items()]
    name = next(n for n in peer["ns per parameter, forward and backward"] if n != "hadamard")
    rows.append((f"forward and backward beside {name}, D = {peer['D']:,}", f"{peer['times as fast']:.0f} x as fast"))
    memory = part["KiB beyond input and output"]
    return rows + [(f"memory of {name} beyond its output", f"{kib} KiB") for name, kib in memory.items()]


def _passes(figures: dict[str, float]) -> str:
    return f"{figures['median']:.2f} ns a parameter, {figures['passes of torch.add']:.1f} x one torch.add pass"


def step(part: Report) -> Rows:
    """Return times of a training step of every arm beside full AdamW, and peak memory."""
    rows = []
    for name, f in part.items():
        for threads, arms in f["threads"].items():
            what = f"training step, {name}, d = {f['d']:,}, {threads} threads"
            rows += [(f"{what}: {arm}", _step_time(figures)) for arm, figures in arms.items()]
        peaks = ", ".join(f"{arm} {peak:.3g} MB" for arm, peak in f["peak MB"].items())
        rows.append((f"peak memory of training, {name}", peaks))
    return rows


def _step_time(figures: dict[str, float]) -> str:
    times = f"{figures['minimum']:.1f} ms at the least, {figures['median']:.1f} in the median"
    return f"{times}: {_beside(figures, 'full')} x full AdamW, {_beside(figures, 'full, fused')} x fused"


def _beside(figures: dict[str, float], other: str) -> str:
    return f"{figures[f'minimum / {other}']:.2f} ({figures[f'median / {other}']:.2f})"


def basis(part: Report) -> Rows:
    """Return a step beside a pass over the columns, and building beside reading and products."""
    sizes = f"D = {part['D']:,}, {part['columns']} columns"
    rows = [
        (
            f"step in a {precision} basis, {sizes}, {part['threads']} threads",
            f"{f['step']['median / pass']:.2f} x one pass over it ({f['step']['min / pass']:.2f} at the least), "
            f"{f['pass']['GB/s']:.0f} GB/s",
        )
        for precision, f in part["step"].items()
    ]
    built = part["building"]
    beside = f"{built['times']:.2f} x reading twice and the products, peak {built['peak GB']:.2f} GB"
    return [*rows, (f"building a basis, {sizes}", beside)]


def coverage(part: Report) -> Rows:
    """Return coverage, cost and width of the interval."""
    return [
        (
            f"95 % interval over {f['simulations']:.0f} simulated curves, {name}",
            f"covers {100 * f['covers']:.1f} %, {f['trainings']:.0f} trainings, width {100 * f['width']:.0f} % "
            f"(a grid of 100 trainings: {100 * f['grid_width']:.0f} %)",
        )
        for name, f in part.items()
    ]


def spectrum_planted(part: Report) -> Rows:
    """Return how many planted ranks were found or left open, and how many independent changes were called low-rank."""
    planted, null = part["planted"], part["independent"]
    found = sum(row["rank"] == row["planted"] for row in planted)
    opened = sum(row["verdict"] == "undetermined" for row in planted)
    between = ", ".join(f"{what}: {count}" for what, count in part["between"]["found"].items())
    return [
        (
            f"rank of {len(planted)} planted changes",
            f"{found} found, {opened} left open, {len(planted) - found - opened} wrong",
        ),
        (f"rank 8 near the noise, {part['between']['draws']} draws", between),
        (
            f"`low-rank` said of {null['draws']} independent changes, stated rate {null['rate']:.0%}",
            str(null["low_rank"]),
        ),
    ]


def spectrum_scale(part: Report) -> Rows:
    """Return time beside reading and Gram products alone, and peak memory."""
    beside = f"{part['ratio']:.2f} x reading and Gram products alone, peak {part['peak_gb']:.1f} GB"
    return [(f"rank report of {part['parameters']:,} bfloat16 parameters, {part['threads']} threads", beside)]


def spectrum_speed(part: Report) -> Rows:
    """Return seconds of the report, and how much longer the other arms take."""
    others = ", ".join(f"{name} {ratios['report']:.1f} x" for name, ratios in part["times as fast as"].items())
    return [("rank report of a MiniLM pair", f"{part['seconds']['report']:.2f} s; as long: {others}")]


def sweep_overhead(part: Report) -> Rows:
    """Return the cost of engine and store a run, and two workers beside one."""
    ray = part.get("ray overhead ms a run")
    return [
        (f"engine and store, a run of {part['runs']:,}", f"{part['overhead ms a run']:.1f} ms"),
        *([] if ray is None else [("the same on Ray", f"{ray:.1f} ms")]),
        ("two workers beside one", f"{part['two workers beside one']:.2f} x as fast"),
    ]


def store_growth(part: Report) -> Rows:
    """Return seconds and peak memory of status and of a query."""
    return [
        (
            f"{name} on a store of {part['runs']:,} runs",
            f"{part[name]['seconds']:.2f} s, peak {part[name]['peak MB']:.0f} MB",
        )
        for name in ("status", "query")
    ]
