"""Tunes a support vector machine of scikit-learn, with one worker and nothing kept on disk.

Run it: python examples/sklearn_svm.py
"""

from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

import tunewright as tw

X, Y = load_digits(return_X_y=True)


def train(C: float, gamma: float, kernel: str) -> float:
    """Accuracy over three folds; the parameters are those of the space."""
    return float(cross_val_score(SVC(C=C, gamma=gamma, kernel=kernel), X[:900], Y[:900], cv=3).mean())


def main() -> None:
    """Opens a study, runs it, shows the best."""
    space = tw.Space(
        C=tw.Float(1e-2, 1e3, log=True),
        gamma=tw.Float(1e-6, 1e-1, log=True),
        kernel=tw.Choice(["rbf", "poly"]),
    )
    study = tw.Study.open("svm", space, maximize="accuracy", storage="memory", seed=1)
    study.run(train, trials=20)
    print(f"best accuracy {study.best.metrics['accuracy']:.4f} with {study.best.params}")


if __name__ == "__main__":
    main()
