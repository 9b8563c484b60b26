"""A classifier of scikit-learn, smoothed: again one of scikit-learn, which certifies besides.

Pipelines, searches and scores take it as any other.  Its predict never abstains, since they need
a class; what is certain of a class, certify says.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

import cert_core as cc
from cert_core.errors import fail, integer

Float = np.ndarray[Any, np.dtype[np.float64]]


class SmoothedEstimator(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of scikit-learn smoothed by noise, with the verbs of scikit-learn.

    Parameters
    ----------
    estimator : classifier of scikit-learn, or anything with fit, predict and classes_
    noise : str or Noise
        A name of cc.NOISES, whose noise fit makes of the size of the inputs at rms; or a noise
        with dim the number of features.
    rms : float > 0
        Root mean square of a coordinate of the noise, in the units of the inputs as this
        estimator gets them; not read where noise is a Noise.
    copies : int >= 0
        Noisy copies of each training input that the estimator is fitted to: noisy copies are
        what it has to classify.  0: the inputs alone.
    n0, n : int >= 1
        Copies that select a class, and that bound its probability; predict takes n.
    alpha : float in (0, 1/2]
        Failure probability of each certificate.
    random_state : int in [0, 2^32)
        Seed of all copies.

    Attributes
    ----------
    classes_ : (C,) array, the classes of y
    estimator_ : the fitted classifier
    noise_ : Noise
    smoothed_ : cc.Smoothed
        Of the fitted classifier, whose classes are the places in classes_.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from cert_models.estimators import SmoothedEstimator
    >>> x, y = load_iris(return_X_y=True)
    >>> model = SmoothedEstimator(LogisticRegression(max_iter=1000), rms=0.3, copies=20)
    >>> model.fit(x, y).score(x, y) > 0.9
    True
    >>> model.certify(x[::50], "l2").label
    array([0, 1, 2])
    >>> model.certified_score(x, y, 0.3) > 0.7  # right, and certified within 0.3
    True
    """

    def __init__(
        self,
        estimator: Any,
        noise: Any = "gaussian",
        *,
        rms: float = 0.25,
        copies: int = 0,
        n0: int = 100,
        n: int = 1000,
        alpha: float = 0.001,
        random_state: int = 0,
    ) -> None:
        self.estimator = estimator
        self.noise = noise
        self.rms = rms
        self.copies = copies
        self.n0 = n0
        self.n = n
        self.alpha = alpha
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the estimator, to noisy copies where copies is not 0.

        Parameters
        ----------
        X : (N, dim) array of floats
        y : (N,) array, classes of any kind

        Returns
        -------
        SmoothedEstimator
            This one.

        Raises
        ------
        ValueError
            Inputs that are no numbers, fewer than two classes, or a parameter out of its domain.
        """
        _check_unmasked(X=X, y=y)
        X, y = validate_data(self, X, y)
        check_classification_targets(y)
        self.noise_ = _noise_of(self.noise, X.shape[1], self.rms)
        classes = np.unique(y)
        if len(classes) < 2:
            raise fail("y", "of two classes or more", f"1 class, {classes[0]!r}", "pass others too")
        copies = integer("copies", self.copies, 0, remedy="pass how many to fit to, or 0")
        seed = integer("random_state", self.random_state, 0, 2**32 - 1, remedy="pass an int")
        if copies:
            X, y = _copies_of(X, self.noise_, copies, seed), np.repeat(y, copies)
        self.estimator_ = clone(self.estimator).fit(X, y)
        if not hasattr(self.estimator_, "classes_"):
            rule = "a classifier, which has classes_ once it is fitted"
            raise fail("estimator", rule, self.estimator, "pass a classifier")
        self.classes_ = self.estimator_.classes_
        self.smoothed_ = cc.Smoothed(self._places, self.noise_, len(self.classes_))
        return self

    def _places(self, batch: Any) -> Any:
        """The labels of a batch, as places in classes_, whatever their order."""
        said, order = np.asarray(self.estimator_.predict(batch)), np.argsort(self.classes_)
        places = order[np.searchsorted(self.classes_, said, sorter=order) % len(order)]
        strange = said[self.classes_[places] != said]
        if strange.size:
            rule = f"a classifier that predicts its classes_, {self.classes_.tolist()}"
            raise fail("estimator", rule, strange[0], "pass one that does")
        return places

    def predict_proba(self, X: Any) -> Float:
        """Compute the shares of the votes.

        Every input gets the same n noises, so that what is said of it does not hang on the
        others of the call.

        Parameters
        ----------
        X : (N, dim) array of floats

        Returns
        -------
        (N, C) float64
            Estimates, not bounds.

        Raises
        ------
        ValueError
            Inputs that are none, or a parameter out of its domain.
        """
        check_is_fitted(self)
        _check_unmasked(X=X)
        X = validate_data(self, X, reset=False)
        shares = [
            self.smoothed_.probabilities(row, self.n, self.random_state) for row in X[:, None]
        ]
        return np.concatenate(shares)

    def predict(self, X: Any) -> Any:
        """Predict the most voted class, be it ahead by one vote: no abstentions.

        Parameters
        ----------
        X : (N, dim) array of floats

        Returns
        -------
        (N,) array of classes_

        Raises
        ------
        ValueError
            As predict_proba.
        """
        shares = self.predict_proba(X)
        return self.classes_[shares.argmax(axis=1)]

    def certify(self, X: Any, attack: str = "l2", **options: Any) -> cc.Certificates:
        """Certify inputs, as cc.Smoothed.certify does.

        Parameters
        ----------
        X : (N, dim) array of floats
        attack : "l1", "l2" or "linf"; "l0" for changed entries
        **options
            indices, executor, progress, bound, as there.

        Returns
        -------
        Certificates
            label is a place in classes_, or ABSTAIN; radii are in the units of X.

        Raises
        ------
        ValueError, UnsupportedPair
        """
        check_is_fitted(self)
        _check_unmasked(X=X)
        X = validate_data(self, X, reset=False)
        sampling = self.n0, self.n, self.alpha, attack, self.random_state
        return self.smoothed_.certify(X, *sampling, **options)

    def certified_score(self, X: Any, y: Any, radius: float, attack: str = "l2") -> float:
        """Compute the share of inputs that are certified at a radius, with the right class.

        Parameters
        ----------
        X : (N, dim) array of floats
        y : (N,) array of true classes
        radius : float >= 0, in the attack's norm and units of X
        attack : "l1", "l2" or "linf"; "l0" for changed entries

        Returns
        -------
        float
            Abstentions count as wrong, and so do classes that fit did not see.

        Raises
        ------
        ValueError, UnsupportedPair
        """
        check_is_fitted(self)
        _check_unmasked(y=y)
        places = {label: place for place, label in enumerate(self.classes_.tolist())}
        truth = [places.get(label, len(places)) for label in column_or_1d(y).tolist()]
        return cc.certified_accuracy(self.certify(X, attack), truth, radius)


def _check_unmasked(**arrays: Any) -> None:
    """Refuse what is masked, which scikit-learn reads as if it were not."""
    for name, given in arrays.items():
        if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
            raise fail(name, "without masked entries", given, "fill them in, or drop their rows")


def _noise_of(noise: Any, dim: int, rms: Any) -> cc.Noise:
    """The noise meant for so many features."""
    if isinstance(noise, str) and noise in cc.NOISES:
        made: cc.Noise = cc.NOISES[noise].with_rms(dim, rms)
        return made
    if not isinstance(noise, cc.Noise):
        rule = f"a Noise or one of {', '.join(map(repr, cc.NOISES))}"
        raise fail("noise", rule, noise, "pass e.g. 'gaussian'")
    if noise.dim != dim:
        raise fail("noise", f"of dim {dim}, the features of X", noise, "make it for these inputs")
    return noise


def _copies_of(x: Any, noise: cc.Noise, copies: int, seed: int) -> Any:
    """Noisy copies of every input, of the stream of draws: those of votes are apart from it."""
    rows = (
        cc.draw(noise, copies, seed, start=i * copies, center=row, dtype="float64")
        for i, row in enumerate(x)
    )
    return np.concatenate(list(rows))
