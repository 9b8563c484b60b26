"""Quadrature rules with an error that no single coincidence can hide.

Two rules may agree on a function that both integrate wrongly: their difference is one
number, and has zeros.  Here the error of a rule is the distance of all its values from
the polynomials of some degree, which the rule integrates exactly: it vanishes only where
as many independent conditions hold as values exceed the degree's coefficients.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import legendre

from cert_core.errors import Float


def gauss(*counts: int) -> tuple[Float, Float]:
    """Nodes and weights of Gauss-Legendre rules on [-1, 1], one after the other."""
    rules = [legendre.leggauss(n) for n in counts]
    return np.concatenate([x for x, _ in rules]), np.concatenate([w for _, w in rules])


def lobatto(count: int) -> tuple[Float, Float]:
    """Nodes and weights of a Gauss-Lobatto rule on [-1, 1]: both ends are nodes."""
    last = legendre.Legendre.basis(count - 1)
    nodes = np.concatenate([[-1.0], np.sort(last.deriv().roots().real), [1.0]])
    nodes = 0.5 * (nodes - nodes[::-1])
    return nodes, 2 / (count * (count - 1) * last(nodes) ** 2)


def distance(nodes: Float, weights: Float, degree: int) -> Float:
    """Rows B with |B f| = sqrt(2 sum of weights (f - p)^2) for the p of this degree nearest
    to the values f; the weights sum to 2.

    |rule(f) - integral of p| is no more than that, by Cauchy and Schwarz.
    """
    root = np.sqrt(weights)[:, None]
    basis, _ = np.linalg.qr(root * legendre.legvander(nodes, nodes.size - 1))
    rows: Float = np.ascontiguousarray(np.sqrt(2) * (root * basis[:, degree + 1 :]).T)
    return rows
