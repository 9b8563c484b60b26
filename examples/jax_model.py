"""A JAX function: nearest class means of scikit-learn's digits, compiled by jax.jit.

python examples/jax_model.py [inputs] [copies]
"""

from __future__ import annotations

import sys

import jax
from sklearn.datasets import load_digits

import cert_core as cc


def main(inputs: int = 50, copies: int = 10_000) -> float:
    x, y = load_digits(return_X_y=True)
    x /= 16
    means = jax.numpy.array([x[:1000][y[:1000] == label].mean(axis=0) for label in range(10)])

    @jax.jit
    def predict(batch: jax.Array) -> jax.Array:
        return (batch @ means.T - (means**2).sum(axis=1) / 2).argmax(axis=1)

    noise = cc.L2Noise.with_rms(dim=64, rms=0.2, k=16)
    smoothed = cc.Smoothed(predict, noise, num_classes=10)
    test, labels = (jax.numpy.array(part[1000 : 1000 + inputs]) for part in (x, y))
    certificates = smoothed.certify(test, n0=100, n=copies, alpha=0.001, attack="l2", seed=0)
    accuracy = cc.certified_accuracy(certificates, labels, 0.2)
    print(f"{accuracy:.2f} right, and certified against l2 perturbations of 0.2")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
