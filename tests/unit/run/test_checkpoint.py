"""Checkpoints without pickle."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tunewright.errors import CheckpointError
from tunewright.run.checkpoint import pack_tree, unpack_tree

leaf = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(max_size=10).filter(lambda s: not any(0xD800 <= ord(c) <= 0xDFFF for c in s)),
    st.binary(max_size=20),
    hnp.arrays(
        st.sampled_from(["f8", "f4", "i8", "u1", "?", "c16"]),
        hnp.array_shapes(max_dims=3, max_side=4, min_side=0),
    ),
)
keys = st.one_of(st.integers(-99, 99), st.text(max_size=5).filter(str.isascii))
trees = st.recursive(
    leaf,
    lambda t: st.one_of(st.lists(t, max_size=3), st.dictionaries(keys, t, max_size=3), st.tuples(t, t)),
    max_leaves=12,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
        )
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@settings(max_examples=100, deadline=None)
@given(trees)
def test_a_tree_comes_back_as_it_was(tree: Any) -> None:
    assert same(unpack_tree(pack_tree(tree)), tree)


def test_values_that_are_not_finite_survive() -> None:
    back = unpack_tree(pack_tree({"a": float("inf"), "b": float("nan")}))
    assert back["a"] == float("inf")
    assert np.isnan(back["b"])


@pytest.mark.parametrize("cut", [0, 3, 8, 20, -1])
def test_a_cut_file_is_refused(cut: int) -> None:
    data = pack_tree({"w": np.arange(50.0)})
    with pytest.raises(CheckpointError):
        unpack_tree(data[:cut])


def test_a_pickle_is_never_run() -> None:
    class Canary:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("a pickle was executed",))

    with pytest.raises(CheckpointError, match="must start with its mark"):
        unpack_tree(pickle.dumps(Canary()))


def test_what_cannot_be_saved_is_named_with_its_place() -> None:
    with pytest.raises(CheckpointError, match=r"got object at checkpoint\['a'\]\[1\]"):
        pack_tree({"a": [1, object()]})
    with pytest.raises(CheckpointError, match="got ndarray"):
        pack_tree(np.array([object()]))


def test_torch_state_dicts_round_trip_exactly() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    extra = {
        "half": torch.arange(5, dtype=torch.bfloat16),
        "rng": torch.get_rng_state(),
        "empty": torch.empty(0, 2),
    }
    back = unpack_tree(pack_tree({"model": model, "optimizer": optimizer, "extra": extra}))
    for key, value in model.state_dict().items():
        assert torch.equal(back["model"][key], value)
    for index, slot in optimizer.state_dict()["state"].items():
        for key, value in slot.items():
            assert torch.equal(back["optimizer"]["state"][index][key], value)
    for key, value in extra.items():
        assert back["extra"][key].dtype == value.dtype
        assert torch.equal(back["extra"][key], value)
    optimizer.load_state_dict(back["optimizer"])


def test_an_array_that_lies_column_by_column_comes_back_so() -> None:
    """Products with it round otherwise than with the same numbers row by row."""
    tree = {"rows": np.arange(6.0).reshape(2, 3), "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    back = unpack_tree(pack_tree(tree))
    for name, array in tree.items():
        assert np.array_equal(back[name], array)
        assert back[name].strides == array.strides
        assert back[name].flags.writeable
