"""Fits of laws: known laws are recovered, intervals cover, and bad runs are refused with a sentence."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.errors import ConfigError
from tunewright.scaling import laws
from tunewright.scaling.laws.fitting import _Loss

SIZES = np.array([2e7, 5e7, 1e8, 3e8, 1e9])
RATIOS = np.array([5.0, 20.0, 80.0])


def runs(noise: float, seed: int = 0):
    """Parameters, tokens and losses of the refitted Chinchilla law on a grid."""
    n, r = (a.ravel() for a in np.meshgrid(SIZES, RATIOS, indexing="ij"))
    exact = laws.get("chinchilla-loss").evaluate(params=n, tokens=n * r)
    return n, n * r, exact * np.exp(noise * np.random.default_rng(seed).standard_normal(n.size))


def test_an_exact_law_is_recovered():
    fit = laws.fit_loss(*runs(0.0), bootstrap=20)
    known = laws.get("chinchilla-loss").constants
    assert fit.coefficients["E"] == pytest.approx(known["E"], rel=2e-3)
    assert fit.coefficients["alpha"] == pytest.approx(known["alpha"], rel=5e-3)
    assert fit.coefficients["beta"] == pytest.approx(known["beta"], rel=5e-3)
    assert fit.explained > 0.999999


def test_one_exponent_for_both_when_tied():
    n, d, _ = runs(0.0)
    loss = 1.8 + 500 * n**-0.33 + 900 * d**-0.33
    fit = laws.fit_loss(n, d, loss, tied=True, bootstrap=20)
    assert fit.coefficients["alpha"] == fit.coefficients["beta"] == pytest.approx(0.33, rel=5e-3)


def test_predictions_agree_where_coefficients_do_not():
    a, b = (laws.fit_loss(*runs(0.004, seed), bootstrap=100) for seed in (1, 6))
    assert {frozenset(pair[:2]) for pair in a.together()} >= {frozenset({"A", "alpha"})}
    assert abs(a.coefficients["A"] / b.coefficients["A"] - 1) > 0.1
    inside = {"params": 3e8, "tokens": 6e9}
    assert a.predict(**inputs_of(inside)).value == pytest.approx(
        b.predict(**inputs_of(inside)).value, rel=0.01
    )


def inputs_of(inside):
    return dict(inside)


def test_the_cloud_holds_the_minima_that_scipy_finds():
    from scipy.optimize import minimize

    n, d, loss = runs(0.01, 3)
    problem = _Loss(n, d, loss, False, 1e-3)
    weights = np.random.default_rng(0).exponential(size=(4, n.size))
    start = problem.best()
    for w, got in zip(weights, problem.refit(start, weights), strict=True):

        def value(theta, w=w):
            return float((w * problem.huber(problem.residuals(theta[None])[0])).sum())

        found = minimize(
            value, got, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-16, "maxiter": 4000}
        )
        assert value(got) <= found.fun * 1.02


def test_the_gradient_is_that_of_the_objective():
    from scipy.optimize import check_grad

    problem = _Loss(*runs(0.02, 4), False, 1e-3)
    for theta in problem.starts()[:3]:
        gradient = problem.value(theta)[1]
        error = check_grad(lambda t: problem.value(t)[0], lambda t: problem.value(t)[1], theta)
        assert error < 1e-4 * max(1.0, float(np.linalg.norm(gradient)))


def test_a_fit_is_the_same_for_the_same_seed_and_any_order_of_runs():
    n, d, loss = runs(0.01)
    a, b = (laws.fit_loss(n, d, loss, bootstrap=30, seed=5) for _ in range(2))
    assert np.array_equal(a.cloud, b.cloud)
    turned = laws.fit_loss(n[::-1], d[::-1], loss[::-1], bootstrap=30)
    assert turned.predict(params=1e8, tokens=2e9).value == pytest.approx(
        a.predict(params=1e8, tokens=2e9).value, rel=1e-4
    )


def test_two_points_for_three_coefficients_are_refused():
    with pytest.raises(
        ConfigError, match="fit of 3 coefficients needs runs at 4 or more different settings; got 2"
    ):
        laws.fit_power([1e-3, 2e-3], {"params": [1e8, 1e9], "tokens": [1e9, 5e9]})
    with pytest.raises(ConfigError, match="fit of 5 coefficients"):
        laws.fit_loss([1e8] * 9, [1e9] * 9, [3.0] * 9)


def test_diverged_runs_are_named_and_left_out_only_when_asked():
    n, d, loss = runs(0.003)
    loss[3], loss[7] = np.nan, 9.0
    with pytest.raises(ConfigError, match="must have a finite loss; got run 3"):
        laws.fit_loss(n, d, loss)
    loss[3] = 8.0
    with pytest.raises(ConfigError, match="within 10 % of one law.*runs 3, 7"):
        laws.fit_loss(n, d, loss)
    fit = laws.fit_loss(n, d, loss, drop_diverged=True, bootstrap=50)
    assert fit.dropped == (3, 7)
    clean = laws.get("chinchilla-loss").evaluate(params=1e8, tokens=2e9)
    assert fit.predict(params=1e8, tokens=2e9).value == pytest.approx(clean, rel=0.01)


def test_a_power_law_names_a_wild_run():
    n = np.geomspace(1e7, 1e9, 9)
    lr = 3.7 * n**-0.36
    lr[4] *= 50
    with pytest.raises(ConfigError, match="within a factor of three of one law.*run 4 "):
        laws.fit_power(lr, {"params": n})
    fit = laws.fit_power(lr, {"params": n}, drop_diverged=True)
    assert fit.dropped == (4,)
    assert fit.coefficients["exponent_params"] == pytest.approx(-0.36, rel=1e-6)


def test_inputs_that_hardly_vary_have_no_exponent():
    n, d, loss = runs(0.0)
    with pytest.raises(
        ConfigError, match=r"params must vary by a factor of two or more .* got a factor of 1.5"
    ):
        laws.fit_loss(np.linspace(1e8, 1.5e8, n.size), d, loss)


def test_inputs_that_always_grow_together_have_no_exponents_of_their_own():
    n = np.geomspace(1e7, 1e9, 8)
    with pytest.raises(ConfigError, match="params and tokens must vary separately"):
        laws.fit_power(n**-0.3, {"params": n, "tokens": 20 * n})
    loss = laws.get("chinchilla-loss").evaluate(params=n, tokens=20 * n)
    fit = laws.fit_loss(n, 20 * n, loss, bootstrap=20)
    assert "always grow together" in fit.warnings[0]


def test_a_law_that_does_not_describe_its_runs_is_refused():
    n, d, _ = runs(0.0)
    noise = 3 + 0.1 * np.random.default_rng(0).standard_normal(n.size)
    with pytest.raises(ConfigError, match="must explain at least 80%"):
        laws.fit_loss(n, d, noise)


def test_columns_that_cannot_be_are_refused():
    n, d, loss = runs(0.0)
    with pytest.raises(ConfigError, match="of one length"):
        laws.fit_loss(n[1:], d, loss)
    with pytest.raises(ConfigError, match="params must be positive and finite; got -1 in run 2"):
        laws.fit_loss(np.where(np.arange(n.size) == 2, -1, n), d, loss)


def test_intervals_of_few_runs_cover_new_runs():
    noise = 0.1
    rng = np.random.default_rng(11)
    n, d = np.array([1e8, 2e8, 4e8, 8e8, 1e8, 4e8, 8e8]), np.array([2e9, 4e9, 8e9, 1.6e10, 8e9, 2e9, 4e9])
    covered = 0
    for seed in range(100):
        truth = 1.79 * n**-0.713 * d**0.307
        fit = laws.fit_power(
            truth * np.exp(noise * rng.standard_normal(n.size)),
            {"params": n, "tokens": d},
            bootstrap=100,
            seed=seed,
            least_explained=0.0,
        )
        said = fit.predict(params=1e9, tokens=2e10)
        new = 1.79 * 1e9**-0.713 * 2e10**0.307 * np.exp(noise * rng.standard_normal())
        covered += said.low <= new <= said.high
    # A true 95 % interval misses by more than 13 of 100 once in 1,500 times.
    assert covered >= 87


def test_a_fit_stands_beside_the_published_laws():
    fit = laws.fit_loss(*runs(0.003), name="mine", bootstrap=50)
    found = laws.recommend(params=1e8, tokens=2e9, extra=[fit.as_law()], only=["mine", "chinchilla-loss"])
    assert found["mine"].value == pytest.approx(found["chinchilla-loss"].value, rel=0.01)
    assert found["mine"].low < found["mine"].value < found["mine"].high
    with pytest.raises(ConfigError, match="answers up to a factor of 10"):
        fit.predict(params=1e11, tokens=2e12)


def test_the_optimum_of_a_bowl_is_found_between_the_cells():
    lr, batch = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(-12, -5), 2.0 ** np.arange(5, 11)))
    x, y = np.log(lr / 3e-3), np.log(batch / 150)
    loss = 2.5 * np.exp(0.01 * x**2 + 0.006 * y**2 - 0.006 * x * y)
    found = laws.optimum({"lr": lr, "batch": batch}, loss)
    assert found.at["lr"] == pytest.approx(3e-3, rel=1e-6)
    assert found.at["batch"] == pytest.approx(150, rel=1e-6)
    assert found.convex
    assert not found.edge
    assert found.low["lr"] < 3e-3 < found.high["lr"]
    assert laws.convexity(lr, batch, loss) == (13, 13)


def test_an_optimum_at_the_edge_and_a_saddle_are_said_to_be_such():
    lr = 2.0 ** np.arange(-12, -5)
    falling = laws.optimum({"lr": lr}, 3 + 0.05 * np.log(lr / 1e-1) ** 2)
    assert falling.edge == ("lr",)
    assert falling.at["lr"] == pytest.approx(lr[-1])
    ridge = laws.optimum({"lr": lr}, 3 - 0.01 * np.log(lr / 1e-3) ** 2)
    assert not ridge.convex
    wavy = np.tile([3.0, 3.3], 4)[:7]
    assert laws.convexity(lr, np.full(7, 32.0), wavy) == (0, 1)
    with pytest.raises(ConfigError, match="needs 3 finished cells; got 1"):
        laws.optimum({"lr": lr}, [2.0, *[np.nan] * 6])


def test_one_surface_through_many_sweeps_recovers_how_the_optimum_moves():
    sweeps = []
    for n, d in [(1e8, 2e9), (1e8, 8e9), (4e8, 8e9), (4e8, 2e9), (8e8, 1.6e10)]:
        lr, batch = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(-12, -5), 2.0 ** np.arange(15, 22)))
        x, y = np.log(lr / (1.79 * n**-0.713 * d**0.307)), np.log(batch / (0.58 * d**0.571))
        sweeps.append(
            (
                {"params": n, "tokens": d},
                {"lr": lr, "batch": batch},
                2.5 * np.exp(0.01 * x**2 + 0.008 * y**2 - 0.01 * x * y),
            )
        )
    surface = laws.fit_surface(sweeps)
    assert surface.slopes == pytest.approx(np.array([[-0.713, 0.307], [0.0, 0.571]]), abs=1e-8)
    at = surface.center(params=1e9, tokens=1e11)
    assert at["lr"] == pytest.approx(laws.get("step-law-lr").predict(params=1e9, tokens=1e11).value, rel=1e-6)
    assert surface.excess(
        {"lr": 2 * at["lr"], "batch": at["batch"]}, params=1e9, tokens=1e11
    ) == pytest.approx(np.expm1(0.01 * np.log(2) ** 2), rel=1e-6)
    with pytest.raises(ConfigError, match="needs a cloud"):
        surface.interval(params=1e9, tokens=1e11)
    with pytest.raises(ConfigError, match="vary separately"):
        laws.fit_surface([({**s[0], "tokens": 20 * s[0]["params"]}, *s[1:]) for s in sweeps])


def test_an_error_follows_the_loss_and_both_fits_chain():
    n, d, loss = runs(0.002)
    error = 0.8 - 2.0 * np.exp(-0.9 * loss)
    by_loss = laws.fit_error(loss, error, bootstrap=100)
    assert by_loss.coefficients["gamma"] == pytest.approx(0.9, rel=0.05)
    chain = laws.Downstream(laws.fit_loss(n, d, loss, bootstrap=100), by_loss)
    said = chain.predict(params=1e9, tokens=8e10)
    exact = 0.8 - 2.0 * np.exp(-0.9 * laws.get("chinchilla-loss").evaluate(params=1e9, tokens=8e10))
    assert said.value == pytest.approx(exact, rel=0.01)
    assert said.low <= said.value <= said.high
    with pytest.raises(ConfigError, match="between 0 and 1"):
        laws.fit_error(loss, 100 * error)
    with pytest.raises(ConfigError, match="must go by loss"):
        laws.Downstream(by_loss, chain.loss)


def test_a_choice_between_laws_comes_with_its_probability():
    n, d, loss = runs(0.003)
    better = laws.fit_loss(n, d, 0.95 * loss, bootstrap=100)
    same = laws.fit_loss(
        n, d, loss * np.exp(0.003 * np.random.default_rng(9).standard_normal(n.size)), bootstrap=100
    )
    first = laws.fit_loss(n, d, loss, bootstrap=100)
    assert laws.choose({"a": better, "b": first}, params=1e9, tokens=2e10)["a"] > 0.95
    close = laws.choose({"a": same, "b": first}, params=1e9, tokens=2e10)
    assert 0.05 < close["a"] < 0.95
    assert sum(close.values()) == pytest.approx(1)
    with pytest.raises(ConfigError, match="two candidates"):
        laws.choose({"a": first}, params=1e9)


def test_a_table_gives_the_laws_that_its_columns_suffice_for():
    n, d, loss = runs(0.003)
    (fit,) = laws.fit_columns({"params": n, "tokens": d, "loss": loss})
    assert fit.output == "loss"
    best = laws.fit_columns(
        {"params": n, "tokens": d, "lr": 1.79 * n**-0.713 * d**0.307, "batch": 0.58 * d**0.571}
    )
    assert [f.name for f in best] == ["my-lr", "my-batch"]
    assert best[0].coefficients["exponent_tokens"] == pytest.approx(0.307)
    with pytest.raises(ConfigError, match="A table must have"):
        laws.fit_columns({"params": n, "loss": loss})


def test_senseless_arguments_of_fits_are_refused():
    n, d, loss = runs(0.0)
    with pytest.raises(ConfigError, match="bootstrap of 2 or more"):
        laws.fit_loss(n, d, loss, bootstrap=0)
    with pytest.raises(ConfigError, match="needs inputs other than its target"):
        laws.fit_power(loss, {})
    with pytest.raises(ConfigError, match="Weights must be positive and one per run"):
        laws.fit_power(loss, {"params": n}, weights=[1.0])
    with pytest.raises(ConfigError, match="between 0 and 1"):
        laws.fit_loss(n, d, loss, bootstrap=5).predict(params=1e8, tokens=2e9, level=95)
    with pytest.raises(ConfigError, match="Swept settings must be positive"):
        laws.optimum({"lr": [0.0, 0.1, 0.2, 0.3]}, [3.0, 2.0, 2.0, 3.0])
    with pytest.raises(ConfigError, match="one loss per cell"):
        laws.optimum({"lr": [0.1, 0.2, 0.3, 0.4]}, [3.0, 2.0])
    with pytest.raises(ConfigError, match="needs sweeps; got none"):
        laws.fit_surface([])


def test_the_interval_of_a_surface_holds_the_centre_and_widens_outside():
    rng, sweeps = np.random.default_rng(0), []
    for n, d in [(1e8, 2e9), (1e8, 8e9), (2e8, 4e9), (4e8, 8e9), (4e8, 2e9), (8e8, 1.6e10), (8e8, 4e9)]:
        lr, batch = (a.ravel() for a in np.meshgrid(2.0 ** np.arange(-12, -5), 2.0 ** np.arange(15, 22)))
        x, y = np.log(lr / (1.79 * n**-0.713 * d**0.307)), np.log(batch / (0.58 * d**0.571))
        loss = 2.5 * np.exp(0.01 * x**2 + 0.008 * y**2 + 0.001 * rng.standard_normal(lr.size))
        sweeps.append(({"params": n, "tokens": d}, {"lr": lr, "batch": batch}, loss))
    surface = laws.fit_surface(sweeps, bootstrap=100)
    near, far = surface.interval(params=3e8, tokens=5e9), surface.interval(params=1e10, tokens=2e11)
    assert near["lr"][0] < 1.79 * 3e8**-0.713 * 5e9**0.307 < near["lr"][1]
    assert near["batch"][0] < 0.58 * 5e9**0.571 < near["batch"][1]
    assert far["lr"][1] / far["lr"][0] > near["lr"][1] / near["lr"][0]
    again = laws.fit_surface(sweeps, bootstrap=100)
    assert np.array_equal(again.cloud, surface.cloud)


@pytest.mark.parametrize(("by", "unit"), [(1e6, "params"), (1e9, "params")])
def test_columns_in_millions_are_refused(by, unit):
    n, d, loss = runs(0.003)
    with pytest.raises(ConfigError, match=f"{unit} must be counted in parameters; got"):
        laws.fit_loss(n / by, d, loss)
    with pytest.raises(ConfigError, match="tokens must be counted in tokens; got"):
        laws.fit_power(0.1 * n**-0.3, {"params": n, "tokens": d / 1e9 * 1.7})
