"""Growth over checkpoints: the planted rank at each step, and what is and is not a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from spectrum_cases import encoder, pair, tuned, write

from idim import plots
from idim.errors import RequestError
from idim.spectral.report import picture
from idim.spectral.report.growth import Growth, checkpoints_in, growth
from idim.spectral.spectrum import spectrum


def training(folder: Path) -> Path:
    """Write checkpoints whose queries have changed by 1, 2 and 4 directions."""
    for step, rank in ((100, 1), (200, 2), (1000, 4)):
        write(folder / f"checkpoint-{step}", tuned(encoder(), rank=rank, scale=step * 1e-5))
    return folder


def test_rank_and_size_grow_with_the_step(tmp_path: Path) -> None:
    found = growth(encoder(), checkpoints_in(training(tmp_path)))
    assert [point.step for point in found.points] == [100, 200, 1000]
    frame = found.to_frame()
    queries = frame[frame["group"] == "query"].set_index("step")
    assert queries["rank"].to_dict() == {100: 2, 200: 4, 1000: 8}
    assert queries["stable_rank"].tolist() == pytest.approx([1, 2, 4], rel=1e-3)
    assert queries["relative"].tolist() == pytest.approx([0.001, 0.002, 0.01], rel=1e-3)
    assert set(frame["group"]) == {"all", "query", "key", "up", "embedding"}
    assert Growth.from_json(found.to_json()) == found
    with plots.canvas(figsize=picture.GROWTH_SIZE) as figure:
        ranks = found.plot(figure).axes[0]
        (line,) = (line for line in ranks.lines if line.get_label() == "query")
        assert line.get_ydata().tolist() == pytest.approx([2 / 96, 4 / 96, 8 / 96])


def test_growth_is_part_of_the_report_and_shares_the_journal(tmp_path: Path) -> None:
    base, after = pair(tmp_path)
    run = training(tmp_path / "run")
    report = spectrum(base, after, over=run, out=tmp_path / "out", quiet=True)
    report.save(tmp_path / "out")
    assert (tmp_path / "out" / "growth.png").exists()
    assert type(report).load(tmp_path / "out") == report
    assert len(list((tmp_path / "out" / "finished").iterdir())) == 4
    assert report.growth is not None
    assert [p.checkpoint for p in report.growth.points] == ["checkpoint-100", "checkpoint-200", "checkpoint-1000"]


def test_checkpoints_are_known_by_their_numbers(tmp_path: Path) -> None:
    for name in ("checkpoint-20", "step_3", "runs", "7", "best-model"):
        (tmp_path / name).mkdir()
    for name in ("step-000100.safetensors", "tuned.safetensors", "notes-9.txt"):
        (tmp_path / name).touch()
    found = [(step, path.name) for step, path in checkpoints_in(tmp_path)]
    assert found == [(3, "step_3"), (7, "7"), (20, "checkpoint-20"), (100, "step-000100.safetensors")]


def test_folders_without_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="must hold checkpoints such as"):
        checkpoints_in(tmp_path)
    with pytest.raises(RequestError, match="must be a folder of checkpoints"):
        checkpoints_in(tmp_path / "nowhere")
    (tmp_path / "step-5").mkdir()
    (tmp_path / "checkpoint-5").mkdir()
    with pytest.raises(RequestError, match="one checkpoint a step; received checkpoint-5 and step-5"):
        checkpoints_in(tmp_path)
    with pytest.raises(RequestError, match="at least one checkpoint"):
        growth(encoder(), [])
