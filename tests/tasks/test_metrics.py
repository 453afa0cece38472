from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from idim.tasks.metrics import CLASSES, LABELLED, chance, ranks, score

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=40)


def one_hot(answers: list[int], k: int) -> torch.Tensor:
    return torch.eye(k)[torch.tensor(answers)]


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(PAIRS)
def test_f1_and_matthews_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    answers, truth = (list(side) for side in zip(*pairs, strict=True))
    outputs, targets = one_hot(answers, 2), torch.tensor(truth)
    assert score("f1", outputs, targets) == pytest.approx(f1_score(truth, answers, zero_division=0))
    assert score("matthews", outputs, targets) == pytest.approx(matthews_corrcoef(truth, answers), abs=1e-12)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=40))
def test_spearman_is_that_of_scipy_and_zero_where_it_has_none(pairs: list[tuple[int, int]]) -> None:
    outputs, targets = (torch.tensor(side, dtype=torch.float32).unsqueeze(1) for side in zip(*pairs, strict=True))
    found = score("spearman", outputs, targets)
    if outputs.unique().numel() == 1 or targets.unique().numel() == 1:
        assert found == 0
    else:
        assert found == pytest.approx(spearmanr(outputs.flatten(), targets.flatten()).statistic, abs=1e-9)


def test_equal_values_share_a_rank() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [3, 0, 3, 1, 3]


@given(st.lists(st.integers(0, 1), min_size=2, max_size=40))
def test_chance_is_the_best_constant_answer(truth: list[int]) -> None:
    targets = torch.tensor(truth)
    for metric in CLASSES:
        constant = [score(metric, one_hot([k] * len(truth), 2), targets) for k in range(2)]
        assert chance(metric, targets) == pytest.approx(max(constant))


def test_chance_of_values_is_zero_and_perfect_answers_score_one() -> None:
    values, classes = torch.tensor([[0.5], [-1.0], [2.0]]), torch.tensor([1, 0, 1])
    for metric in LABELLED:
        if metric in CLASSES:
            assert score(metric, one_hot(classes.tolist(), 2), classes) == 1
        else:
            assert score(metric, values, values) == pytest.approx(1)
            assert chance(metric, values) == 0
