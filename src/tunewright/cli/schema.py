"""The JSON Schema of sweep files, made from the words that the reader of them knows."""

from __future__ import annotations

import json
from typing import Any

from tunewright.cli.sweep import LIMITS, TOP

ADDRESS = "urn:tunewright:sweep:1"
Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer", "minimum": 1}
_TIME: Schema = {"type": ["string", "number"], "examples": ["90s", "10min", "2h"]}
_SIZE: Schema = {"type": ["string", "integer"], "examples": ["500MB", "2GiB"]}
_NAMES: Schema = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
_COUNT: Schema = {"oneOf": [_WHOLE, {"type": "string", "pattern": r"^\+?[0-9]+$"}]}
_OPTIONS: Schema = {"type": "array", "minItems": 2, "items": {"type": ["string", "number", "boolean"]}}


def _said(schema: Schema, text: str) -> Schema:
    return {**schema, "description": text}


TOP_WORDS: dict[str, Schema] = {
    "name": _said(_TEXT, "Name of the study; the script's name when not given."),
    "command": _said(_TEXT, "Command with {name} placeholders; no shell is involved."),
    "function": _said(_TEXT, "file.py:name or module:name, instead of a command."),
    "minimize": _said(_NAMES, "Metric or metrics to make small."),
    "maximize": _said(_NAMES, "Metric or metrics to make large."),
    "method": _said(_TEXT, "A name that `tunewright methods` lists, or scheduler(sampler); auto when not given."),
    "early_stop": _said(
        {"type": "string", "examples": ["asha", "median", "auto", "none"]},
        "How weak trials end early; steps are read off --epochs in the command unless given.",
    ),
    "steps": _said(
        {"oneOf": [_WHOLE, {"type": "string", "pattern": r"^[0-9]+(\.\.[0-9]+)?$"},
                   {"type": "array", "items": _WHOLE, "minItems": 2, "maxItems": 2}]},
        "Steps of a full training, or FEWEST..FULL.",
    ),
    "seed": _said({"type": "integer"}, "Root of all randomness; 0 when not given."),
    "seeds": _said(_WHOLE, "Times that a configuration is trained; the mean counts."),
    "storage": _said(_TEXT, "Path or address of the store."),
}  # fmt: skip
RUN_WORDS: dict[str, Schema] = {
    "trials": _said(_COUNT, "Trials that the study is to have in all, or +N for N more."),
    "timeout": _said(_TIME, "Time of this run."),
    "budget": _said(
        {"type": "string", "examples": ["8h", "100 trials"]},
        "The same as timeout, or as trials, in one word.",
    ),
    "workers": _said(_WHOLE, "Trials at a time."),
    "target": _said(_NUMBER, "Stop when the objective is this good."),
    "stop_when": _said(
        {"type": "string", "examples": ["regret<0.01", "regret<noise"]}, "Stop when little is left to gain."
    ),
    "trial_timeout": _said(_TIME, "Time of one trial."),
    "cpu": _said(_TIME, "Processor time of one trial."),
    "memory": _said(_SIZE, "Memory of one trial."),
    "devices": _said(
        {"oneOf": [_TEXT, {"type": "array", "items": {"type": ["integer", "string"]}}]},
        "GPUs to share out over the workers.",
    ),
    "gpus": _said(
        {"oneOf": [_WHOLE, {"type": "string", "examples": ["all", "none", "0,2"]}]},
        "One trial on each GPU: all, how many, or a list.",
    ),
    "gpus_per_trial": _said(
        {"type": "number", "exclusiveMinimum": 0}, "GPUs that a trial takes; 0.5 shares one."
    ),
    "per_device": _said({"type": "number", "exclusiveMinimum": 0}, "Trials that share a GPU."),
    "fresh": _said({"type": "boolean"}, "A new process for every trial of a function."),
    "failures": _said(
        {"oneOf": [_WHOLE, {"enum": ["auto", "none"]}]}, "Give up after so many; auto or none."
    ),
    "retry": _said(
        {
            "type": "object",
            "properties": {k: {"type": "integer", "minimum": 0} for k in ("lost", "oom", "failed")},
            "additionalProperties": False,
        },
        "How often a trial is tried again, by what went wrong.",
    ),
    "seeds": TOP_WORDS["seeds"],
    "grace": _said(_TIME, "Time that trials get to save when interrupted."),
    "on": _said({"type": "string", "examples": ["ray", "ray://head:10001"]}, "Run on a Ray cluster."),
    "cost": _said({"enum": ["seconds", "energy"]}, "What trials cost."),
    "metrics": _said(
        {"type": "string", "pattern": "^(stdout$|jsonl:.|tb:.|regex:.)"},
        "Where metrics come from: stdout, jsonl:FILE, tb:FOLDER or regex:PATTERN.",
    ),
    "notify": _said(
        {"oneOf": [_TEXT, {"type": "array", "items": _TEXT}]}, "cmd:COMMAND, webhook:URL or desktop."
    ),
    "resumable": _said({"type": "boolean"}, "The script continues from what it saved."),
    "cwd": _said(_TEXT, "Folder in which the command runs."),
}


def _bounds(what: Schema) -> Schema:
    return {"type": "array", "items": what, "minItems": 2, "maxItems": 2}


def _shape(word: str, value: Schema, **more: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {word: value, "default": {}, **more},
        "required": [word],
        "additionalProperties": False,
    }


def _parameter() -> Schema:
    """What may be said of one parameter."""
    step = {"step": {"type": "number", "exclusiveMinimum": 0}}
    sizes = {k: {"type": "integer", "minimum": 0} for k in ("least", "most")}
    nested = {"type": "object", "additionalProperties": {"$ref": "#/$defs/space"}}
    return {
        "anyOf": [
            _said(_TEXT, "The short notation, such as 'log 1e-5..1e-1 = 1e-3', 'int 1..8' or 'adam|sgd'."),
            _said(_OPTIONS, "One of several."),
            _shape("log", _bounds({"type": "number", "exclusiveMinimum": 0})),
            _shape("float", _bounds(_NUMBER), **step),
            _shape("int", _bounds({"type": "integer"}), **step),
            _shape("int_log", _bounds(_WHOLE)),
            _shape("choice", {"oneOf": [_OPTIONS, nested]}),
            _shape("order", _OPTIONS),
            _shape("bool", {"type": "boolean"}),
            _shape("permutation", {"type": "array", "minItems": 2}),
            _shape("subset", {"type": "array", "minItems": 1}, **sizes),
            {"type": "object", "properties": {"type": _TEXT}, "required": ["type"]},
        ]
    }


def schema() -> Schema:
    """The schema as plain data.

    Raises:
        AssertionError: If a word that the reader knows is not described here.
    """
    assert set(TOP) == {*TOP_WORDS, "space", "run"}, "a word of a sweep file has no description"
    assert set(LIMITS) == set(RUN_WORDS), "a word of [run] has no description"
    run: Schema = {"type": "object", "properties": RUN_WORDS, "additionalProperties": False}
    space: Schema = {"oneOf": [_TEXT, {"$ref": "#/$defs/space"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ADDRESS,
        "title": "Tunewright sweep",
        "description": "What `tunewright run FILE` reads, as TOML, YAML or JSON.",
        "type": "object",
        "properties": {
            "$schema": _TEXT,
            **TOP_WORDS,
            "space": _said(space, "The parameters by name, or the path of a file that has them."),
            "run": _said(run, "Limits of a run."),
        },
        "oneOf": [{"required": ["command"]}, {"required": ["function"]}],
        "additionalProperties": False,
        "$defs": {"space": {"type": "object", "additionalProperties": {"$ref": "#/$defs/parameter"}},
                  "parameter": _parameter()},
    }  # fmt: skip


def text() -> str:
    """The schema as the file in the documentation has it."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
