"""Ranges, options, their messages and their codes."""

from __future__ import annotations

import enum
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.core.domains import Bool, Choice, Float, Int, Order, domain_from_dict, plain
from tunewright.errors import SpaceError

sys.path.insert(0, str(Path(__file__).parents[2]))
from strategies import leaves


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Float(1.0, 0.1), r"Float needs low < high; got low=1.0, high=0.1. Swap the bounds"),
        (lambda: Float(1.0, 1.0), r"Float needs low < high; got low=1.0, high=1.0. Fix the parameter"),
        (lambda: Float(0.0, 1.0, log=True), r"needs low > 0; got low=0.0. Did you mean 1e-06"),
        (lambda: Float(-1.0, 1.0, log=True), r"needs low > 0"),
        (lambda: Float(float("nan"), 1.0), r"finite bounds; got low=nan"),
        (lambda: Float(0.0, float("inf")), r"finite bounds; got high=inf"),
        (lambda: Float(-1e308, 1e308), r"finite width"),
        (lambda: Float("0", 1.0), r"numbers for its bounds; got low='0'"),
        (lambda: Float(True, 2.0), r"numbers for its bounds; got low=True"),
        (lambda: Float(0, 1, step=0.0), r"0 < step <= high - low; got step=0.0"),
        (lambda: Float(0, 1, step=2.0), r"0 < step <= high - low; got step=2.0"),
        (lambda: Float(1, 2, log=True, step=0.1), r"either log or step"),
        (lambda: Float(0, 1, guess=2.0), r"guess must lie in the range; got 2.0"),
        (lambda: Float(0, 1, guess=0.5, confidence=1.0), r"0 <= confidence < 1; got 1.0"),
        (lambda: Int(3, 1), r"Int needs low < high; got low=3, high=1. Swap"),
        (lambda: Int(0, 9, log=True), r"needs low > 0; got low=0"),
        (lambda: Int(0, 2.5), r"whole numbers; got high=2.5. Use Float"),
        (lambda: Int(0, 2**60), r"within 2\*\*53"),
        (lambda: Int(0, 9, step=0), r"1 <= step <= high - low; got step=0"),
        (lambda: Int(1, 9, log=True, step=2), r"either log or step"),
        (lambda: Int(0, 9, guess=10), r"guess must lie"),
        (lambda: Choice([]), r"at least one option; got none"),
        (lambda: Choice(["a", "a"]), r"distinct options; got \['a', 'a'\]"),
        (lambda: Choice("abc"), r"list of options; got 'abc'"),
        (lambda: Choice([object()]), r"bool, a finite number, a string or None"),
        (lambda: Choice([float("nan")]), r"finite number"),
        (lambda: Choice(["a\ud800"]), r"string or None"),
        (lambda: Choice(list(range(10_001))), r"at most 10000 options"),
        (lambda: Choice(["a"], guess="b"), r"guess must be one of the options; got 'b'"),
        (lambda: Order([]), r"at least one option"),
        (lambda: Order("ab"), r"list of values"),
        (lambda: Order([1, 2], guess=3), r"guess must be one of the values"),
        (lambda: Bool(guess=1), r"must be True or False; got 1"),
        (lambda: Float(10**400, 1), r"at most 64 bits; got low=a number of 1329 bits"),
        (lambda: Float(1e10, math.nextafter(1e10, 2e10), log=True), r"differ in logarithm"),
        (lambda: Float(1, 2, log="yes"), r"log=True or log=False; got log='yes'"),
        (lambda: Float(1, 2, confidence="x"), r"0 <= confidence < 1; got 'x'"),
        (lambda: Float(1, 2, confidence=True), r"0 <= confidence < 1; got True"),
        (lambda: Float(0, 1, guess="x"), r"guess must lie in the range; got 'x'"),
        (lambda: Float(0, 1, step=0.25, guess=0.3), r"guess must lie in the range; got 0.3"),
        (lambda: Float(0, 1, step="x"), r"numbers for its bounds; got step='x'"),
        (lambda: Int(0, 2**50), r"at most 2\*\*50 values"),
        (lambda: Int(1, 2**45 + 1, log=True), r"high <= 2\*\*45 on a log scale"),
        (lambda: Int(0, 9, step=3, guess=4), r"guess must lie"),
        (lambda: Choice([10**400]), r"whole number within 64 bits; got a number of 1329 bits"),
        (lambda: Choice({"a": 3}), r"opens a Space, a mapping of parameters, or None; got 3 under 'a'"),
        (lambda: Choice(["a"], branches=(None, None)), r"one branch per option; got 2 for 1"),
        (lambda: domain_from_dict({"type": ["float"]}), r"got \['float'\]"),
        (
            lambda: domain_from_dict({"type": "gaussian"}),
            r"type out of float, int, choice, order, bool, permutation, subset; got 'gaussian'",
        ),
        (lambda: domain_from_dict({"type": "float", "low": 0, "hi": 1}), r"does not take these fields"),
    ],
)
def test_mistakes_are_named_when_declared(make: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make()


def test_true_one_and_one_point_zero_are_different_options() -> None:
    choice = Choice([True, 1, 1.0, None, "1"])
    encode, decode = choice.coder()
    for option in choice.options:
        back = decode(encode(option))
        assert type(back) is type(option)
        assert back == option
    assert not Choice([1]).contains(True)
    assert not Choice([True]).contains(1)


def test_long_and_unicode_options_survive() -> None:
    long = "ü" * 100_000
    choice = Choice([long, "日本", "\n"])
    assert domain_from_dict(choice.to_dict()).options == (long, "日本", "\n")


def test_numpy_scalars_become_plain() -> None:
    assert type(plain(np.float64(1.5))) is float
    assert type(plain(np.int64(3))) is int
    assert Choice(np.array([1, 2])).options == (1, 2)


@given(leaves, st.floats(0, 1))
def test_decoding_a_code_gives_a_member_and_encoding_it_gives_the_code_of_its_bin(
    domain: Any, code: float
) -> None:
    encode, decode = domain.coder()
    value = decode(code)
    assert domain.contains(value) or (isinstance(domain, Float) and domain.low <= value <= domain.high)
    again = decode(encode(value))
    if isinstance(domain, Float) and domain.step is None:
        assert again == pytest.approx(value, rel=1e-9, abs=1e-9 * (domain.high - domain.low))
    else:
        assert again == value or again == pytest.approx(value, rel=1e-12)
    assert -1e-9 <= encode(value) <= 1 + 1e-9


@given(leaves)
def test_json_round_trip(domain: Any) -> None:
    assert domain_from_dict(domain.to_dict()) == domain


def test_uniform_codes_give_uniform_levels() -> None:
    _, decode = Int(3, 7).coder()
    counts = np.bincount([decode(u) - 3 for u in (np.arange(1000) + 0.5) / 1000])
    assert counts.tolist() == [200] * 5
    _, decode = Int(1, 100, log=True).coder()
    values = [decode(u) for u in (np.arange(10_000) + 0.5) / 10_000]
    # Each decade of a log scale gets its share; 1 has [0.5, 1.5], so log(3)/log(201) of the codes.
    assert values.count(1) / 1e4 == pytest.approx(np.log(3) / np.log(201), abs=1e-3)


def test_counts_and_levels() -> None:
    assert Float(0, 1, step=0.1).count == 11
    assert Float(0, 1).count == 0
    assert Int(0, 10, step=3).count == 4
    assert Int(1, 10_000).levels == 0
    assert Int(1, 10, log=True).levels == 0
    assert Order([1, 5]).levels == 2
    assert not Order([1, 5]).categorical
    assert Bool().categorical


class Size(enum.StrEnum):
    SMALL = "s"


class Level(enum.IntEnum):
    ONE = 1


def test_enumerations_and_negative_zero_become_plain() -> None:
    assert [type(plain(v)) for v in (Size.SMALL, Level.ONE, np.str_("s"), np.bool_(True))] == [
        str,
        int,
        str,
        bool,
    ]
    assert Choice([Size.SMALL, Level.ONE]).options == ("s", 1)
    assert str(plain(-0.0)) == "0.0"
    assert str(Float(-0.0, 1).to_dict()) == str(Float(0.0, 1).to_dict())


def test_options_are_equal_only_when_their_types_are() -> None:
    assert Choice([1]) != Choice([True])
    assert Choice([1]) != Choice([1.0])
    assert Order([0, 1]) != Order([False, True])
    assert Choice(["a", "b"]) == Choice(("a", "b"))
    assert hash(Choice(["a", "b"])) == hash(Choice(("a", "b")))
    assert hash(Order([1, 2])) == hash(Order((1, 2)))
    assert Choice(["a"], guess="a") != Choice(["a"])
    assert Choice(["a"]) != Order(["a"])
    assert Choice({"a": {}, "b": None}) == Choice(["a", "b"])


@pytest.mark.parametrize(
    ("domain", "value", "inside"),
    [
        (Float(0, 1, step=0.1), 0.3, True),
        (Float(0, 1, step=0.1), 0.1 + 0.2, True),
        (Float(0, 1, step=0.1), 0.35, False),
        (Float(0, 1, step=0.3), 1.0, False),
        (Float(1e6, 2e6, step=0.1), 1_234_567.3, True),
        (Float(0, 1), 1, True),
        (Float(0, 1), True, False),
        (Float(0, 1), float("nan"), False),
        (Float(0, 1), "0.5", False),
        (Float(0, 1), 10**400, False),
        (Int(0, 9, step=3), 6, True),
        (Int(0, 9, step=3), 7, False),
        (Int(0, 9), 3.0, False),
        (Int(0, 9), True, False),
        (Bool(), 1, False),
        (Bool(), np.True_, False),
        (Order([1, 2]), 1.0, False),
    ],
)
def test_membership(domain: Any, value: Any, inside: bool) -> None:
    assert domain.contains(value) is inside


@given(st.integers(0, 2**50 - 1), st.integers(1, 2**45))
def test_large_whole_numbers_survive_coding_exactly(v: int, w: int) -> None:
    encode, decode = Int(0, 2**50 - 1).coder()
    assert decode(encode(v)) == v
    encode, decode = Int(1, 2**45, log=True).coder()
    assert decode(encode(w)) == w


@given(st.floats(1e-300, 1e300), st.floats(1e-3, 1e3))
def test_the_bounds_of_a_log_scale_decode_exactly(low: float, wide: float) -> None:
    domain = Float(low, low * (1 + wide), log=True)
    _, decode = domain.coder()
    assert (decode(0.0), decode(1.0)) == (domain.low, domain.high)
