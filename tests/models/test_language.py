from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from text_cases import WORDS, tiny_bert, tiny_llama, tiny_tokenizer

from idim import models
from idim.errors import RequestError
from idim.models.language import PADDING, TextModel, lengths

pytest.importorskip("transformers")
TEXTS = ("the good film", "a bad plot was not fine", "cat")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small encoder."""
    return tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small decoder."""
    return tiny_llama(tmp_path_factory.mktemp("llama"))


def build(name: Path | str, *, outputs: int = 3, seed: int = 0, **options: bool) -> TextModel:
    return models.build(str(name), input_shape=(), outputs=outputs, seed=seed, **options).eval()  # type: ignore[return-value, arg-type]


def encode(name: Path, texts: tuple[str, ...] = TEXTS, pairs: tuple[str, ...] | None = None) -> torch.Tensor:
    return models.encode(str(name), texts, pairs, 32)


def test_tokens_carry_the_sentence_they_belong_to(bert: Path) -> None:
    tokens = encode(bert, ("good film", "the cat"), ("bad", "a a a dog"))
    assert lengths(tokens).tolist() == [6, 9]
    assert tokens[0, :, 1].tolist() == [0, 0, 0, 0, 1, 1, *[PADDING] * 3]
    assert tokens[1, :5, 0].tolist() == [2, 4 + WORDS.index("the"), 4 + WORDS.index("cat"), 3, 4 + WORDS.index("a")]


def test_texts_are_cut_at_the_length_asked_for_and_at_the_models_own(bert: Path) -> None:
    long = ("good " * 100,)
    assert models.encode(str(bert), long, None, 7).shape == (1, 7, 2)
    assert models.encode(str(bert), long, None, 1000).shape == (1, 32, 2)
    assert models.encode(str(bert), long, None, 0).shape == (1, 32, 2)


@pytest.mark.parametrize("which", ["bert", "llama"])
def test_a_row_has_one_answer_whatever_it_is_batched_with(which: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(which)
    model, tokens = build(folder), encode(folder)
    together = model(tokens)
    alone = torch.cat([model(row[: int(n)].unsqueeze(0)) for row, n in zip(tokens, lengths(tokens), strict=True)])
    assert together.shape == (3, 3)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
    wider = torch.cat([tokens, torch.full((3, 4, 2), PADDING, dtype=tokens.dtype)], dim=1)
    assert torch.equal(model(wider), together)


def test_an_encoder_gives_the_mean_and_a_decoder_the_last_state(bert: Path, llama: Path) -> None:
    for folder, pick in ((bert, lambda hidden: hidden.mean(dim=1)), (llama, lambda hidden: hidden[:, -1])):
        model, tokens = build(folder), encode(folder, TEXTS[:1])
        hidden = model.body(input_ids=tokens[..., 0].long()).last_hidden_state
        torch.testing.assert_close(model(tokens), model.head(pick(hidden)), rtol=1e-5, atol=1e-6)


def test_weights_are_those_of_the_folder_and_the_head_is_of_the_seed(bert: Path) -> None:
    stored = load_file(bert / "model.safetensors")
    one, other = build(bert, seed=1), build(bert, seed=2)
    for name, tensor in one.body.state_dict().items():
        if name in stored:
            assert torch.equal(tensor, stored[name]), name
    assert not any("pooler" in name for name, _ in one.named_parameters())
    assert not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(one.head.weight, build(bert, seed=1).head.weight)


def test_scratch_draws_every_weight_from_the_seed_and_from_nothing_else(bert: Path) -> None:
    state = torch.random.get_rng_state()
    one, again, other = (build(f"scratch:{bert}", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator is given back as it was"
    weights = [model.body.encoder.layer[0].output.dense.weight for model in (one, again, other, build(bert))]  # type: ignore[union-attr, index]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[3])


def test_dropout_is_off_unless_asked_for(bert: Path) -> None:
    tokens = encode(bert)
    off, on = build(bert).train(), build(bert, dropout=True).train()
    assert torch.equal(off(tokens), off(tokens))
    assert not torch.equal(on(tokens), on(tokens))


def test_a_folder_is_known_by_its_content(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a@b"
    shutil.copytree(bert, folder)
    pinned = models.resolve(str(folder))
    place, _, digest = pinned.rpartition("@")
    assert (place, len(digest)) == (str(folder), 12)
    assert models.resolve(f"scratch:{pinned}") == f"scratch:{pinned}"
    assert models.resolve(str(bert)).endswith(digest), "the same content has the same hash"
    assert build(pinned).head.out_features == 3
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    with pytest.raises(RequestError, match=f"must be as it was when the run was asked for, {digest}; it is"):
        models.resolve(pinned)


@pytest.mark.parametrize(
    ("without", "words"), [("config.json", "must hold config.json"), ("model.safetensors", "must hold weights")]
)
def test_a_folder_without_a_part_is_refused(bert: Path, tmp_path: Path, without: str, words: str) -> None:
    folder = tmp_path / "part"
    shutil.copytree(bert, folder)
    (folder / without).unlink()
    with pytest.raises(RequestError, match=words):
        models.resolve(str(folder))


def test_weights_of_another_size_or_missing_are_refused(bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folder = tmp_path / "less"
    shutil.copytree(bert, folder)
    stored = load_file(bert / "model.safetensors")
    del stored["encoder.layer.1.output.dense.weight"]
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RequestError, match=r"1 are missing, such as 'encoder\.layer\.1"):
        build(folder)


@pytest.mark.parametrize("content", ["torn", "other shape"])
def test_weights_that_do_not_fit_are_refused(bert: Path, tmp_path: Path, content: str) -> None:
    from safetensors.torch import save_file

    folder = tmp_path / "torn"
    shutil.copytree(bert, folder)
    stored = load_file(bert / "model.safetensors")
    save_file(stored | {"encoder.layer.0.output.dense.bias": torch.zeros(7)}, folder / "model.safetensors")
    if content == "torn":
        (folder / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(RequestError, match="cannot be had") as caught:
        build(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_brings_code_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    shutil.copytree(bert, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('code of a repository ran')")
    with pytest.raises(RequestError, match="cannot be had"):
        build(folder)


def test_pickled_weights_are_not_read(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(bert, folder)
    torch.save(load_file(bert / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(RequestError, match="safetensors"):
        build(folder)


def test_a_tokenizer_of_another_model_is_refused(bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(bert, folder)
    tiny_tokenizer(folder, [f"w{i}" for i in range(90)])
    with pytest.raises(RequestError, match="must fit its model of 18 tokens; received 94"):
        encode(folder)


def test_a_folder_without_a_tokenizer_is_refused(bert: Path, tmp_path: Path) -> None:
    """``transformers`` makes an empty one up, for which every word is unknown."""
    folder = tmp_path / "without"
    shutil.copytree(bert, folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(RequestError, match="must know some of the texts; received none but special tokens"):
        encode(folder)


def test_a_text_without_a_token_is_refused(llama: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    folder = tmp_path / "bare"
    shutil.copytree(llama, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"] = None
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).encode("  ").ids == []
    with pytest.raises(RequestError, match=r"every text must have a token; received 1 without any .*, text 2 first"):
        encode(folder, ("good film", "  "))


def test_a_hub_name_that_cannot_be_had_says_what_to_give_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(RequestError, match=r"'nobody/nothing' cannot be had: .*give a folder") as caught:
        models.resolve("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_numbers_and_texts_do_not_mix(bert: Path) -> None:
    with pytest.raises(RequestError, match=r"takes texts; received rows of shape \[1, 28, 28\]"):
        models.build(str(bert), input_shape=(1, 28, 28), outputs=2, seed=0)
    with pytest.raises(RequestError, match="model 'mlp:5' takes numbers; received texts"):
        models.build("mlp:5", input_shape=(), outputs=2, seed=0)
    with pytest.raises(RequestError, match="unknown model 'minilmm'; did you mean 'minilm'"):
        models.build("minilmm", input_shape=(), outputs=2, seed=0)


def test_an_encoder_with_a_decoder_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config(vocab_size=18, d_model=16, num_layers=1, num_heads=2, d_kv=8, d_ff=16).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(RequestError, match="must be an encoder or a decoder of texts; received a 't5'"):
        build(tmp_path)
