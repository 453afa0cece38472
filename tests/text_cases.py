"""Small language models and texts made on the spot: no weights, no network."""

from __future__ import annotations

import csv
from pathlib import Path

import torch

WORDS = ["good", "bad", "film", "plot", "fine", "poor", "the", "a", "was", "not", "cat", "dog", "sun", "rain"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def tiny_tokenizer(folder: Path, words: list[str] | None = None) -> None:
    """Save a tokenizer of whole words that marks pairs as BERT does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(SPECIAL + (words or WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_max_length=32,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    fast.save_pretrained(folder)


def tiny_bert(folder: Path, *, dropout: float = 0.1, seed: int = 0) -> Path:
    """Save a BERT of two layers of 16 with its tokenizer; return the folder."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(torch.Generator().manual_seed(seed).get_state())
        BertModel(config).save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def tiny_llama(folder: Path) -> Path:
    """Save a decoder of two layers of 16 with its tokenizer; return the folder."""
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        LlamaModel(config).save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def tiny_decoder(folder: Path, *, tied: bool = True, seed: int = 0) -> Path:
    """Save a decoder of two layers of 16 with its output layer and its tokenizer; return the folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(SPECIAL) + len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32, tie_word_embeddings=tied,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(torch.Generator().manual_seed(seed).get_state())
        LlamaForCausalLM(config).save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


def sentences(rows: int, *, seed: int = 0) -> list[tuple[str, int]]:
    """Return texts of 2 to 9 words with a label: whether "good" or "fine" is among them."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(rows):
        size = int(torch.randint(2, 10, (), generator=generator))
        words = [WORDS[i] for i in torch.randint(len(WORDS), (size,), generator=generator).tolist()]
        found.append((" ".join(words), int("good" in words or "fine" in words)))
    return found


def write_csv(path: Path, rows: list[tuple[object, ...]], header: tuple[str, ...] = ("text", "label")) -> Path:
    """Write rows under a header; return the path."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path
