from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from idim.errors import RequestError
from idim.tasks import idx

CODES = {np.dtype(code): number for number, code in idx.TYPES.items()}
ARRAYS = st.sampled_from(sorted(CODES, key=str)).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, min_side=0, max_side=5))
)
SHARED_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def encode(array: np.ndarray) -> bytes:
    head = struct.pack(">BBBB", 0, 0, CODES[array.dtype], array.ndim)
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder: Path, content: bytes, *, packed: bool) -> Path:
    path = folder / ("array.gz" if packed else "array")
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def outcome(path: Path) -> tuple[np.ndarray | None, str]:
    """Return the array, or the line that refuses it; any other exception is a failure."""
    try:
        return idx.read(path), ""
    except RequestError as refusal:
        return None, str(refusal)


@SHARED_FOLDER
@given(array=ARRAYS, packed=st.booleans())
def test_reads_what_the_format_says(tmp_path: Path, array: np.ndarray, packed: bool) -> None:
    found = idx.read(write(tmp_path, encode(array), packed=packed))
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


@SHARED_FOLDER
@given(array=ARRAYS, packed=st.booleans(), data=st.data())
def test_any_other_length_is_refused_with_both_sizes(
    tmp_path: Path, array: np.ndarray, packed: bool, data: st.DataObject
) -> None:
    whole = encode(array)
    cut = data.draw(st.integers(0, len(whole) + 3).filter(lambda n: n != len(whole)))
    broken = (whole + b"\0\0\0")[:cut]
    with pytest.raises(RequestError) as refusal:
        idx.read(write(tmp_path, broken, packed=packed))
    assert "\n" not in str(refusal.value)
    if cut > 4 + 4 * array.ndim:
        assert f"{array.nbytes} bytes of values; received " in str(refusal.value)


@SHARED_FOLDER
@given(content=st.binary(max_size=200), packed=st.booleans(), valid_head=st.booleans())
def test_any_bytes_give_an_array_or_one_line(tmp_path: Path, content: bytes, packed: bool, valid_head: bool) -> None:
    content = (b"\0\0\x08\x02" if valid_head else b"") + content
    path = tmp_path / ("bytes.gz" if packed else "bytes")
    path.write_bytes(gzip.compress(content) if packed and valid_head else content)
    found, refusal = outcome(path)
    if found is None:
        assert "\n" not in refusal
        assert str(path) in refusal


@SHARED_FOLDER
@given(flip=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_damaged_packed_file_never_gives_another_array(tmp_path: Path, flip: int, value: int) -> None:
    array = np.arange(2000, dtype=">i2").reshape(2, 1000)
    packed = bytearray(gzip.compress(encode(array)))
    packed[flip % len(packed)] = value
    path = tmp_path / "damaged.gz"
    path.write_bytes(packed)
    found, refusal = outcome(path)
    assert "\n" not in refusal
    if found is not None:
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("packed", [False, True])
def test_an_announced_terabyte_is_not_reserved(tmp_path: Path, packed: bool) -> None:
    head = struct.pack(">BBBBIII", 0, 0, 0x08, 3, 10**6, 1000, 1000)
    path = write(tmp_path, head + bytes(1000), packed=packed)
    tracemalloc.start()
    with pytest.raises(RequestError, match="1000000000000 bytes of values; received"):
        idx.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_compression_bomb_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    bomb = encode(np.zeros((10, 10), dtype=">u1")) + bytes(64 << 20)
    path = write(tmp_path, bomb, packed=True)
    tracemalloc.start()
    with pytest.raises(RequestError, match="100 bytes of values; received 101 or more"):
        idx.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_other_files_are_named_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG....")
    with pytest.raises(RequestError, match=r"picture.png is not an idx file: .* received 89 50 4e 47"):
        idx.read(path)
    with pytest.raises(RequestError, match=r"cannot read .*absent"):
        idx.read(tmp_path / "absent")
    (tmp_path / "plain.gz").write_bytes(b"not packed")
    with pytest.raises(RequestError, match=r"cannot read .*plain.gz: Not a gzipped file"):
        idx.read(tmp_path / "plain.gz")
