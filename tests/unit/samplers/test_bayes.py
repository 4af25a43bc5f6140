import numpy as np
import pytest

from tunewright import Study
from tunewright.core.algorithm import generator
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models.belief import log_belief
from tunewright.models.data import observations, scalarise
from tunewright.models.refit import tuning_size
from tunewright.samplers import bayes
from tunewright.samplers.bayes import Bayes

SPACE = Space(
    lr=Float(1e-5, 1e-1, log=True),
    layers=Int(1, 6),
    model=Choice({"svm": {"C": Float(1e-3, 1e3, log=True)}, "tree": {"depth": Int(1, 12)}}),
)


def loss(config):
    own = abs(np.log10(config["C"])) / 3 if config["model"] == "svm" else 0.3 + config["depth"] / 12
    return (np.log10(config["lr"]) + 3) ** 2 / 4 + abs(config["layers"] - 4) / 6 + own


def play(algorithm, problem, trials, metrics, slots=1):
    """Runs trials in rounds of ``slots``; ``metrics`` returns a dict, or None for a failure."""
    state, log = algorithm.init(problem), []
    while (n := state.history.n) < trials:
        for action in algorithm.ask(state, slots, generator(problem.seed, n)):
            log.append(Started(state.history.n, action.config))
            state = algorithm.tell(state, [log[-1]])
        for trial in range(n, state.history.n):
            out = metrics(state.history.configs[trial])
            log.append(
                Ended(trial, 0, "failed", error="x")
                if out is None
                else Ended(trial, 0, "completed", out, step=1)
            )
            state = algorithm.tell(state, [log[-1]])
    return state, log


def test_it_beats_random_search_on_a_conditional_space():
    state, _ = play(Bayes(), Problem(SPACE), 40, lambda c: {"loss": loss(c)})
    rng = np.random.default_rng(0)
    random = [min(loss(SPACE.draw(rng)) for _ in range(40)) for _ in range(20)]
    assert state.history.loss.min() < min(random)
    assert state.history.loss.min() < 0.05


def test_a_fresh_fold_takes_the_same_decision():
    problem = Problem(SPACE, seed=3)
    state, log = play(Bayes(), problem, 14, lambda c: {"loss": loss(c)})
    fresh = Bayes().tell(Bayes().init(problem), log)
    rng = generator(3, 14)
    assert Bayes().ask(state, 2, generator(3, 14)) == Bayes().ask(fresh, 2, rng)


def test_parallel_slots_get_different_configurations():
    problem = Problem(SPACE)
    state, _ = play(Bayes(), problem, 12, lambda c: {"loss": loss(c)})
    actions = Bayes().ask(state, 5, generator(0, 12))
    assert len({tuple(sorted(a.config.items())) for a in actions}) == 5


def test_awaited_trials_are_not_proposed_again():
    problem = Problem(SPACE)
    state, _ = play(Bayes(), problem, 12, lambda c: {"loss": loss(c)})
    (first,) = Bayes().ask(state, 1, generator(0, 12))
    state = Bayes().tell(state, [Started(12, first.config)])
    (second,) = Bayes().ask(state, 1, generator(0, 12))
    assert second.config != first.config


def test_failed_regions_are_avoided():
    def metrics(config):
        return None if config["layers"] > 3 else {"loss": loss(config)}

    state, _ = play(Bayes(), Problem(SPACE), 30, metrics)
    late = [c["layers"] > 3 for c in state.history.configs[15:]]
    assert sum(late) <= 5


@pytest.mark.parametrize("metrics", [lambda c: None, lambda c: {"loss": 1.0}])
def test_nothing_to_learn_means_random_draws(metrics):
    state, _ = play(Bayes(initial=2), Problem(SPACE), 8, metrics)
    assert state.history.n == 8


def test_outcome_limits_are_met_first():
    problem = Problem(SPACE, limits=(Limit("size", 3.0),))
    state, _ = play(Bayes(), problem, 30, lambda c: {"loss": loss(c), "size": float(c["layers"])})
    assert np.mean(state.history.violation[15:] > 0) < 0.4


def test_several_objectives_spread_over_the_front():
    space = Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0))
    problem = Problem(space, (Objective("a"), Objective("b", "maximize")))
    state, _ = play(
        Bayes(), problem, 40, lambda c: {"a": c["x"] ** 2 + c["y"], "b": -((c["x"] - 1) ** 2) - c["y"]}
    )
    late = np.array([[c["x"], c["y"]] for c in state.history.configs[15:]])
    assert late[:, 1].mean() < 0.2
    assert np.ptp(late[:, 0]) > 0.5


def test_a_guess_draws_the_search_and_can_be_overcome():
    space = Space(x=Float(0.0, 1.0, guess=0.9, confidence=0.9), k=Choice(["a", "b"], guess="b"))
    state, _ = play(Bayes(), Problem(space), 30, lambda c: {"loss": (c["x"] - 0.2) ** 2 + (c["k"] == "b")})
    first = [c["x"] for c in state.history.configs[:8]]
    assert np.mean(first) > 0.6
    assert state.history.loss.min() < 0.01


def test_belief_is_a_density():
    density = log_belief(Space(x=Float(0.0, 1.0, guess=0.5, confidence=0.6), k=Choice(["a", "b"])))
    x = np.column_stack([np.linspace(0, 1, 10_001), np.full(10_001, 0.25)])
    assert np.exp(density(x)).mean() == pytest.approx(1.0, abs=1e-3)
    assert log_belief(SPACE) is None


def test_tuning_sizes():
    assert [tuning_size(n) for n in (2, 30, 31, 32, 33, 36, 37)] == [2, 30, 30, 30, 33, 33, 37]


def test_scalarisation_prefers_dominating_rows():
    losses = np.array([[0.0, 0.0], [1.0, 0.5], [1.0, 1.0]])
    for seed in range(5):
        assert np.all(np.diff(scalarise(losses, np.random.default_rng(seed))) > 0)


@pytest.mark.parametrize(
    "bad",
    [
        {"initial": 0},
        {"candidates": 0},
        {"belief": -1.0},
        {"acquisition": "ucb"},
        {"draws": 0},
        {"incumbent": "best"},
        {"budget": 10.0},
        {"cost": "seconds", "budget": 0.0},
        {"cost": "seconds", "budget": float("inf")},
    ],
)
def test_settings_are_checked(bad):
    with pytest.raises(ConfigError, match="Bayes needs"):
        Bayes(**bad)


def test_ties_with_the_best_are_counted():
    assert bayes.tied(np.array([3.0, 1.0, 2.0])) == 0
    assert bayes.tied(np.array([1.0, 1.0, 2.0, 1.0])) == 2
    assert bayes.tied(np.zeros(100)) == 10


def test_a_plateau_is_left():
    # Best on a step that the model cannot see past; the optimum is elsewhere.
    space = Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0))

    def steps(config):
        if config["x"] > 0.9 and config["y"] > 0.9:
            return 0.0
        return 0.5 if config["x"] < 0.3 else 0.6 + 0.4 * config["x"]

    found = 0
    for seed in range(4):
        problem = Problem(space, (Objective("loss"),), None, (), seed)
        state = play(Bayes(), problem, 40, lambda c: {"loss": steps(c)})[0]
        found += bool(state.history.loss.min() == 0.0)
    assert found >= 3


@pytest.mark.parametrize("acquisition", ["lcb", "thompson", "mes", "jes"])
def test_every_acquisition_finds_the_optimum_in_parallel(acquisition):
    algorithm = Bayes(acquisition=acquisition)
    state, _ = play(algorithm, Problem(SPACE), 40, lambda c: {"loss": loss(c)}, slots=2)
    assert state.history.loss.min() < 0.1
    (action,) = algorithm.ask(state, 1, generator(0, 40))
    assert set(action.why) == {acquisition}


def priced(config):
    """Two equal minima, at 0.2 and 0.8; the second costs a hundred times as much."""
    return min((config["x"] - 0.2) ** 2, (config["x"] - 0.8) ** 2), 10.0 ** (4.0 * config["x"])


def run_priced(algorithm, by_seconds, trials=30):
    objectives = (Objective("loss"),) if by_seconds else (Objective("loss"), Objective("price"))
    problem = Problem(Space(x=Float(0.0, 1.0), y=Float(0.0, 1.0)), objectives)
    state = algorithm.init(problem)
    for n in range(trials):
        (action,) = algorithm.ask(state, 1, generator(0, n))
        value, cost = priced(action.config)
        metrics = {"loss": value} if by_seconds else {"loss": value, "price": cost}
        spent = cost if by_seconds else 1.0
        state = algorithm.tell(
            state, [Started(n, action.config), Ended(n, 0, "completed", metrics, step=1, cost=spent)]
        )
    return np.array([c["x"] for c in state.history.configs[8:]])


@pytest.mark.parametrize("by_seconds", [True, False])
def test_of_two_minima_the_cheaper_is_searched(by_seconds):
    cheap = run_priced(Bayes(cost="seconds" if by_seconds else "price"), by_seconds)
    assert np.mean(cheap < 0.5) > 0.9


def test_costs_that_are_used_up_no_longer_count():
    # The budget is spent by the design, so that the cost has no say: as if it was not asked for.
    spent = run_priced(Bayes(cost="seconds", budget=1e-3), True)
    np.testing.assert_array_equal(spent, run_priced(Bayes(), True))


def test_a_cost_must_be_known_to_the_problem():
    with pytest.raises(ConfigError, match="cost must be"):
        Bayes(cost="price").init(Problem(SPACE))


def test_trials_without_a_cost_are_as_good_as_any():
    state, _ = play(Bayes(cost="seconds"), Problem(SPACE), 12, lambda c: {"loss": loss(c)})
    plain, _ = play(Bayes(), Problem(SPACE), 12, lambda c: {"loss": loss(c)})
    assert state.history.configs == plain.history.configs


def told(configs, losses):
    state = Bayes().init(Problem(SPACE))
    for i, (config, value) in enumerate(zip(configs, losses, strict=True)):
        ended = (
            Ended(i, 0, "failed", error="x")
            if value is None
            else Ended(i, 0, "completed", {"loss": value}, step=1)
        )
        state = Bayes().tell(state, [Started(i, config), ended])
    return state


def test_a_lucky_result_is_no_incumbent_by_mean():
    # Asked by expected improvement, the best seen and the best expected differ under noise and only there.
    rng = np.random.default_rng(1)
    problem = Problem(Space(x=Float(0.0, 1.0)))

    def gains(noise):
        state, _ = play(
            Bayes(), problem, 20, lambda c: {"loss": (c["x"] - 0.4) ** 2 + noise * rng.standard_normal()}
        )
        asked = [Bayes(incumbent=i).ask(state, 1, generator(0, 20))[0] for i in ("observed", "mean")]
        return [a.why["log_ei"] for a in asked]

    low, high = gains(0.5)
    assert high > low + 0.1
    assert np.ptp(gains(0.0)) < 0.1


def test_replicates_are_one_observation_with_less_noise():
    rng = np.random.default_rng(0)
    configs = [SPACE.draw(rng) for _ in range(8)]
    seen = observations(told([*configs, configs[0], configs[0]], [*range(8), 3.0, 6.0]).history, rng)
    assert len(seen.rows) == 8
    assert seen.losses[0] == 3.0
    np.testing.assert_allclose(seen.weights, [1 / 3, *[1.0] * 7])
    assert observations(told(configs, range(8)).history, rng).weights is None


def test_failures_teach_no_loss_once_two_allowed_losses_differ():
    rng = np.random.default_rng(0)
    configs = [SPACE.draw(rng) for _ in range(4)]
    few = observations(told(configs, [1.0, None, 1.0, None]).history, rng)
    assert few.losses.tolist() == [1.0] * 4
    seen = observations(told(configs, [1.0, None, 2.0, None]).history, rng)
    assert seen.losses.tolist() == [1.0, 2.0]


def test_trials_over_a_limit_keep_their_losses_but_are_no_incumbents():
    problem = Problem(SPACE, limits=(Limit("size", 3.0),))
    state, _ = play(Bayes(), problem, 12, lambda c: {"loss": loss(c), "size": float(c["layers"])})
    seen = observations(state.history, np.random.default_rng(0))
    np.testing.assert_array_equal(seen.losses, state.history.loss)
    np.testing.assert_array_equal(seen.allowed, state.history.violation == 0.0)


def test_failed_configurations_are_not_proposed_again():
    space = Space(k=Choice(list("abcdef")), x=Float(0.0, 1.0), when={"x": {"k": ["a"]}})
    state, _ = play(Bayes(), Problem(space), 30, lambda c: {"loss": c["x"]} if c["k"] == "a" else None)
    failed = [c["k"] for c in state.history.configs[5:] if c["k"] != "a"]
    assert len(failed) == len(set(failed))


def opened(**options):
    return Study.open(
        "options", {"x": Float(0.0, 1.0)}, minimize="loss", method="bayes", options=options, storage="memory"
    )


def test_a_study_takes_the_options():
    with opened(acquisition="mes", cost="seconds", budget=100.0) as study:
        for _ in range(9):
            asked = study.ask()
            study.tell(asked, (asked.params["x"] - 0.3) ** 2)
        assert study.best.metrics["loss"] < 0.01
        assert "mes" in study.trials[-1].why
    with pytest.raises(ConfigError, match="acquisition to be one of"):
        opened(acquisition="ucb")
