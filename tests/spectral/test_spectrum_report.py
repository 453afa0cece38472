"""The report: what it says of a planted change, and that it keeps it on paper, on the disk and in colour."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from spectrum_cases import KEY, QUERY, UP, encoder, pair, tuned, write

import idim
from idim.errors import RequestError
from idim.spectral.judgement import judging
from idim.spectral.report.spectrum_report import SpectrumReport
from idim.spectral.spectrum import spectrum


@pytest.fixture(scope="module")
def report() -> SpectrumReport:
    base = encoder()
    return spectrum(base, tuned(base), quiet=True)


def test_planted_changes_are_found_by_name(report: SpectrumReport) -> None:
    found = {r.name: (r.verdict, r.rank) for r in report.matrices}
    for layer in (0, 1):
        assert found[QUERY.format(layer)] == ("low-rank", 2)
        assert found[KEY.format(layer)] == ("unchanged", 0)
        assert found[UP.format(layer)][0] == "full-rank"
    assert {v.name for v in report.vectors} == {f"encoder.layer.{i}.output.LayerNorm.weight" for i in (0, 1)}
    assert [(row.name, "int64" in row.reason) for row in report.skipped] == [("embeddings.position_ids", True)]


def test_summary_by_kind_and_depth(report: SpectrumReport) -> None:
    kinds = report.summary.kinds
    assert list(kinds) == ["query", "key", "up", "embedding"]
    assert kinds["query"].rank == 4
    assert kinds["query"].verdict == "low-rank"
    assert kinds["query"].relative == pytest.approx(0.01, rel=1e-4)
    assert kinds["key"].verdict == "unchanged"
    assert kinds["key"].relative == 0
    assert kinds["up"].verdict == "full-rank"
    assert list(report.summary.depths) == [None, 0, 1]
    whole = report.summary.whole
    assert whole.matrices == 7
    assert dict(whole.verdicts) == {"low-rank": 2, "full-rank": 2, "unchanged": 3}
    assert whole.verdict == "undetermined"
    assert "full-rank" in whole.why


def test_frame_has_a_row_a_matrix(report: SpectrumReport) -> None:
    frame = report.to_frame().set_index("name")
    assert len(frame) == 7
    row = frame.loc[QUERY.format(1)]
    assert (row["kind"], row["depth"], row["verdict"], row["rank"]) == ("query", 1, "low-rank", 2)
    assert row["stable_rank"] == pytest.approx(2, rel=1e-3)
    assert len(row["singular_values"]) == 48
    assert {"noise_share", "noise_edge", "null_edge", "effective_rank", "energy_rank_90"} <= set(frame.columns)


def test_fields_of_the_files(report: SpectrumReport, tmp_path: Path) -> None:
    report.save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert {"matrices", "summary", "skipped", "base", "tuned", "vectors", "versions", "options"} <= set(content)
    wanted = {"name", "shape", "dtype", "norm", "relative", "rank", "measures", "noise", "null", "verdict", "why"}
    assert all(wanted <= set(row) and "singular_values" not in row for row in content["matrices"])
    assert all(set(row) == {"name", "reason"} for row in content["skipped"])
    frame = pd.read_parquet(tmp_path / "matrices.parquet")
    assert list(frame["name"]) == [r.name for r in report.matrices]
    assert (tmp_path / "spectrum.png").read_bytes().startswith(b"\x89PNG")


def test_saved_is_loaded_unchanged_and_written_again_alike(report: SpectrumReport, tmp_path: Path) -> None:
    report.save(tmp_path / "one")
    again = SpectrumReport.load(tmp_path / "one")
    assert again == report
    again.save(tmp_path / "two")
    for name in ("report.json", "matrices.parquet", "spectrum.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="must hold a report of spectrum"):
        SpectrumReport.load(tmp_path)


def test_text_fits_a_terminal_and_html_has_the_picture(report: SpectrumReport) -> None:
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    query = next(line for line in lines if line.startswith("query"))
    assert query.split()[:3] == ["query", "2", "2"]
    html = report._repr_html_()
    assert "data:image/png;base64," in html
    assert "position_ids" in html


def test_nothing_changed_is_said_and_drawn(tmp_path: Path) -> None:
    base = encoder()
    same = spectrum(base, base, quiet=True)
    assert same.summary.whole.verdict == "unchanged"
    assert same.summary.whole.joint is None
    assert "unchanged" in str(same)
    same.save(tmp_path)
    assert SpectrumReport.load(tmp_path) == same


def test_files_and_memory_agree(report: SpectrumReport, tmp_path: Path) -> None:
    assert spectrum(*pair(tmp_path), quiet=True).matrices == report.matrices


def test_include_takes_patterns(report: SpectrumReport) -> None:
    base = encoder()
    some = spectrum(base, tuned(base), include="*.query.*, *.key.*", quiet=True)
    assert [r.name for r in some.matrices] == [r.name for r in report.matrices if "query" in r.name or "key" in r.name]
    with pytest.raises(RequestError, match=rf"'\*quary\*' matches none of 9 tensors; near names: {QUERY.format(0)}"):
        spectrum(base, tuned(base), include="*quary*", quiet=True)


def test_a_tensor_that_is_not_finite_is_named_and_left_out() -> None:
    base = encoder()
    after = tuned(base)
    after[QUERY.format(0)][3, 4] = float("nan")
    found = spectrum(base, after, quiet=True)
    assert QUERY.format(0) in {row.name for row in found.skipped}
    assert QUERY.format(0) not in {r.name for r in found.matrices}
    assert QUERY.format(1) in {r.name for r in found.matrices}
    lost = {QUERY.format(0): torch.full((4, 4), float("nan"))}
    with pytest.raises(RequestError, match="one tensor at least must be readable"):
        spectrum({QUERY.format(0): torch.ones(4, 4)}, lost, quiet=True)


def test_finished_tensors_are_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models, out = pair(tmp_path), tmp_path / "out"
    first = spectrum(*models, out=out, quiet=True)

    def judged_again(*_: object, **__: object) -> None:
        raise AssertionError("judged again")

    monkeypatch.setattr(judging, "judge", judged_again)
    assert spectrum(*models, out=out, quiet=True) == first
    with pytest.raises(AssertionError, match="judged again"):
        spectrum(*models, out=out, quiet=True, seed=1)
    with pytest.raises(AssertionError, match="judged again"):
        spectrum(*models, out=out, quiet=True, false_positive_rate=0.05)


def test_a_changed_model_is_judged_anew(tmp_path: Path) -> None:
    base, after = pair(tmp_path)
    out = tmp_path / "out"
    first = spectrum(base, after, out=out, quiet=True)
    other = write(tmp_path / "other", tuned(encoder(), rank=3))
    (other / "model.safetensors").replace(Path(after) / "model.safetensors")
    assert first.summary.kinds["query"].rank == 4
    assert spectrum(base, after, out=out, quiet=True).summary.kinds["query"].rank == 6


def test_comparison_is_part_of_the_report_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, after = pair(tmp_path)
    out = tmp_path / "out"
    found = spectrum(base, after, against=after, directions=2, include="*.query.*", out=out, quiet=True)
    assert found.comparison is not None
    assert found.comparison.summary.cosine == pytest.approx(1)
    found.save(out)
    assert (out / "comparison.png").exists()
    assert SpectrumReport.load(out) == found
    assert "cosine" in str(found)
    monkeypatch.setattr("idim.spectral.comparison.versus.compare_pair", lambda *_, **__: pytest.fail("compared again"))
    assert spectrum(base, after, against=after, directions=2, include="*.query.*", out=out, quiet=True) == found


def test_the_number_of_threads_changes_no_bit(report: SpectrumReport) -> None:
    base, before = encoder(), torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            again = spectrum(base, tuned(base), quiet=True)
            assert (again.matrices, again.vectors) == (report.matrices, report.vectors)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_names_at_the_top() -> None:
    assert idim.spectrum is spectrum
    assert idim.SpectrumReport is SpectrumReport
