"""Named arrays in a safetensors file: eight bytes with the length of a JSON header, the header, and the raw numbers.

The format is that of https://github.com/huggingface/safetensors; nothing in such a file can run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.errors import ConfigError

_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8", "U8": "|u1"}
_NAMES = {np.dtype(v): k for k, v in _TYPES.items()}


def write_tensors(path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Writes arrays and text about them.

    Args:
        path: File to write.
        arrays: Of 16, 32 or 64-bit floats, 32 or 64-bit integers, or bytes.
        facts: Kept in the header's ``__metadata__``.

    Raises:
        ConfigError: If an array has another type.
    """
    header: dict[str, Any] = {"__metadata__": dict(facts)}
    blocks, at = [], 0
    for name, array in arrays.items():
        kind = _NAMES.get(array.dtype.newbyteorder("<"))
        if kind is None:
            raise ConfigError(
                f"A stored array must have one of the types {', '.join(_TYPES)}; got {array.dtype} for '{name}'. Cast it."
            )
        block = np.ascontiguousarray(array, dtype=_TYPES[kind]).tobytes()
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + len(block)]}
        blocks.append(block)
        at += len(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))


def read_tensors(data: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and the text of a safetensors file.

    Args:
        data: Its bytes.

    Raises:
        ConfigError: If it is cut short or not such a file.
    """
    size = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + size])
        facts = header.pop("__metadata__", {})
        body = memoryview(data)[8 + size :]
        arrays = {}
        for name, entry in header.items():
            low, high = entry["data_offsets"]
            flat = np.frombuffer(body[low:high], dtype=_TYPES[entry["dtype"]])
            arrays[name] = flat.reshape(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"Weights must be a whole safetensors file; got {len(data)} bytes that are not ({error}). Install the package again."
        ) from None
    return arrays, facts
