import os
import threading

import pytest
import torch

from idim.kernels import threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_every_task_runs_once(three_threads):
    done = []
    threads.run([lambda i=i: done.append(i) for i in range(50)])
    assert sorted(done) == list(range(50))


def test_tasks_run_on_as_many_threads_as_torch_has(three_threads):
    together = threading.Barrier(3, timeout=30)
    threads.run([together.wait] * 3)  # a smaller pool would never pass the barrier


def test_an_exception_is_raised_once_the_other_threads_are_done(three_threads):
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        threads.run([fail] * 4)
    threads.run([lambda: None] * 4)


def test_callers_from_several_threads(three_threads):
    counts = [0] * 4

    def call(i):
        def add():
            counts[i] += 1

        threads.run([add] * 25)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=30)
    assert counts == [25] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_its_own_pool(three_threads):
    threads.run([lambda: None] * 3)
    child = os.fork()
    if child == 0:
        threads.run([lambda: None] * 3)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
