import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idim.kernels import blocks_cpu
from idim.kernels.blocks import LANES, WORD, Layout

SIZES = st.integers(0, 20).map(lambda b: 1 << b)


@given(n=SIZES, D=st.integers(1, 10**11))
def test_last_group_holds_the_rows_that_remain(n, D):
    layout = Layout(D=D, n=n)
    last = layout.groups(layout.last, 1)
    rows = D - last.start
    assert 0 < rows <= layout.rows
    assert (last.blocks - 1) * n < rows <= last.blocks * n
    assert last.blocks <= last.lanes <= layout.lanes
    if D % n == 0:
        assert rows == last.blocks * n


@given(n=SIZES, D=st.integers(1, 10**9))
def test_parts_of_a_block_begin_with_a_word(n, D):
    layout = Layout(D=D, n=n)
    lanes = layout.groups(layout.last, 1).lanes
    assert LANES % lanes == 0
    assert lanes == LANES or n * lanes // LANES % WORD == 0


@given(data=st.data(), n=SIZES, D=st.integers(1, 10**7), rows=st.integers(1000, 10**6))
def test_batches_cover_a_range_once(data, n, D, rows):
    layout = Layout(D=D, n=n)
    start = data.draw(st.integers(max(0, D - 10**5), D - 1))
    stop = data.draw(st.integers(start + 1, D))
    batches = list(layout.batches(start, stop, rows))
    assert batches[0].start <= start < batches[0].start + layout.rows
    for before, after in itertools.pairwise(batches):
        assert after.start == before.start + before.count * before.blocks * n
        assert after.first == before.first + before.count * before.blocks
    end = batches[-1]
    assert end.start < stop <= end.start + end.count * end.blocks * n


@pytest.mark.parametrize(("n", "lanes"), [(1, 16), (1024, 16), (4096, 16), (8192, 4), (16_384, 2), (1 << 18, 1)])
def test_lanes_of_a_full_group_never_change(n, lanes):
    """They are part of the definition: another number would make another P."""
    assert Layout(D=10**9, n=n).lanes == lanes


@given(n=SIZES, D=st.integers(1, 10**8), data=st.data())
def test_shares_are_the_pieces_in_order(n, D, data):
    layout, start = Layout(D=D, n=n), data.draw(st.integers(0, D - 1))
    stop = data.draw(st.integers(start + 1, D))
    shares = blocks_cpu._shares(start, stop, layout)
    assert [shares[0].start, *(s.stop for s in shares)] == [*(s.start for s in shares), stop]
    assert [int(row[0]) for s in shares for row in s.plan] == [p.start for p in blocks_cpu._pieces(start, stop, layout)]
    assert all(s.start == s.plan[0, 0] for s in shares[1:])


def test_a_small_model_is_one_share():
    assert len(blocks_cpu._shares(0, 199_210, Layout(D=199_210, n=1024))) == 1
