"""Compiled work on several threads: kernels that let go of the interpreter lock, in a pool of our own.

Numba's parallel loops and their pool must not be entered from two Python threads at once; a
``ThreadPoolExecutor`` may be. Work is split by its size alone, never by the number of threads, which
is torch's (``torch.get_num_threads()``) and decides only who does which piece.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import torch


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="idim")


# a forked child has the pool but not its threads
os.register_at_fork(after_in_child=_pool.cache_clear)


def run(tasks: Iterable[Callable[[], None]]) -> None:
    """Run every task, the caller taking its share; the first exception is raised once all threads are done."""
    left = deque(tasks)
    if len(left) == 1:
        left.pop()()
        return
    helpers = min(torch.get_num_threads(), len(left)) - 1
    futures = [_pool(helpers).submit(_drain, left) for _ in range(helpers)]
    try:
        _drain(left)
    finally:
        left.clear()
        errors = [future.exception() for future in futures if not future.cancel()]
    for error in filter(None, errors):
        raise error


def _drain(tasks: deque[Callable[[], None]]) -> None:
    while True:
        try:
            task = tasks.popleft()
        except IndexError:
            return
        task()
