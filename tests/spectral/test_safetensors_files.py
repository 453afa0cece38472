"""Safetensors files: equal to the library on good files, one line and little memory on all others."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idim.errors import RequestError
from idim.spectral.reading.header import BITS, IN_TORCH, read_header
from idim.spectral.reading.tensors import Safetensors

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
INTEGERS = [torch.int64, torch.int32, torch.uint8, torch.bool]
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120)


def content(*, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return tensors of every dtype and of odd shapes."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {f"float.{d}": torch.randn(3, 5, generator=generator).to(d) for d in FLOATS}
    tensors |= {f"whole.{d}": torch.randint(0, 2, (7,), generator=generator).to(d) for d in INTEGERS}
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.empty(0, 4)
    tensors["convolution"] = torch.randn(4, 3, 2, 2, generator=generator)
    return tensors


def encoded(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def opened(tmp_path: Path, content: bytes) -> Safetensors:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return Safetensors([path], str(path))


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    raw = (x.contiguous().reshape(-1).view(torch.uint8) for x in (a, b))
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(*raw)


def test_tensors_are_those_of_the_library(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(content(), path, metadata={"format": "pt", "braces": '{"[": "}"}'})
    source, expected = Safetensors([path], "here"), safetensors.torch.load_file(path)
    assert source.entries.keys() == expected.keys()
    for name, tensor in expected.items():
        assert source.entries[name].dtype == tensor.dtype
        assert same_bits(source.read(name), tensor)


@given(start=st.integers(0, 6), stop=st.integers(0, 8) | st.none())
@QUIET
def test_rows_are_those_of_the_whole(tmp_path, start, stop):
    path = tmp_path / "model.safetensors"
    if not path.exists():
        safetensors.torch.save_file({"a": torch.randn(3, 2), "w": torch.arange(42.0).view(7, 2, 3)}, path)
    assert torch.equal(Safetensors([path], "here").read("w", start, stop), torch.arange(42.0).view(7, 2, 3)[start:stop])


def test_every_dtype_of_the_format_has_its_size_in_torch():
    for word, bits in BITS.items():
        dtype = getattr(torch, IN_TORCH.get(word, ""), None)
        assert dtype is None or dtype.itemsize * 8 == bits, word
    assert {"F32", "BF16", "F8_E4M3"} <= IN_TORCH.keys()


def test_a_dtype_that_torch_lacks_is_named_when_read(tmp_path):
    source = opened(tmp_path, encoded({"codes": entry("F4", [4], [0, 2])}, b"ab"))
    assert source.entries["codes"].dtype is None
    with pytest.raises(RequestError, match="no dtype for 'codes'; received F4"):
        source.read("codes")


def test_padding_and_metadata_are_allowed(tmp_path):
    header = b'{"__metadata__":{"a":"{\\"b\\": [1]}"}, "w":{"shape":[2],"dtype":"F32","data_offsets":[0,8]}}   '
    assert opened(tmp_path, encoded(header, bytes(8))).read("w").tolist() == [0, 0]


FAULTS = [
    (b"", "fewer than the 8"),
    (b"\1\0", "fewer than the 8"),
    (encoded(b"", length=2**63), "more than 100000000"),
    (encoded(b"{}", length=1000), "truncated"),
    (encoded(b"\xff\xfe{}"), "not UTF-8"),
    (encoded(b"[]"), "must have '{'"),
    (encoded(b"{"), "not 'the end'"),
    (encoded(b'{"a"}'), "must have ':'"),
    (encoded(b"{1: 2}"), "must have '\"'"),
    (encoded(b'{"a\\ud8zz": {}}'), "not a JSON string"),
    (encoded(b'{"a": 3}'), "no flat JSON object"),
    (encoded(b'{"a": [[[]]]}'), "no flat JSON object"),
    (encoded(b'{"a": {"b": {}}}'), "no flat JSON object"),
    (encoded(b"{} x"), "goes on"),
    (encoded({"__metadata__": {"a": 3}}), "metadata 'a' is not a string"),
    (encoded({"__metadata__": []}), "must have '{'"),
    (encoded({"w": entry() | {"more": 1}}, bytes(8)), "must have dtype, shape and data_offsets"),
    (encoded({"w": {"dtype": "F32", "shape": [2]}}, bytes(8)), "must have dtype, shape and data_offsets"),
    (encoded({"w": entry("F33")}, bytes(8)), "unknown dtype 'F33'"),
    (encoded({"w": entry(["F32"])}, bytes(8)), "unknown dtype"),
    (encoded({"w": entry(shape=[-2])}, bytes(8)), "shape of natural numbers"),
    (encoded({"w": entry(shape=[2.0])}, bytes(8)), "shape of natural numbers"),
    (encoded({"w": entry(shape=[True, 2])}, bytes(8)), "shape of natural numbers"),
    (encoded({"w": entry(shape=[1] * 33 + [2])}, bytes(8)), "shape of natural numbers"),
    (encoded({"w": entry(shape=[2**62, 2**62, 0], offsets=[0, 8])}, bytes(8)), "cannot have 8 bytes"),
    (encoded({"w": entry(shape=[2**63], offsets=[0, 8])}, bytes(8)), "shape of natural numbers"),
    (encoded({"w": entry(shape=[3])}, bytes(8)), "cannot have 8 bytes"),
    (encoded({"w": entry("F64")}, bytes(8)), "cannot have 8 bytes"),
    (encoded({"w": entry(offsets=[8, 0])}, bytes(8)), "data_offsets"),
    (encoded({"w": entry(offsets=[0, 4, 8])}, bytes(8)), "data_offsets"),
    (encoded({"w": entry()}, bytes(7)), "truncated"),
    (encoded({"w": entry()}, bytes(9)), "left over"),
    (encoded({"w": entry(offsets=[4, 12])}, bytes(12)), "leaves a gap after the header"),
    (encoded({"v": entry(), "w": entry(offsets=[4, 12])}, bytes(12)), "tensor 'w' overlaps tensor 'v'"),
    (encoded({"v": entry(), "w": entry(offsets=[12, 20])}, bytes(20)), "tensor 'w' leaves a gap after tensor 'v'"),
    (encoded(b'{"w":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)), "is not JSON"),
    (
        encoded(b'{"w":' + json.dumps(entry()).encode() + b',"w":' + json.dumps(entry()).encode() + b"}", bytes(8)),
        "twice",
    ),
]


@pytest.mark.parametrize(("raw", "fault"), FAULTS, ids=[fault for _, fault in FAULTS])
def test_a_malformed_file_is_named_with_its_fault(tmp_path, raw, fault):
    with pytest.raises(RequestError) as caught:
        opened(tmp_path, raw)
    assert fault in str(caught.value)
    assert "model.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 10**6,
        b'{"a":' * 2 * 10**5,
        b'{"a":{' * 10**5,
        b'{"a":[' + b"[]," * 10**6,
        b'{"__metadata__":[' + b"[" * 10**6,
    ],
    ids=["lists", "objects", "entries", "members", "metadata"],
)
def test_nesting_costs_an_error_and_not_memory(tmp_path, bomb):
    path = tmp_path / "model.safetensors"
    path.write_bytes(encoded(bomb))
    tracemalloc.start()
    with pytest.raises(RequestError):
        read_header(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(bomb)


def test_a_long_name_or_value_gives_a_short_line(tmp_path):
    for raw in (encoded({"n" * 10**5: 3}), encoded({"w": entry("F" * 3000)}, bytes(8))):
        with pytest.raises(RequestError) as caught:
            opened(tmp_path, raw)
        assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_missing_file_and_a_name_in_two_files(tmp_path):
    with pytest.raises(RequestError, match=r"must be readable; received .*none\.safetensors"):
        Safetensors([tmp_path / "none.safetensors"], "here")
    for name in ("a", "b"):
        safetensors.torch.save_file({"w": torch.zeros(2)}, tmp_path / name)
    with pytest.raises(RequestError, match="'w' in a and b"):
        Safetensors([tmp_path / "a", tmp_path / "b"], "here")


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    source = opened(tmp_path, encoded({"w": entry()}, bytes(8)))
    os.truncate(tmp_path / "model.safetensors", 60)
    with pytest.raises(RequestError, match="has become shorter"):
        source.read("w")


# -- anything at all ---------------------------------------------------------------------------------

VALID = safetensors.torch.save(content())


def agrees_with_the_library(path: Path) -> None:
    """A file that is accepted is accepted by the library too, with the same bits; others get one line."""
    try:
        source = Safetensors([path], str(path))
    except RequestError as error:
        if "\n" in str(error):
            raise AssertionError("more than one line") from error
        return
    expected = safetensors.torch.load(path.read_bytes())
    assert {name for name in source.entries if source.entries[name].dtype is not None} == expected.keys()
    for name, tensor in expected.items():
        assert same_bits(source.read(name), tensor)


@given(edits=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@QUIET
def test_changed_bytes(tmp_path, edits):
    raw = bytearray(VALID)
    for at, value in edits:
        raw[at] = value
    path = tmp_path / "model.safetensors"
    path.write_bytes(raw)
    agrees_with_the_library(path)


@given(cut=st.integers(0, len(VALID)), tail=st.binary(max_size=20))
@QUIET
def test_cut_and_grown_files(tmp_path, cut, tail):
    path = tmp_path / "model.safetensors"
    path.write_bytes(VALID[:cut] + tail)
    agrees_with_the_library(path)


NUMBERS = (
    st.integers(-2, 12) | st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.none() | st.text(max_size=3)
)
JSON = st.recursive(
    NUMBERS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from([*BITS, "F31"]) | JSON,
        "shape": st.lists(st.integers(0, 4), max_size=3) | JSON,
        "data_offsets": st.tuples(st.integers(0, 40), st.integers(0, 40)) | JSON,
        "extra": JSON,
    },
)


@given(
    header=st.dictionaries(st.sampled_from(["a", "b", "__metadata__", "é\n"]), ENTRIES | JSON, max_size=3) | JSON,
    data=st.integers(0, 48),
    length=st.none() | st.integers(0, 2**64 - 1),
)
@QUIET
def test_invented_headers(tmp_path, header, data, length):
    path = tmp_path / "model.safetensors"
    path.write_bytes(encoded(header, bytes(data), length=length))
    agrees_with_the_library(path)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4),
    shift=st.sampled_from([0, 0, 0, 4, -4, 2**40]),
    data=st.data(),
)
@QUIET
def test_shifted_tensors(tmp_path, sizes, shift, data):
    """Whole files whose offsets are moved: only those without gap or overlap are read."""
    header, at = {}, 0
    for i, (m, n) in enumerate(sizes):
        header[f"t{i}"] = entry(shape=[m, n], offsets=[at, at + 4 * m * n])
        at += 4 * m * n
    moved = header[data.draw(st.sampled_from(sorted(header)))]
    moved["data_offsets"] = [max(0, x + shift) for x in moved["data_offsets"]]
    path = tmp_path / "model.safetensors"
    path.write_bytes(encoded(header, bytes(at)))
    agrees_with_the_library(path)
    if shift == 0:
        assert Safetensors([path], "here").entries.keys() == header.keys()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not list open files")
def test_files_are_held_open_only_meanwhile(tmp_path):
    path, opened = tmp_path / "a.safetensors", Path("/proc/self/fd")
    safetensors.torch.save_file(content(), path)
    source, expected = Safetensors([path], "here"), content()

    def held() -> int:
        return sum(path.samefile(link) for link in opened.iterdir() if link.exists())

    with source.held():
        assert held() == 1
        moved = path.rename(tmp_path / "elsewhere")
        assert all(same_bits(source.read(name), tensor) for name, tensor in expected.items())
        moved.rename(path)
    assert held() == 0
    path.unlink()
    with pytest.raises(RequestError, match=r"must be readable; received .*No such file"), source.held():
        pass
