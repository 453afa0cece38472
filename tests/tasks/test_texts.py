from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.errors import RequestError
from idim.tasks.texts import Table, Texts, split, tenth


def table(rows: int, start: int = 0) -> Table:
    texts = tuple(f"row {i}" for i in range(start, start + rows))
    return Table(texts=Texts(first=texts), labels=tuple(str(i % 2) for i in range(rows)))


def texts_of(one: Table) -> set[str]:
    return set(one.texts.lines())


def test_dev_selects_and_test_reports_where_there_are_both() -> None:
    train, dev, test = table(30), table(5, 100), table(6, 200)
    parts = split({"train": train, "dev": dev, "test": test}, "it")
    assert parts.tables() == (train, dev, test)


@pytest.mark.parametrize("name", ["dev", "test"])
def test_selection_is_carved_from_train_where_there_is_one_other_split(name: str) -> None:
    train, other = table(500), table(5, 1000)
    parts = split({"train": train, name: other}, "it")  # type: ignore[dict-item]
    assert parts.report is other
    assert texts_of(parts.train) | texts_of(parts.selection) == texts_of(train)
    assert not texts_of(parts.train) & texts_of(parts.selection)
    assert 25 < len(parts.selection) < 80


def test_one_table_gives_three_parts_and_drops_repeats() -> None:
    rows = table(1000)
    again = Texts(first=(*rows.texts.first, "ROW  7 ", "row 7"))
    parts = split({"train": Table(texts=again, labels=(*rows.labels, "1", "1"))}, "it")
    together = [line for part in parts.tables() for line in part.texts.lines()]
    assert len(together) == len(set(together)) == 1000
    assert 150 < len(parts.report) < 250
    assert 60 < len(parts.selection) < 140


@given(st.permutations(range(60)))
def test_the_side_of_a_row_does_not_depend_on_the_order(order: list[int]) -> None:
    rows = table(60)
    one, other = (split({"train": t}, "it") for t in (rows, rows.take(order)))
    for a, b in zip(one.tables(), other.tables(), strict=True):
        assert texts_of(a) == texts_of(b)


def test_the_hash_of_a_text_is_golden_and_even() -> None:
    assert [tenth(f"row {i}") for i in range(8)] == GOLDEN
    counts = [sum(tenth(f"{i}") == k for i in range(20_000)) for k in range(10)]
    assert 1800 < min(counts) < max(counts) < 2200


GOLDEN = [3, 7, 0, 0, 7, 3, 9, 1]


def test_pairs_are_two_columns_and_differ_from_their_join() -> None:
    pairs = Texts(first=("a b", "a"), second=("c", "b c"))
    assert len(set(pairs.lines())) == 2
    assert pairs.take([1]).second == ("b c",)
    assert pairs.joined(pairs.take([0])).first == ("a b", "a", "a b")


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"dev": table(4)}, "it must have a train split; received dev"),
        ({"train": table(2)}, "it must give rows to train, selection and report"),
    ],
)
def test_what_gives_no_three_splits_is_refused(tables: dict[str, Table], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        split(tables, "it")  # type: ignore[arg-type]
