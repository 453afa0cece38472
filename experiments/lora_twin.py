"""LoRA beside full and subspace training: the same network, rows, order and recipe, tuned through ``peft``.

E. Hu et al., LoRA, 2021, arXiv:2106.09685. Every linear layer of the body gets factors of rank ``RANK``, or as asked,
and their product is doubled; the fresh head is trained directly, as in the other arms. Kept: ``adapter/`` in the form
of ``peft``, with the score, the spec of the run it stands beside and the versions in ``run.json``.
"""

from __future__ import annotations

import dataclasses
import json
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

from idim.files import write_json
from idim.runs import RunSpec
from idim.runs.environment import host, versions
from idim.runs.learner import network
from idim.runs.optimize import trainable
from idim.runs.rows import rows_of
from idim.runs.train import alone, fit, load_task, score, weights_folder

RANK, SCALE = 8, 2
LR = 1e-3


def lora_twin(full: RunSpec, folder: Path, *, rank: int = RANK, data: Path | None = None) -> dict[str, Any]:
    """Train the LoRA twin of a full run into ``folder``, unless it is there; return its row."""
    spec = dataclasses.replace(full, lr=LR)
    wanted = {"method": "lora", "rank": rank, "alpha": SCALE * rank, "spec": spec.to_json()}
    row = _stored(folder / "run.json", wanted)
    return row or _trained(spec, wanted, folder, data)


def _stored(path: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    row = json.loads(path.read_text()) if path.is_file() else {}
    return row if {name: row.get(name) for name in wanted} == wanted else None


def _trained(spec: RunSpec, wanted: dict[str, Any], folder: Path, data: Path | None) -> dict[str, Any]:
    started, task = time.perf_counter(), load_task(spec, data)
    with alone(spec.seed):
        module = with_factors(network(spec, task, weights_folder(data)), wanted["rank"])
        fit(spec, task, module)
        row = wanted | {
            "score": score(spec, task, module, rows_of(spec, task.report)),
            "selection_score": score(spec, task, module, rows_of(spec, task.selection)),
            "trained": sum(p.numel() for p in trainable(module)),
        }
    folder.mkdir(parents=True, exist_ok=True)
    module.body.save_pretrained(folder / "adapter")  # type: ignore[operator, union-attr]
    row |= {"seconds": time.perf_counter() - started, "host": host()}
    row["versions"] = versions() | {"peft": metadata.version("peft"), "transformers": metadata.version("transformers")}
    write_json(folder / "run.json", row)
    return row


def with_factors(module: nn.Module, rank: int) -> nn.Module:
    """Freeze the body of a text model and put factors of a rank beside its linear layers, in place."""
    from peft import LoraConfig, get_peft_model

    linear = sorted({n.rpartition(".")[2] for n, m in module.body.named_modules() if isinstance(m, nn.Linear)})  # type: ignore[union-attr, operator]
    config = LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=linear, bias="none")
    module.body = get_peft_model(module.body, config)  # type: ignore[arg-type]
    return module
