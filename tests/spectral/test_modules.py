"""Kinds and depths read from the names of the known families."""

from __future__ import annotations

import pytest

from idim.spectral.report.modules import KINDS, Module, modules_of

KNOWN = [
    ("bert.embeddings.word_embeddings.weight", "embedding", None),
    ("bert.embeddings.token_type_embeddings.weight", "segment", None),
    ("bert.embeddings.LayerNorm.weight", "norm", None),
    ("bert.encoder.layer.1.attention.self.query.weight", "query", 0),
    ("bert.encoder.layer.1.attention.output.dense.weight", "output", 0),
    ("bert.encoder.layer.1.attention.output.LayerNorm.weight", "norm", 0),
    ("bert.encoder.layer.1.intermediate.dense.weight", "up", 0),
    ("bert.encoder.layer.1.output.dense.bias", "down", 0),
    ("bert.pooler.dense.weight", "pooler", None),
    ("classifier.weight", "head", None),
    ("transformer.wte.weight", "embedding", None),
    ("transformer.wpe.weight", "position", None),
    ("transformer.h.1.attn.c_attn.weight", "query-key-value", 0),
    ("transformer.h.1.attn.c_proj.weight", "output", 0),
    ("transformer.h.1.mlp.c_fc.weight", "up", 0),
    ("transformer.h.1.mlp.c_proj.weight", "down", 0),
    ("transformer.h.1.ln_1.weight", "norm", 0),
    ("transformer.ln_f.weight", "norm", None),
    ("model.embed_tokens.weight", "embedding", None),
    ("model.layers.1.self_attn.k_proj.weight", "key", 0),
    ("model.layers.1.self_attn.o_proj.weight", "output", 0),
    ("model.layers.1.mlp.gate_proj.weight", "gate", 0),
    ("model.layers.1.mlp.up_proj.weight", "up", 0),
    ("model.layers.1.mlp.down_proj.weight", "down", 0),
    ("model.layers.1.mlp.experts.gate_up_proj[3]", "gate-up", 0),
    ("model.layers.1.input_layernorm.weight", "norm", 0),
    ("model.norm.weight", "norm", None),
    ("lm_head.weight", "head", None),
    ("lm_head.dense.weight", "head", None),
    ("lm_head.layer_norm.weight", "norm", None),
    ("roberta.embeddings.position_embeddings.weight", "position", None),
    ("roberta.encoder.layer.1.attention.self.value.weight", "value", 0),
    ("shared.weight", "embedding", None),
    ("encoder.block.1.layer.0.SelfAttention.q.weight", "query", 0),
    ("encoder.block.1.layer.0.SelfAttention.o.weight", "output", 0),
    ("encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight", "position", 0),
    ("encoder.block.1.layer.1.DenseReluDense.wi_0.weight", "gate", 0),
    ("encoder.block.1.layer.1.DenseReluDense.wi_1.weight", "up", 0),
    ("encoder.block.1.layer.1.DenseReluDense.wo.weight", "down", 0),
    ("vit.embeddings.cls_token", "other", None),
    ("vit.embeddings.patch_embeddings.projection.weight", "conv", None),
    ("vit.layers.1.attention.q_proj.weight", "query", 0),
    ("vit.layers.1.mlp.fc1.weight", "up", 0),
    ("blocks.1.attn.qkv.weight", "query-key-value", 0),
    ("blocks.1.attn.proj.weight", "output", 0),
    ("encoder.layers.encoder_layer_1.self_attention.in_proj_weight", "query-key-value", 0),
    ("encoder.layers.encoder_layer_1.self_attention.out_proj.weight", "output", 0),
    ("encoder.layers.encoder_layer_1.mlp.0.weight", "up", 0),
    ("encoder.layers.encoder_layer_1.mlp.3.weight", "down", 0),
    ("resnet.encoder.stages.0.layers.1.layer.2.convolution.weight", "conv", 0),
    ("resnet.encoder.stages.0.layers.1.layer.2.normalization.weight", "norm", 0),
    ("layer3.1.conv2.weight", "conv", 0),
    ("layer3.0.downsample.0.weight", "conv", 0),
    ("layer3.0.downsample.1.weight", "norm", 0),
    ("layer3.1.bn1.weight", "norm", 0),
    ("fc.weight", "head", None),
    ("distilbert.transformer.layer.1.attention.out_lin.weight", "output", 0),
    ("distilbert.transformer.layer.1.ffn.lin2.weight", "down", 0),
    ("pre_classifier.weight", "head", None),
    ("gpt_neox.layers.1.attention.dense.weight", "output", 0),
    ("gpt_neox.layers.1.mlp.dense_h_to_4h.weight", "up", 0),
    ("gpt_neox.layers.1.mlp.dense_4h_to_h.weight", "down", 0),
    ("model.decoder.layers.1.fc2.weight", "down", 0),
    ("network.3.weight", "other", 0),
    ("mystery.weight", "other", None),
]


@pytest.mark.parametrize(("name", "kind", "depth"), KNOWN, ids=[name for name, _, _ in KNOWN])
def test_known_names(name: str, kind: str, depth: int | None) -> None:
    assert modules_of({name: (8, 8)})[name] == Module(kind=kind, depth=depth)
    assert kind in KINDS


def test_depth_counts_blocks_over_stages_and_the_encoder_before_the_decoder() -> None:
    names = [f"layer{stage}.{block}.conv1.weight" for stage in (1, 2, 3) for block in (0, 1, 2)]
    depths = [module.depth for module in modules_of(dict.fromkeys(names, (8, 8, 3, 3))).values()]
    assert depths == list(range(9))
    towers = [f"{tower}.block.{i}.layer.0.SelfAttention.q.weight" for tower in ("decoder", "encoder") for i in (0, 10)]
    assert [m.depth for m in modules_of(dict.fromkeys(towers, (8, 8))).values()] == [2, 3, 0, 1]


def test_four_axes_are_a_convolution_whatever_the_name() -> None:
    assert modules_of({"mystery.weight": (8, 3, 3, 3)})["mystery.weight"].kind == "conv"
