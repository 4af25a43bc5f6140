"""Words, n-grams and ridge regression, against counts and formulas by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright import architect
from tunewright.core.domains import Bool, Choice, Float, Int, Order
from tunewright.core.space import Space
from tunewright.models import ngrams


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("depth.2.conv_3.filters", "depth.conv.filters"),
        ("units_1", "units"),
        ("layer_1_units", "layer_units"),
        ("conv2d.size", "conv2d.size"),
        ("x3", "x3"),
        ("3", ""),
        ("order_2[relu]", "order[relu]"),
    ],
)
def test_the_place_is_dropped_from_a_name(name, bare):
    assert ngrams.without_place(name) == bare


def test_copies_share_words_of_the_same_value():
    space = Space(a_1=Order([1, 2]), a_2=Order([2, 4]), b=Choice(["u", "v"]), x=Float(0, 1))
    words = ngrams.words_of(space)
    assert words.cells.tolist() == [2, 2, 2, 8]
    assert words.first.tolist() == [0, 2, 4, 6]
    # 1, 2 | 2, 4 | u, v | eight groups of x.
    assert words.shared[:6].tolist() == [0, 1, 1, 2, 3, 4]
    assert words.ordered.tolist() == [True, True, False, True]


def test_grams_of_two_branches():
    space = Space(m=Choice({"a": {"p": Bool(), "q": Bool()}, "b": None}), z=Bool())
    words = ngrams.words_of(space)
    full = space.encode({"m": "a", "p": True, "q": False, "z": True})
    bare = space.encode({"m": "b", "z": True})
    found = ngrams.grams(words, np.array([full, bare]), 3)
    count = (found > 0).sum(axis=1)
    # 4 words with and 4 without their places, 3 pairs, 2 triples; and 2 + 2 + 1 + 0.
    assert count.tolist() == [13, 5]
    alike = set(found[0][found[0] > 0]) & set(found[1][found[1] > 0])
    assert len(alike) == 2, "z=True, with its place and without"


def test_a_pair_is_the_same_wherever_it_stands():
    net = architect.Repeat(
        [architect.Module("conv", size=Choice([1, 3, 5])), architect.Module("act", kind=Choice(["r", "t"]))],
        3,
    )
    space = architect.space(net)

    def config(*layers):
        return {
            f"repeat.{i}.{k}": v
            for i, (size, kind) in enumerate(layers, 1)
            for k, v in (("conv.size", size), ("act.kind", kind))
        }

    words = ngrams.words_of(space)
    rows = np.array(
        [
            space.encode(config((3, "r"), (1, "t"), (5, "t"))),
            space.encode(config((1, "t"), (5, "t"), (3, "r"))),
        ]
    )
    d = space.d
    pairs = ngrams.grams(words, rows, 2)[:, 2 * d : 3 * d]
    assert pairs[0, 0] == pairs[1, 4] != 0
    assert pairs[0, 2] == pairs[1, 0]
    assert len(set(pairs[0][pairs[0] > 0])) == 5


def test_counts_of_a_vocabulary():
    found = np.array([[5, 9, 5, 0], [7, 0, 0, 0]], dtype=np.uint64)
    vocabulary = np.array([5, 7, 8], dtype=np.uint64)
    assert ngrams.counted(found, vocabulary).tolist() == [[2, 0, 0], [0, 1, 0]]
    assert ngrams.counted(found, vocabulary[:0]).shape == (2, 0)


def test_only_what_occurs_often_enough_counts():
    space = Space(c=Choice(list("abcd")))
    words = ngrams.words_of(space)
    rows = np.array([space.encode({"c": c}) for c in "aaabb"])
    model = ngrams.fit(words, rows, np.arange(5.0), least=3)
    # "a" with and without its place; one length; no ordered column.
    assert len(model.vocabulary) == 2
    assert len(model.weights) == 3


def test_the_fit_is_ridge_regression_and_the_penalty_the_best_left_out():
    space = Space({f"x_{i}": Float(0, 1) for i in range(3)}, c=Choice(list("abc")))
    rng = np.random.default_rng(0)
    rows = space.sample(rng, 40)
    targets = 2.0 * rows[:, 0] - rows[:, 1] + 0.1 * rng.standard_normal(40)
    words = ngrams.words_of(space)
    model = ngrams.fit(words, rows, targets)
    x = ngrams.features(words, rows, 4, model.vocabulary)
    centred, y = x - x.mean(axis=0), targets - targets.mean()

    def solved(x, y, penalty):
        return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)

    assert model.weights == pytest.approx(solved(centred, y, model.penalty), abs=1e-8)
    errors = {}
    for penalty in ngrams.PENALTIES:
        left = []
        for i in range(40):
            keep = np.arange(40) != i
            centre, mean = x[keep].mean(axis=0), targets[keep].mean()
            w = solved(x[keep] - centre, targets[keep] - mean, penalty)
            left.append((x[i] - centre) @ w + mean - targets[i])
        errors[penalty] = np.mean(np.square(left))
    assert min(errors, key=errors.__getitem__) == model.penalty
    assert ngrams.predict(model, rows) == pytest.approx(centred @ model.weights + targets.mean())


def test_it_learns_what_a_part_is_worth_wherever_it_stands():
    net = architect.Repeat(architect.Module("act", kind=Choice(list("abcd"))), [1, 2, 3, 4])
    space = architect.space(net)
    rng = np.random.default_rng(1)

    def worth(row):
        return sum(v == "c" for v in space.decode(row).values())

    rows, others = space.sample(rng, 60), space.sample(rng, 200)
    model = ngrams.fit(ngrams.words_of(space), rows, np.array([float(worth(r)) for r in rows]))
    truth = np.array([worth(r) for r in others])
    assert np.corrcoef(ngrams.predict(model, others), truth)[0, 1] > 0.95


def test_no_columns_and_one_row():
    empty = Space()
    words = ngrams.words_of(empty)
    model = ngrams.fit(words, np.empty((2, 0)), np.array([1.0, 2.0]))
    assert ngrams.predict(model, np.empty((3, 0))).tolist() == [1.5] * 3
    space = Space(n=Int(1, 9))
    one = ngrams.fit(ngrams.words_of(space), np.array([[0.5]]), np.array([4.0]))
    assert ngrams.predict(one, np.array([[0.1]]))[0] == pytest.approx(4.0)
