"""The classifier of scikit-learn that is smoothed: one of scikit-learn, with certificates."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import check_estimator

import cert_core as cc
from cert_models.estimators import SmoothedEstimator

X, Y = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])


def fitted(**options: Any) -> SmoothedEstimator:
    return SmoothedEstimator(GaussianNB(), **{"n": 200, **options}).fit(X, Y)


@pytest.mark.slow
def test_it_is_an_estimator_of_scikit_learn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # checks that are skipped, for want of a package
        told = check_estimator(SmoothedEstimator(GaussianNB(), copies=2, n=20))
    assert len(told) > 40


def test_certificates_are_those_of_the_core() -> None:
    model = fitted(random_state=3)
    own = cc.Smoothed(GaussianNB().fit(X, Y).predict, cc.Gaussian(4, 0.25), 3)
    for attack in ("l2", "linf"):
        ours, theirs = model.certify(X, attack), own.certify(X, 100, 200, 0.001, attack, 3)
        np.testing.assert_array_equal(ours.radius, theirs.radius)
        np.testing.assert_array_equal(ours.label, theirs.label)
        share = cc.certified_accuracy(theirs, Y, 0.2)
        assert model.certified_score(X, Y, 0.2, attack) == share


def test_classes_are_of_any_kind() -> None:
    model = SmoothedEstimator(GaussianNB(), n=100).fit(X, NAMES[Y])
    assert set(model.predict(X[::10])) == set(NAMES)
    np.testing.assert_array_equal(NAMES[model.predict_proba(X).argmax(axis=1)], model.predict(X))
    assert model.score(X, NAMES[Y]) > 0.9
    assert model.certified_score(X, NAMES[Y], 0.1) > 0.6
    assert model.certified_score(X, ["rosa"] * len(X), 0.0) == 0.0
    assert model.certified_score(X, Y, 0.0) == 0.0  # numbers are no names


def test_a_prediction_hangs_on_its_input_alone() -> None:
    model = fitted()
    whole = model.predict_proba(X)
    np.testing.assert_array_equal(model.predict_proba(X[::-7]), whole[::-7])


def test_predict_never_abstains_and_certify_does() -> None:
    model = fitted(rms=1.0, n=50)
    assert (model.certify(X).label == cc.ABSTAIN).any()
    assert set(model.predict(X)) <= set(Y)


def test_noisy_copies_are_what_a_tree_has_to_see() -> None:
    scores = [
        SmoothedEstimator(DecisionTreeClassifier(random_state=0), rms=0.5, copies=copies, n=100)
        .fit(X[::2], Y[::2])
        .certified_score(X[1::2], Y[1::2], 0.2)
        for copies in (0, 20)
    ]
    assert scores[0] < scores[1]


def test_copies_are_not_those_of_the_certificates() -> None:
    seen: list[Any] = []

    class Keeps(GaussianNB):
        def fit(self, X: Any, y: Any) -> Any:
            seen.append(X)
            return super().fit(X, y)

    x = np.zeros((6, 4))
    SmoothedEstimator(Keeps(), copies=3, rms=1.0).fit(x, [0, 1] * 3)
    (drawn,) = seen
    assert len(np.unique(drawn, axis=0)) == 18
    assert abs(drawn.std() - 1) < 0.5
    voted = [
        batch
        for stage in ("selection", "estimation")
        for _, batch in cc.noisy_batches(x, cc.Gaussian(4, 1.0), 100, 0, stage=stage)
    ]
    assert not np.isin(drawn.astype(np.float32), np.concatenate(voted)).any()


def test_in_a_pipeline_and_in_a_search() -> None:
    steps = make_pipeline(StandardScaler(), SmoothedEstimator(GaussianNB(), n=50))
    search = GridSearchCV(steps, {"smoothedestimator__rms": [0.25, 4.0]}, cv=2).fit(X, Y)
    assert search.best_params_ == {"smoothedestimator__rms": 0.25}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": "white"}, r"noise must be a Noise or one of 'l1', .*'white'"),
        ({"noise": cc.Gaussian(3, 1.0)}, "noise must be of dim 4, the features of X"),
        ({"copies": 1.5}, "copies must be an integer >= 0, got 1.5"),
        ({"rms": -1.0}, "rms must be"),
        ({"random_state": None}, "random_state must be an integer"),
        ({"estimator": LinearRegression()}, "estimator must be a classifier"),
    ],
)
def test_what_fit_refuses(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SmoothedEstimator(**{"estimator": GaussianNB(), **options}).fit(X, Y)


class Thresholds:
    """A classifier whose classes are in no order, and which may say others."""

    def __init__(self, said: tuple[str, str] = ("b", "a")) -> None:
        self.said = said

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {"said": self.said}

    def fit(self, x: Any, y: Any) -> Thresholds:
        self.classes_ = np.array(["c", "b", "a"])
        return self

    def predict(self, x: Any) -> Any:
        return np.where(x[:, 0] > 0, *self.said)


def test_classes_in_any_order_and_no_others() -> None:
    x, y = np.array([[3.0], [-3.0]] * 3), np.array(["b", "a"] * 3)
    model = SmoothedEstimator(Thresholds(), n=50).fit(x, y)
    assert (model.score(x, y), model.certified_score(x, y, 0.2)) == (1.0, 1.0)
    for said in (("bb", "a"), ("b", "z"), (1.0, np.nan)):
        with pytest.raises(ValueError, match="estimator must be a classifier that predicts its"):
            SmoothedEstimator(Thresholds(said), n=50).fit(x, y).predict(x)


def test_what_is_masked_is_refused() -> None:
    masked, labels = np.ma.masked_greater(X, 5), np.ma.masked_equal(Y, 1)
    for call in (
        lambda: SmoothedEstimator(GaussianNB()).fit(masked, Y),
        lambda: SmoothedEstimator(GaussianNB()).fit(X, labels),
        lambda: fitted().predict(masked), lambda: fitted().certify(masked),
        lambda: fitted().certified_score(X, labels, 0.1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="must be without masked entries"):
            call()


def test_what_certify_refuses() -> None:
    with pytest.raises(ValueError, match="attack must be one of"):
        fitted().certify(X, "l3")
    with pytest.raises(ValueError, match="n must be at least"):
        fitted(n=3).certify(X)
    with pytest.raises(ValueError, match="labels must be of shape"):
        fitted().certified_score(X, Y[:-1], 0.1)
    with pytest.raises(ValueError, match="y must be of two classes or more"):
        SmoothedEstimator(GaussianNB()).fit(X, np.zeros(len(X)))
