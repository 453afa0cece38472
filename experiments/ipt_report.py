"""What intrinsic prompt tuning recovers, from its scores: shares with intervals, and a table.

    python -m experiments.ipt_report             # computes them again; a second

:mod:`experiments.ipt` makes the scores. The shares and their intervals, by a bootstrap over tasks, are those of
:mod:`idim.learned.recovered`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from idim.files import replace_file, write_json
from idim.learned.recovered import Share, fraction, gain

RESULT = Path(__file__).parent / "results" / "ipt" / "report.json"
GROUPS = ("seen", "unseen")
COLUMNS = ("chance", "start", "prompt", "lora", "probe", "full")
LABELS = {
    "linear": "linear decoder",
    "mlp": "two-layer decoder",
    "pca": "principal components",
    "random": "random, of prompts",
    "weights": "random, of weights",
    "lora": "two-layer decoder, of LoRA",
    "lora random": "random, of LoRA",
}


class Report:
    """What is known so far, in a file.

    Args:
        content: what there is already.
        path: the file.
    """

    def __init__(self, content: dict[str, Any] | None = None, path: Path = RESULT) -> None:
        self.content = content or {"tasks": {}, "rates": {}, "inside": {}, "decoders": {}}
        self.path = path

    def save(self) -> None:
        """Write it with the shares of all that is there, and the table beside it."""
        by_label = self.content["inside"].items()
        self.content["shares"] = {label: {d: self._groups(label, by_d[d]) for d in by_d} for label, by_d in by_label}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.content)
        with replace_file(self.path.with_name("table.md")) as temporary:
            temporary.write_text("\n".join([*self._scores(), "", *self._table()]) + "\n")

    def _groups(self, label: str, scores: Mapping[str, float]) -> dict[str, Any]:
        """Return the shares of seen and of unseen tasks."""
        tasks, tuned = self.content["tasks"], "lora" if label.startswith("lora") else "prompt"
        found = {}
        for who in GROUPS:
            inside = {name: score for name, score in scores.items() if tasks[name]["seen"] == (who == "seen")}
            columns = (self._column(kind) for kind in ("start", tuned, "full"))
            if inside:
                found[who] = {n: dataclasses.asdict(share) for n, share in shares(inside, *columns).items()}
        return found

    def _column(self, kind: str) -> dict[str, float]:
        return {name: row[kind] for name, row in self.content["tasks"].items() if kind in row}

    def _scores(self) -> Iterator[str]:
        yield from (
            "| task | metric | constant answer | head alone | prompt tuning | LoRA | converged probe | full tuning |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        )
        for name, row in self.content["tasks"].items():
            scores = " | ".join(f"{row[kind]:.3f}" if kind in row else "" for kind in COLUMNS)
            yield f"| {name}{'' if row['seen'] else ' (unseen)'} | {row['metric']} | {scores} |"

    def _table(self) -> Iterator[str]:
        yield "| subspace | d | of the score, seen | unseen | of the gain, seen | unseen |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for label, by_d in self.content["shares"].items():
            for d, groups in by_d.items():
                cells = [_cell(groups.get(who), share) for share in ("fraction", "gain") for who in GROUPS]
                yield f"| {LABELS[label]} | {d} | {' | '.join(cells)} |"


def shares(
    inside: Mapping[str, float], start: Mapping[str, float], tuned: Mapping[str, float], full: Mapping[str, float]
) -> dict[str, Share]:
    """Return what is recovered of the tuning and of full tuning, where that is known."""
    found = {"fraction": fraction(inside, tuned), "gain": gain(inside, tuned, start)}
    if inside.keys() <= full.keys():
        found |= {"of full": fraction(inside, full), "gain of full": gain(inside, full, start)}
    return found


def _cell(shares: Mapping[str, Any] | None, share: str) -> str:
    return "" if shares is None else str(Share(**shares[share]))


def main() -> None:
    """Compute the shares and the table of the stored scores again."""
    Report(json.loads(RESULT.read_text())).save()


if __name__ == "__main__":
    main()
