"""A categorical table through a plain scikit-learn pipeline, certified by the number of changed
entries.

    python examples/table.py

The table is scikit-learn's breast cancer data, each of its 30 measurements in four quantile
bins.  The pipeline, one-hot encoding and a linear classifier, is trained on noisy copies of the
rows and then smoothed as it stands; the certified share of rows kept apart is printed, by the
number of entries that may change.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

import cert_core as cc

BINS = 4


def table() -> tuple[Any, Any]:
    """(rows of categories 0 .. BINS - 1, labels), in random order."""
    x, y = load_breast_cancer(return_X_y=True)
    edges = np.quantile(x, np.arange(1, BINS) / BINS, axis=0)
    order = np.random.default_rng(0).permutation(len(y))
    return (x >= edges[:, None]).sum(axis=0)[order], y[order]


def pipeline(x: Any, y: Any, noise: cc.Noise, copies: int = 20) -> Pipeline:
    """Fitted to noisy copies of the rows."""
    known = [np.arange(BINS)] * x.shape[1]
    model = make_pipeline(OneHotEncoder(categories=known), LogisticRegression(max_iter=1000))
    noisy = [cc.draw(noise, copies, seed=i, center=row) for i, row in enumerate(x)]
    return model.fit(np.concatenate(noisy), np.repeat(y, copies))


def certified_shares(keep: float, radii: Sequence[int], *, count: int, n: int) -> Any:
    """Of the rows kept apart from training, by the number of entries that may change."""
    x, y = table()
    noise = cc.Flips(x.shape[1], BINS, keep)
    smoothed = cc.Smoothed(pipeline(x[count:], y[count:], noise).predict, noise, 2)
    found = smoothed.certify(x[:count], 100, n, 0.001, "l0", seed=0)
    return cc.certified_accuracy(found, y[:count], radii)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=150, help="rows to certify")
    parser.add_argument("--n", type=int, default=5000, help="noisy copies of each")
    options = parser.parse_args(arguments)
    radii = range(9)
    print(f"| entries that may change | {' | '.join(map(str, radii))} |")
    print("| --- " * (len(radii) + 1) + "|")
    for keep in (0.9, 0.7, 0.5):
        shares = certified_shares(keep, radii, count=options.count, n=options.n)
        print(f"| {keep:g} stay | {' | '.join(f'{share:.3f}' for share in shares)} |")


if __name__ == "__main__":
    main()
