"""A program written for Optuna: only its import line was changed, from ``import optuna``.

Run it: python examples/from_optuna.py
"""

from tunewright.integrations import optuna


def objective(trial: optuna.Trial) -> float:
    """A made-up training of ten epochs, by one of two optimisers."""
    rate = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    if trial.suggest_categorical("optimizer", ["sgd", "adam"]) == "sgd":
        speed = rate * trial.suggest_float("momentum", 0.5, 0.99)
    else:
        speed = rate * 3
    error = 1.0
    for epoch in range(10):
        error *= 1 - min(speed * 10, 0.5) + speed * 2
        trial.report(error, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    trial.set_user_attr("epochs", 10)
    return error


def main() -> None:
    """Tries one configuration of the user's own, then what the method proposes."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial({"lr": 0.001, "optimizer": "adam"})
    study.optimize(objective, n_trials=40)
    pruned = study.get_trials(states=(optuna.trial.TrialState.PRUNED,))
    print(
        f"best error {study.best_value:.4f} with {study.best_params}; {len(pruned)} of 40 trials were pruned"
    )


if __name__ == "__main__":
    main()
