from __future__ import annotations

from pathlib import Path

import pytest
import torch
from text_cases import WORDS, tiny_bert, tiny_decoder, tiny_llama
from torch.nn import functional as F

from idim import models
from idim.errors import RequestError
from idim.models import next_token
from idim.models.language import PADDING, lengths
from idim.models.next_token import NextToken
from idim.parameters import Layout
from idim.subspace import Subspace

pytest.importorskip("transformers")
TEXTS = ("the good film", "a bad plot was not fine", "cat")


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def decoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small decoder with its output layer."""
    return tiny_decoder(tmp_path_factory.mktemp("decoder"), tied=request.param)


def build(name: Path | str, seed: int = 0) -> NextToken:
    return models.build(str(name), input_shape=(), outputs=1, seed=seed, next_token=True).eval()  # type: ignore[return-value]


def encode(name: Path) -> torch.Tensor:
    return models.encode(str(name), TEXTS, None, 32)


def test_the_answer_is_the_decoders_own_cross_entropy(decoder: Path) -> None:
    model, tokens = build(decoder), encode(decoder)
    for row, n, answer in zip(tokens[..., 0].long(), lengths(tokens).tolist(), model(tokens), strict=True):
        ids = row[:n].unsqueeze(0)
        own = model.body(input_ids=ids, labels=ids).loss  # type: ignore[operator]
        torch.testing.assert_close(answer, (own * (n - 1)).reshape(1), rtol=1e-5, atol=1e-5)


def test_padding_and_company_change_nothing(decoder: Path) -> None:
    model, tokens = build(decoder), encode(decoder)
    together = model(tokens)
    alone = torch.cat([model(row[: int(n)].unsqueeze(0)) for row, n in zip(tokens, lengths(tokens), strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    wider = torch.cat([tokens, torch.full((3, 4, 2), PADDING, dtype=tokens.dtype)], dim=1)
    assert torch.equal(model(wider), together)


def test_a_text_of_one_token_has_nothing_to_foretell(decoder: Path) -> None:
    model = build(decoder)
    assert model(torch.tensor([[[5, 0]]])).tolist() == [[0.0]]
    mixed = model(torch.tensor([[[5, 0], [PADDING, PADDING]], [[5, 0], [6, 0]]]))
    assert mixed[0] == 0 < mixed[1]


@pytest.mark.parametrize("rows", [1, 3])
def test_chunks_change_neither_answer_nor_gradient(decoder: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    model, tokens = build(decoder).double(), encode(decoder)
    found = []
    for size in (next_token.CHUNK, rows * (len(WORDS) + 4)):
        monkeypatch.setattr(next_token, "CHUNK", size)
        model.zero_grad()
        answer = model(tokens)
        answer.sum().backward()
        found.append((answer, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    (whole, gradients), (parted, others) = found
    torch.testing.assert_close(whole, parted, rtol=1e-5, atol=1e-6)
    assert len(gradients) == len(others) == len(list(model.parameters()))
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_what_is_kept_for_the_backward_pass_is_smaller_than_the_answers_of_the_output_layer(decoder: Path) -> None:
    model, tokens = build(decoder), encode(decoder)
    vocabulary = model.body.config.vocab_size  # type: ignore[union-attr]
    sizes: list[torch.Size] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(tokens)
    foretold = int((lengths(tokens) - 1).sum())
    assert sizes
    assert (foretold, vocabulary) not in [tuple(size) for size in sizes]


def test_it_trains_in_a_subspace_with_the_same_gradient(decoder: Path) -> None:
    model, tokens = build(decoder).double(), encode(decoder)
    space = Subspace(model, projection="dense", d=7, seed=0)
    assert Layout.of(model).D == space.D
    space(tokens).sum().backward()
    assert space.z.grad is not None
    model(tokens).sum().backward()
    tensors = dict(model.named_parameters())
    g = torch.cat([tensors[name].grad.flatten() for name in space.layout.names])  # type: ignore[union-attr]
    torch.testing.assert_close(space.z.grad, space.projection.rmatvec(g), rtol=1e-6, atol=1e-8)


def test_tied_weights_count_once(tmp_path: Path) -> None:
    sizes = {tied: Layout.of(build(tiny_decoder(tmp_path / str(tied), tied=tied))).D for tied in (True, False)}
    assert sizes[False] - sizes[True] == (len(WORDS) + 4) * 16


def test_scratch_is_of_the_seed_and_knows_nothing(decoder: Path) -> None:
    tokens = encode(decoder)
    one, again, other = (build(f"scratch:{decoder}", seed)(tokens) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    mean = float(one.detach().sum() / (lengths(tokens) - 1).sum())
    assert mean == pytest.approx(torch.tensor(len(WORDS) + 4.0).log().item(), abs=0.1)


def test_bfloat16_sums_in_float32(decoder: Path) -> None:
    model, tokens = build(decoder), encode(decoder)
    exact, rounded = model(tokens), model.bfloat16()(tokens)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.1)


# -- what is refused ----------------------------------------------------------------------------------


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"takes a decoder; received .*, a 'bert' encoder: give smollm2"):
        build(tiny_bert(tmp_path))


def test_a_decoder_without_its_output_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"must have all its weights; 1 are missing, such as 'lm_head\.weight'"):
        build(tiny_llama(tmp_path))


@pytest.mark.parametrize("name", ["mlp:5", "resnet20", "net.py:build"])
def test_a_network_of_numbers_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match=f"model '{name}' takes numbers; received texts"):
        build(name)


def test_an_output_layer_that_is_bent_is_refused(decoder: Path) -> None:
    body = build(decoder).body
    layer = body.get_output_embeddings()  # type: ignore[operator]
    layer.register_forward_hook(lambda module, inputs, output: 30 * torch.tanh(output))
    with pytest.raises(RequestError, match=r"a linear layer over its last hidden states; received a 'llama'"):
        NextToken(body)


def test_the_check_leaves_the_mode_as_it_was(decoder: Path) -> None:
    body = build(decoder).body
    for training in (True, False):
        assert NextToken(body.train(training)).body.training == training


def test_perplexity_is_what_the_definition_says(decoder: Path) -> None:
    """One pass over all tokens of all rows, not a mean of means of rows."""
    model, tokens = build(decoder), encode(decoder)
    with torch.no_grad():
        logits = model.body(input_ids=tokens[..., 0].long().clamp(min=0)).logits  # type: ignore[operator]
    lost, count = 0.0, 0
    for row, n in enumerate(lengths(tokens).tolist()):
        for i in range(1, n):
            lost -= float(F.log_softmax(logits[row, i - 1], dim=0)[int(tokens[row, i, 0])])
            count += 1
    assert float(model(tokens).detach().sum()) / count == pytest.approx(lost / count, rel=1e-5)
