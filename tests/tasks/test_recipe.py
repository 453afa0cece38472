from __future__ import annotations

import dataclasses
import math

import pytest

from idim.errors import RequestError
from idim.tasks import Recipe


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"optimizer": "adm"}, "unknown optimizer 'adm'; did you mean 'adam'"),
        ({"schedule": "linear"}, "unknown schedule 'linear'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
        ({"train_on": "report"}, "unknown train_on 'report'"),
        ({"steps": 0}, "steps must be at least 1; received 0"),
        ({"batch_size": -1}, "batch_size must be at least 0 .* received -1"),
        ({"l2": -1e-5}, "l2 must be finite and at least 0; received -1e-05"),
        ({"l2": math.nan}, "l2 must be finite and at least 0; received nan"),
        ({"optimizer": "lbfgs"}, "lbfgs takes batch_size 0 and l2 0; received batch_size 128"),
    ],
)
def test_what_no_training_can_do_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Recipe(**change)  # type: ignore[arg-type]


def test_a_recipe_is_a_value() -> None:
    assert Recipe(l2=0) == Recipe() == dataclasses.replace(Recipe(steps=7), steps=1500)
    assert repr(Recipe(l2=0)) == repr(Recipe())
