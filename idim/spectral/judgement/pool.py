"""Matrices side by side: one thread each, and one thread for the linear algebra inside.

Eigenvalues of a matrix of a few hundred rows hardly gain from a second thread; two matrices at once do. Results come
in the order of the items and do not depend on the number of workers, because every product is made by one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(work: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None = None) -> Iterator[Result]:
    """Yield ``work(item)`` for every item, in order, with at most ``workers`` at work or waiting to be taken.

    Args:
        work: called in a thread of its own; an exception is raised where its result would come.
        items: taken one by one, as places come free.
        workers: threads; None takes as many as torch has.
    """
    threads = torch.get_num_threads()
    count = workers or threads
    left = iter(items)
    pool = ThreadPoolExecutor(count, thread_name_prefix="idim", initializer=torch.set_num_threads, initargs=(1,))
    with threadpool_limits(1, user_api="blas"):
        try:
            ahead: deque[Future[Result]] = deque(pool.submit(work, item) for item in islice(left, count))
            while ahead:
                result = ahead.popleft().result()
                ahead.extend(pool.submit(work, item) for item in islice(left, 1))
                yield result
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
