"""What a user asks of ``idim subspace learn ipt``, checked before anything heavy is imported."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from idim.errors import RequestError
from idim.files import paths_from_text

COUNTS = ("tokens", "columns", "hidden", "steps", "batch", "length", "pair_length", "probe_steps", "workers")


@dataclass(frozen=True, kw_only=True)
class IPTRequest:
    """Learn a subspace of soft prompts, or of another method's numbers, from several tasks, and try it on all of them.

    Every task is tuned, its head frozen; an auto-encoder of the tunings gives a decoder, and d numbers are tuned there.
    """

    tasks: str
    """Tasks to learn from, with commas between: names as for measure."""
    unseen: str = ""
    """Tasks to try it on beside them, which share no texts with them."""
    model: str = "minilm"
    """What is tuned: a name as for measure."""
    tokens: int = 10
    """Length of the soft prompts."""
    method: str | None = None
    """Another method whose numbers are tuned, such as lora:rank=1, in place of soft prompts."""
    columns: int
    """d: numbers a task."""
    decoder: Literal["linear", "mlp", "pca"] = "mlp"
    """Linear, of two layers with tanh between, or the principal components of the tunings."""
    hidden: int = 128
    """Width between the layers of an mlp."""
    alpha: float = 1.0
    """Weight of the task loss beside the reconstruction."""
    rounds: int = 100
    """How often the auto-encoder sees a batch of every task."""
    decoder_lr: float = 3e-4
    """Learning rate of the auto-encoder."""
    steps: int = 100
    """Optimizer steps of every tuning."""
    batch: int = 16
    """Rows in a batch."""
    length: int = 24
    """Tokens after which a text is cut."""
    pair_length: int = 40
    """Tokens after which a pair of texts is cut."""
    head: Literal["probe", "fresh"] = "probe"
    """The frozen head of a task: of a linear probe, or a fresh one, so that d numbers do all of the work."""
    probe_steps: int = 10
    """Optimizer steps of the linear probes: few leave something to be tuned."""
    probe_lr: float = 0.01
    """Learning rate of the linear probes."""
    lr: float = 0.1
    """Learning rate of the method's numbers."""
    inside_lr: float = 0.3
    """c of the learning rate c/√d of the d numbers, which are of unit deviation over the tasks."""
    seed: int = 0
    """Of initialisation, data order and auto-encoder."""
    out: Path
    """The file to write; what was recovered goes beside it, as .json."""
    store: Path | None = None
    """Folder of runs. Default: the folder ``store`` beside OUT."""
    data: Path | None = None
    """Folder of the data sets. Default: the environment's IDIM_DATA."""
    workers: int = 1
    """Runs at once, each in a process of one thread."""
    quiet: bool = False
    """Only the files."""

    def __post_init__(self) -> None:
        paths_from_text(self, "out", "store", "data")
        if len(self.seen) < 2:
            raise RequestError(f"a subspace of tasks needs at least two of them; received {self.tasks!r}: name more")
        both = [*self.seen, *self.others]
        if again := [name for name in both if both.count(name) > 1]:
            raise RequestError(f"every task must be named once, seen or unseen; received {again[0]!r} again")
        for name in COUNTS:
            if getattr(self, name) < 1:
                raise RequestError(f"{name} must be at least 1; received {getattr(self, name)}")
        for name in ("probe_lr", "lr", "decoder_lr", "inside_lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise RequestError(f"{name} must be finite and above 0; received {getattr(self, name)}")
        if self.rounds < 0 or not 0 <= self.alpha < math.inf:
            raise RequestError(f"rounds and alpha must be at least 0; received {self.rounds} and {self.alpha}")
        if self.decoder == "pca" and self.columns >= len(self.seen):
            raise RequestError(
                f"{len(self.seen)} tasks have at most {len(self.seen) - 1} principal components; "
                f"received columns {self.columns}: take fewer, name more tasks, or take decoder linear"
            )

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the tasks to learn from."""
        return _names(self.tasks)

    @property
    def others(self) -> tuple[str, ...]:
        """Names of the unseen tasks."""
        return _names(self.unseen)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
