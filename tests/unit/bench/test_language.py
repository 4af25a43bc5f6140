"""Generated text and micro models."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from tunewright.bench.language import ALPHABET, Language, plays, windows
from tunewright.bench.micro import CharTransformer, ConvNet, Mlp, ResidualMlp
from tunewright.errors import ConfigError


def test_a_text_is_the_beginning_of_a_longer_one_of_its_seed() -> None:
    language = Language(3)
    text = language.text(5000)
    assert text.shape == (5000,)
    assert np.array_equal(text[:700], language.text(700))
    assert not np.array_equal(text, language.text(5000, seed=1))
    assert text.min() == 0
    assert text.max() < len(ALPHABET)


def test_words_follow_each_other_as_the_language_says() -> None:
    """With no noise and one follower a language is a cycle: its text repeats a fixed word sequence."""
    text = "".join(ALPHABET[i] for i in Language(0, words=20, followers=1, noise=0.0).text(4000))
    words = text.split(" ")[:-1]
    after: dict[str, set[str]] = {}
    for a, b in pairwise(words):
        after.setdefault(a, set()).add(b)
    assert all(len(found) == 1 for found in after.values())


def test_windows_are_shifted_by_one() -> None:
    x, y = windows(np.arange(100), 8, 5, np.random.default_rng(0))
    assert x.shape == y.shape == (5, 8)
    assert np.array_equal(x + 1, y)


@pytest.mark.parametrize("words", [{"words": 1}, {"followers": 0}, {"noise": 1.5}, {"followers": 500}])
def test_bad_languages(words: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="language"):
        Language(**words)  # type: ignore[arg-type]


def test_missing_plays_are_said(tmp_path: object) -> None:
    with pytest.raises(ConfigError, match="TUNEWRIGHT_DATA"):
        plays(str(tmp_path))


def test_a_text_too_short_for_its_windows() -> None:
    with pytest.raises(ConfigError, match="longer than the context"):
        windows(np.arange(8), 8, 1, np.random.default_rng(0))


def test_models_have_the_sizes_they_are_asked_for() -> None:
    x = torch.zeros(3, 64)
    assert Mlp(width=20, depth=3)(x).shape == (3, 10)
    assert ResidualMlp(width=20, depth=3, layers=2, norm=True)(x).shape == (3, 10)
    assert ConvNet(width=8, groups=2)(x.view(3, 1, 8, 8)).shape == (3, 10)
    model = CharTransformer(vocabulary=11, width=32, depth=3)
    assert model(torch.zeros(2, 7, dtype=torch.long)).shape == (2, 7, 11)
    with pytest.raises(ConfigError, match="multiple of the heads"):
        CharTransformer(width=30, heads=4)


def test_the_transformer_is_causal() -> None:
    model = CharTransformer(width=16, depth=2)
    x = torch.randint(27, (1, 9))
    y = x.clone()
    y[0, 6] = (y[0, 6] + 1) % 27
    a, b = model(x), model(y)
    assert torch.allclose(a[:, :6], b[:, :6], atol=1e-6)
    assert not torch.allclose(a[:, 6:], b[:, 6:], atol=1e-6)
