"""A table with units of its own: scikit-learn's breast-cancer data, each feature in deviations.

python examples/sklearn_table.py [inputs] [copies]
"""

from __future__ import annotations

import sys

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import cert_core as cc


def main(inputs: int = 100, copies: int = 10_000) -> float:
    x, y = load_breast_cancer(return_X_y=True)
    train, test = slice(0, 400), slice(400, 400 + inputs)
    scales = x[train].std(axis=0)
    noise = cc.Gaussian(dim=30, sigma=0.5).scaled(scales)  # half a deviation of each feature

    rng = np.random.default_rng(0)  # noisy copies are what the model has to classify
    noisy = np.repeat(x[train], 20, axis=0)
    noisy = noisy + rng.normal(size=noisy.shape) * 0.5 * scales
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(noisy, np.repeat(y[train], 20))

    smoothed = cc.Smoothed(model.predict, noise, num_classes=2)
    certificates = smoothed.certify(x[test], n0=100, n=copies, alpha=0.001, attack="l2", seed=0)
    accuracy = cc.certified_accuracy(certificates, y[test], [0.0, 0.25, 0.5, 1.0])
    for radius, share in zip((0.0, 0.25, 0.5, 1.0), accuracy, strict=True):
        print(f"{share:.3f} right, and certified against {radius} deviations (l2)")
    return float(accuracy[1])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
