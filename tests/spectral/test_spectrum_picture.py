"""The picture shows the numbers of the report: read back from its lines, bands and cells."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib.figure import Figure
from spectrum_cases import KEY, QUERY, UP, encoder, tuned

from idim import plots
from idim.spectral.report import picture
from idim.spectral.report.spectrum_report import SpectrumReport
from idim.spectral.spectrum import spectrum


@pytest.fixture(scope="module")
def report() -> SpectrumReport:
    base = encoder()
    return spectrum(base, tuned(base), quiet=True)


@pytest.fixture
def figure(report: SpectrumReport) -> Iterator[Figure]:
    with plots.canvas(figsize=picture.SIZE) as canvas:
        yield report.plot(canvas)


def test_a_line_for_each_changed_matrix(report: SpectrumReport, figure: Figure) -> None:
    values, energy, _, _ = figure.axes
    changed = [r for r in report.matrices if r.verdict != "unchanged"]
    curves = [line for line in values.lines if line.get_linestyle() == "-"]
    assert len(curves) == len(changed) == 4
    by_hand = {tuple(np.asarray(r.singular_values[:2]) / r.singular_values[0]) for r in changed}
    assert {tuple(line.get_ydata()[:2]) for line in curves} == by_hand
    reached = [line for line in energy.lines if len(line.get_xdata()) == 49]
    assert len(reached) == 4
    assert all(line.get_ydata()[-1] == pytest.approx(1) for line in reached)


def test_the_floor_is_the_noise_of_the_report(report: SpectrumReport, figure: Figure) -> None:
    edges = [r.noise.edge / r.singular_values[0] for r in report.matrices if r.verdict != "unchanged"]
    (floor,) = (line for line in figure.axes[0].lines if line.get_label() == "rounding")
    assert floor.get_ydata()[0] == pytest.approx(np.median(edges))


def test_cells_are_effective_ranks_by_kind_and_depth(report: SpectrumReport, figure: Figure) -> None:
    map_ = figure.axes[2]
    cells = np.asarray(map_.images[0].get_array())
    assert [t.get_text() for t in map_.get_yticklabels()] == ["query", "up"]
    assert [t.get_text() for t in map_.get_xticklabels()] == ["0", "1"]
    named = {r.name: r for r in report.matrices}
    for depth in (0, 1):
        for row, name in ((0, QUERY), (1, UP)):
            rank = named[name.format(depth)].measures.effective_rank
            assert cells[row, depth] == pytest.approx((rank or 0) / 48)
    assert named[KEY.format(0)].measures.effective_rank is None


def test_colours_follow_the_order_of_kinds() -> None:
    assert list(picture.colours_of({"other", "down", "query"})) == ["query", "down", "other"]
