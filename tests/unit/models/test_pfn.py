"""The learning-curve network in NumPy: its distributions, what it attends to, and that it computes what was trained."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from tunewright.models import pfn
from tunewright.models.curve_prior import draw_histories
from tunewright.models.curve_tokens import LAST, TOKEN, picked_regular, scale_of, summary_of, tokens
from tunewright.models.tensors import read_tensors

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))


def bars() -> pfn.Bars:
    return pfn.Bars(np.array([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]]), np.array([0.0, 0.5, 0.6, 1.0]))


def test_the_mean_by_hand() -> None:
    np.testing.assert_allclose(bars().mean, [0.5 * 0.25 + 0.25 * 0.55 + 0.25 * 0.8, 0.55])


def test_probabilities_below_by_hand() -> None:
    np.testing.assert_allclose(bars().below(0.25), [0.25, 0.0])
    np.testing.assert_allclose(bars().below(np.array([0.8, 0.525])), [0.875, 0.25])
    np.testing.assert_allclose(bars().below(0.0), 0.0)
    np.testing.assert_allclose(bars().below(1.0), 1.0)


def test_densities_by_hand_and_integrate_to_one() -> None:
    np.testing.assert_allclose(np.exp(bars().log_density(np.array([0.2, 0.55]))), [1.0, 10.0])
    grid = (np.arange(2000) + 0.5) / 2000
    rows = pfn.Bars(np.repeat(bars().mass[:1], 2000, axis=0), bars().borders)
    assert np.exp(rows.log_density(grid)).mean() == pytest.approx(1.0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_quantiles_undo_probabilities(p: float) -> None:
    np.testing.assert_allclose(bars().below(bars().quantile(p)), p)


def study(seed: int, n: int = 12, queries: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Context, questions, anchors and answers of a study from the prior."""
    h = draw_histories(np.random.default_rng(seed), 1, n, queries, 20, 4, calm=True)
    raw = picked_regular(h.losses, h.seen)[0]
    scale = scale_of(raw[:n])
    y = scale.squashed(raw)
    summary = summary_of(y[:n])
    seen = h.seen[0]
    context = tokens(h.codes[0, :n], y[:n], seen[:n] / 20, seen[:n].astype(float), summary)
    rows = h.rows[0]
    query = tokens(
        h.codes[0, rows], y[rows], seen[rows] / 20, seen[rows].astype(float), summary, h.steps[0] / 20
    )
    anchor = np.where(seen[rows] > 0, y[rows, LAST], pfn.NEW)
    return context, query, anchor, scale.squashed(h.targets.T)[:, 0]


def test_distributions_are_distributions_whatever_comes_in() -> None:
    network = pfn.curve_network()
    rng = np.random.default_rng(0)
    context, query = (50.0 * rng.standard_normal((k, TOKEN)).astype(np.float32) for k in (5, 30))
    out = network.predict(network.remember(context), query, rng.random(30))
    assert np.all(out.mass >= 0.0)
    np.testing.assert_allclose(out.mass.sum(axis=1), 1.0)
    assert out.borders[0] == 0.0
    assert out.borders[-1] == 1.0
    assert np.all(np.diff(out.borders) > 0.0)


def test_the_order_of_the_context_and_other_questions_do_not_matter() -> None:
    network = pfn.curve_network()
    context, query, anchor, _ = study(1)
    whole = network.predict(network.remember(context), query, anchor).mass
    turned = network.predict(network.remember(context[::-1].copy()), query, anchor).mass
    np.testing.assert_allclose(turned, whole, atol=1e-4)
    alone = network.predict(network.remember(context), query[3:4], anchor[3:4]).mass
    np.testing.assert_allclose(alone[0], whole[3], atol=1e-4)


def test_it_has_learned_more_than_the_prior_of_its_bars() -> None:
    network = pfn.curve_network()
    found = []
    for seed in range(20):
        context, query, anchor, answer = study(seed)
        found.append(network.predict(network.remember(context), query, anchor).log_density(answer).mean())
    # A uniform guess has log density 0; the bars alone, which are quantiles of the prior, about 0.6.
    assert np.mean(found) > 1.2


def test_the_weights_are_small_and_say_how_they_were_made() -> None:
    data = resources.files("tunewright.models").joinpath(pfn.WEIGHTS).read_bytes()
    assert len(data) < 8e6
    facts = read_tensors(data)[1]
    assert {"seed", "batches", "tasks", "held_out"} <= set(facts)


def test_it_computes_what_torch_does() -> None:
    torch = pytest.importorskip("torch")
    training = pytest.importorskip("training.curve_network")
    arrays, facts = read_tensors(resources.files("tunewright.models").joinpath(pfn.WEIGHTS).read_bytes())
    theirs = training.CurveNetwork(arrays["borders"].astype(np.float64))
    theirs.load_state_dict({k: torch.tensor(v.astype(np.float32)) for k, v in arrays.items()})
    theirs.eval()
    ours = pfn.CurveNetwork.of(arrays, facts)
    for seed, n in ((0, 1), (1, 12), (2, 70)):
        context, query, anchor, _ = study(seed, n)
        with torch.no_grad():
            want = theirs(*(torch.from_numpy(a.astype(np.float32))[None] for a in (context, query, anchor)))[
                0
            ].exp()
        got = ours.predict(ours.remember(context), query, anchor).mass
        np.testing.assert_allclose(got, want.numpy(), atol=1e-4)


@pytest.mark.slow
def test_training_is_the_same_for_the_same_seed_and_batches(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    training = pytest.importorskip("training.curve_network")
    start = resources.files("tunewright.models").joinpath(pfn.WEIGHTS)
    found = []
    for name in ("a", "b"):
        words = [
            "--seed",
            "3",
            "--calm",
            "--batches",
            "1",
            "--decay",
            "1",
            "--start",
            str(start),
            "--every",
            "9",
        ]
        training.trained(training.parsed([*words, "--check", "1", "--out", str(tmp_path / name)]))
        found.append(read_tensors((tmp_path / name).read_bytes()))
    assert found[0][1] == found[1][1]
    for name, array in found[0][0].items():
        np.testing.assert_array_equal(array, found[1][0][name])
    before = read_tensors(start.read_bytes())[0]
    assert not np.array_equal(found[0][0]["first.weight"], before["first.weight"])
