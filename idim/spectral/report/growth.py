"""How the rank of a change grows: the same report over the checkpoints of one training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idim.errors import RequestError
from idim.spectral.judgement.judging import Judging, Seen, judge_pairs
from idim.spectral.pairing.pairs import Model, open_pairs
from idim.spectral.plain import from_plain, to_plain
from idim.spectral.reading.packaged import packaged
from idim.spectral.report import picture
from idim.spectral.report.modules import modules_of
from idim.spectral.report.summary import Group, summarize

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WHOLE = "all"
NUMBERED = re.compile(r"^(?:[A-Za-z][A-Za-z_]*[-_=]?)?(\d+)$")
MODEL_FILES = {".safetensors", ".bin", ".pt", ".pth"}
COLUMNS = ("stable_rank", "participation_ratio", "effective_rank", "energy_rank_90", "energy_rank_95", "energy_rank_99")


@dataclass(frozen=True, kw_only=True)
class GrowthPoint:
    """One checkpoint: its step, its name, and its groups: ``all`` and each kind of module."""

    step: int
    checkpoint: str
    groups: Mapping[str, Group]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """The change from the base at each checkpoint, steps ascending."""

    points: tuple[GrowthPoint, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the points as plain data."""
        return [
            {"step": p.step, "checkpoint": p.checkpoint, "groups": {k: to_plain(g) for k, g in p.groups.items()}}
            for p in self.points
        ]

    @classmethod
    def from_json(cls, data: Sequence[Mapping[str, Any]]) -> Growth:
        """Return the growth that ``data`` was made from."""
        return cls(points=tuple(GrowthPoint(**{**p, "groups": _groups(p["groups"])}) for p in data))

    def to_frame(self) -> pd.DataFrame:
        """Return one row a checkpoint and group: rank, relative change, noise share, median sizes."""
        import pandas as pd

        return pd.DataFrame([_row(p, name, g) for p in self.points for name, g in p.groups.items()])

    def plot(self, figure: Figure) -> Figure:
        """Draw rank, effective rank and relative change against the step on ``figure``."""
        return picture.draw_growth(figure, self.to_frame())


def growth(
    base: Model | None,
    checkpoints: Sequence[tuple[int, Model]],
    *,
    judging: Judging | None = None,
    out: Path | None = None,
    pickle: bool = False,
    seen: Seen = lambda name: None,
) -> Growth:
    """Judge every checkpoint against the base.

    Args:
        base: the model before training.
        checkpoints: step and model of each, as :func:`checkpoints_in` finds them.
        judging: how.
        out: folder that keeps finished tensors.
        pickle: whether pickled checkpoints may be opened.
        seen: told the name of each finished tensor.

    Raises:
        RequestError: when there is no checkpoint, or one cannot be compared with the base.
    """
    if not checkpoints:
        raise RequestError("growth needs at least one checkpoint; received none")
    points = []
    for step, model in sorted(checkpoints, key=lambda pair: pair[0]):
        pairs = open_pairs(base, model, pickle=pickle, resolve=packaged)
        judged = judge_pairs(pairs, judging or Judging(), out=out, seen=seen)
        summary = summarize(judged.matrices, modules_of({r.name: r.shape for r in judged.matrices}))
        name = Path(model).name if isinstance(model, str | Path) else "in memory"
        points.append(GrowthPoint(step=step, checkpoint=name, groups={WHOLE: summary.whole, **summary.kinds}))
    return Growth(points=tuple(points))


def checkpoints_in(folder: Path) -> list[tuple[int, Path]]:
    """Return step and path of the checkpoints in a folder, steps ascending: what is named by a number.

    Names such as ``checkpoint-500``, ``step_500``, ``500`` or ``epoch3.safetensors`` count; the number is the step.

    Raises:
        RequestError: when there is no such folder, it holds none, or two have one number.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_dir() or path.suffix in MODEL_FILES)
    except OSError as error:
        raise RequestError(f"--over must be a folder of checkpoints; received {folder}: {error.strerror}") from error
    steps: dict[int, Path] = {}
    for path in paths:
        if (found := NUMBERED.match(path.stem if path.is_file() else path.name)) is None:
            continue
        step = int(found[1])
        if step in steps:
            raise RequestError(f"one checkpoint a step; received {steps[step].name} and {path.name} in {folder}")
        steps[step] = path
    if not steps:
        raise RequestError(f"--over must hold checkpoints such as checkpoint-100 or step_200; received {folder}: none")
    return sorted(steps.items())


def _groups(plain: Mapping[str, dict[str, Any]]) -> dict[str, Group]:
    return {name: from_plain(Group, group) for name, group in plain.items()}


def _row(point: GrowthPoint, name: str, group: Group) -> dict[str, Any]:
    sizes = {c: None if group.median is None else getattr(group.median, c) for c in COLUMNS}
    return {
        "step": point.step,
        "checkpoint": point.checkpoint,
        "group": name,
        "verdict": group.verdict,
        "rank": group.rank,
        "full": group.full,
        "matrices": group.matrices,
        "norm": group.norm,
        "relative": group.relative,
        "noise_share": group.noise_share,
        "effective_share": group.effective_share,
        **sizes,
    }
