"""``spectrum``: from two models to the rank of what changed between them.

The flow: pair the tensors by name (:mod:`idim.spectral.pairing.pairs`), judge each
(:mod:`idim.spectral.judgement.judge`), keep each verdict as it is made (:mod:`idim.spectral.judgement.journal`), put
them together (:mod:`idim.spectral.report.summary`). One pair of tensors is in memory for each thread
(:mod:`idim.spectral.judgement.pool`).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from pathlib import Path

import idim
from idim.files import writable_folder
from idim.spectral.comparison.together import ModelComparison
from idim.spectral.comparison.versus import COMPARISON_VERSION, compare_models
from idim.spectral.judgement.journal import Journal
from idim.spectral.judgement.judging import SPECTRUM_VERSION, Judging, chosen, judge_pairs, question
from idim.spectral.pairing.pairs import Model, Pairs, open_pairs
from idim.spectral.reading.packaged import packaged
from idim.spectral.report.growth import Growth, checkpoints_in, growth
from idim.spectral.report.spectrum_report import SpectrumReport
from idim.spectral.request import DIRECTIONS, SpectrumRequest

LIBRARIES = ("torch", "numpy", "scipy")
NO_BASE = "-"


def spectrum(
    base: Model | None,
    tuned: Model,
    *,
    against: Model | None = None,
    directions: int = DIRECTIONS,
    over: Path | str | None = None,
    include: str = "*",
    out: Path | str | None = None,
    pickle: bool = False,
    seed: int = 0,
    false_positive_rate: float = 0.01,
    roundings: int = 1,
    quiet: bool = False,
) -> SpectrumReport:
    """Judge the rank of what tuning changed, for every weight matrix and the whole model.

    Args:
        base: the model before: a file, a folder, a hub name, a module, a dict of tensors; None for an
            adapter whose base is not at hand.
        tuned: the model after: the same, or a PEFT adapter, or a saved ``Subspace``.
        against: another model tuned from ``base``, to compare the leading directions with.
        directions: number of leading directions that ``against`` compares.
        over: folder of checkpoints of the training, for the growth of the rank.
        include: name patterns, with commas between them.
        out: folder that keeps finished tensors, so that a killed run goes on from them; ``report.save`` writes the
            report. None keeps nothing.
        pickle: whether pickled checkpoints may be opened, always as weights only.
        seed: of the draws of the null and of randomized decompositions.
        false_positive_rate: chance for each matrix that noise alone is called a direction.
        roundings: how many times the stored numbers were rounded while training; 1 where the tuned model was
            saved once from finer numbers, the number of steps where it was trained in the stored format.
        quiet: no progress bar.

    Returns:
        The report: it prints, draws, tabulates and saves itself.

    Raises:
        RequestError: for what is no model, models of different architectures, or options out of range.

    Example:
        >>> import torch
        >>> before = {"layer.weight": torch.linspace(-1, 1, 64 * 48).reshape(64, 48)}
        >>> after = {"layer.weight": before["layer.weight"] + 0.1 * torch.outer(torch.ones(64), torch.ones(48))}
        >>> report = spectrum(before, after, quiet=True)
        >>> report.matrices[0].verdict, report.matrices[0].rank
        ('low-rank', 1)
    """
    request = SpectrumRequest(
        base=NO_BASE if base is None else _place(base),
        tuned=_place(tuned),
        against=None if against is None else _place(against),
        directions=None if against is None else directions,
        over=None if over is None else Path(over),
        include=include,
        out=None if out is None else Path(out),
        pickle=pickle,
        seed=seed,
        false_positive_rate=false_positive_rate,
        roundings=roundings,
        quiet=quiet,
    )
    return _answer(request, base, tuned, against, request.out)


def run_spectrum(request: SpectrumRequest) -> SpectrumReport:
    """Serve a request of the command line, keeping finished tensors in its folder; the report is not written.

    Raises:
        RequestError: when the request cannot be served.
    """
    base = None if request.base == NO_BASE else request.base
    return _answer(request, base, request.tuned, request.against, request.folder)


def _answer(
    request: SpectrumRequest, base: Model | None, tuned: Model, against: Model | None, out: Path | None
) -> SpectrumReport:
    pairs = open_pairs(base, tuned, pickle=request.pickle, resolve=packaged)
    other = None if against is None else open_pairs(base, against, pickle=request.pickle, resolve=packaged)
    checkpoints = [] if request.over is None else checkpoints_in(request.over)
    names = chosen(pairs.names, request.patterns)
    if out is not None:
        writable_folder(out)
    judging = _judging(request)
    total = len(names) * (1 + (other is not None) + len(checkpoints))
    with _shown(total, quiet=request.quiet) as seen:
        judged = judge_pairs(pairs, judging, out=out, seen=seen)
        comparison = None if other is None else _comparison(request, pairs, other, judging, out, seen)
        grown: Growth | None = None
        if checkpoints:
            grown = growth(base, checkpoints, judging=judging, out=out, pickle=request.pickle, seen=seen)
    return SpectrumReport(
        base=request.base,
        tuned=request.tuned,
        options=_options(request),
        matrices=judged.matrices,
        vectors=judged.vectors,
        skipped=judged.skipped,
        comparison=comparison,
        growth=grown,
        seconds=judged.seconds,
        versions=_versions(),
    )


def _comparison(
    request: SpectrumRequest,
    pairs: Pairs,
    other: Pairs,
    judging: Judging,
    out: Path | None,
    seen: Callable[[str], None],
) -> ModelComparison:
    ask = partial(
        compare_models,
        pairs,
        other,
        names=chosen(pairs.names, request.patterns),
        k=request.compared,
        seed=request.seed,
        progress=lambda record: seen(record.name),
    )
    if out is None:
        return ask()
    both = {"one": question(pairs, judging), "other": question(other, judging)}
    with Journal(out, {"comparison": COMPARISON_VERSION, "k": request.compared, **both}) as journal:
        return ask(done=journal.records, keep=journal.keep)


def _judging(request: SpectrumRequest) -> Judging:
    return Judging(
        include=request.patterns,
        seed=request.seed,
        false_positive_rate=request.false_positive_rate,
        roundings=request.roundings,
    )


def _options(request: SpectrumRequest) -> dict[str, object]:
    """Return what the numbers depend on beside the models."""
    options = {"include": request.include, **_judging(request).options()}
    if request.against is not None:
        options |= {"against": request.against, "directions": request.compared}
    if request.over is not None:
        options["over"] = str(request.over)
    return options


def _place(model: Model) -> str:
    return str(model) if isinstance(model, str | Path) else f"{type(model).__name__} in memory"


def _versions() -> dict[str, str]:
    libraries = {name: metadata.version(name) for name in LIBRARIES}
    own = {"idim": idim.__version__, "spectrum": str(SPECTRUM_VERSION), "python": platform.python_version()}
    return own | libraries


@contextmanager
def _shown(total: int, *, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield a function that is told each finished tensor and shows it, unless ``quiet``."""
    from tqdm.auto import tqdm

    with tqdm(total=total, unit=" tensors", disable=quiet, leave=False) as bar:

        def advance(name: str) -> None:
            bar.set_postfix_str(name[-40:], refresh=False)
            bar.update()

        yield advance
