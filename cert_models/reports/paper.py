"""The numbers behind the figures and trade-offs of Zhang et al. 2020, from the exact laws.

Every function gives Numbers: a title, named columns, rows, notes.  Radii and overlaps err
down, discrepancies up; sampled columns are Monte Carlo and say so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special

import cert_core as cc
from cert_core.rounding import in_full, nearest

DIM, BALL = 5, 0.65  # the classifier of Figure 3: 1 inside the ball of this radius
FACE_NODES = 12  # a coordinate, on a face of the 5-cube
ACCURACIES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
NORM = {"l2": 2.0, "linf": math.inf}

FAMILIES: dict[str, Callable[[int, float, float], cc.Noise]] = {
    "Eq. 11": cc.L2Noise,
    "Eq. 12": cc.LinfNoise,
    "Eq. 13": cc.MixedNoise,
}


@dataclass(frozen=True)
class Numbers:
    """A table of plain numbers and words.

    Attributes
    ----------
    title : str
    header : names of the columns; those in `down` are printed rounded down
    rows : tuples of one value a column
    notes : sentences
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()
    down: tuple[str, ...] = ()

    def column(self, name: str, **where: Any) -> list[Any]:
        """The values of a column in the rows whose other columns are as given."""
        place = {key: self.header.index(key) for key in (name, *where)}
        return [
            r[place[name]] for r in self.rows if all(r[place[k]] == v for k, v in where.items())
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        rows = [dict(zip(self.header, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}


def norms(dim: int = 100, samples: int = 10_000, seed: int = 0) -> Numbers:
    """Figure 1: mean and variance of |z|_2 under Eq. 11, moved by k and by sigma.

    Parameters
    ----------
    dim : int >= 2
    samples : drawn for the sampled columns
    seed : of the draws

    Returns
    -------
    Numbers
        For each mean two rows: the k that gives it at sigma = 1, and the sigma at k = 0.
    """
    rows = []
    whole = cc.moments.norm_moments(cc.L2Noise(dim, 1.0), 2.0)[0]
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99):
        by_k = cc.L2Noise(dim, 1.0, share * dim)
        by_sigma = cc.L2Noise(dim, cc.moments.norm_moments(by_k, 2.0)[0] / whole)
        for moved, noise in (("k", by_k), ("sigma", by_sigma)):
            size = np.linalg.norm(cc.draw(noise, samples, seed, dtype="float64"), axis=1)
            drawn = float(size.mean()), float(size.var())
            rows.append((moved, noise.k, noise.sigma, *cc.moments.norm_moments(noise, 2.0), *drawn))
    note = (
        "k moves the mean and leaves the variance near sigma^2/2; sigma scales both: at the same "
        f"mean the variance falls with its square.  Sampled: {samples} draws."
    )
    header = ("moved", "k", "sigma", "mean", "variance", "sampled mean", "sampled variance")
    return Numbers(f"Size of the noise of Eq. 11, d = {dim}", header, tuple(rows), (note,))


def rivals(dim: int, share: float) -> dict[str, cc.Noise]:
    """Noises for the linf attack, of rms 1: the Gaussian, Eq. 12 and Eq. 13."""
    k = share * dim
    return {
        "Gaussian": cc.Gaussian.with_rms(dim, 1.0),
        f"Eq. 12, k = {in_full(share)} d": cc.LinfNoise.with_rms(dim, 1.0, k),
        f"Eq. 13, k = {in_full(share)} d": cc.MixedNoise.with_rms(dim, 1.0, k),
    }


def _to_mean_maximum(noise: cc.Noise, dim: int) -> float:
    """The factor that gives a noise the E|z|_inf of the Gaussian of rms 1."""
    target = cc.moments.norm_moments(cc.Gaussian(dim, 1.0), math.inf)[0]
    return target / cc.moments.norm_moments(noise, math.inf)[0]


def overlap(dims: Sequence[int] = (2, 64, 784, 3072), share: float = 0.02) -> Numbers:
    """Figure 2: how much of a noise overlaps its copy shifted by (r, ..., r).

    Parameters
    ----------
    dims : dimensions
    share : k/d of Eqs. 12 and 13

    Returns
    -------
    Numbers
        The overlap, the integral of min(pi0, pi_delta) = 1 - D(1), for |delta|_2 equal to
        the rms, at equal rms and at equal mean of |z|_inf; never above the truth.
    """
    rows = []
    for dim in dims:
        r = 1.0 / math.sqrt(dim)
        for name, noise in rivals(dim, share).items():
            level = noise.rescaled(_to_mean_maximum(noise, dim))
            both = [1.0 - cc.discrepancy(1.0, each, "linf", r) for each in (noise, level)]
            rows.append((dim, name, *both))
    header = ("d", "noise", "at equal rms", "at equal mean |z|_inf")
    note = "A Gaussian overlaps its copy by 2 Phi(-1/2) = 0.617 in every dimension."
    title = "Overlap with the copy shifted by (r, ..., r), r = rms / sqrt d"
    return Numbers(title, header, tuple(rows), (note,), header[2:])


def accuracy_at_ball(family: str, k: float, sigma: float, ball: str, size: float = BALL) -> float:
    """P(|z| <= size) for the noises of Eqs. 11, 12 and 13 in 5 dimensions.

    Parameters
    ----------
    family : "Eq. 11", "Eq. 12" or "Eq. 13"
    k, sigma : the noise's parameters
    ball : "l2" or "linf", the norm of the ball

    Returns
    -------
    float
        The smoothed value at 0 of the classifier that is 1 in the ball, to 1e-7: z = R U, R
        by its gamma law, U by a product rule over a face of the cube.
    """
    x, w = np.polynomial.legendre.leggauss(FACE_NODES)
    x, w = 0.5 * (x + 1.0), 0.5 * w
    squares: Any = 0.0
    weights: Any = 1.0
    for i in range(DIM - 1):
        shape = [-1 if j == i else 1 for j in range(DIM - 1)]
        squares = squares + (x**2).reshape(shape)
        weights = weights * w.reshape(shape)
    length = np.sqrt(1.0 + squares)  # |.|_2 of a point of the face, whose |.|_inf is 1
    power = {"Eq. 11": DIM, "Eq. 12": 0.0, "Eq. 13": DIM - k}[family]
    weights = weights * length**-power
    own = 1.0 if family == "Eq. 12" else length
    reach = size * own / (length if ball == "l2" else 1.0)
    inside = special.gammainc(0.5 * (DIM - k), 0.5 * (reach / sigma) ** 2)
    return float(np.sum(weights * inside) / np.sum(weights))


def sigma_of_accuracy(family: str, k: float, ball: str, accuracy: float) -> float:
    """The sigma at which the classifier of Figure 3 keeps this accuracy."""

    def excess(log_sigma: float) -> float:
        return accuracy_at_ball(family, k, math.exp(log_sigma), ball) - accuracy

    return math.exp(optimize.brentq(excess, -9.0, 9.0, xtol=1e-10))


def frontier(
    radius: float = 0.1,
    lam: float = 1.0,
    ks: Sequence[float] = (0.0, 1.0, 2.0),
    accuracies: Sequence[float] = ACCURACIES,
) -> Numbers:
    """Figure 3: accuracy against robustness of Eqs. 11-13 for f = 1{|x| <= 0.65}, d = 5.

    Parameters
    ----------
    radius : of the linf attack
    lam : the multiplier of Eq. 9
    ks : tried of each family
    accuracies : in (0, 1)

    Returns
    -------
    Numbers
        At each accuracy p, for the l2 and the linf ball, the best over ks with the sigma that
        gives this accuracy: of the robustness -(D(lam) - (lam - 1)_+), and of the bound
        L(p), in which lam is best too.  Accuracy and D fall as sigma grows, so these points
        are the Pareto frontier.  Both columns never above the truth.
    """
    rows = []
    ks = [cc.L2Noise(DIM, 1.0, k).k for k in ks]  # refuses a k out of range
    for ball, (family, make), accuracy in itertools.product(NORM, FAMILIES.items(), accuracies):
        robust, bounds = [], []
        for k in ks:
            noise = make(DIM, sigma_of_accuracy(family, k, ball, accuracy), k)
            loss = cc.discrepancy(lam, noise, "linf", radius) - max(lam - 1.0, 0.0)
            robust.append((-loss, k))
            bounds.append((cc.lower_bound(accuracy, noise, "linf", radius), k))
        rows.append((ball, family, accuracy, *max(robust), *max(bounds)))
    header = ("ball", "noise", "accuracy", "robustness", "k", "bound", "k of the bound")
    note = (
        f"Accuracy p = P(|z| <= {BALL}) in the ball's norm; robustness at lambda = {in_full(lam)} "
        f"and bound L(p) against linf perturbations of {in_full(radius)}; best of k = "
        f"{', '.join(map(in_full, ks))}."
    )
    title = (
        f"Accuracy and robustness for a ball of radius {BALL}, d = {DIM}: lambda = {in_full(lam)}, "
        f"linf attack of radius {in_full(radius)}"
    )
    return Numbers(title, header, tuple(rows), (note,), ("robustness", "bound"))


def tradeoff(
    radius: float = 0.1, k: float = 0.0, lams: Sequence[float] = (1.0, 4.0, 16.0)
) -> Numbers:
    """Eq. 9: accuracy and robustness of the l2 ball's classifier under Eq. 11, by sigma.

    Parameters
    ----------
    radius : of the linf attack
    k : exponent of the noise
    lams : multipliers

    Returns
    -------
    Numbers
        For each sigma the accuracy p, lam p - D(lam) at each multiplier, the multiplier
        lam* that is best and the bound L(p) there.  For a fixed lam the accuracy term falls
        and the robustness term rises with sigma: their sum has its maximum between.
    """
    rows = []
    for sigma in np.geomspace(0.1, 0.6, 13).tolist():
        noise = cc.L2Noise(DIM, sigma, k)
        p = float(special.gammainc(0.5 * (DIM - k), 0.5 * (BALL / sigma) ** 2))
        values = [lam * p - cc.discrepancy(lam, noise, "linf", radius) for lam in lams]
        best = math.exp(cc.log_ratio_law(noise, "linf", radius).ppf(p))
        bound = cc.lower_bound(p, noise, "linf", radius)
        rows.append((sigma, p, *values, best, bound))
    sums = tuple(f"lambda = {in_full(lam)}" for lam in lams)
    header = ("sigma", "accuracy", *sums, "lambda*", "bound")
    tops = [max(rows, key=lambda row: row[2 + i])[0] for i in range(len(lams))]
    note = (
        f"lambda p - D(lambda) against linf perturbations of {in_full(radius)}; of these sigma it "
        f"is largest at {', '.join(nearest(top, 3) for top in tops)}."
    )
    title = (
        f"The trade-off of Eq. 9: Eq. 11 with k = {in_full(k)}, ball of radius {BALL}, d = {DIM}"
    )
    return Numbers(title, header, tuple(rows), (note,), (*sums, "bound"))


def dimension(
    p: float = 0.9, dims: Sequence[int] = (2, 64, 784, 3072), share: float = 0.02
) -> Numbers:
    """Certified linf radii of the Gaussian, Eq. 12 and Eq. 13 as the dimension grows.

    Parameters
    ----------
    p : class probability
    dims : dimensions
    share : k/d of Eqs. 12 and 13

    Returns
    -------
    Numbers
        Radii at equal rms 1, and at the mean |z|_inf of that Gaussian; never above the
        truth.
    """
    rows = []
    for dim in dims:
        for name, noise in rivals(dim, share).items():
            radius = cc.certified_radius(p, noise, "linf")
            rows.append((dim, name, radius, radius * _to_mean_maximum(noise, dim)))
    header = ("d", "noise", "at equal rms", "at equal mean |z|_inf")
    note = "The Gaussian's radius falls as d^-1/2; that of Eq. 12 nearly as 1/d."
    title = f"Certified linf radius at p = {in_full(p)}, rms 1 a coordinate"
    return Numbers(title, header, tuple(rows), (note,), header[2:])
