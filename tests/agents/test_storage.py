import json
import math
import os
import pickle
import struct
from hashlib import sha256

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from rl_rms.agents.storage import VERSION, read, write
from tests.naming import naming

CONTENTS = {
    "weights": {"layer.weight": torch.arange(6.0).reshape(2, 3), "none": torch.zeros(0, 4)},
    "state": {0: {"step": torch.tensor(3.0)}, 1: {"step": torch.tensor(True)}},
    "numbers": [1, 2**200, 0.1, -0.0, True, None, "text", [], {}],
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.floats(width=32), max_size=3).map(torch.tensor),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text() | st.integers() | st.just("$tensor"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(DATA)
def test_read_returns_the_written_contents(tmp_path_factory, value):
    path = write(tmp_path_factory.mktemp("any") / "data", {"value": value})
    read_back = read(path)["value"]
    if isinstance(value, torch.Tensor):
        assert torch.equal(value, read_back) or value.isnan().any()
    else:
        assert repr(read_back) == repr(value)


def test_read_restores_every_dtype_and_integer_keys(tmp_path):
    assert same(read(write(tmp_path / "data", CONTENTS)), CONTENTS)


def test_read_restores_nonfinite_numbers(tmp_path):
    values = read(write(tmp_path / "data", {"values": [math.inf, -math.inf, math.nan]}))["values"]
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])


def test_write_same_contents_gives_same_bytes(tmp_path):
    first, second = (write(tmp_path / name, CONTENTS).read_bytes() for name in ("first", "second"))
    assert first == second
    assert write(tmp_path / "again", read(tmp_path / "first")).read_bytes() == first


def test_write_tensors_that_share_storage_are_separate(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    contents = {"whole": whole, "column": whole[:, 1], "turned": whole.T}
    assert same(read(write(tmp_path / "data", contents)), contents)


def test_write_gives_a_safetensors_file(tmp_path):
    from safetensors.torch import load_file

    assert set(load_file(write(tmp_path / "data", CONTENTS))) == {"0", "1", "2", "3", "4"}


def test_write_numpy_numbers_are_read_as_python_numbers(tmp_path):
    written = {"whole": np.int64(3), "real": np.float32(0.5), "flag": np.True_, "infinite": np.float32("inf")}
    restored = read(write(tmp_path / "data", written))
    assert restored == {"whole": 3, "real": 0.5, "flag": True, "infinite": math.inf}
    assert [type(one) for one in restored.values()] == [int, float, bool, float]


def test_write_unserializable_object_raises(tmp_path):
    write(tmp_path / "data", {"value": 1})
    with pytest.raises(TypeError, match=naming("tensors", "numbers", "strings", "generator")):
        write(tmp_path / "data", {"value": (i for i in range(3))})
    with pytest.raises(TypeError, match=naming("keys", "strings", "whole numbers", "1.5")):
        write(tmp_path / "data", {"value": {1.5: 1}})
    assert read(tmp_path / "data") == {"value": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["data.safetensors"]


def test_write_failed_leaves_only_the_earlier_file(tmp_path, monkeypatch):
    write(tmp_path / "data", {"value": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "data", {"value": 2})
    monkeypatch.undo()
    assert read(tmp_path / "data") == {"value": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["data.safetensors"]


def test_write_flushes_before_the_rename(tmp_path, monkeypatch):
    done = []
    flush, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("flush"), flush(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths)))
    write(tmp_path / "data", {"value": 1})
    assert done == ["flush", "replace", "flush"]


def test_read_truncated_file_raises(tmp_path):
    content = write(tmp_path / "data", CONTENTS).read_bytes()
    cut = tmp_path / "cut.safetensors"
    for length in range(len(content)):
        cut.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.safetensors is (not a checkpoint|damaged)"):
            read(cut)


def test_read_file_with_a_changed_bit_raises(tmp_path):
    content = write(tmp_path / "data", CONTENTS).read_bytes()
    changed = tmp_path / "changed.safetensors"
    refused = 0
    for place in range(len(content)):
        changed.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            assert same(read(changed), CONTENTS), place
        except ValueError:
            refused += 1
    assert refused > 0.98 * len(content)


class Payload:
    """A malicious object: unpickling it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle", "within"])
def test_read_pickle_file_raises_and_runs_no_code(tmp_path, how):
    evil = Payload(tmp_path / "owned")
    path = tmp_path / "evil.safetensors"
    if how == "torch":
        torch.save({"format": "rl_rms", "contents": evil}, path)
    elif how == "pickle":
        path.write_bytes(pickle.dumps(evil))
    else:
        path.write_bytes(write(tmp_path / "data", CONTENTS).read_bytes() + pickle.dumps(evil))
    with pytest.raises(ValueError, match="not a checkpoint|damaged"):
        read(path)
    assert not (tmp_path / "owned").exists()


def with_header(header, body=b""):
    return struct.pack("<Q", len(header)) + header + body


def entry(text, **tensors):
    return with_header(json.dumps({"__metadata__": {"rl_rms": text}, **tensors}).encode(), bytes(64))


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", ["header"]),
        (struct.pack("<Q", 2**63) + b"{}", ["header"]),
        (struct.pack("<Q", 99_000_000) + b"{}", ["header"]),
        (with_header(b"hello"), ["value"]),
        (with_header(b"[" * 100_000), ["nested"]),
        (with_header(b"[]"), ["header"]),
        (with_header(json.dumps({"__metadata__": {"format": "pt"}}).encode()), ["header"]),
        (entry("2 half"), ["header"]),
        (entry("99 0 {}"), ["version 99", "rl_rms", "2"]),
        (entry(f"{VERSION} 0 {{}}"), ["damaged"]),
        (
            with_header(json.dumps({"__metadata__": {"rl_rms": f"{VERSION} 0 {{}}"}}).encode()),
            ["checksum"],
        ),
        (
            entry(f"{VERSION} 0 {{}}", w={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}),
            ["damaged"],
        ),
        (entry(f"{VERSION} 0 {{}}", w={"dtype": "F32", "shape": [16], "data_offsets": [-4, 60]}), ["damaged"]),
    ],
)
def test_read_foreign_file_raises_one_sentence(tmp_path, content, named):
    path = tmp_path / "other.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=naming("other.safetensors", *named)):
        read(path)
    path.write_bytes(save({}, {"rl_rms": f"{VERSION} {sha256(b'[]').hexdigest()} []"}))
    with pytest.raises(ValueError, match=naming("dictionary")):
        read(path)
    with pytest.raises(FileNotFoundError, match=naming("checkpoint", "missing.safetensors")):
        read(tmp_path / "missing")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("lr_0.001", "lr_0.001.safetensors"),
        ("agent", "agent.safetensors"),
        ("agent.safetensors", "agent.safetensors"),
        ("agent.pt", "agent.pt.safetensors"),
    ],
)
def test_write_and_read_add_the_suffix_unless_the_path_ends_in_it(tmp_path, name, written):
    assert write(tmp_path / name, {"value": 1}).name == written
    assert read(tmp_path / name) == {"value": 1}
