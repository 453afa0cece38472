"""What a weight is for, and how deep it lies, read from its name.

Names of the families BERT, RoBERTa, DistilBERT, GPT-2, GPT-NeoX, Llama, Phi, OPT, T5, ViT and ResNet are known,
as Hugging Face, timm and torchvision spell them. A name that says nothing is ``other``; a tensor with four axes
is a convolution whatever its name. Depth counts the repeated blocks of a model from 0, an encoder's before a
decoder's, a stage's before the next one's; what lies outside blocks (embeddings, head) has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

BLOCKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bstages?\.(\d+)\.(?:layers|blocks)\.(\d+)\b",  # ResNet, ConvNeXt in transformers
        r"\blayers\.(\d+)\.blocks\.(\d+)\b",  # Swin
        r"\blayer(\d+)\.(\d+)\b",  # ResNet in torchvision
        r"\bh\.(\d+)\b",  # GPT-2
        r"\b\w*?(?:layers?|blocks?)[._](\d+)\b",
        r"^(?:\w+\.)?(\d+)$",  # a plain torch.nn.Sequential
    )
)

ANYWHERE = (
    ("norm", r"norm|\bln_?\w*$|\bbn\d*$|\bdownsample\.1$"),
    ("position", r"position|\bpos_embed|\bwpe$|relative_attention_bias"),
    ("segment", r"token_type"),
    ("conv", r"conv|patch_embed|\bdownsample\.0$|\bshortcut\b"),
    ("pooler", r"\bpooler\b"),
    ("head", r"lm_head|classifier|\bscore$|\bheads?\b|\bcls\b|\bembed_out$|qa_outputs|\bfc$"),
    ("embedding", r"word_embed|embed_tokens|\bembed_in$|\bwte$|^(\w+\.)?shared$|tok_embed|\bembeddings?$"),
)

IN_A_BLOCK = (
    ("query-key-value", r"c_attn$|qkv|query_key_value$|\bin_proj"),
    ("query", r"\b(query|q|q_proj|q_lin|to_q|wq|q_[ab]_proj)$"),
    ("key", r"\b(key|k|k_proj|k_lin|to_k|wk)$"),
    ("value", r"\b(value|v|v_proj|v_lin|to_v|wv)$"),
    ("output", r"att\w*\.(\w+\.)?output\.dense$|att\w*\.(c_proj|proj|dense|o|wo)$|\b(o_proj|out_proj|out_lin)$"),
    ("router", r"\brouter\b|mlp\.gate$|moe\.gate$"),
    ("gate-up", r"gate_up_proj$"),
    ("gate", r"\b(gate_proj|wi_0|w1)$"),
    ("up", r"\b(up_proj|intermediate\.dense|c_fc|fc1|lin1|wi|wi_1|w3|dense_h_to_4h)$|mlp\.0$"),
    ("down", r"\b(down_proj|output\.dense|c_proj|fc2|lin2|wo|w2|dense_4h_to_h)$|mlp\.3$"),
)

KINDS = (*(kind for kind, _ in (*IN_A_BLOCK, *ANYWHERE)), "other")


@dataclass(frozen=True, kw_only=True)
class Module:
    """The module of a tensor: its kind, one of ``KINDS``, and the depth of its block, None outside blocks."""

    kind: str
    depth: int | None


def modules_of(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Module]:
    """Return the module of every named tensor; depths are counted over all of them.

    >>> modules_of({"h.0.attn.c_proj.weight": (768, 768), "h.1.mlp.c_fc.weight": (768, 3072)})["h.1.mlp.c_fc.weight"]
    Module(kind='up', depth=1)
    """
    blocks = {name: _block(_path(name)) for name in shapes}
    order: dict[Block | None, int] = {block: i for i, block in enumerate(sorted({b for b in blocks.values() if b}))}
    return {
        name: Module(kind=_kind(_path(name), blocks[name] is not None, shape), depth=order.get(blocks[name]))
        for name, shape in shapes.items()
    }


Block = tuple[bool, str, tuple[int, ...]]


def _path(name: str) -> str:
    """Return the module's path: lower case, without the tensor's own name or the index of a slice."""
    path = re.sub(r"\[\d+\]$", "", name).lower()
    return re.sub(r"\.(weight|bias)$|_(weight|bias)$", "", path)


def _block(path: str) -> Block | None:
    """Return what orders the block of a module among all blocks: decoder or not, tower, numbers."""
    for pattern in BLOCKS:
        if found := pattern.search(path):
            tower = path[: found.start()]
            return "decoder" in tower, tower, tuple(int(number) for number in found.groups())
    return None


def _kind(path: str, in_a_block: bool, shape: tuple[int, ...]) -> str:
    tables = (ANYWHERE[:4], IN_A_BLOCK, ANYWHERE[4:]) if in_a_block else (ANYWHERE,)
    for kind, pattern in (row for table in tables for row in table):
        if re.search(pattern, path):
            return kind
    return "conv" if len(shape) > 3 else "other"
