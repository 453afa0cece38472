"""Every figure by name, and drawing some of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

from idim.errors import unknown
from paper_figs import (
    bounds,
    budget,
    compare,
    costs,
    fine_tuning,
    fine_tuning_curves,
    gressmann,
    ipt,
    kinds,
    learning_rate,
    li_curves,
    li_grid,
    li_shuffled,
    lora_amplification,
    lora_similarity,
    methods,
    pretraining,
    rate,
    sizes,
    spectra,
    tiny_subspace,
    toy,
    trajectory,
    truncated,
    tuning_variants,
)
from paper_figs.common import MissingRuns

TEXTS, IMAGES = "minilm_trec_all", "resnet20_digits"

FIGURES: Mapping[str, Callable[[], None]] = {
    "toy": toy.draw,
    "li_curves": li_curves.draw,
    "li_grid": li_grid.draw,
    "li_shuffled": li_shuffled.draw,
    "gressmann": gressmann.draw,
    "kinds": kinds.draw,
    "budget": budget.draw,
    "rate": rate.draw,
    "fine_tuning": fine_tuning.draw,
    "fine_tuning_curves": fine_tuning_curves.draw,
    "pretraining": pretraining.draw,
    "sizes": sizes.draw,
    "learning_rate": learning_rate.draw,
    "tuning_variants": tuning_variants.draw,
    "spectra": spectra.draw,
    "truncated": truncated.draw,
    "trajectory": trajectory.draw,
    "compare": compare.draw,
    "tiny_subspace": tiny_subspace.draw,
    "ipt": ipt.draw,
    "bounds": bounds.draw,
    "lora_similarity": lora_similarity.draw,
    "lora_amplification": lora_amplification.draw,
    "methods": functools.partial(methods.draw, TEXTS, "methods"),
    "methods_vision": functools.partial(methods.draw, IMAGES, "methods_vision"),
    "methods_convergence": functools.partial(methods.draw_convergence, TEXTS, "methods_convergence"),
    "methods_together": methods.draw_together,
    "methods_sizes": methods.draw_sizes,
    "methods_transfer": methods.draw_transfer,
    "methods_costs": costs.draw,
}
"""Each writes its name with .pdf, .png and .json at the desk in force (:mod:`paper_figs.common`)."""


def check(names: Sequence[str]) -> None:
    """Refuse names that no figure has.

    Raises:
        RequestError: for the first of them.
    """
    for name in names:
        if name not in FIGURES:
            raise unknown("figure", name, FIGURES)


def drawn(names: Sequence[str]) -> Iterator[tuple[str, MissingRuns | None]]:
    """Draw the figures named, or all, and yield each name with what its runs lack, if they lack anything.

    Raises:
        RequestError: as :func:`check`, before anything is drawn, and for results that cannot be read.
    """
    check(names)
    for name in names or FIGURES:
        try:
            FIGURES[name]()
        except MissingRuns as missing:
            yield name, missing
        else:
            yield name, None
