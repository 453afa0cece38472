"""Matrices side by side: in order, bounded, exceptions where they belong."""

import threading
import time

import pytest
import torch

from idim.spectral.judgement.pool import in_order


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers):
    def slow_first(n):
        time.sleep(0.02 / (n + 1))
        return n * n

    assert list(in_order(slow_first, range(8), workers=workers)) == [n * n for n in range(8)]
    assert list(in_order(slow_first, [], workers=workers)) == []


def test_items_are_taken_as_places_come_free():
    taken, lock, most, busy = [], threading.Lock(), 0, 0

    def items():
        for n in range(10):
            taken.append(n)
            yield n

    def work(n):
        nonlocal most, busy
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.005)
        with lock:
            busy -= 1
        return n

    results = in_order(work, items(), workers=2)
    assert next(results) == 0
    assert len(taken) <= 3
    assert list(results) == list(range(1, 10))
    assert most <= 2


def test_an_exception_comes_where_its_result_would_and_the_threads_end():
    def work(n):
        if n == 2:
            raise KeyError(n)
        return n

    before = torch.get_num_threads()
    seen = []
    with pytest.raises(KeyError):
        seen.extend(in_order(work, range(6), workers=2))
    assert torch.get_num_threads() == before
    assert not [t for t in threading.enumerate() if t.name.startswith("idim_") and t.is_alive() and "pool" in t.name]


def test_one_thread_inside_and_the_old_number_after():
    before = torch.get_num_threads()
    assert set(in_order(lambda _: torch.get_num_threads(), range(4), workers=2)) == {1}
    assert torch.get_num_threads() == before
