"""The short notation for parameters, and commands with placeholders."""

from __future__ import annotations

from typing import Any

import pytest

from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order, Permutation, Subset
from tunewright.core.space import Space
from tunewright.errors import ConfigError, SpaceError
from tunewright.run.template import (
    check_names,
    declared,
    domain_of,
    fill,
    parse_command,
    space_of_mapping,
)

SURE = {"confidence": 0.0}


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("log 1e-5..1e-1", Float(1e-5, 1e-1, log=True)),
        ("1..8", Int(1, 8)),
        ("int 1..8 step 2", Int(1, 8, step=2)),
        ("float 1..8", Float(1, 8)),
        ("-1.5..2", Float(-1.5, 2)),
        ("int log 16..512", Int(16, 512, log=True)),
        ("0..1 step 0.25", Float(0, 1, step=0.25)),
        ("float log 1..100 = 10", Float(1, 100, log=True, guess=10.0, **SURE)),
        ("1..8=3", Int(1, 8, guess=3, **SURE)),
        ("adam|sgd", Choice(["adam", "sgd"])),
        ("16 | 32", Choice([16, 32])),
        ("a|b = b", Choice(["a", "b"], guess="b", **SURE)),
        ("order 16|32|64", Order([16, 32, 64])),
        ("bool", Bool()),
        ("bool = true", Bool(guess=True, **SURE)),
    ],
)
def test_declarations(text: str, domain: Domain) -> None:
    assert declared("p", text) == domain


@pytest.mark.parametrize(
    "text", ["", "nonsense", "1..", "a||b", "log adam|sgd..3", "1..0", "log 0..1", "1..2 = 5"]
)
def test_declarations_that_mean_nothing(text: str) -> None:
    with pytest.raises(SpaceError):
        declared("p", text)


@pytest.mark.parametrize(
    ("given", "domain"),
    [
        ("1..8", Int(1, 8)),
        (["a", "b"], Choice(["a", "b"])),
        ({"log": [1e-5, 0.1], "default": 1e-3}, Float(1e-5, 0.1, log=True, guess=1e-3, **SURE)),
        ({"int_log": [16, 512]}, Int(16, 512, log=True)),
        ({"float": [0.0, 1.0], "step": 0.5}, Float(0, 1, step=0.5)),
        ({"type": "float", "low": 0.0, "high": 1.0}, Float(0, 1)),
        ({"order": [1, 2]}, Order([1, 2])),
        ({"bool": True}, Bool()),
        ({"choice": {"svm": {"C": "log 0.1..10"}, "tree": {}}}, Choice({"svm": {"C": Float(0.1, 10, log=True)}, "tree": None})),
    ],
)  # fmt: skip
def test_domains_from_files(given: Any, domain: Domain) -> None:
    assert domain_of("p", given).to_dict() == domain.to_dict()


@pytest.mark.parametrize(
    "given",
    [3, {}, {"log": [1, 2], "int": [1, 2]}, {"log": 3}, {"int": [1, 2], "steps": 2}, {"type": "flaot"}],
)
def test_domains_from_files_that_mean_nothing(given: Any) -> None:
    with pytest.raises(SpaceError):
        domain_of("p", given)


def test_the_stored_form_of_a_space_is_read_as_well() -> None:
    space = Space(x=Float(0, 1), n=Int(1, 3))
    assert space_of_mapping(space.to_dict()) == space


def test_a_command_is_split_and_its_declarations_are_taken_out() -> None:
    argv, space = parse_command("train --lr {lr:log 1e-5..1e-1} 'a b' --o={opt:adam | sgd} {lr}")
    assert argv == ["train", "--lr", "{lr}", "a b", "--o={opt}", "{lr}"]
    assert space == {"lr": Float(1e-5, 0.1, log=True), "opt": Choice(["adam", "sgd"])}
    again, same = parse_command(
        ["train", "--lr", "{lr:log 1e-5..1e-1}", "a b", "--o={opt:adam | sgd}", "{lr}"]
    )
    assert (again, same) == (argv, space)


@pytest.mark.parametrize("command", ["", "train 'open", []])
def test_commands_that_cannot_be_split(command: Any) -> None:
    with pytest.raises(ConfigError):
        parse_command(command)


def test_a_parameter_is_declared_once() -> None:
    with pytest.raises(SpaceError, match="'x' must be declared once"):
        parse_command("t {x:1..2} {x:1..3}")
    assert parse_command("t {x:1..2} {x:1..2}")[1] == {"x": Int(1, 2)}


def test_filling() -> None:
    argv = ["t", "--lr={lr}", "--n", "{n}", "--flag", "{b}", '{"json": {"a": 1}}', "{{lr}}", "x{n}y{n}"]
    values = {"lr": 1e-05, "n": 3, "b": True}
    assert fill(argv, values) == ["t", "--lr=1e-05", "--n", "3", "--flag", "true", '{"json": {"a": 1}}', "{lr}", "x3y3"]  # fmt: skip


def test_a_value_stays_one_argument() -> None:
    assert fill(["t", "{s}"], {"s": "a b; {s} $(c)"}) == ["t", "a b; {s} $(c)"]


def test_inactive_parameters_leave_with_their_option() -> None:
    argv = ["t", "--depth", "{depth}", "-v", "pos", "{C}", "--x={x}"]
    assert fill(argv, {"x": 1}) == ["t", "-v", "pos", "--x=1"]
    assert fill(argv, {"depth": 2}) == ["t", "--depth", "2", "-v", "pos"]


def test_unknown_placeholders_are_named() -> None:
    check_names(["t", "{lr}", "{trial}", "{seed}", "{checkpoint_dir}", "{{any}}"], Space(lr=Float(0, 1)))
    with pytest.raises(ConfigError, match="Did you mean 'layers'"):
        check_names(["t", "{layer}"], Space(layers=Int(1, 2)))


def test_orders_and_selections_have_a_short_notation():
    assert declared("o", "permutation a|b|c = c|a|b") == Permutation(
        ["a", "b", "c"], guess=["c", "a", "b"], confidence=0.0
    )
    assert declared("s", "subset 1..2 1|2|3") == Subset([1, 2, 3], 1, 2)
    assert declared("s", "subset x|y =") == Subset(["x", "y"], guess=[], confidence=0.0)
    assert domain_of("s", {"subset": ["x", "y"], "least": 1, "default": ["y"]}) == Subset(
        ["x", "y"], 1, guess=["y"], confidence=0.0
    )
    assert domain_of("o", {"permutation": [1, 2]}) == Permutation([1, 2])
    with pytest.raises(SpaceError, match="does not take"):
        domain_of("o", {"permutation": [1, 2], "least": 1})


def test_lists_reach_a_command_as_json():
    assert fill(["run", "{o}", "--s={s}"], {"o": ["a", "b"], "s": []}) == ["run", '["a", "b"]', "--s=[]"]
