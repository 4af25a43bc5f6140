"""Checkpoints without pickle: nested dicts, lists, numbers, strings, NumPy arrays and PyTorch tensors.

A file is a JSON manifest followed by the raw bytes of the arrays, so it can be read without running any code from
it. Objects with ``state_dict`` and ``load_state_dict`` (modules, optimizers, schedulers) are saved through those.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from tunewright.errors import CheckpointError

_MAGIC = b"TWCK1\n"
_PLAIN = (bool, int, float, str, type(None))


_DAMAGE = (
    msgspec.MsgspecError, struct.error, ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError,
)  # fmt: skip


class _Body:
    """The raw bytes behind the manifest."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, raw: bytes) -> list[int]:
        place = [self.size, len(raw)]
        self.parts.append(raw)
        self.size += len(raw)
        return place


def pack_tree(tree: Any) -> bytes:
    """Turns a tree of plain values, arrays and tensors into bytes.

    Raises:
        CheckpointError: If the tree holds something else.
    """
    body = _Body()
    manifest = msgspec.json.encode(_flatten(tree, body, "checkpoint"))
    return b"".join((_MAGIC, struct.pack("<Q", len(manifest)), manifest, *body.parts))


def unpack_tree(data: bytes) -> Any:
    """Rebuilds the tree; tensors come back as tensors when PyTorch is installed.

    Raises:
        CheckpointError: If the data is damaged or not such a file.
    """
    if not data.startswith(_MAGIC):
        raise CheckpointError(
            "A checkpoint must start with its mark; this file is something else. Use load_bytes."
        )
    start = len(_MAGIC) + 8
    try:
        (size,) = struct.unpack("<Q", data[len(_MAGIC) : start])
        manifest = msgspec.json.decode(data[start : start + size])
        return _rebuild(manifest, memoryview(data)[start + size :])
    except _DAMAGE as error:
        raise CheckpointError(f"A checkpoint must be whole; reading it failed with {error}.") from None


def _flatten(node: Any, body: _Body, where: str) -> Any:
    """JSON form of a node; array bytes go to ``body``."""
    if isinstance(node, float) and not np.isfinite(node):
        return {"f": repr(node)}
    if isinstance(node, _PLAIN):
        return node
    if hasattr(node, "state_dict"):
        return _flatten(node.state_dict(), body, where)
    if isinstance(node, Mapping):
        items = [[_flatten(k, body, where), _flatten(v, body, f"{where}[{k!r}]")] for k, v in node.items()]
        return {"d": items}
    if isinstance(node, list | tuple):
        kind = "l" if isinstance(node, list) else "t"
        return {kind: [_flatten(v, body, f"{where}[{i}]") for i, v in enumerate(node)]}
    if isinstance(node, bytes):
        return {"b": body.add(node)}
    if isinstance(node, np.generic):
        node = np.asarray(node)
    if isinstance(node, np.ndarray) and not node.dtype.hasobject:
        raw = np.ascontiguousarray(node)
        order = ["F"] if _column_major(node) else []
        return {"a": [raw.dtype.str, list(node.shape), body.add(raw.tobytes()), *order]}
    if type(node).__module__.partition(".")[0] == "torch":
        return _flatten_tensor(node, body, where)
    raise CheckpointError(
        f"A checkpoint takes numbers, strings, arrays, tensors, lists, dicts and objects with state_dict; "
        f"got {type(node).__name__} at {where}. Convert it, or use checkpoint.save_bytes."
    )


def _column_major(array: np.ndarray[Any, Any]) -> bool:
    """Whether it lies in memory column by column: sums over it then round otherwise than over the same numbers row by row."""
    strides = array.strides
    return (
        array.ndim > 1
        and not array.flags.c_contiguous
        and strides[0] > 0
        and list(strides) == sorted(strides)
    )


def _flatten_tensor(node: Any, body: _Body, where: str) -> Any:
    import torch

    if not isinstance(node, torch.Tensor):
        raise CheckpointError(
            f"A checkpoint takes tensors; got {type(node).__name__} at {where}. Convert it."
        )
    flat = node.detach().cpu().contiguous()
    name = str(flat.dtype).removeprefix("torch.")
    raw = flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return {"T": [name, list(flat.shape), body.add(raw)]}


def _rebuild(node: Any, body: memoryview) -> Any:
    if not isinstance(node, dict):
        return node
    ((kind, value),) = node.items()
    if kind == "d":
        return {_rebuild(k, body): _rebuild(v, body) for k, v in value}
    if kind in "lt":
        items = [_rebuild(v, body) for v in value]
        return items if kind == "l" else tuple(items)
    if kind == "f":
        return float(value)
    offset, size = value if kind == "b" else value[2]
    raw = body[offset : offset + size]
    if len(raw) != size:
        raise ValueError(f"{size - len(raw)} bytes are missing")
    if kind == "b":
        return bytes(raw)
    if kind == "a":
        found = np.frombuffer(raw, dtype=np.dtype(value[0])).reshape(value[1])
        return found.copy(order="F" if "F" in value[3:] else "C")
    return _tensor(value[0], value[1], raw)


def _tensor(name: str, shape: list[int], raw: memoryview) -> Any:
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            "This checkpoint holds tensors; PyTorch is needed to read it: pip install torch."
        ) from None
    if not len(raw):
        if 0 not in shape:
            raise ValueError("a tensor has no bytes")
        return torch.empty(shape, dtype=getattr(torch, name))
    return torch.frombuffer(bytearray(raw), dtype=getattr(torch, name)).reshape(shape)
