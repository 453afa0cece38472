"""The hub of Hugging Face: whether it answers, asked once and briefly.

Its libraries try every file of an unreachable hub again and again, for a minute, and say so each time. Where it does
not answer they are taken off line here, as ``HF_HUB_OFFLINE=1`` does: what is in their caches still serves.
"""

from __future__ import annotations

import functools
import importlib
import logging

PATIENCE = 5.0  # seconds for the one answer that is waited for
OFFLINE = (("huggingface_hub.constants", "HF_HUB_OFFLINE"), ("datasets.config", "HF_HUB_OFFLINE"))


@functools.cache
def answers() -> bool:
    """Return whether the hub answers this process; any answer will do. False when it is told to be off line."""
    import huggingface_hub

    try:
        huggingface_hub.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=PATIENCE)
    except Exception:  # which ones depends on the library that the hub's own uses
        return False
    return True


def prepare(*libraries: str) -> None:
    """Silence the libraries of the hub, and take them off line where it does not answer.

    Args:
        libraries: other ones to take off line, which are imported: ``datasets``.
    """
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if answers():
        return
    for module, name in OFFLINE:
        if module.startswith(("huggingface_hub", *libraries)):
            setattr(importlib.import_module(module), name, True)
