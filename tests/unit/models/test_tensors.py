"""Safetensors files, against bytes made by hand and against the format's own package where it is installed."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from tunewright.errors import ConfigError
from tunewright.models.tensors import read_tensors, write_tensors


def made_by_hand() -> bytes:
    header = {
        "__metadata__": {"who": "a hand"},
        "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
        "b": {"dtype": "I64", "shape": [], "data_offsets": [8, 16]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + struct.pack("<ff", 1.5, -2.0) + struct.pack("<q", 7)


def test_bytes_made_by_hand_are_read() -> None:
    arrays, facts = read_tensors(made_by_hand())
    assert facts == {"who": "a hand"}
    np.testing.assert_array_equal(arrays["a"], np.array([[1.5], [-2.0]], dtype=np.float32))
    assert arrays["b"].shape == ()
    assert int(arrays["b"]) == 7


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    arrays = {
        "half": np.arange(6, dtype=np.float16).reshape(2, 3),
        "whole": np.array([-1, 5]),
        "turned": np.arange(6.0).reshape(2, 3).T,
        "none": np.empty((0, 3), dtype=np.float32),
    }
    write_tensors(tmp_path / "w", arrays, {"k": "v"})
    got, facts = read_tensors((tmp_path / "w").read_bytes())
    assert facts == {"k": "v"}
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


def test_the_packages_of_the_format_agree(tmp_path: Path) -> None:
    other = pytest.importorskip("safetensors.numpy")
    arrays = {"a": np.arange(4, dtype=np.float32), "b": np.ones((2, 2), dtype=np.float16)}
    write_tensors(tmp_path / "ours", arrays, {})
    for name, array in other.load_file(tmp_path / "ours").items():
        np.testing.assert_array_equal(array, arrays[name])
    for name, array in read_tensors(other.save(arrays))[0].items():
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.parametrize("cut", [0, 4, 30, -3])
def test_a_file_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(ConfigError, match="whole safetensors file"):
        read_tensors(made_by_hand()[:cut])


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="got complex128 for 'z'"):
        write_tensors(tmp_path / "w", {"z": np.zeros(2, dtype=np.complex128)}, {})
