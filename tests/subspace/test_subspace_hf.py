"""Randomly initialised BERT and GPT-2: plain calls, `transformers.Trainer` unchanged, checkpoints, tied embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from subspace_cases import by_hand, explicit, generator, gradient_by_hand, randomised, shifted
from torch import Tensor

from idim.subspace import Subspace

transformers = pytest.importorskip("transformers")

Rows = list[dict[str, Tensor]]


def bert(*, layers: int = 2, seed: int = 0) -> Any:
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=50,
        max_position_embeddings=16,
    )
    return randomised(transformers.BertForSequenceClassification(config), seed).eval()


def gpt2(seed: int = 0) -> Any:
    ids = {"bos_token_id": 0, "eos_token_id": 0}
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=16, **ids)
    return randomised(transformers.GPT2LMHeadModel(config), seed).eval()


def sentences(count: int = 16) -> Rows:
    ids = torch.randint(1, 50, (count, 8), generator=generator(1))
    mask = torch.ones(8, dtype=torch.long)
    return [{"input_ids": row, "attention_mask": mask, "labels": row[0] % 2} for row in ids]


def texts(count: int = 16) -> Rows:
    return [{**row, "labels": row["input_ids"]} for row in sentences(count)]


def batch(rows: Rows) -> dict[str, Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


CASES = pytest.mark.parametrize(("make", "rows"), [(bert, sentences), (gpt2, texts)], ids=["bert", "gpt2"])


@CASES
def test_loss_and_gradient_are_those_of_the_model_with_theta(make: Any, rows: Any) -> None:
    model = make()
    space = shifted(explicit(model))
    reference = by_hand(space, model)
    loss, expected = (net(**batch(rows())).loss for net in (space, reference))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(space.z.grad.double(), gradient_by_hand(space, reference), rtol=1e-3, atol=1e-6)


def test_tied_embeddings_count_once() -> None:
    model = gpt2()
    space = shifted(explicit(model))
    assert sum(p.numel() for p in model.parameters()) == space.D
    assert "lm_head.weight" not in space.layout.names
    merged = space.merged()
    assert merged.lm_head.weight is merged.transformer.wte.weight
    assert torch.equal(merged(**batch(texts())).loss, space(**batch(texts())).loss)


def test_merged_models_save_as_any_other(tmp_path: Path) -> None:
    space = shifted(Subspace(gpt2(), d=20))
    space.merged().save_pretrained(tmp_path)
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
    torch.testing.assert_close(again(**batch(texts())).logits, space(**batch(texts())).logits)


def test_layers_of_bert_are_its_blocks() -> None:
    layout = Subspace(bert(layers=3), d=20).layout
    assert len(layout.layers) == 4 + 3 + 2  # four embedding modules, three blocks, pooler, classifier
    assert len(set(layout.layers[4:7])) == 1


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")
def test_gradient_checkpoints_give_the_same_gradient() -> None:
    plain, model = bert(), bert()
    model.gradient_checkpointing_enable()
    grads = []
    for net in (plain, model):
        space = shifted(explicit(net)).train()
        for module in space.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        space.model.config.attention_probs_dropout_prob = 0.0
        space(**batch(sentences())).loss.backward()
        grads.append(space.z.grad)
    assert model.is_gradient_checkpointing
    torch.testing.assert_close(*grads)


def trainer(space: torch.nn.Module, rows: Rows, folder: Path, steps: int, **options: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=0.02,
        weight_decay=0.01,
        save_steps=2,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        label_names=["labels"],  # the Trainer reads them from the class of a model, which Subspace hides
        **options,
    )
    return transformers.Trainer(model=space, args=arguments, train_dataset=rows, eval_dataset=rows)


@pytest.mark.parametrize(
    ("make", "rows", "options"),
    [
        (bert, sentences, {"train": "classifier.*"}),
        (gpt2, texts, {}),
        (gpt2, texts, {"exclude": "transformer.wte.*"}),
        (gpt2, texts, {"train": "lm_head.*"}),
    ],
    ids=["bert", "gpt2", "gpt2-frozen-tied", "gpt2-trained-tied"],
)
def test_trainer_trains_evaluates_and_resumes(tmp_path: Path, make: Any, rows: Any, options: dict[str, str]) -> None:
    space = Subspace(make(), d=20, **options)
    run = trainer(space, rows(), tmp_path, 4)
    run.train()
    assert space.z.detach().norm() > 0
    plain = trainer(space.merged(), rows(), tmp_path, 4)
    assert run.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]

    resumed = Subspace(make(seed=5), d=20, **options)  # the checkpoint holds theta0 as well
    trainer(resumed, rows(), tmp_path, 4).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(resumed.z, space.z)
    assert torch.equal(resumed.eval()(**batch(rows())).logits, space.eval()(**batch(rows())).logits)


def test_trainer_checkpoints_hold_moments_of_d_numbers_only(tmp_path: Path) -> None:
    space = Subspace(bert(), d=20, train="classifier.*")
    run = trainer(space, sentences(), tmp_path, 2)
    run.train()
    moments = [t for state in run.optimizer.state.values() for t in state.values() if torch.is_tensor(t) and t.ndim]
    assert sum(t.numel() for t in moments) == 2 * (20 + 2 * 16 + 2)
    with safe_open(tmp_path / "checkpoint-2" / "model.safetensors", "pt") as file:
        assert set(file.keys()) >= {"z", "theta0.0", "model.classifier.weight"}


def test_trainer_accumulates_and_runs_in_bfloat16(tmp_path: Path) -> None:
    space = Subspace(bert(), d=20)
    trainer(space, sentences(), tmp_path, 2, gradient_accumulation_steps=2, bf16=True).train()
    assert space.z.dtype == torch.float32
    assert space.z.detach().norm() > 0
