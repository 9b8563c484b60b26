"""The law of the log-likelihood ratio, from which every bound follows.

l(z) = log pi0(z - delta) - log pi0(z) for z ~ pi0 and a shift delta; W = exp(l).
F(t) = P(l <= t).  The noises are symmetric, so for z ~ pi_delta l has the law of -l
under pi0, and with lam = exp(tau)

    D(lam) = E(lam - W)_+ = lam F(tau) - P(l >= -tau),   D(lam) = lam - 1 + lam D(1/lam).

A law answers twice: as a distribution (cdf, sf, ppf, enclose), and as what the bounds
need (required, lower, discrepancy), each with its error put on the safe side.  The
quadrature returns a distance from polynomials and a rounding estimate; what special
functions and exponents of large arguments add to that is quadrature.margin, which the oracle
tests hold above every error seen.
"""

from __future__ import annotations

from cert_core.densities import (
    AblationRecord,
    FlipsRecord,
    GaussianRecord,
    LaplaceRecord,
    LawRecord,
    MixedRecord,
    OverlapRecord,
    RadialRecord,
    SparseFlipsRecord,
)
from cert_core.errors import UnsupportedPair
from cert_core.laws.atomic import atomic_law
from cert_core.laws.base import LogRatioLaw
from cert_core.laws.closed import GaussianLaw, LaplaceLaw, PointLaw
from cert_core.laws.empirical import EmpiricalLaw
from cert_core.laws.limits import radial_limit
from cert_core.laws.mixed import MixedLaw
from cert_core.laws.quadrature import QuadratureLaw
from cert_core.native import RadialLaw
from cert_core.noises import Noise, checked_noise
from cert_core.threats import Shift, law_shift, radius_value

__all__ = [
    "EmpiricalLaw",
    "GaussianLaw",
    "LaplaceLaw",
    "LogRatioLaw",
    "MixedLaw",
    "log_ratio_law",
]


LEAST = 1e-300  # of a scale: shorter shifts underflow in the laws, and stand for this one


def _in_scales(size: float, scale: float) -> float:
    """A shift's size in units of a scale; a larger one errs on the safe side, as balls nest."""
    return max(size / scale, LEAST)


def radial_engine(record: RadialRecord, shift: Shift) -> tuple[RadialLaw, str, float]:
    """The compiled law of a radial noise under a shift, its geometry, and the shift's size in the
    noise's scale."""
    geometry = record.geometry(shift.kind)
    if geometry == "open":
        raise UnsupportedPair(
            f"shift must be along an axis for noises whose level sets are 1-balls, got {shift}: "
            "use the inclusion of law_shift"
        )
    size = shift.norm(2.0, record.dim) if geometry == "sphere" else shift.size
    reach = _in_scales(size, record.scale)
    engine = RadialLaw(geometry, float(record.dim), record.power, record.k, reach)
    return engine, geometry, reach


def _radial_law(record: RadialRecord, shift: Shift) -> LogRatioLaw:
    engine, geometry, reach = radial_engine(record, shift)
    jumps: tuple[float, ...] = (0.0,) if geometry == "edge" else ()
    if record.power == 1.0 and record.k == 0.0 and geometry != "sphere":
        jumps = (-reach, *jumps, reach)
    return QuadratureLaw(engine, radial_limit(geometry, record, reach), jumps)


def build_law(record: LawRecord, shift: Shift, dim: int) -> LogRatioLaw:
    """The law of a record under a shift of size > 0."""
    match record:
        case GaussianRecord():
            return GaussianLaw(_in_scales(shift.norm(2.0, dim), record.sigma))
        case LaplaceRecord():
            return LaplaceLaw(_in_scales(shift.size, record.b))
        case RadialRecord():
            return _radial_law(record, shift)
        case MixedRecord():
            return MixedLaw(record.dim, record.k, _in_scales(shift.size, record.sigma))
        case FlipsRecord() | SparseFlipsRecord() | AblationRecord() | OverlapRecord():
            return atomic_law(record, shift)


def log_ratio_law(noise: Noise, attack: str, radius: float) -> LogRatioLaw:
    """Build the law of the log-likelihood ratio under the worst shift of an attack ball.

    Parameters
    ----------
    noise : Noise
    attack : "l1", "l2" or "linf"; "l0" for changed entries
    radius : float >= 0, of the attack's ball, in input units; a whole number under "l0"

    Returns
    -------
    LogRatioLaw
        With cdf, sf, ppf and enclose.  Where no closed law of the worst shift exists it
        is the law of a larger ball's (`tight` False), as it is for radii from 0 to 1e-300 of
        the noise's scale: bounds from it err on the safe side.

    Raises
    ------
    UnsupportedPair
        No exact law for this pair.
    ValueError
        Unknown attack, negative or non-finite radius.

    References
    ----------
    Zhang et al. 2020, Theorem 1; Corollaries 1 and 2.

    Examples
    --------
    >>> law = cc.log_ratio_law(cc.LinfNoise(784, 1.0), "l1", 10.0)
    >>> low, high = law.enclose(0.5)
    >>> low <= law.cdf(0.5) <= high
    True
    >>> round(law.cdf(0.5), 4)
    0.9996
    """
    shift = law_shift(checked_noise(noise), attack, radius_value(radius))
    law = PointLaw() if radius == 0 else build_law(noise.record, shift, noise.dim)
    law.tight, law.reason = shift.tight, shift.reason
    return law
