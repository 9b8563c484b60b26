"""What a run or a log says of its inputs: certified accuracy, average radius, with confidence."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

import cert_core as cc

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Result:
    """What one run or log says of its inputs.

    Attributes
    ----------
    name : str
    indices, labels, predict : (N,) int64
        Places in the data set, true classes, certified classes (cc.ABSTAIN: none).
    radius : (N,) float64, in the attack's norm and input units
    attack : "l1", "l2" or "linf"
    alpha : float or None
        Failure probability of each input; None where a log does not say.
    noise : Noise or None
    note : str
        How the votes were drawn, e.g. "n 10000".
    model, data, data_fingerprint : str
        Of a run: names as given to it, and the digest of its inputs; "" where not known.

    Raises
    ------
    ValueError
        No inputs, arrays of different lengths, or an index twice.
    """

    name: str
    indices: Ints
    labels: Ints
    predict: Ints
    radius: Floats
    attack: str
    alpha: float | None = None
    noise: cc.Noise | None = None
    note: str = ""
    model: str = ""
    data: str = ""
    data_fingerprint: str = ""

    def __post_init__(self) -> None:
        sizes = {len(x) for x in (self.indices, self.labels, self.predict, self.radius)}
        if len(sizes) != 1 or sizes == {0} or len(set(self.indices.tolist())) not in sizes:
            raise ValueError(
                f"result {self.name!r} must have one label, prediction and radius for each of its "
                f"inputs, and no input twice, got {sorted(sizes)} of them: check the log or run"
            )

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def measure(self) -> str:
        """What its radii measure; those of another measure are not to be compared with them."""
        if self.noise is None or self.noise.stretch is None:
            return f"{self.attack} radius"
        digest = hashlib.sha256(self.noise.stretch.tobytes()).hexdigest()[:8]
        return f"{self.attack} radius of delta/scales, scales {digest}"

    @cached_property
    def certified(self) -> Floats:
        """Radii certified with the right label, descending; every other input as -1."""
        right = (self.predict == self.labels) & (self.predict != cc.ABSTAIN)
        return -np.sort(-np.where(right, self.radius, -1.0))

    @property
    def abstained(self) -> int:
        return int((self.predict == cc.ABSTAIN).sum())

    def count(self, radius: float) -> int:
        """Inputs certified with the right label at this radius; abstentions count as wrong."""
        return int((self.certified >= radius).sum())

    def wrong_at_most(self, rho: float) -> int:
        """How many certificates are false at most, with probability 1 - rho.

        Each is false with probability alpha at most, by its own draws: their number is
        stochastically below Binomial(N, alpha), and its quantile serves all radii at once.

        Raises
        ------
        ValueError
            alpha is not known, or rho is not in (0, 1).
        """
        from scipy.stats import binom

        if self.alpha is None:
            raise ValueError(
                f"alpha must be known for a high-probability version, got none for {self.name!r}: "
                "pass --alpha, that of the log"
            )
        if not 0 < rho < 1:
            raise ValueError(f"rho must be in (0, 1), got {rho!r}: pass e.g. 0.001")
        return int(binom.ppf(1 - rho, len(self), self.alpha))

    def accuracy(self, radius: float, rho: float | None = None) -> float:
        """Certified accuracy at a radius.

        Parameters
        ----------
        radius : float >= 0
        rho : float in (0, 1), optional
            Bound from below, with probability 1 - rho and at all radii at once, the share of
            inputs on which the smoothed classifier is right and robust (Cohen et al. 2019,
            Appendix G, bound it by Bernstein's inequality; this is the exact quantile).
        """
        wrong = 0 if rho is None else self.wrong_at_most(rho)
        return max(self.count(radius) - wrong, 0) / len(self)

    def average_radius(self, rho: float | None = None) -> float:
        """Average certified radius, zero where wrong or abstaining (Zhai et al. 2020).

        With rho, as in accuracy: the largest radii that may be false are left out.
        """
        wrong = 0 if rho is None else self.wrong_at_most(rho)
        return float(np.maximum(self.certified[wrong:], 0.0).sum()) / len(self)

    def restricted(self, indices: Sequence[int]) -> Result:
        """The same of some of its inputs."""
        keep = np.isin(self.indices, indices)
        arrays = {k: getattr(self, k)[keep] for k in ("indices", "labels", "predict", "radius")}
        return replace(self, **arrays)


def subset(indices: Ints) -> str:
    """Which inputs these are, in few words."""
    ordered = np.sort(indices)
    count = f"{len(ordered)} input{'s' if len(ordered) > 1 else ''}"
    if len(ordered) == 1:
        return f"{count} ({ordered[0]})"
    steps = np.unique(np.diff(ordered))
    ends = f"{ordered[0]}..{ordered[-1]}"
    if len(steps) > 1:
        return f"{count} of {ends}"
    return f"{count} ({ends}{f' step {steps[0]}' if steps[0] > 1 else ''})"


def default_radii(results: Sequence[Result], most: int = 8) -> list[float]:
    """Round radii from 0 to the largest certified one."""
    finite = [float(r.certified[np.isfinite(r.certified)].max(initial=0.0)) for r in results]
    top = max(finite)
    if top <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(x * power for x in (1, 2, 2.5, 5, 10, 20) if top / (x * power) <= most)
    return [float(f"{i * step:.6g}") for i in range(int(top / step + 1e-9) + 1)]
