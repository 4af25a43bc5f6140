"""Small studies to draw."""

import math

import tunewright as tw
from tunewright.scaling import Scale

NESTED = tw.Space(
    model=tw.Choice({"svm": {"C": tw.Float(1e-3, 1e3, log=True)}, "tree": {"depth": tw.Int(1, 12)}}),
    rate=tw.Float(0, 1),
)


def asked(config, measure, n=40, space=NESTED, seed=0, **how):
    """A study of ``n`` random trials told by a function of the configuration; ``None`` fails the trial."""
    study = tw.Study.open("<b>study</b> & co", space, method="random", storage="memory", seed=seed, **how)
    for _ in range(n):
        trial = study.ask()
        value = measure(trial.params)
        if value is None:
            study.tell(trial, outcome="failed", error="<script>alert(1)</script>")
        else:
            trial.tell(value)
    return study


def nested_loss(config):
    """Depends on the model and on C, not on rate or depth."""
    return abs(math.log10(config["C"])) / 3 if config["model"] == "svm" else 2.0


def nested(n=60, seed=0, **how):
    """A study of the nested space."""
    return asked(NESTED, nested_loss, n, seed=seed, **how)


def _train(trial):
    for step in trial.steps():
        trial.report(step, loss=trial["x"] + 1 / step, cost=0.5)


def stepped(method="random"):
    """A study of trials that report nine steps; with ASHA most of them pause."""
    space = tw.Space(x=tw.Float(0, 1))
    study = tw.Study.open("stepped", space, steps=9, method=method, storage="memory")
    study.run(_train, trials=12, progress="none")
    return study


SIZES = Scale({"width": (64, 512)}, [{"width": 64}, {"width": 128}], steps=4, rule=("mup", "sp"))


def sized(method="random", trials=40, drift=-1.0, name="sized", **how):
    """A study with a scale: the best rate falls with the width by ``drift``, and stays under mup; high rates diverge."""
    how = {"scale": SIZES, "storage": "memory", **how}

    def train(trial):
        doublings = math.log2(trial.size("width") / 64)
        away = math.log2(trial["lr"]) + 7 - drift * doublings * (trial.rule != "mup")
        if away > 6:
            raise FloatingPointError("not finite")
        for step in trial.steps():
            trial.report(step, loss=2 - 0.1 * doublings + 0.02 * away**2 + 1 / step + trial.number % 3 / 100)

    study = tw.Study.open(name, tw.Space(lr=tw.Float(1e-4, 1.0, log=True)), method=method, **how)
    study.run(train, trials=trials, failures=None, progress="none")
    return study
