"""Descriptions of weights: what leaves a network the same leaves them the same, and nothing else does."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tunewright.errors import ConfigError
from tunewright.models.weights import SIZE, embed, weight_features

Array = np.ndarray


def perceptron(sizes: tuple[int, ...] = (6, 9, 7, 3), seed: int = 0) -> tuple[list[Array], list[Array]]:
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(a, b)) / a**0.5 for a, b in pairwise(sizes)]
    return weights, [0.3 * rng.normal(size=b) for b in sizes[1:]]


def permuted(
    weights: list[Array], biases: list[Array], layer: int, seed: int
) -> tuple[list[Array], list[Array]]:
    """The same network with the neurons above ``layer`` in another order."""
    order = np.random.default_rng(seed).permutation(weights[layer].shape[1])
    weights, biases = list(weights), list(biases)
    weights[layer], biases[layer] = weights[layer][:, order], biases[layer][order]
    weights[layer + 1] = weights[layer + 1][order]
    return weights, biases


def convolutional(seed: int = 0) -> tuple[list[Array], list[Array]]:
    """Kernels as in PyTorch: two convolutions, a matrix on 4 positions of 5 channels, one more."""
    rng = np.random.default_rng(seed)
    shapes = [(4, 2, 3, 3), (5, 4, 3, 3), (8, 20), (3, 8)]
    return [rng.normal(size=s) for s in shapes], [rng.normal(size=s[0]) for s in shapes]


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_hidden_neurons_does_not_matter(layer: int, seed: int) -> None:
    net = perceptron()
    assert np.allclose(embed(*permuted(*net, layer, seed)), embed(*net), atol=1e-9, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_channels_does_not_matter(seed: int) -> None:
    weights, biases = convolutional()
    first, second = (np.random.default_rng(seed + i).permutation(n) for i, n in ((0, 4), (9, 5)))
    same = [
        weights[0][first],
        weights[1][second][:, first],
        weights[2].reshape(8, 5, 4)[:, second].reshape(8, 20),
        weights[3],
    ]
    moved = [biases[0][first], biases[1][second], biases[2], biases[3]]
    found = embed(same, moved, outputs_first=True)
    assert np.allclose(found, embed(weights, biases, outputs_first=True), atol=1e-9, rtol=0)
    # One layer alone in another order is another network.
    apart = [weights[0][[1, 0, 2, 3]], *weights[1:]]
    assert np.abs(embed(apart, biases, outputs_first=True) - found).max() > 1e-3


def test_the_order_of_inputs_and_of_outputs_matters() -> None:
    weights, biases = perceptron()
    base = embed(weights, biases)
    assert np.abs(embed([weights[0][::-1], *weights[1:]], biases) - base).max() > 1e-3
    turned = [*weights[:-1], weights[-1][:, ::-1]]
    assert np.abs(embed(turned, [*biases[:-1], biases[-1][::-1]]) - base).max() > 1e-3


@pytest.mark.parametrize("layer", range(3))
def test_every_weight_and_every_bias_matters(layer: int) -> None:
    weights, biases = perceptron()
    base = embed(weights, biases)
    for change in ("weight", "bias", "sign", "scale"):
        w, b = [v.copy() for v in weights], [v.copy() for v in biases]
        if change == "weight":
            w[layer][1, 2] += 0.5
        elif change == "bias":
            b[layer][1] += 0.5
        else:
            w[layer] *= -1.0 if change == "sign" else 1.3
        assert np.abs(embed(w, b) - base).max() > 1e-4, change


def test_a_neuron_swapped_in_one_layer_only_is_another_network() -> None:
    weights, biases = perceptron()
    order = [1, 0, *range(2, 9)]
    assert np.abs(embed([weights[0][:, order], *weights[1:]], biases) - embed(weights, biases)).max() > 1e-4


def test_both_orders_of_axes_describe_the_same_network() -> None:
    weights, biases = perceptron()
    assert np.allclose(embed([w.T for w in weights], biases, outputs_first=True), embed(weights, biases))
    kernels, more = convolutional()
    last = [kernels[0].transpose(2, 3, 1, 0), kernels[1].transpose(2, 3, 1, 0)]
    first = embed(kernels[:2], more[:2], outputs_first=True)
    assert np.allclose(embed(last, more[:2]), first)


def test_biases_may_be_left_out() -> None:
    weights, _ = perceptron()
    zeros = [np.zeros(w.shape[1]) for w in weights]
    assert np.array_equal(embed(weights), embed(weights, zeros))
    assert np.array_equal(embed(weights, [None, zeros[1], None]), embed(weights, zeros))


def test_layers_that_do_not_follow_each_other_are_described_too() -> None:
    weights, biases = perceptron()
    loose = [*weights, *perceptron((5, 4, 2), 8)[0]]
    found = embed(loose, [*biases, None, None])
    assert found.shape == (SIZE,)
    moved, same = permuted(weights, biases, 0, 3)
    assert np.allclose(embed([*moved, *loose[3:]], [*same, None, None]), found, atol=1e-9, rtol=0)


def test_it_has_the_same_length_for_every_network_and_is_always_finite() -> None:
    weights, _ = perceptron((3, 1))
    assert list(weight_features(weights)) == [f"w/{i}" for i in range(SIZE)]
    broken = perceptron()[0]
    broken[1][0, 0], broken[2][0, 0], broken[0][0, 0] = np.nan, np.inf, -1e300
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(embed(broken)).all()
        assert np.isfinite(embed([np.zeros((4, 3)), np.zeros((3, 2))])).all()
        assert np.isfinite(embed([np.full((4, 3), 1e-300)])).all()


def test_scikit_learn_networks_are_described_as_they_are() -> None:
    neural = pytest.importorskip("sklearn.neural_network")
    rng = np.random.default_rng(0)
    model = neural.MLPClassifier((8, 5), random_state=0)
    model.partial_fit(rng.normal(size=(20, 4)), rng.integers(0, 3, 20), classes=[0, 1, 2])
    before = embed(model.coefs_, model.intercepts_)
    model.partial_fit(rng.normal(size=(20, 4)), rng.integers(0, 3, 20))
    assert 0 < np.abs(embed(model.coefs_, model.intercepts_) - before).max() < 1.0


@pytest.mark.parametrize(
    ("weights", "biases", "message"),
    [
        ([], [], "at least one layer"),
        ([np.ones((2, 3))], [None, None], "a bias or None for each"),
        ([np.ones(3)], [], "inputs and outputs"),
        ([np.ones((0, 3))], [], "inputs and outputs"),
        ([np.ones((2, 3))], [np.ones(2)], "one number per output"),
    ],
)
def test_what_is_no_network_is_refused(weights: list[Array], biases: list[Array], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        embed(weights, biases)
