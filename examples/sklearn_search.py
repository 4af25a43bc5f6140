"""Searches a perceptron's parameters with ``SearchCV``, in place of ``RandomizedSearchCV``.

Run it: python examples/sklearn_search.py
"""

import warnings

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

import tunewright as tw


def main() -> None:
    """Searches, and compares with the defaults on data that the search has not seen."""
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, train_size=600, random_state=0, stratify=y)
    model = MLPClassifier((32,), max_iter=120, random_state=0)
    space = {
        "learning_rate_init": tw.Float(1e-4, 0.1, log=True),
        "alpha": tw.Float(1e-6, 1.0, log=True),
        "activation": ["relu", "tanh"],
    }
    search = tw.SearchCV(model, space, budget=20, cv=3, random_state=0)
    search.fit(x, y)
    print(f"best accuracy {search.best_score_:.4f}, {search.gain_over_default_:+.4f} over the defaults")
    print(
        f"on new digits {search.score(x_test, y_test):.4f}, defaults {model.fit(x, y).score(x_test, y_test):.4f}"
    )
    print(f"with {search.best_params_}")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message="Stochastic Optimizer")  # 120 passes are enough here
    main()
