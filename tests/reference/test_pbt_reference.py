"""Population-based training against the toy problem of its paper.

Jaderberg et al. 2017 (arXiv:1711.09846), section 3 and figure 2: maximise ``1.2 - (t0^2 + t1^2)`` by gradient ascent on the
surrogate ``1.2 - (h0 t0^2 + h1 t1^2)`` from ``t = (0.9, 0.9)``, with two members that begin at ``h = (1, 0)`` and ``(0, 1)``.
"""

from __future__ import annotations

from typing import Any

import pytest

import tunewright as tw

SPACE = tw.Space(h0=tw.Float(0, 1), h1=tw.Float(0, 1))
RATE, STEPS = 0.02, 200


def train(trial: Any) -> None:
    """Gradient ascent on the surrogate, weights in the checkpoint."""
    theta = trial.checkpoint.load({"theta": [0.9, 0.9]})["theta"]
    h = [trial.params["h0"], trial.params["h1"]]
    for step in trial.steps():
        theta = [t - 2 * RATE * g * t for t, g in zip(theta, h, strict=True)]
        trial.checkpoint.save({"theta": theta})
        trial.report(step, q=1.2 - theta[0] ** 2 - theta[1] ** 2)


def study_of(method: str, seed: int = 0, **options: Any) -> tw.Study:
    study = tw.Study.open(
        "toy", SPACE, maximize="q", steps=STEPS, method=method, options=options, seed=seed, storage="memory"
    )
    study.enqueue({"h0": 1.0, "h1": 0.0})
    study.enqueue({"h0": 0.0, "h1": 1.0})
    study.run(train, trials=2, progress="none")
    return study


def test_grid_search_of_the_two_members_stays_at_039() -> None:
    best = study_of("random").best
    # One weight goes to zero, the other stays at 0.9: 1.2 - 0.81.
    assert best.metrics["q"] == pytest.approx(0.39, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_a_population_of_two_reaches_the_optimum(seed: int) -> None:
    study = study_of("pbt", seed, size=2, interval=4)
    best = study.best
    assert best.metrics["q"] > 1.17
    trials = study.trials
    forks = [t for t in trials if t.parent is not None]
    assert len(forks) > 20
    for fork in forks:
        assert fork.parent is not None
        donor, step = fork.parent
        # The checkpoint that a fork begins from was measured at the step that its parent is named at.
        assert step in {r.step for r in trials[donor].reports}
        assert not fork.reports or fork.reports[0].step == step + 1
